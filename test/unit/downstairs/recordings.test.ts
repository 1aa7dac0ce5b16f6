import { existsSync, readFileSync } from "node:fs";
import t, { type Test } from "tap";
import type { Fault } from "../../../src/base/fault.js";
import { decode, KINDS, type Message } from "../../../src/crucible/messages.js";
import type { RegionDefinition } from "../../../src/crucible/region-definition.js";
import type { RegionStore } from "../../../src/downstairs/region-store.js";
import type { FakeDisk } from "../../kit/disk.js";
import { DiskPeer, DownstairsStage } from "../../kit/downstairs-stage.js";
import { type Line, wireLines } from "../../kit/recordings.js";
import { type FakeStore, regionOf } from "../../kit/store.js";
import { World } from "../../kit/world.js";
import type { ScriptedUpstairs } from "../../peer/upstairs.js";
import { diskOf, freshDisk, Rig, untar } from "../store/rig.js";

// Every downstairs' side of what was recorded between the original programs: the upstairs' frames are sent in the
// recorded order, and each connection must hear what the original answered, byte for byte and in that order.

/** The frame; payload that was cut out is left as zeros. */
function frameOf(line: Line): Buffer {
  const head = Buffer.from(line.hex!, "hex");
  if (line.cut === undefined || line.dir === "d2u") return head;
  return Buffer.concat([head], line.cut);
}

const REPAIR_PORT = 7810;

type AnyStage = DownstairsStage<RegionStore>;

class Replay {
  readonly #world: World;
  readonly #stages: readonly AnyStage[];
  readonly #peers = new Map<string, ScriptedUpstairs>();
  readonly #want = new Map<string, Buffer[]>();

  private constructor(world: World, stages: readonly AnyStage[]) {
    this.#world = world;
    this.#stages = stages;
  }

  /** Three regions in memory. `whole` false: blocks do not have their hashes. */
  static async inMemory(
    definition: Definition,
    options: { readonly readOnly?: boolean; readonly whole?: boolean } = {},
  ): Promise<Replay> {
    const world = new World();
    const stages: DownstairsStage[] = [];
    const sources = new Map<number, FakeStore>();
    for (let link = 0; link < 3; link++) {
      const stage = await DownstairsStage.open({
        world,
        definition: regionOfLink(definition, link),
        readOnly: options.readOnly ?? false,
        repairPort: REPAIR_PORT + 10 * link,
      });
      stage.store.sources = sources;
      stage.store.checksHashes = options.whole ?? true;
      sources.set(REPAIR_PORT + 10 * link, stage.store);
      stages.push(stage);
    }
    return new Replay(world, stages);
  }

  /** Three regions on disks in memory, with the real store. */
  static async onDisks(disks: readonly FakeDisk[]): Promise<Replay> {
    const world = new World();
    const stages: AnyStage[] = [];
    const sources = new Map<number, { disk: FakeDisk; isClosed(extent: number): boolean }>();
    for (const [link, disk] of disks.entries()) {
      const repairPort = REPAIR_PORT + 10 * link;
      const peer = new DiskPeer(sources, disk);
      const arenaBytes = 64 * 1024 * 1024;
      const stage = await DownstairsStage.onDisk(disk, { world, peer, repairPort, arenaBytes });
      sources.set(repairPort, { disk, isClosed: (extent) => stage.store.isClosed(extent) });
      stages.push(stage);
    }
    return new Replay(world, stages);
  }

  /** `name` tells recordings apart that are played in one world. */
  play(name: string, lines: readonly Line[]): void {
    for (const line of lines) {
      if (line.conn === undefined || line.event === "refused") continue;
      const key = `${name} connection ${line.conn} to ${line.link}`;
      if (line.event === "open") this.#peers.set(key, this.#stages[line.link!]!.connect());
      const peer = this.#peers.get(key)!;
      if (line.event === "close") peer.leave();
      if (line.event !== undefined) continue;
      const frame = frameOf(line);
      if (line.dir === "u2d") peer.send(frame);
      else this.#want.set(key, [...(this.#want.get(key) ?? []), frame]);
      this.#world.settle();
    }
    this.#world.settle();
  }

  /** Stops the three servers. */
  close(t: Test): void {
    const closed: (Fault | null)[] = [];
    for (const stage of this.#stages) stage.server.close((fault) => closed.push(fault));
    this.#world.advance(60_000);
    t.same(closed, [null, null, null], "closed in order");
    for (const stage of this.#stages) t.equal(stage.arena.allocations, 0, "no memory is left");
  }

  wanted(key: string): readonly Buffer[] {
    return this.#want.get(key) ?? [];
  }
  /** What was heard on each connection. */
  answers(): (readonly [string, Buffer[]])[] {
    return [...this.#peers].map(([key, peer]) => [key, peer.frames.splice(0)]);
  }

  judge(t: Test, whole = true): void {
    for (const [key, got] of this.answers()) {
      const want = this.wanted(key);
      if (got.length !== want.length)
        t.same(
          got.map((frame) => nameOf(frame)),
          want.map((frame) => nameOf(frame)),
          key,
        );
      const wrong = got.findIndex(
        (frame, i) => want[i] === undefined || !agree(want[i], frame, whole),
      );
      if (wrong < 0) t.pass(`${key}: ${got.length} answers`);
      else t.equal(got[wrong]!.toString("hex"), want[wrong]?.toString("hex"), `${key}, ${wrong}`);
    }
  }
}

const nameOf = (frame: Buffer): string => KINDS[frame.readUInt32LE(4)]!;

/** Where data was cut out of the recording, everything before it counts; blocks have 4096 bytes there. */
function agree(want: Buffer, got: Buffer, whole: boolean): boolean {
  const length = want.readUInt32LE(0);
  if (whole || length < 4096) return want.equals(got);
  const dataAt = length % 4096;
  return got.length === length && want.subarray(0, dataAt).equals(got.subarray(0, dataAt));
}

type Definition = Pick<RegionDefinition, "blockSize" | "extentSize" | "extentCount" | "encrypted">;

function regionOfLink(definition: Definition, link: number): RegionDefinition {
  const { blockSize, extentSize, extentCount, encrypted } = definition;
  const uuid = `12345678-1111-2222-3333-00000000000${link}`;
  return regionOf(blockSize, extentSize, extentCount, uuid, encrypted);
}

/** Geometry as RegionInfo in the recording says; where there is none it does not matter. */
function geometry(lines: readonly Line[]): Definition {
  const line = lines.find((line) => line.msg === "RegionInfo");
  if (line === undefined) return regionOf();
  const message = decode(Buffer.from(line.hex!, "hex")) as Extract<Message, { kind: "RegionInfo" }>;
  return message.region;
}

const FRESH = [
  "activate-io-512",
  "activate-io-4096",
  "barrier-without-flush",
  "encrypted",
  "idle-pings",
  "killed-dirty",
  "live-repair",
  "live-repair-quiet",
  "replay-after-reconnect",
];

for (const name of FRESH) {
  const lines = wireLines(name);
  const whole = lines.every((line) => line.cut === undefined);
  t.test(name, async (t) => {
    const replay = await Replay.inMemory(geometry(lines), { whole });
    replay.play(name, lines);
    replay.judge(t, whole);
    replay.close(t);
  });
  if (whole)
    t.test(`${name}, on disk`, async (t) => {
      const definition = geometry(lines);
      const disks = [0, 1, 2].map((link) => freshDisk(regionOfLink(definition, link)));
      const replay = await Replay.onDisks(disks);
      replay.play(name, lines);
      replay.judge(t);
      replay.close(t);
      if (existsSync(`${REGIONS}/${name}`)) judgeDisks(t, name, disks);
    });
}

const REGIONS = "test/golden/regions";

function recordedDisks(name: string): FakeDisk[] {
  return [0, 1, 2].map((link) =>
    diskOf(untar(readFileSync(`${REGIONS}/${name}/region${link}.tar.gz`))),
  );
}

/** The three directories must hold what the original's held after the same conversation. */
function judgeDisks(t: Test, name: string, disks: readonly FakeDisk[]): void {
  for (const [link, recorded] of recordedDisks(name).entries()) {
    const want = Rig.open(recorded, { arenaBytes: 32 * 1024 * 1024 });
    const got = Rig.open(disks[link]!, { arenaBytes: 32 * 1024 * 1024 });
    t.ok(got.image().equals(want.image()), `region ${link}: the same image`);
    const numbers = (rig: Rig): unknown[] =>
      Array.from({ length: rig.store.definition.extentCount }, (_, e) => [
        rig.store.generation(e),
        rig.store.flushNumber(e),
        rig.store.isDirty(e),
      ]);
    t.same(numbers(got), numbers(want), `region ${link}: the same numbers`);
  }
}

for (const [name, before, after] of [
  ["reconcile", "reconcile-before", "reconcile-after"],
  ["generation-too-low", "after-generation-5", "after-generation-5"],
] as const)
  t.test(`${name}, on disk`, async (t) => {
    const disks = recordedDisks(before);
    const replay = await Replay.onDisks(disks);
    replay.play(name, wireLines(name));
    replay.judge(t);
    replay.close(t);
    judgeDisks(t, after, disks);
  });

for (const open of [
  (definition: Definition) => Replay.inMemory(definition),
  (definition: Definition) =>
    Replay.onDisks([0, 1, 2].map((link) => freshDisk(regionOfLink(definition, link)))),
])
  t.test("takeover, both sides of it", async (t) => {
    const lines = wireLines("takeover");
    const replay = await open(geometry(lines));
    // The first upstairs leaves only after it was told.
    const stays = lines.filter((line) => line.event !== "close");
    replay.play("takeover", stays);
    replay.play("takeover-second", wireLines("takeover-second"));
    replay.judge(t);
    replay.close(t);
  });

// In these recordings the refusal was lost to the closing of some connections.
for (const [name, kind] of [
  ["encrypted-mismatch", "EncryptedMismatch"],
  ["readonly-mismatch", "ReadOnlyMismatch"],
] as const)
  t.test(name, async (t) => {
    const lines = wireLines(name);
    const replay = await Replay.inMemory(geometry(lines), {
      readOnly: kind === "ReadOnlyMismatch",
    });
    replay.play(name, lines);
    for (const [key, frames] of replay.answers()) {
      t.same(
        frames.map((frame) => nameOf(frame)),
        [kind],
        key,
      );
      for (const frame of replay.wanted(key)) t.ok(frame.equals(frames[0]!), key);
    }
  });
