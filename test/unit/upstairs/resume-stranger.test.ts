import t from "tap";
import type { Generation, Uuid } from "../../../src/base/ids.js";
import { DeviceStatus } from "../../../src/ports/device.js";
import { LogKind } from "../../../src/ports/journal.js";
import { resumeProblem } from "../../../src/upstairs/resume.js";
import { KeptHost, type KeptOptions, KeptVolume, type Life } from "../../kit/kept.js";
import { hashApi } from "../../kit/replica.js";
import { World } from "../../kit/world.js";

// A server resumes; it does not take over. Whatever another host did meanwhile must stay.

const hash = await hashApi();
const BLOCK = 512;
const OTHER = "00000000-0000-4000-8000-00000000000b" as Uuid;
const mine = Buffer.alloc(BLOCK, 0xaa);
const theirs = Buffer.alloc(BLOCK, 0xbb);

interface Scene {
  readonly world: World;
  readonly volume: KeptVolume;
  readonly here: KeptHost;
  readonly there: KeptHost;
}

/** A server here has been killed with a write acknowledged that no flush covers; before that it had flushed, or not. */
function scene(options: KeptOptions & { flushed: boolean }): Scene {
  const world = new World(3);
  const volume = new KeptVolume(world, hash, {
    ack: "buffered",
    tuning: { autoFlushMs: 3_600_000, refusalsMs: 5_000 },
    ...options,
  });
  const here = new KeptHost(volume);
  const there = new KeptHost(volume, OTHER);
  const life = here.start();
  if (life.up() !== null) throw new Error("the first server does not start");
  done(life, life.guest.write(BLOCK, mine));
  if (options.flushed) done(life, life.guest.flush());
  done(life, life.guest.write(0, mine));
  life.kill();
  world.advance(2000);
  return { world, volume, here, there };
}
function done(life: Life, tag: number): void {
  life.pass(5000, () => life.guest.answers.has(tag));
  if (life.guest.status(tag) !== DeviceStatus.ok) throw new Error(`request ${tag} was not done`);
}
const onDisk = ({ volume }: Scene): Set<number | undefined> =>
  new Set(volume.replicas.map((replica) => replica.blocks.get(0)?.data[0]));

for (const flushed of [true, false]) {
  const when = flushed ? "after a flush" : "before any flush";

  t.test(`nobody came, ${when}: the log is written again`, async (t) => {
    const { here, volume, world } = scene({ flushed });
    for (const replica of volume.replicas) replica.blocks.delete(0);
    const life = here.start();
    t.equal(life.up(), null);
    const tag = life.guest.read(0, 2 * BLOCK);
    done(life, tag);
    t.same(life.guest.answers.get(tag)?.data, Buffer.concat([mine, mine]));
    t.equal(life.said("volume.resume").length, 1);
    t.equal(life.generation, life.journal.resume!.generation + 1n, "one above, not the clock");
    t.ok(life.generation < BigInt(world.wallSeconds()));
    t.equal(life.stop(), null);
    t.equal(here.memory, null);
  });

  t.test(`another host is there, ${when}: it is not disturbed`, async (t) => {
    const it = scene({ flushed });
    const guest = it.there.start();
    t.equal(guest.up(), null);
    done(guest, guest.guest.write(0, theirs));
    const life = it.here.start();
    t.equal(life.up()?.code, "TRIVET_E_SUPERSEDED");
    t.same(
      it.here.setAside.map(({ reading }) => reading.rows.length),
      [flushed ? 1 : 2],
    );
    t.equal(it.here.judge()?.kind, "fresh", "and the log is void");
    it.world.advance(3000);
    t.same(onDisk(it), new Set([0xbb]));
    done(guest, guest.guest.flush());
    t.equal(guest.superseded.length, 0);
    t.equal(guest.stop(), null);
  });

  const visits: [string, KeptOptions, (there: KeptHost, world: World) => void][] = [
    ["came and left", {}, () => {}],
    [
      "came with a clock that is far behind, and left",
      {},
      (there) => {
        there.clockOffset = -1_000_000;
      },
    ],
    [
      "came with a clock that shows the same second, and left",
      {},
      (there) => {
        there.clockOffset = -2;
      },
    ],
    [
      "came with a clock that is ahead, and left",
      {},
      (there) => {
        there.clockOffset = 1_000;
      },
    ],
  ];
  for (const [name, options, prepare] of visits)
    t.test(`another host ${name}, ${when}: nothing of it is written over`, async (t) => {
      const it = scene({ flushed, ...options });
      prepare(it.there, it.world);
      const guest = it.there.start();
      t.equal(guest.up(), null);
      done(guest, guest.guest.write(0, theirs));
      t.equal(guest.stop(), null, "flushed and gone");
      const life = it.here.start();
      const fault = life.up();
      t.equal(fault?.code, "TRIVET_E_SUPERSEDED");
      t.match(fault?.message, /another host has used the volume since/);
      t.same(onDisk(it), new Set([0xbb]));
      t.equal(it.here.setAside.length, 1);
      t.equal(
        it.here.setAside[0]!.reading.rows.at(-1)!.start,
        0,
        "with what was acknowledged here",
      );
      // Started again by a person, it takes the volume back, as ever.
      it.world.advance(2000);
      const again = it.here.start();
      t.equal(again.up(), null);
      const tag = again.guest.read(0, BLOCK);
      done(again, tag);
      t.same(again.guest.answers.get(tag)?.data, theirs);
      t.equal(again.stop(), null);
    });
}

t.test("numbers that a restarted server counted through stand for nobody else", async (t) => {
  const it = scene({ flushed: true, latencyMs: 2 });
  for (let restart = 0; restart < 5; restart++) {
    const life = it.here.start();
    for (let i = 0; i < 200 && life.said("replica.active").length === 0; i++) life.up(1);
    t.equal(life.activated, undefined, "about to write what is in the log");
    life.kill();
    it.world.advance(1500);
  }
  it.there.clockOffset = -1_000_000;
  const guest = it.there.start();
  t.equal(guest.up(), null);
  done(guest, guest.guest.write(0, theirs));
  t.equal(guest.stop(), null, "flushed and gone");
  const life = it.here.start();
  t.equal(life.up()?.code, "TRIVET_E_SUPERSEDED");
  t.same(onDisk(it), new Set([0xbb]));
});

t.test("superseded while it serves: what no flush covered is put aside", async (t) => {
  const volume = new KeptVolume(new World(4), hash, {
    ack: "buffered",
    tuning: { autoFlushMs: 3_600_000 },
  });
  const here = new KeptHost(volume);
  const first = here.start();
  t.equal(first.up(), null);
  for (let i = 0; i < 20; i++) done(first, first.guest.write(i * BLOCK, mine));
  const held = first.arena.allocations;
  volume.world.advance(2000);
  const second = new KeptHost(volume, OTHER).start();
  t.equal(second.up(), null);
  volume.world.advance(100);
  t.equal(first.superseded.length, 1);
  t.same(
    here.setAside.map(({ reading }) => reading.rows.length),
    [20],
  );
  t.same(here.setAside[0]!.reading.problems, []);
  t.ok(held > 20);
  first.stop();
  t.equal(first.arena.allocations, 0, "and then its memory is free");
  t.equal(here.judge(), null, "nothing is left for the next one");
  t.equal(second.stop(), null);
});

t.test(
  "an end that cannot flush leaves the log, with its payload, to the next server",
  async (t) => {
    const volume = new KeptVolume(new World(5), hash, {
      ack: "buffered",
      tuning: { autoFlushMs: 3_600_000, stopMs: 500 },
    });
    const here = new KeptHost(volume);
    const first = here.start();
    t.equal(first.up(), null);
    for (const replica of volume.replicas) replica.manner.trouble = () => "ignore";
    const tags = [0, 1, 2].map((i) => first.guest.write(i * BLOCK, mine));
    for (const tag of tags) done(first, tag);
    t.equal(first.stop()?.code, "TRIVET_E_TIMEOUT");
    t.ok(first.arena.allocations >= 3, "memory of rows that count is not used for anything else");
    for (const replica of volume.replicas) replica.manner.trouble = () => null;
    volume.world.advance(2000);
    const next = here.start();
    t.equal(next.journal.resume?.writes.length, 3);
    t.equal(next.up(), null);
    const tag = next.guest.read(0, BLOCK);
    done(next, tag);
    t.same(next.guest.answers.get(tag)?.data, mine);
    t.equal(next.stop(), null);
  },
);

t.test("the log is for these regions and no others", async (t) => {
  const { here, volume } = scene({ flushed: true });
  const other = new KeptVolume(volume.world, hash, volume.options);
  for (const [i, replica] of other.replicas.entries())
    Object.assign(replica.region, { uuid: `99999999-0000-4000-8000-00000000000${i}` });
  const elsewhere = new KeptHost(other);
  elsewhere.memory = here.memory;
  const life = elsewhere.start();
  const fault = life.up();
  t.equal(fault?.code, "TRIVET_E_LOG_FOREIGN");
  t.match(
    fault?.line,
    /it is about the regions 12345678.* Put the right targets back, or move the log away/,
  );
  t.equal(other.replicas[0]!.blocks.size, 0, "nothing is written there");
  life.stop();
  t.equal(elsewhere.judge()?.kind, "resume", "and nothing is lost");
  const right = here.start();
  t.equal(right.up(), null);
});

t.test("a log without writes is about nobody: whoever is there will do", async (t) => {
  // A server began with the second and the third and died before it had done anything; then the first is back, and one of them away.
  const { volume } = scene({ flushed: true });
  const participants = [0, 2].map((place) => {
    const { region } = volume.replicas[place]!;
    const versions = {
      kind: "ExtentVersions",
      generations: new BigUint64Array(8).fill(1n),
      flushNumbers: new Float64Array(8),
      dirty: new Uint8Array(8),
    } as const;
    return { name: `replica ${place}`, region, versions, isSource: true };
  });
  const resume = {
    generation: 5n as Generation,
    explains: (found: bigint) => found <= 1n,
    regions: [1, 2].map((place) => volume.replicas[place]!.region.uuid),
    blockBytes: BLOCK,
    writes: [],
  };
  t.equal(resumeProblem(resume, participants), null);
  const row = { row: 1, kind: LogKind.zeroes, start: 0, blocks: 1, at: -1, tailAt: -1, tail: null };
  t.equal(resumeProblem({ ...resume, writes: [row] }, participants)?.code, "TRIVET_E_LOG_FOREIGN");
  const stranger = resumeProblem({ ...resume, explains: () => false }, participants);
  t.equal(stranger?.code, "TRIVET_E_SUPERSEDED", "that somebody else wrote counts all the same");
});

t.test("one that seems to be older bears witness, if the log is about it", async (t) => {
  // Only the first got our last flush; a host with a clock behind went on with the other two, below our generation.
  const { volume } = scene({ flushed: true });
  const carries = (place: number, generation: bigint, isSource: boolean) => ({
    name: `replica ${place}`,
    region: volume.replicas[place]!.region,
    versions: {
      kind: "ExtentVersions",
      generations: new BigUint64Array(8).fill(generation),
      flushNumbers: new Float64Array(8),
      dirty: new Uint8Array(8),
    } as const,
    isSource,
  });
  const participants = [carries(0, 5n, true), carries(1, 4n, false), carries(2, 4n, false)];
  const resume = {
    generation: 5n as Generation,
    explains: (found: bigint) => found === 1n || found === 5n,
    regions: [0, 1, 2].map((place) => volume.replicas[place]!.region.uuid),
    blockBytes: BLOCK,
    writes: [],
  };
  t.equal(resumeProblem(resume, participants)?.code, "TRIVET_E_SUPERSEDED");
  const notOurs = { ...resume, regions: resume.regions.slice(0, 1) };
  t.equal(resumeProblem(notOurs, participants), null, "what a foreign region carries says nothing");
});

t.test("with fewer than two replicas it waits", async (t) => {
  const { here, volume } = scene({ flushed: true });
  for (const replica of volume.replicas) replica.crash();
  volume.replicas[1]!.start();
  const life = here.start();
  t.equal(life.up(20_000), undefined);
  for (const replica of volume.replicas) if (replica.isDown) replica.start();
  t.equal(life.up(), null);
  const tag = life.guest.read(0, BLOCK);
  done(life, tag);
  t.same(life.guest.answers.get(tag)?.data, mine);
});

t.test(
  "generations: one above the log's, saved, and never a number that was used without it",
  async (t) => {
    const { here, volume } = scene({ flushed: true });
    const before = here.lastUsed;
    const life = here.start();
    t.equal(life.up(), null);
    t.equal(here.lastUsed, before + 1n);
    life.kill();
    volume.world.advance(2000);
    const given = (value: bigint) => ({ generation: { kind: "given", value } }) as const;
    const low = here.start(given(before + 1n));
    t.equal(low.up()?.code, "TRIVET_E_GENERATION_TOO_LOW");
    t.match(low.activated?.message, /the write log was left by generation/);
    t.equal(here.judge()?.kind, "resume");
    const right = here.start(given(before + 100n));
    t.equal(right.up(), null);
    t.equal(right.generation, before + 2n, "the log is finished with its own next number");
    right.kill();
    volume.world.advance(2000);
    const without = here.start({ keepsNoLog: true });
    t.equal(without.up(), null);
    t.equal(without.stop(), null);
    const stale = here.start();
    t.equal(stale.up()?.code, "TRIVET_E_SUPERSEDED");
    t.match(stale.activated?.message, /this host has used \d+ since, without it/);
  },
);
