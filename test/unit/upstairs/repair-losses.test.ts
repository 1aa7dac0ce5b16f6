import t from "tap";
import { RepairStage } from "../../kit/repair-stage.js";
import { hashApi, type JobMessage } from "../../kit/replica.js";

// Every step of a repair is stopped in its middle, with requests of a guest around it, and then somebody is lost or an error comes. Afterwards
// every request must have been answered, all three replicas must hold the same, and no promise may have been broken.

const hash = await hashApi();

const TARGET = 0;
const OTHER = 1;
const SOURCE = 2;
const EXTENT = 3;

interface Step {
  readonly kind: JobMessage["kind"];
  readonly at: number;
  /** Which of several messages of that kind: they have no extent. */
  readonly nth?: number;
}
const STEPS: Readonly<Record<string, Step>> = {
  "its close": { kind: "ExtentLiveClose", at: TARGET },
  "the source's close": { kind: "ExtentLiveFlushClose", at: SOURCE },
  "the other's close": { kind: "ExtentLiveFlushClose", at: OTHER },
  "the copy": { kind: "ExtentLiveRepair", at: TARGET },
  "a NoOp": { kind: "ExtentLiveNoOp", at: TARGET },
  "its reopening": { kind: "ExtentLiveReopen", at: TARGET },
  "the source's reopening": { kind: "ExtentLiveReopen", at: SOURCE },
  "the final flush": { kind: "Flush", at: TARGET },
};

const isThat = (step: Step, job: JobMessage): boolean => {
  if (job.kind !== step.kind) return false;
  if (job.kind === "Flush") return job.extentLimit === 7;
  return !("extentId" in job) || job.extentId === EXTENT;
};

/** Repair stands still at `step` of extent 3, and a guest has asked for things that wait for it and things that do not. */
function stopped(step: Step, hold: { isOver: boolean }): RepairStage {
  const it = new RepairStage(hash);
  it.fault(TARGET);
  it.manner(step.at).trouble = (job) => (!hold.isOver && isThat(step, job) ? "wait" : null);
  it.start(TARGET);
  const { extentBlocks: size, judge } = it;
  if (step.kind === "Flush") it.reached(step.at, "Flush");
  else if (step.kind === "ExtentLiveNoOp") it.reached(TARGET, "ExtentLiveNoOp");
  else it.reached(step.at, step.kind, EXTENT);
  it.world.advance(20);
  judge.write(EXTENT * size + 2, 3);
  judge.write((EXTENT + 1) * size - 2, 4);
  judge.write((EXTENT + 2) * size - 1, 3);
  judge.write(2, 4);
  judge.write(7 * size + 3, 2);
  judge.read(EXTENT * size, 5);
  judge.read((EXTENT + 1) * size - 4, 8);
  judge.flush();
  judge.write((EXTENT + 1) * size + 4, 3);
  judge.write((EXTENT + 2) * size + 1, 3);
  it.world.advance(5);
  judge.read((EXTENT + 2) * size - 3, 6);
  judge.write(EXTENT * size, 2);
  it.world.advance(20);
  return it;
}

t.test("nothing is lost: what waits goes on when the step does", async (t) => {
  for (const [name, step] of Object.entries(STEPS)) {
    const hold = { isOver: false };
    const it = stopped(step, hold);
    hold.isOver = true;
    t.same(it.wrong(), [], name);
    t.equal(it.stage.said("repair.aborted").length, 0, `${name}: one repair was enough`);
    t.same(it.end(), [], name);
  }
});

const WHO = { "the target": TARGET, "the source": SOURCE, "the other": OTHER } as const;

for (const [whom, lost] of Object.entries(WHO))
  for (const how of ["cut", "crashed", "lost its power"] as const)
    t.test(`${whom} is ${how}`, async (t) => {
      for (const [name, step] of Object.entries(STEPS)) {
        const hold = { isOver: false };
        const it = stopped(step, hold);
        const replica = it.stage.replicas[lost]!;
        const why = `at ${name}`;
        if (how === "cut") replica.cut();
        else {
          replica.crash(how === "lost its power");
          it.world.advance(40);
          replica.start();
        }
        hold.isOver = true;
        t.same(it.wrong(false), [], why);
        const { last } = it.stage.upstairs.status().repair;
        t.equal(last?.isComplete, true, why);
        if (lost === OTHER)
          t.equal(
            it.stage.said("repair.aborted").length,
            0,
            `${why}: it goes on without the other`,
          );
        t.same(it.end(), [], why);
      }
    });

t.test("the target reports an error: it begins anew", async (t) => {
  for (const answer of ["report", "fail"] as const)
    for (const [name, step] of Object.entries(STEPS)) {
      if (step.at !== TARGET || step.kind === "Flush") continue;
      const it = new RepairStage(hash);
      it.fault(TARGET);
      let failures = 2;
      it.manner(TARGET).trouble = (job) => (isThat(step, job) && failures-- > 0 ? answer : null);
      it.start(TARGET);
      t.ok(
        it.stage.pass(20_000, () => it.stage.said("repair.aborted").length === 1),
        `${name}: ${answer}`,
      );
      t.same(it.wrong(), [], `${name}: ${answer}`);
      t.same(it.end(), [], name);
    }
});

t.test("the source reports errors for a while: repair waits for it", async (t) => {
  for (const name of ["the source's close", "the source's reopening"]) {
    const it = new RepairStage(hash);
    it.fault(TARGET);
    let failures = 5;
    it.manner(SOURCE).trouble = (job) =>
      isThat(STEPS[name]!, job) && failures-- > 0 ? "report" : null;
    it.start(TARGET);
    t.ok(it.repaired(TARGET), name);
    t.equal(it.stage.said("repair.aborted").length, 0, name);
    t.same(it.wrong(), [], name);
    t.same(it.end(), [], name);
  }
});

t.test(
  "the source fails a step: its connection is tried anew, and repair begins anew",
  async (t) => {
    const it = new RepairStage(hash);
    it.fault(TARGET);
    let failures = 1;
    it.manner(SOURCE).trouble = (job) =>
      isThat(STEPS["the source's close"]!, job) && failures-- > 0 ? "fail" : null;
    it.start(TARGET);
    t.ok(it.repaired(TARGET));
    t.equal(it.stage.said("repair.aborted").length, 1);
    t.match(it.stage.said("repair.aborted")[0], /source, replica 2, left/);
    t.same(it.wrong(), []);
    t.same(it.end(), []);
  },
);

t.test(
  "a step that is never done: the target has to go after a while, and flushes go on",
  async (t) => {
    for (const [name, step] of Object.entries(STEPS)) {
      if (step.at !== TARGET) continue;
      const hold = { isOver: false };
      const it = stopped(step, hold);
      const flush = it.judge.flush();
      it.world.advance(5000);
      // The NoOp is the first extent's: nobody else waits for the target then, and no further extent has ids yet.
      const waits = step.kind !== "ExtentLiveNoOp" && step.kind !== "Flush";
      t.equal(it.stage.guest.status(flush) === undefined, waits, `${name}: a flush waits`);
      // 10 s while a request waits, 30 s for a copy, 60 s when nobody waits.
      it.world.advance(step.kind === "ExtentLiveRepair" ? 30_000 : 10_000);
      t.ok(it.stage.guest.status(flush) !== undefined, `${name}: it waits no longer`);
      it.world.advance(50_000);
      const reason =
        step.kind === "ExtentLiveNoOp" ? "not done with a step" : "while requests waited for it";
      t.ok(it.stage.said("repair.aborted")[0]?.includes(reason), name);
      hold.isOver = true;
      t.same(it.wrong(), [], name);
      t.same(it.end(), [], name);
    }
  },
);

t.test(
  "the volume is stopped in the middle of a repair: orderly, and the next start mends it",
  async (t) => {
    for (const [name, step] of Object.entries(STEPS)) {
      if (step.at !== TARGET) continue;
      const hold = { isOver: false };
      const it = stopped(step, hold);
      t.same(it.end(), [], name);
      t.same(it.judge.broken, [], name);
      t.ok(it.stage.replicas[SOURCE]!.image().equals(it.judge.image()), `${name}: all is there`);
      t.ok(it.stage.replicas[OTHER]!.image().equals(it.judge.image()), `${name}: twice`);
    }
  },
);
