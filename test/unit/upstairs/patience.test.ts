import t from "tap";
import { DeviceStatus } from "../../../src/ports/device.js";
import { hashApi } from "../../kit/replica.js";
import { Stage, type StageOptions } from "../../kit/upstairs-stage.js";
import { World } from "../../kit/world.js";

// One replica of three is stuck or slow: how long does a guest wait, what is kept in memory, who is given up. Times are virtual.

const hash = await hashApi();
const BLOCK = 512;
const PIECE = 64 * 1024;
/** Between an answer and the next request. */
const PAUSE_MS = 100;
const block = (fill: number, count = 1): Buffer => Buffer.alloc(count * BLOCK, fill);

function active(options: StageOptions = {}): Stage {
  const region = { extentSize: 2048, ...options.region };
  const stage = new Stage(new World(7), hash, { ...options, region });
  const fault = stage.activate();
  if (fault !== null) throw new Error(`no activation: ${fault?.line}`);
  return stage;
}
const modes = (stage: Stage): string[] =>
  stage.upstairs.status().replicas.map(({ mode, phase }) => `${mode} ${phase}`);
const isOut = (stage: Stage, index: number): boolean => modes(stage)[index]!.startsWith("faulted");

/** A guest that keeps some writes under way, and notes how long each took and how much memory was in use. */
class Load {
  readonly stage: Stage;
  readonly bytes: number;
  readonly depth: number;
  readonly flushEvery: number;
  longestMs = 0;
  answered = 0;
  usedBytesMax = 0;
  #asked = 0;
  #isOn = true;
  readonly #since = new Map<number, number>();

  constructor(stage: Stage, bytes: number, depth: number, flushEvery = 0) {
    this.stage = stage;
    this.bytes = bytes;
    this.depth = depth;
    this.flushEvery = flushEvery;
    stage.guest.onAnswer = (tag, { status }) => this.#onAnswer(tag, status);
    for (let i = 0; i < depth; i++) this.#ask();
  }
  stop(): void {
    this.#isOn = false;
  }
  /** Of those that are under way: how long the oldest has waited. */
  get waitedMs(): number {
    return this.stage.world.nowMs() - Math.min(this.stage.world.nowMs(), ...this.#since.values());
  }

  #ask(): void {
    const { guest, world } = this.stage;
    const n = this.#asked++;
    // Set before the request is made: the answer may come at once.
    this.#since.set(guest.nextTag, world.nowMs());
    if (this.flushEvery > 0 && n % this.flushEvery === 0) guest.flush();
    else {
      const size = this.stage.upstairs.sizeBytes;
      guest.write((n * this.bytes) % (size - this.bytes), Buffer.alloc(this.bytes, n));
    }
  }
  #onAnswer(tag: number, status: DeviceStatus): void {
    const { world, upstairs } = this.stage;
    const since = this.#since.get(tag);
    if (since === undefined) return;
    if (status !== DeviceStatus.ok && this.#isOn)
      throw new Error(`request ${tag} ended with ${status}`);
    this.#since.delete(tag);
    this.longestMs = Math.max(this.longestMs, world.nowMs() - since);
    this.usedBytesMax = Math.max(this.usedBytesMax, upstairs.status().writeMemory.usedBytes);
    this.answered += 1;
    this.stage.guest.answers.delete(tag);
    if (this.#isOn) world.after(PAUSE_MS, () => this.#ask());
  }
}

/** Longest a write may wait for a replica that does nothing: holdUpMs and a look. */
const STALL_MS_MAX = 11_500;

t.test("answers that never come: writes stall for some seconds, once", async (t) => {
  const stage = active({ tuning: { jobsMax: 30 } });
  stage.replicas[1]!.manner.trouble = () => "ignore";
  const load = new Load(stage, BLOCK, 8);
  stage.world.advance(15_000);
  t.ok(isOut(stage, 1));
  t.ok(load.longestMs > 5_000 && load.longestMs <= STALL_MS_MAX, `${load.longestMs} ms`);
  t.ok(
    stage.said("replica.faulted")[0]?.includes("did nothing for 10 s"),
    stage.said("replica.faulted")[0] ?? "",
  );
  const before = load.answered;
  stage.world.advance(1000);
  t.ok(load.answered - before >= 30, "and then it goes on at full speed");
  t.ok(load.usedBytesMax <= stage.upstairs.status().writeMemory.sizeBytes);
  load.stop();
  t.equal(stage.stop(), null);
  t.equal(stage.arena.allocations, 0);
});

t.test(
  "flushes that are never answered there: memory runs out, and the stall is the same",
  async (t) => {
    const stage = active({ arenaBytes: 4 * 1024 * 1024 });
    stage.replicas[2]!.manner.trouble = (job) => (job.kind === "Flush" ? "ignore" : null);
    const load = new Load(stage, PIECE, 6, 10);
    stage.world.advance(40_000);
    t.ok(isOut(stage, 2));
    t.ok(load.longestMs > 5_000 && load.longestMs <= STALL_MS_MAX, `${load.longestMs} ms`);
    t.ok(load.usedBytesMax <= stage.upstairs.status().writeMemory.sizeBytes, "bounded");
    load.stop();
    t.equal(stage.stop(), null);
    t.equal(stage.arena.allocations, 0);
  },
);

t.test("endless error reports: no longer a stall than with no answers at all", async (t) => {
  const stage = active({ tuning: { jobsMax: 50, reportsMax: 1e9, reportsMs: 1e9 } });
  stage.replicas[0]!.manner.trouble = (job) => (job.kind === "Write" ? "report" : null);
  const load = new Load(stage, BLOCK, 8);
  stage.world.advance(15_000);
  t.ok(isOut(stage, 0));
  t.ok(load.longestMs <= STALL_MS_MAX, `${load.longestMs} ms`);
  load.stop();
  t.equal(stage.stop(), null);
});

t.test(
  "a link of 1 Mbit/s: it is given up when it is far behind; until then its pace is endured",
  async (t) => {
    const stage = new Stage(new World(7), hash, {
      region: { extentSize: 2048 },
      arenaBytes: 8 * 1024 * 1024,
      tuning: { bytesMax: 4 * 1024 * 1024 },
    });
    stage.dialer.linksOf.set(1, { bytesPerMs: 125, windowBytes: PIECE });
    t.equal(stage.activate(), null);
    const load = new Load(stage, PIECE, 6, 20);
    stage.pass(60_000, () => isOut(stage, 1));
    t.ok(isOut(stage, 1));
    t.ok(load.longestMs <= 21_500, `${load.longestMs} ms`);
    t.ok(
      /is 2\d s behind the others/.test(stage.said("replica.faulted")[0] ?? ""),
      stage.said("replica.faulted")[0] ?? "",
    );
    const before = load.answered;
    stage.world.advance(1000);
    t.ok(load.answered - before >= 30);
    load.stop();
    t.equal(stage.stop(), null);
    t.equal(stage.arena.allocations, 0);
  },
);

t.test("the same link with a guest that writes little costs nobody anything", async (t) => {
  const stage = new Stage(new World(7), hash, { region: { extentSize: 2048 } });
  stage.dialer.linksOf.set(1, { bytesPerMs: 125, windowBytes: PIECE });
  t.equal(stage.activate(), null);
  for (let i = 0; i < 120; i++) {
    const tag = stage.guest.write(i * PIECE, Buffer.alloc(PIECE, i));
    stage.world.advance(100);
    t.equal(stage.guest.status(tag), DeviceStatus.ok);
  }
  stage.world.advance(120_000);
  t.same(modes(stage), ["new active", "new active", "new active"]);
  t.equal(stage.upstairs.status().jobs, 0, "it caught up");
  t.equal(stage.stop(), null);
});

t.test("a replica 100 times slower than the others", async (t) => {
  const stage = active({ tuning: { jobsMax: 20 } });
  const load = new Load(stage, BLOCK, 8);
  // Seven seconds for as much as may be before it: slow, and endured.
  stage.replicas[1]!.manner.jobMs = 7_000;
  stage.world.advance(60_000);
  t.equal(isOut(stage, 1), false, "endured");
  stage.replicas[1]!.manner.jobMs = 100_000;
  stage.pass(60_000, () => isOut(stage, 1));
  t.ok(isOut(stage, 1), "too slow");
  const before = load.answered;
  stage.world.advance(1000);
  t.ok(load.answered - before >= 30);
  load.stop();
  t.equal(stage.stop(), null);
});

t.test(
  "a disk that stalls for 60 s while nobody is in need: a new connection, and a replay",
  async (t) => {
    const stage = active();
    let isStalled = true;
    stage.replicas[1]!.manner.trouble = () => (isStalled ? "ignore" : null);
    const tags = Array.from({ length: 20 }, (_, i) => stage.guest.write(i * BLOCK, block(i)));
    stage.world.advance(59_000);
    for (const tag of tags) t.equal(stage.guest.status(tag), DeviceStatus.ok);
    t.same(modes(stage)[1], "new active");
    isStalled = false;
    stage.world.advance(10_000);
    t.same(modes(stage)[1], "offline active", "replayed on a new connection");
    t.ok(stage.said("replica.failed")[0]?.includes("answers pings and did nothing else"));
    t.equal(stage.upstairs.status().jobs, 0);
    t.equal(stage.stop(), null);
    t.equal(stage.arena.allocations, 0);
  },
);

t.test("one that is stuck on the new connection too is given up", async (t) => {
  const stage = active();
  stage.replicas[1]!.manner.trouble = () => "ignore";
  stage.guest.write(0, block(1));
  stage.world.advance(70_000);
  t.equal(isOut(stage, 1), false);
  stage.world.advance(65_000);
  t.ok(isOut(stage, 1));
  t.ok(stage.said("replica.faulted")[0]?.includes("after a new connection too"));
  t.equal(stage.upstairs.status().jobs, 0, "nothing is kept for it");
  t.equal(stage.stop(), null);
});

t.test(
  "two take part: a stuck one is never given up, its connection is tried anew, ever less often",
  async (t) => {
    const stage = active({ tuning: { jobsMax: 20 } });
    stage.replicas[2]!.crash();
    stage.world.advance(10);
    let isStalled = true;
    stage.replicas[1]!.manner.trouble = () => (isStalled ? "ignore" : null);
    const tags = Array.from({ length: 60 }, (_, i) => stage.guest.write(i * BLOCK, block(i)));
    stage.world.advance(1_200_000);
    t.equal(isOut(stage, 1), false, "twenty minutes, and it is still waited for");
    const tries = stage.said("replica.failed").length;
    t.ok(tries >= 2 && tries <= 6, `${tries} tries`);
    t.equal(tags.filter((tag) => stage.guest.status(tag) === DeviceStatus.ok).length, 0);
    isStalled = false;
    stage.world.advance(1_000_000);
    for (const tag of tags) t.equal(stage.guest.status(tag), DeviceStatus.ok);
    t.same(stage.violations, []);
  },
);

t.test("what holds up two alike is nobody's fault: they are waited for", async (t) => {
  const stage = active({ tuning: { jobsMax: 20 } });
  let isStalled = true;
  for (const index of [0, 1])
    stage.replicas[index]!.manner.deaf = (message) => isStalled && message.kind === "Write";
  const load = new Load(stage, BLOCK, 30);
  stage.world.advance(40_000);
  t.same(stage.said("replica.faulted"), []);
  isStalled = false;
  // What was swallowed has to be sent again.
  for (const index of [0, 1]) stage.replicas[index]!.cut();
  stage.world.advance(30_000);
  t.same(
    modes(stage).map((mode) => mode.endsWith("active")),
    [true, true, true],
  );
  t.same(stage.said("replica.faulted"), []);
  load.stop();
  stage.world.advance(5_000);
  t.same(stage.violations, []);
  t.equal(stage.stop(), null);
});

t.test(
  "reads that a replica sits on are asked elsewhere after a while, and it gets a new connection",
  async (t) => {
    const stage = active();
    stage.guest.write(0, block(5));
    stage.world.advance(2_000);
    stage.replicas[0]!.manner.trouble = (job) => (job.kind === "ReadRequest" ? "ignore" : null);
    const tags = Array.from({ length: 9 }, () => stage.guest.read(0, BLOCK));
    stage.world.advance(65_000);
    for (const tag of tags) t.same(stage.guest.answers.get(tag)?.data, block(5));
    t.same(stage.said("replica.faulted"), []);
    t.equal(stage.stop(), null);
  },
);

t.test("a stop does not wait for one that never answers the last flush", async (t) => {
  const stage = active();
  stage.guest.write(0, block(1));
  stage.world.advance(10);
  stage.replicas[2]!.manner.trouble = (job) => (job.kind === "Flush" ? "ignore" : null);
  const since = stage.world.nowMs();
  t.equal(stage.stop(), null, "without an error: two have everything");
  t.ok(stage.world.nowMs() - since <= STALL_MS_MAX, `${stage.world.nowMs() - since} ms`);
  for (const index of [0, 1]) t.equal(stage.replicas[index]!.extents[0]!.dirty, false);
  t.equal(stage.arena.allocations, 0);
});

t.test("a replay of far more than may usually be under way: writes go on meanwhile", async (t) => {
  const stage = active({
    tuning: { jobsMax: 50, offlineJobsMax: 1e9, offlineBytesMax: 1e12, offlineGraceMs: 1e9 },
    arenaBytes: 64 * 1024 * 1024,
  });
  stage.replicas[1]!.crash();
  stage.world.advance(10);
  for (let i = 0; i < 600; i++) stage.guest.write((i % 4000) * BLOCK, block(i));
  stage.world.advance(10);
  stage.dialer.linksOf.set(1, { bytesPerMs: 50, windowBytes: 4096 });
  stage.replicas[1]!.start();
  stage.pass(10_000, () => modes(stage)[1] === "offline active");
  const load = new Load(stage, BLOCK, 4);
  stage.world.advance(3_000);
  t.ok(stage.upstairs.status().replicas[1]!.jobs > 50, "it is still catching up");
  t.ok(load.answered > 50, `${load.answered} writes were answered meanwhile`);
  t.ok(load.longestMs < 1000, `${load.longestMs} ms`);
  stage.world.advance(60_000);
  t.ok(stage.upstairs.status().replicas[1]!.jobs <= 50, "and it did catch up");
  t.same(stage.said("replica.faulted"), []);
  load.stop();
  stage.world.advance(60_000);
  t.same(stage.violations, []);
  t.equal(stage.stop(), null);
});

t.test("one that is stuck for good costs a stall now and then, ever less often", async (t) => {
  const stage = active({ tuning: { jobsMax: 20 } });
  stage.replicas[1]!.manner.trouble = () => "ignore";
  const load = new Load(stage, BLOCK, 8, 8);
  stage.pass(30_000, () => isOut(stage, 1));
  stage.world.advance(600_000);
  t.ok(load.longestMs <= STALL_MS_MAX, `${load.longestMs} ms`);
  const attempts = stage.said("repair.started").length;
  t.ok(attempts >= 2 && attempts <= 6, `${attempts} attempts in ten minutes`);
  stage.replicas[1]!.manner.trouble = () => null;
  stage.pass(900_000, () => modes(stage)[1] === "new active");
  t.same(modes(stage)[1], "new active", "and when it is well it is repaired");
  load.stop();
  stage.world.advance(5_000);
  t.same(stage.violations, []);
  t.equal(stage.stop(), null);
  t.same(stage.replicas[1]!.image(), stage.replicas[0]!.image());
});

t.test(
  "a repair that hangs: 11 s for a step, 31 s for the copy of an extent, and no longer",
  async (t) => {
    for (const [kind, mostMs] of [
      ["ExtentLiveClose", STALL_MS_MAX],
      ["ExtentLiveRepair", STALL_MS_MAX + 20_000],
    ] as const) {
      const stage = active({ tuning: { offlineJobsMax: 5 } });
      stage.replicas[1]!.crash();
      stage.world.advance(10);
      const load = new Load(stage, BLOCK, 4, 5);
      stage.world.advance(3_000);
      t.ok(isOut(stage, 1));
      stage.replicas[1]!.manner.trouble = (job) => (job.kind === kind ? "ignore" : null);
      stage.replicas[1]!.start();
      stage.pass(60_000, () => stage.said("repair.aborted").length > 0);
      t.ok(stage.said("repair.aborted")[0]?.includes("of its repair while requests waited"), kind);
      t.ok(
        load.longestMs > mostMs - 4_000 && load.longestMs <= mostMs,
        `${kind}: ${load.longestMs}`,
      );
      const before = load.answered;
      stage.world.advance(1_000);
      t.ok(load.answered - before >= 15, "and then it goes on");
      load.stop();
      stage.replicas[1]!.manner.trouble = () => null;
      stage.pass(120_000, () => modes(stage)[1] === "new active");
      t.same(modes(stage)[1], "new active", "repaired when it can be");
      t.same(stage.violations, []);
      t.equal(stage.stop(), null);
    }
  },
);

t.test("one that was given up is left alone for a while", async (t) => {
  const stage = active({ tuning: { jobsMax: 20 } });
  stage.replicas[1]!.manner.trouble = () => "ignore";
  const load = new Load(stage, BLOCK, 30);
  stage.pass(20_000, () => isOut(stage, 1));
  load.stop();
  const since = stage.world.nowMs();
  stage.replicas[1]!.manner.trouble = () => null;
  stage.pass(100_000, () => modes(stage)[1] !== "faulted waitConnect");
  const pausedMs = stage.world.nowMs() - since;
  t.ok(pausedMs >= 30_000 && pausedMs < 32_000, `${pausedMs} ms`);
  t.equal(stage.stop(), null);
});
