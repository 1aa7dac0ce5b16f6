import t from "tap";
import { Fault } from "../../../src/base/fault.js";
import type { Store } from "../../../src/downstairs/store/store.js";
import { nullJournal } from "../../../src/ports/journal.js";
import type { Address, Cancel, Dialer, DialResult } from "../../../src/ports/stream.js";
import { extentPath } from "../../../src/region/layout.js";
import { Upstairs } from "../../../src/upstairs/upstairs.js";
import { FakeArena } from "../../kit/arena.js";
import type { FakeDisk } from "../../kit/disk.js";
import { DiskPeer, DownstairsStage, type Sources } from "../../kit/downstairs-stage.js";
import { DIRECTORY, freshDisk } from "../../kit/fresh-disk.js";
import { FakeHasher } from "../../kit/hasher.js";
import { type FakeStream, link } from "../../kit/link.js";
import { QUICK } from "../../kit/repair-stage.js";
import { hashApi, regionOf } from "../../kit/replica.js";
import { Guest, UPSTAIRS_ID } from "../../kit/upstairs-stage.js";
import { World } from "../../kit/world.js";

// The upstairs with three real downstairs and their real stores on disks in memory: a replica that missed too much is repaired while a guest
// works, as target and as source, and the region files are the same bytes at the end but for what tells copies of a block apart.

const hash = await hashApi();
const REPAIR_PORT = 7810;

class RealDialer implements Dialer {
  readonly #world: World;
  readonly #arena: FakeArena;
  readonly #stages: readonly DownstairsStage<Store>[];
  readonly streams: (FakeStream | undefined)[] = [];
  readonly away = new Set<number>();
  constructor(world: World, arena: FakeArena, stages: readonly DownstairsStage<Store>[]) {
    this.#world = world;
    this.#arena = arena;
    this.#stages = stages;
  }
  dial({ port }: Address, timeoutMs: number, then: DialResult): Cancel {
    if (this.away.has(port))
      return this.#world.after(timeoutMs, () =>
        then(new Fault("TRIVET_E_DIAL", "timed out (simulated)"), null),
      );
    return this.#world.after(1, () => {
      const stage = this.#stages[port]!;
      const [ours, theirs] = link(this.#world, this.#arena, stage.arena, { latencyMs: 0.3 });
      stage.server.accept(theirs);
      this.streams[port] = ours;
      then(null, ours);
    });
  }
  /** The network to it is gone. */
  cut(index: number): void {
    this.away.add(index);
    this.streams[index]?.destroy();
  }
}

t.test("real downstairs are repaired, each in turn, while a guest writes and reads", async (t) => {
  const world = new World(5);
  const sources = new Map<number, { disk: FakeDisk; isClosed(extent: number): boolean }>();
  const stages: DownstairsStage<Store>[] = [];
  const disks = [0, 1, 2].map((index) => freshDisk(regionOf(index)));
  for (const [index, disk] of disks.entries()) {
    const repairPort = REPAIR_PORT + index;
    const peer = new DiskPeer(sources as Sources, disk);
    const stage = await DownstairsStage.onDisk(disk, { world, peer, repairPort });
    sources.set(repairPort, { disk, isClosed: (extent) => stage.store.isClosed(extent) });
    stages.push(stage);
  }
  const arena = new FakeArena();
  const dialer = new RealDialer(world, arena, stages);
  const said: string[] = [];
  const upstairs = new Upstairs(
    {
      targets: [0, 1, 2].map((port) => ({ host: "10.0.0.1", port })),
      upstairsId: UPSTAIRS_ID,
      generation: { kind: "given", value: 1n },
      tuning: { ...QUICK, offlineGraceMs: 0 },
    },
    {
      dialer,
      arena,
      hasher: new FakeHasher(arena, hash),
      clock: world,
      random: world,
      notes: (_, event, text) => said.push(`${event} ${text}`),
      journal: nullJournal,
    },
    { superseded: () => t.fail("superseded") },
  );
  const pass = (done: () => boolean): boolean => {
    for (let ms = 0; ms < 30_000 && !done(); ms++) world.advance(1);
    return done();
  };
  let isActive = false;
  upstairs.activate((fault) => {
    isActive = fault === null;
  });
  t.ok(pass(() => isActive));

  const region = regionOf(0);
  const blocks = region.extentCount * region.extentSize;
  const image = Buffer.alloc(blocks * 512);
  const guest = new Guest(upstairs, arena);
  let n = 0;
  const write = (): void => {
    const count = 1 + Math.floor(world.chance() * 9);
    const start = Math.floor(world.chance() * (blocks - count));
    const data = Buffer.alloc(count * 512, ++n % 251);
    data.copy(image, start * 512);
    guest.write(start * 512, data);
  };
  /** Reads see everything that was written before them, as the writes here come one after the other. */
  const check = (): void => {
    const start = Math.floor(world.chance() * (blocks - 6)) * 512;
    const expected = Buffer.from(image.subarray(start, start + 6 * 512));
    const tag = guest.read(start, 6 * 512);
    t.ok(
      pass(() => guest.status(tag) !== undefined),
      "answered",
    );
    if (!guest.answers.get(tag)!.data!.equals(expected)) t.fail(`block ${start / 512} is old`);
  };
  for (let i = 0; i < 60; i++) write();
  for (const [round, target] of [0, 2, 1].entries()) {
    dialer.cut(target);
    world.advance(5);
    for (let i = 0; i < 20; i++) {
      write();
      world.advance(3);
    }
    guest.flush();
    t.ok(pass(() => upstairs.status().replicas[target]!.mode === "faulted"));
    dialer.away.delete(target);
    t.ok(pass(() => upstairs.status().repair.now !== null));
    while (upstairs.status().repair.now !== null) {
      write();
      write();
      check();
      if (n % 7 === 0) guest.flush();
    }
    t.ok(pass(() => upstairs.status().replicas[target]!.phase === "active"));
    t.equal(upstairs.status().counts.repairsCompleted, round + 1);
  }
  t.equal(upstairs.status().counts.repairsAborted, 0);
  let ended: Fault | null | undefined;
  upstairs.stop((fault) => {
    ended = fault;
  });
  t.ok(pass(() => ended !== undefined));
  t.equal(ended, null);
  t.ok([...guest.answers.values()].every(({ status }) => status === 0));
  for (const stage of stages)
    for (let extent = 0; extent < region.extentCount; extent++) {
      const [first] = stages;
      t.equal(stage.store.isDirty(extent), false);
      t.equal(stage.store.generation(extent), first!.store.generation(extent));
      t.equal(stage.store.flushNumber(extent), first!.store.flushNumber(extent));
    }
  for (const stage of stages) stage.server.close(() => {});
  world.advance(1000);
  const dataBytes = region.extentSize * 512;
  for (const [index, disk] of disks.entries())
    for (let extent = 0; extent < region.extentCount; extent++) {
      const file = disk.get(`${DIRECTORY}/${extentPath(extent)}`)!;
      const wanted = image.subarray(extent * dataBytes, (extent + 1) * dataBytes);
      t.ok(file.subarray(0, dataBytes).equals(wanted), `replica ${index}, extent ${extent}`);
    }
  t.equal(arena.allocations, 0);
});
