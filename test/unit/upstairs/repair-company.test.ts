import t from "tap";
import { Fault } from "../../../src/base/fault.js";
import { DeviceStatus } from "../../../src/ports/device.js";
import { RepairStage } from "../../kit/repair-stage.js";
import { hashApi } from "../../kit/replica.js";

// Who else is there during a repair: a second target, somebody offline, a slow one, a guest that never stops.

const hash = await hashApi();

t.test(
  "an offline third stays offline, and is replayed to in the middle of the repair",
  async (t) => {
    const it = new RepairStage(hash);
    it.fault(0);
    it.manner(0).trouble = (job) =>
      job.kind === "ExtentLiveRepair" && job.extentId >= 4 && it.phase(1) !== "active"
        ? "wait"
        : null;
    const lost = it.stage.replicas[1]!;
    lost.crash();
    it.world.advance(5);
    it.start(0);
    t.ok(it.reached(0, "ExtentLiveRepair", 4), "repair goes on without it");
    t.equal(it.mode(1), "offline");
    const waiting = it.judge.write(3, 2);
    const beyond = it.judge.write(6 * it.extentBlocks, 2);
    it.world.advance(100);
    t.equal(it.stage.guest.status(waiting), undefined, "one replica is not enough for an answer");
    t.equal(it.stage.guest.status(beyond), undefined);
    it.start(1);
    t.ok(it.repaired(1));
    it.world.advance(20);
    t.equal(it.stage.guest.status(waiting), DeviceStatus.ok, "two are");
    t.ok(it.repaired(0));
    t.equal(it.stage.said("repair.started").length, 1, "one round");
    t.same(it.wrong(false), []);
    t.same(it.end(), []);
  },
);

t.test(
  "with the third away for long, the repaired one takes its place: writes are answered",
  async (t) => {
    const it = new RepairStage(hash);
    it.fault(0);
    it.stage.replicas[1]!.crash();
    it.world.advance(5);
    const write = it.judge.write(70, 4);
    const flush = it.judge.flush();
    it.world.advance(200);
    t.equal(it.stage.guest.status(write), undefined);
    it.start(0);
    t.ok(it.repaired(0));
    it.world.advance(20);
    t.equal(it.stage.guest.status(write), DeviceStatus.ok, "what it missed it got by copy");
    t.equal(it.stage.guest.status(flush), DeviceStatus.ok, "on a disk");
    t.same(it.judge.broken, []);
    it.start(1);
    t.same(it.wrong(false), []);
    t.same(it.end(), []);
  },
);

/** The engine believes it of anybody; membership never lets two need repair at once. */
const giveUp = (it: RepairStage, index: number): void =>
  it.engine.core.hooks.givenUp(index, new Fault("TRIVET_E_IO", `replica ${index} is given up`));

t.test("one that becomes ready during a round waits for the next", async (t) => {
  const it = new RepairStage(hash);
  it.fault(0);
  let isHeld = true;
  it.manner(0).trouble = (job) => (isHeld && job.kind === "ExtentLiveRepair" ? "wait" : null);
  it.start(0);
  it.reached(0, "ExtentLiveRepair");
  giveUp(it, 1);
  t.ok(it.stage.pass(5000, () => it.phase(1) === "liveRepairReady"));
  const write = it.judge.write(70, 4);
  it.world.advance(500);
  t.equal(it.phase(1), "liveRepairReady");
  t.equal(it.stage.guest.status(write), undefined, "one copy is not enough");
  t.same(it.stage.upstairs.status().repair.now?.targets, [0]);
  isHeld = false;
  t.ok(it.repaired(0));
  it.world.advance(20);
  t.equal(it.stage.guest.status(write), DeviceStatus.ok, "two are");
  t.ok(it.repaired(1));
  t.equal(it.stage.said("repair.started").length, 2);
  t.same(it.wrong(false), []);
  t.same(it.end(), []);
});

t.test("two targets at once from one source; one of them may fail", async (t) => {
  for (const fails of [false, true]) {
    const it = new RepairStage(hash, { manner: { jobMs: 1, copyMs: 5 } });
    const source = it.stage.replicas[2]!;
    it.judge.write(50, 9);
    it.world.advance(20);
    source.crash();
    it.world.advance(5);
    giveUp(it, 0);
    giveUp(it, 1);
    const write = it.judge.write(10, 3);
    t.ok(
      it.stage.pass(5000, () => it.phase(0) === "liveRepairReady" && it.phase(1) === it.phase(0)),
    );
    if (fails) {
      let isFirst = true;
      it.manner(0).trouble = (job) => {
        if (job.kind !== "ExtentLiveRepair" || job.extentId !== 2 || !isFirst) return null;
        isFirst = false;
        return "fail";
      };
    }
    it.start(2);
    t.ok(it.stage.pass(5000, () => it.stage.upstairs.status().repair.now !== null));
    t.same(it.stage.upstairs.status().repair.now?.targets, [0, 1]);
    t.ok(it.repaired(1));
    t.ok(it.repaired(0));
    it.world.advance(20);
    t.equal(it.stage.guest.status(write), DeviceStatus.ok);
    t.equal(it.stage.said("repair.started").length, fails ? 2 : 1, "the other one goes on");
    t.same(it.wrong(false), []);
    t.same(it.end(), []);
  }
});

t.test(
  "each reopening is followed by a ping, which makes a downstairs look at what waits there",
  async (t) => {
    const it = new RepairStage(hash);
    it.fault(0);
    it.start(0);
    t.ok(it.repaired(0));
    it.world.advance(10);
    for (const replica of it.stage.replicas) {
      const last = replica.heard.at(-1)!.conn;
      const kinds = replica.heard.filter(({ conn }) => conn === last).map((h) => h.message.kind);
      const reopened = kinds.filter((kind) => kind === "ExtentLiveReopen").length;
      const woken = kinds.filter(
        (kind, i) => kind === "Ruok" && i > kinds.indexOf("ExtentLiveReopen"),
      );
      t.equal(reopened, 8);
      t.ok(woken.length >= 8, `${woken.length} pings`);
    }
  },
);

t.test(
  "a target that is slower than the guest has to go; the guest waits for half a window at most",
  async (t) => {
    const it = new RepairStage(hash, {
      tuning: {
        jobsMax: 20,
        repairPatienceMs: 4000,
        repairRetryMs: 60_000,
        repairRetryMsMax: 60_000,
      },
    });
    it.fault(0);
    it.start(0);
    it.reached(0, "ExtentLiveClose", 2);
    it.manner(0).jobMs = 1500;
    const from = it.world.nowMs();
    let answered = 0;
    it.stage.guest.onAnswer = () => {
      answered += 1;
      if (answered < 3000) it.judge.write(answered % 20, 1);
    };
    for (let i = 0; i < 40; i++) it.judge.write(i % 20, 1);
    t.ok(it.stage.pass(30_000, () => it.stage.said("repair.aborted").length === 1));
    t.match(it.stage.said("repair.aborted")[0], /kept writes waiting/);
    t.ok(it.world.nowMs() - from < 10_000, `after ${it.world.nowMs() - from} ms`);
    t.ok(
      it.stage.pass(10_000, () => answered >= 3000),
      "and the guest is fast again",
    );
  },
);

t.test(
  "pauses between attempts double, and a repaired one that stays well starts afresh",
  async (t) => {
    const it = new RepairStage(hash, {
      tuning: { repairRetryMs: 1000, repairRetryMsMax: 8000, silenceMs: 1e9 },
    });
    it.fault(0);
    let isBroken = true;
    it.manner(0).trouble = (job) => (isBroken && job.kind === "ExtentLiveClose" ? "fail" : null);
    it.start(0);
    const begun: number[] = [];
    for (let n = 1; n <= 6; n++) {
      t.ok(it.stage.pass(60_000, () => it.stage.said("repair.started").length >= n));
      begun.push(it.world.nowMs());
    }
    const pauses = begun.slice(1).map((at, i) => Math.round((at - begun[i]!) / 1000));
    t.same(pauses, [1, 2, 4, 8, 8]);
    isBroken = false;
    t.ok(it.repaired(0, 60_000));
    it.world.advance(9000);
    it.fault(0);
    const from = it.world.nowMs();
    it.start(0);
    t.ok(it.repaired(0));
    t.ok(it.world.nowMs() - from < 1000, "at once");
    t.same(it.wrong(), []);
  },
);

t.test(
  "a guest that fills all memory while repair stands still goes on when it does",
  async (t) => {
    const it = new RepairStage(hash, {
      tuning: { jobsMax: 60, bytesMax: 400_000 },
    });
    it.fault(0);
    let isHeld = true;
    it.manner(0).trouble = (job) =>
      isHeld && job.kind === "ExtentLiveRepair" && job.extentId === 2 ? "wait" : null;
    it.start(0);
    it.reached(0, "ExtentLiveRepair", 2);
    for (let i = 0; i < 1500; i++) it.judge.write(30 + ((i * 3) % 60), 20);
    it.world.advance(1000);
    t.ok(it.stage.guest.waitsForRoom, "no memory is left");
    isHeld = false;
    t.same(it.wrong(), []);
    t.same(it.end(), []);
  },
);
