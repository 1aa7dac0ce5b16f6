import t from "tap";
import { Lane } from "../../../src/upstairs/lane.js";
import { extentDiffers } from "../../../src/upstairs/numbers.js";
import { RepairPace } from "../../../src/upstairs/repair-pace.js";
import { bytesText, progressText, timeText } from "../../../src/upstairs/repair-status.js";
import { TargetLoad } from "../../../src/upstairs/target-load.js";
import { RepairStage } from "../../kit/repair-stage.js";
import { hashApi } from "../../kit/replica.js";
import { World } from "../../kit/world.js";

const hash = await hashApi();

t.test("rests as long as an extent took, if the guest asked for anything", async (t) => {
  const pace = new RepairPace(0);
  pace.extentDone(1000, 1400, 5000, true);
  t.equal(pace.nextMs, 1800);
  pace.extentDone(1800, 1900, 5000, false);
  t.equal(pace.nextMs, 1900, "nobody asked: at once");
});
t.test("bytes are paid for one extent after the other, at the rate of now", async (t) => {
  const pace = new RepairPace(1000);
  pace.extentDone(0, 100, 2000, false);
  t.equal(pace.nextMs, 2000);
  pace.extentDone(2000, 2050, 0, false);
  t.equal(pace.nextMs, 2050, "what was equal costs nothing");
  pace.extentDone(2050, 2100, 3000, false);
  pace.extentDone(2200, 2300, 1000, false);
  t.equal(pace.nextMs, 6050, "one that could not wait is paid for afterwards");
  pace.setRate(2000, 2550);
  t.equal(pace.nextMs, 4300, "a new rate counts for what is owed, too");
  pace.setRate(0, 3000);
  t.equal(pace.nextMs, 2300);
  pace.setRate(1000, 4000);
  t.equal(pace.nextMs, 4000, "and nothing is owed from then on");
});

t.test("which numbers make two extents equal", async (t) => {
  const is = (generation: bigint, flushNumber: number, isDirty = false) => ({
    generation,
    flushNumber,
    isDirty,
  });
  for (const [name, theirs, ours, numbers, differs] of [
    ["the same", is(3n, 7), is(3n, 7), "ours", false],
    ["dirty there", is(3n, 7, true), is(3n, 7), "ours", true],
    ["dirty here", is(3n, 7), is(3n, 7, true), "ours", true],
    ["another generation", is(2n, 7), is(3n, 7), "ours", true],
    ["another flush", is(3n, 6), is(3n, 7), "ours", true],
    ["ahead", is(3n, 8), is(3n, 7), "ours", true],
    ["our generation, one of us", is(5n, 7), is(5n, 7), "ours", false],
    ["our generation, not of us", is(5n, 7), is(5n, 7), "known", true],
    ["an earlier one, not of us", is(4n, 7), is(4n, 7), "known", false],
    ["foreign", is(4n, 7), is(4n, 7), "foreign", true],
    ["never written", is(0n, 0), is(0n, 0), "foreign", false],
    ["never written here", is(1n, 1), is(0n, 0), "foreign", true],
  ] as const)
    t.equal(extentDiffers(theirs, ours, numbers, 5n), differs, name);
});

t.test("too slow is who keeps writes waiting for more than half of a window", async (t) => {
  const world = new World(1);
  const slow: number[] = [];
  const load = new TargetLoad(world, 1000, (lane) => slow.push(lane.index));
  const [a, b] = [new Lane(0), new Lane(1)];
  for (let i = 0; i < 50; i++) {
    load.holdsUp(a);
    world.advance(40);
    load.submitted();
    world.advance(60);
  }
  t.same(slow, [], "four tenths are borne");
  load.holdsUp(b);
  world.advance(999);
  t.same(slow, []);
  world.advance(2);
  t.same(slow, [1], "standing still is not");
  load.holdsUp(a);
  world.advance(10);
  load.forget(a);
  world.advance(5000);
  t.same(slow, [1]);
});

t.test("texts", async (t) => {
  t.equal(bytesText(0), "0 B");
  t.equal(bytesText(1536), "1.50 KiB");
  t.equal(bytesText(64 * 1024 * 1024), "64.0 MiB");
  t.equal(timeText(59_400), "59 s");
  t.equal(timeText(61_000), "1 min 1 s");
  t.equal(timeText(7_260_000), "2 h 1 min");
  const status = {
    targets: [0],
    source: 2,
    extent: 4,
    extentCount: 10,
    repaired: 3,
    confirmed: 1,
    left: 6,
    copiedBytes: 3000,
    bytesPerSecond: 2048,
    remainingMs: 60_000,
    startedMs: 0,
  };
  t.equal(progressText(status), "4 of 10 extents: 3 copied, 1 equal, 2.00 KiB/s, 1 min 0 s left");
  t.equal(
    progressText({ ...status, remainingMs: null }),
    "4 of 10 extents: 3 copied, 1 equal, 2.00 KiB/s",
  );
});

t.test("the guest keeps half of its throughput, and repair gets on all the same", async (t) => {
  // A copy stops the guest altogether here: it writes to the extent at work only, one write at a time.
  const it = new RepairStage(hash, { region: { extentCount: 30 } });
  it.fault(0, [...Array(30).keys()]);
  for (let extent = 0; extent < 30; extent++) it.judge.write(extent * it.extentBlocks, 2);
  it.flush();
  it.manner(0).copyMs = 400;
  let answered = 0;
  const run = (): void => {
    const extent = it.stage.upstairs.status().repair.now?.extent ?? 0;
    it.judge.write(extent * it.extentBlocks + 3, 1);
  };
  const judged = it.stage.guest.onAnswer;
  it.stage.guest.onAnswer = (tag, answer) => {
    judged(tag, answer);
    answered += 1;
    if (it.phase(0) !== "active" || answered < 2000) run();
  };
  const rate = (ms: number): number => {
    const before = answered;
    it.world.advance(ms);
    return (answered - before) / ms;
  };
  run();
  const alone = rate(3000);
  it.start(0);
  it.reached(0, "ExtentLiveRepair", 1);
  const during = rate(6000);
  t.ok(during >= alone * 0.45, `${during.toFixed(3)} of ${alone.toFixed(3)} writes per ms`);
  t.ok(it.repaired(0, 60_000), "it came to an end");
});

t.test("a limited rate is kept; progress is told, and what is left", async (t) => {
  const it = new RepairStage(hash, { tuning: { repairBytesPerSecond: 2048, waitNoteMs: 10_000 } });
  it.fault(0);
  it.start(0);
  t.ok(it.reached(0, "ExtentLiveRepair", 3));
  const { now } = it.stage.upstairs.status().repair;
  t.same(
    { ...now, startedMs: 0, bytesPerSecond: 0, remainingMs: 0 },
    {
      targets: [0],
      source: 2,
      extent: 3,
      extentCount: 8,
      repaired: 3,
      confirmed: 0,
      left: 5,
      copiedBytes: 3 * 20 * 512,
      bytesPerSecond: 0,
      remainingMs: 0,
      startedMs: 0,
    },
  );
  t.ok(Math.abs(now!.bytesPerSecond - 2048) < 50, `${now!.bytesPerSecond}`);
  t.ok(Math.abs(now!.remainingMs! - 25_000) < 1000, `${now!.remainingMs}`);
  t.match(it.stage.said("repair.progress")[0], /^repair: \d of 8 extents: \d copied, 0 equal, /);
  const from = it.world.nowMs();
  it.engine.setRepairRate(0);
  t.ok(it.repaired(0));
  t.ok(it.world.nowMs() - from < 7000, "a new rate counts at once");
  t.equal(it.stage.upstairs.status().repair.bytesPerSecond, 0);
  t.equal(it.stage.upstairs.status().counts.repairsCompleted, 1);
  t.same(it.wrong(), []);
});

t.test("a write that waits for an extent ahead does not wait for the rate", async (t) => {
  const it = new RepairStage(hash, { tuning: { repairBytesPerSecond: 1 } });
  it.fault(0);
  it.start(0);
  t.ok(it.reached(0, "ExtentLiveReopen", 0));
  it.world.advance(500);
  t.equal(it.stage.upstairs.status().repair.now?.extent, 0, "it rests, for hours");
  const write = it.judge.write(it.extentBlocks - 2, 4);
  it.world.advance(100);
  t.equal(it.stage.guest.status(write), 0);
  t.equal(it.stage.upstairs.status().repair.now?.extent, 1);
  it.engine.setRepairRate(0);
  t.same(it.wrong(), []);
});

t.test(
  "an extent that the source is known to have damaged is copied from the other one",
  async (t) => {
    const it = new RepairStage(hash);
    it.fault(0);
    it.engine.core.lanes[2]!.markBad(3 * it.extentBlocks + 4, 1, 0);
    it.start(0);
    t.ok(it.repaired(0));
    const sources = it.stage.replicas[0]!.heard.flatMap(({ message }) =>
      message.kind === "ExtentLiveRepair" ? [message.sourceClientId] : [],
    );
    t.same(sources, [2, 2, 2, 1, 2, 2, 2, 2]);
    t.same(it.wrong(), []);
  },
);
