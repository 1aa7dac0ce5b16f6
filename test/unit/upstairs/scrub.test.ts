import fc from "fast-check";
import t, { type Test } from "tap";
import type { Fault } from "../../../src/base/fault.js";
import type { ScrubOptions } from "../../../src/upstairs/scrub-status.js";
import { hashApi } from "../../kit/replica.js";
import { Judge } from "../../kit/upstairs-judge.js";
import { Stage, type StageOptions } from "../../kit/upstairs-stage.js";
import { World } from "../../kit/world.js";

const hash = await hashApi();
const BLOCK = 512;
const block = (fill: number, count = 1): Buffer => Buffer.alloc(count * BLOCK, fill);

function active(options: StageOptions = {}): Stage {
  const stage = new Stage(new World(3), hash, options);
  const fault = stage.activate();
  if (fault !== null) throw new Error(`no activation: ${fault?.line}`);
  return stage;
}
/** Runs a scrub to its end; undefined: it did not end in time. */
function scrub(
  stage: Stage,
  options: ScrubOptions = { bytesPerSecond: 0 },
  limitMs = 60_000,
): Fault | null | undefined {
  let answer: Fault | null | undefined;
  stage.upstairs.scrub(options, (fault) => {
    answer = fault;
  });
  stage.pass(limitMs, () => answer !== undefined);
  return answer;
}
type Damage = "flip" | "lose" | "older" | "stray";
/** Other data under a hash that fits it, as after a lost write. */
function damage(stage: Stage, index: number, at: number, how: Damage): void {
  const replica = stage.replicas[index]!;
  const found = replica.blocks.get(at);
  if (how === "lose") {
    replica.blocks.delete(at);
    return;
  }
  if (how === "older") {
    const data = block(77);
    replica.blocks.set(at, { data, hash: replica.hashOf(data) });
    return;
  }
  const data = Buffer.from(found?.data ?? block(0));
  data[9]! ^= 8;
  replica.blocks.set(at, { data, hash: how === "stray" ? 12n : (found?.hash ?? 12n) });
}
function ended(t: Test, stage: Stage): void {
  t.same(stage.violations, []);
  t.equal(stage.stop(), null);
  t.equal(stage.arena.allocations, 0, "no memory is left behind");
}

t.test("each kind of difference is found, decided and repaired", async (t) => {
  const stage = active({ region: { extentSize: 1024 } });
  for (let i = 0; i < 10; i++) stage.guest.write(i * 100 * BLOCK, block(i + 1, 50));
  stage.world.advance(10);
  const wanted = stage.replicas[0]!.image();
  damage(stage, 0, 3, "flip");
  damage(stage, 1, 104, "lose");
  damage(stage, 2, 205, "older");
  damage(stage, 0, 306, "lose");
  damage(stage, 1, 306, "lose");
  damage(stage, 2, 60, "stray");
  damage(stage, 1, 407, "flip");
  damage(stage, 0, 407, "lose");
  t.equal(scrub(stage), null);
  for (const replica of stage.replicas) t.ok(replica.image().equals(wanted));
  const status = stage.upstairs.scrubStatus!;
  t.equal(status.state, "done");
  t.equal(status.block, 8192);
  t.equal(status.differing, 6);
  t.equal(status.repaired, 6);
  t.equal(status.replicas, 3);
  t.equal(status.comparedOnTwo, 0);
  t.equal(scrub(stage), null);
  t.equal(stage.upstairs.scrubStatus!.differing, 0, "and then nothing differs");
  ended(t, stage);
});

t.test(
  "what cannot be decided is said, and made the same; what is lost is left alone",
  async (t) => {
    const stage = active();
    stage.guest.write(0, block(5, 8));
    stage.world.advance(600);
    damage(stage, 0, 1, "older");
    damage(stage, 1, 1, "flip");
    for (const index of [0, 1, 2]) damage(stage, index, 4, "flip");
    const before = stage.replicas.map((replica) => replica.blocks.get(4)!.data);
    t.equal(scrub(stage), null);
    const status = stage.upstairs.scrubStatus!;
    t.equal(status.undecided, 1);
    t.equal(status.lost, 1);
    t.equal(status.differing, 2);
    for (const replica of stage.replicas) t.same(replica.blocks.get(1)!.data, block(77));
    for (const [i, replica] of stage.replicas.entries())
      t.same(replica.blocks.get(4)!.data, before[i]);
    t.ok(
      /block 1 had different good copies.*that of replica 0/.test(
        stage.said("block.undecided")[0]!,
      ),
    );
    t.ok(stage.said("block.lost")[0]?.includes("block 4"));
    ended(t, stage);
  },
);

t.test("the limit holds, progress is told, and it can be stopped and gone on with", async (t) => {
  const stage = active({ region: { extentSize: 4096, extentCount: 8 } });
  const inAll = 4096 * 8 * BLOCK;
  let answer: Fault | null | undefined;
  stage.upstairs.scrub({ bytesPerSecond: 1024 * 1024 }, (fault) => {
    answer = fault;
  });
  t.equal(stage.upstairs.scrubStatus!.remainingMs, null);
  stage.world.advance(4500);
  const midway = stage.upstairs.scrubStatus!;
  t.equal(midway.state, "running");
  t.ok(midway.block >= 4 * 2048 && midway.block <= 6 * 2048, `at block ${midway.block}`);
  t.ok(Math.abs(midway.bytesPerSecond - 1024 * 1024) < 300_000, `${midway.bytesPerSecond}`);
  t.ok(midway.remainingMs! > 5000 && midway.remainingMs! < 15_000, `${midway.remainingMs}`);
  t.equal(stage.upstairs.stopScrub(), true);
  t.ok(stage.pass(1000, () => answer !== undefined));
  t.equal(answer, null);
  const stopped = stage.upstairs.scrubStatus!;
  t.equal(stopped.state, "stopped");
  t.equal(stage.upstairs.stopScrub(), false, "none runs");
  t.equal(stage.upstairs.setScrubRate(5), false);
  damage(stage, 0, stopped.block, "stray");
  t.equal(scrub(stage, { bytesPerSecond: 0, fromBlock: stopped.block }), null);
  const rest = stage.upstairs.scrubStatus!;
  t.equal(rest.fromBlock, stopped.block);
  t.equal(rest.repaired, 1);
  t.equal(rest.block * BLOCK, inAll);
  ended(t, stage);
});

t.test("another rate for the one that runs", async (t) => {
  const stage = active({ region: { extentSize: 4096, extentCount: 8 } });
  let isOver = false;
  stage.upstairs.scrub({ bytesPerSecond: 1000 }, () => {
    isOver = true;
  });
  stage.world.advance(2000);
  t.equal(isOver, false);
  t.equal(stage.upstairs.setScrubRate(0), true);
  stage.world.advance(2000);
  t.equal(isOver, true);
  ended(t, stage);
});

t.test("what makes no sense is refused, by the answer and never in the call", async (t) => {
  const stage = new Stage(new World(3), hash);
  t.equal(scrub(stage)?.code, "TRIVET_E_NOT_ACTIVE");
  stage.activate();
  let isCalling = true;
  const codes: (string | undefined)[] = [];
  const ask = (options: ScrubOptions): void =>
    stage.upstairs.scrub(options, (fault) => {
      t.equal(isCalling, false);
      codes.push(fault?.code);
    });
  ask({ bytesPerSecond: 0 });
  ask({ bytesPerSecond: 0 });
  isCalling = false;
  stage.world.advance(1000);
  t.same(codes, ["TRIVET_E_SCRUB_RUNNING", undefined]);
  t.equal(scrub(stage, { bytesPerSecond: -1 })?.code, "TRIVET_E_USAGE");
  t.equal(scrub(stage, { bytesPerSecond: Number.NaN })?.code, "TRIVET_E_USAGE");
  t.equal(scrub(stage, { bytesPerSecond: 0, fromBlock: 161 })?.code, "TRIVET_E_USAGE");
  t.equal(scrub(stage, { bytesPerSecond: 0, fromBlock: 0.5 })?.code, "TRIVET_E_USAGE");
  t.equal(scrub(stage, { bytesPerSecond: 0, fromBlock: 160 }), null, "the end is a place, too");
  ended(t, stage);
});

t.test("it waits for a replica that is away, and compares two when that is given up", async (t) => {
  const stage = active({
    region: { extentSize: 2048 },
    tuning: { offlineGraceMs: 5000, offlineJobsMax: 5 },
  });
  stage.guest.write(0, block(5, 4));
  stage.world.advance(600);
  stage.replicas[2]!.crash();
  stage.world.advance(10);
  damage(stage, 1, 2, "lose");
  let isOver = false;
  stage.upstairs.scrub({ bytesPerSecond: 0 }, () => {
    isOver = true;
  });
  stage.world.advance(3000);
  const waiting = stage.upstairs.scrubStatus!;
  t.equal(waiting.state, "waiting");
  t.ok(waiting.waitsFor?.includes("replica 2 is away"));
  stage.world.advance(3000);
  for (let i = 0; i < 10; i++) stage.guest.write((100 + i) * BLOCK, block(1));
  stage.pass(30_000, () => isOver);
  t.ok(isOver);
  const done = stage.upstairs.scrubStatus!;
  t.equal(done.replicas, 2);
  t.equal(done.comparedOnTwo, done.blocks);
  t.equal(done.repaired, 1);
  t.same(stage.replicas[1]!.blocks.get(2)!.data, block(5));
  t.ok(stage.said("scrub.done")[0]?.includes("on two replicas only"));
  ended(t, stage);
});

t.test(
  "with one replica there it waits; a stop of the volume ends it with its position",
  async (t) => {
    const stage = active({ region: { extentSize: 4096 } });
    let answer: Fault | null | undefined;
    stage.upstairs.scrub({ bytesPerSecond: 1024 * 1024 }, (fault) => {
      answer = fault;
    });
    stage.world.advance(1500);
    const { block: at } = stage.upstairs.scrubStatus!;
    for (const index of [0, 1]) stage.replicas[index]!.crash();
    stage.world.advance(5000);
    t.equal(stage.upstairs.scrubStatus!.state, "waiting");
    for (const index of [0, 1]) stage.replicas[index]!.start();
    stage.pass(30_000, () => stage.upstairs.status().replicas.every((r) => r.phase === "active"));
    stage.world.advance(1500);
    t.ok(stage.upstairs.scrubStatus!.block > at, "it goes on");
    t.equal(stage.stop(), null);
    t.ok(answer instanceof Error, "the volume has ended, not the scrub");
    t.equal(stage.upstairs.scrubStatus!.state, "stopped");
    t.equal(stage.arena.allocations, 0);
  },
);

t.test("a guest at work gets most of the replicas' time", async (t) => {
  const stage = active({
    region: { extentSize: 4096 },
    manner: { jobMs: 2 },
    links: { latencyMs: 0.2 },
  });
  const idle = active({
    region: { extentSize: 4096 },
    manner: { jobMs: 2 },
    links: { latencyMs: 0.2 },
  });
  const took = (one: Stage, work: () => void): number => {
    let isOver = false;
    const from = one.world.nowMs();
    one.upstairs.scrub({ bytesPerSecond: 0 }, () => {
      isOver = true;
    });
    while (!isOver && one.world.nowMs() - from < 60_000) {
      work();
      one.world.advance(1);
    }
    return one.world.nowMs() - from;
  };
  const aloneMs = took(idle, () => {});
  let i = 0;
  const busyMs = took(stage, () => stage.guest.read((i++ % 100) * BLOCK, BLOCK));
  t.ok(busyMs > 2.5 * aloneMs, `alone ${aloneMs} ms, beside a guest ${busyMs} ms`);
  ended(t, stage);
  ended(t, idle);
});

t.test(
  "property: whatever is planted in two replicas, all are equal afterwards and good data is kept, while guests write",
  async (t) => {
    const DAMAGES: readonly Damage[] = ["flip", "lose", "older", "stray"];
    const planted = fc.record({
      at: fc.nat(159),
      replicas: fc.constantFrom([0], [1], [2], [0, 1], [1, 2], [0, 2]),
      hows: fc.tuple(fc.constantFrom(...DAMAGES), fc.constantFrom(...DAMAGES)),
    });
    let repaired = 0;
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1e6 }),
        fc.uniqueArray(planted, { selector: ({ at }) => at, maxLength: 30 }),
        fc.boolean(),
        (seed, plants, hasGuest) => {
          const world = new World(seed);
          const stage = new Stage(world, hash, { manner: { jobMs: 2 }, links: { latencyMs: 0.3 } });
          if (stage.activate() !== null) return false;
          const judge = new Judge(stage);
          const below = (n: number): number => Math.floor(world.chance() * n);
          for (let i = 0; i < 40; i++) judge.write(below(156), 1 + below(4));
          judge.flush();
          stage.pass(1000, () => stage.upstairs.status().jobs === 0);
          for (const { at, replicas, hows } of plants) {
            const isWritten = stage.replicas[0]!.blocks.has(at);
            // Two that have lost the same way outvote the third, and an older version that is the only good one is kept.
            const isSafe = isWritten
              ? hows[0] !== "older" || replicas.length === 1
              : replicas.length === 1 && hows[0] !== "older";
            if (!isSafe || (replicas.length === 2 && hows[1] === "older")) continue;
            for (const [i, index] of replicas.entries()) damage(stage, index, at, hows[i]!);
          }
          let isOver = false;
          stage.upstairs.scrub({ bytesPerSecond: 0 }, () => {
            isOver = true;
          });
          for (let i = 0; hasGuest && i < 60; i++) {
            judge.write(below(156), 1 + below(4));
            if (world.chance() < 0.5) judge.read(below(156), 1);
            world.advance(world.chance() * 2);
          }
          stage.pass(30_000, () => isOver);
          judge.flush();
          stage.pass(5000, () => stage.upstairs.status().jobs === 0);
          repaired += stage.upstairs.scrubStatus!.repaired;
          const wanted = judge.image();
          const isEqual = stage.replicas.every((replica) => replica.image().equals(wanted));
          const isClean = stage.stop() === null && stage.arena.allocations === 0;
          return (
            isOver && isEqual && isClean && [...judge.broken, ...stage.violations].length === 0
          );
        },
      ),
      { numRuns: 60, seed: 5 },
    );
    t.ok(repaired > 100, `${repaired} blocks were repaired`);
  },
);
