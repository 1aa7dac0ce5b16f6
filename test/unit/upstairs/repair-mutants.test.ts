import t from "tap";
import { RepairedExtents } from "../../../src/upstairs/extent-jobs.js";
import { JobTable, Kind, NONE, Part } from "../../../src/upstairs/job-table.js";
import { LiveRepair } from "../../../src/upstairs/live-repair.js";
import { RepairRound } from "../../../src/upstairs/repair-round.js";
import { RepairSender } from "../../../src/upstairs/repair-sender.js";
import { Sender } from "../../../src/upstairs/sender.js";
import { hashApi } from "../../kit/replica.js";
import { storm } from "../../kit/upstairs-storm.js";

// Live repair is broken on purpose, one rule at a time, and a storm of repairs must notice each within a few seeds.

const hash = await hashApi();
const SEEDS = 10;

function findings(mutate: () => () => void): string[] {
  const restore = mutate();
  try {
    const found: string[] = [];
    for (let seed = 1; seed <= SEEDS && found.length === 0; seed++)
      found.push(...stormy(seed).map((line) => `seed ${seed}: ${line}`));
    return found;
  } finally {
    restore();
  }
}
function stormy(seed: number): readonly string[] {
  try {
    return storm(hash, {
      seed,
      mishaps: 0.06,
      powerCuts: true,
      requests: 200,
      manner: { jobMs: 3, copyMs: 15 },
      // Many writes lie in several extents.
      region: { extentSize: 7, extentCount: 23 },
      tuning: {
        offlineJobsMax: 3,
        repairStepMs: 3000,
        repairRetryMs: 10,
        repairRetryMsMax: 100,
      },
    }).broken;
  } catch (error) {
    return [(error as Error).message];
  }
}

/** Puts `made(original)` in the place of a method; returns what undoes that. */
function swap<T extends object, K extends keyof T>(on: T, name: K, made: (original: T[K]) => T[K]) {
  const original = on[name];
  on[name] = made(original);
  return () => {
    on[name] = original;
  };
}

const MUTANTS: Readonly<Record<string, { mutate: () => () => void; notices: RegExp }>> = {
  "a replica under repair counts for writes and flushes": {
    notices: /is (there|stable) on \d only/,
    mutate: () =>
      swap(
        JobTable.prototype,
        "count",
        (count) =>
          function (this: JobTable, slot, part) {
            const more = part === Part.done ? count.call(this, slot, Part.apart) : 0;
            return count.call(this, slot, part) + more;
          },
      ),
  },
  "flushes of a target have no limit": {
    notices: /with limit null while repaired/,
    mutate: () =>
      swap(
        Sender.prototype,
        "send",
        (send) =>
          function (this: Sender, ...args) {
            this.extentLimit.fill(-1);
            send.apply(this, args);
          },
      ),
  },
  "ids that were reserved are forgotten when repair ends": {
    notices: /never answered|never came/,
    mutate: () => swap(RepairedExtents.prototype, "takeAhead", () => () => []),
  },
  "nothing is sent in place of what is not needed any more": {
    notices: /never answered|never came|does not wait for/,
    mutate: () =>
      swap(
        RepairRound.prototype,
        "cleanUp",
        () =>
          function (this: RepairRound) {
            this.extents.done();
            this.extents.takeAhead();
          },
      ),
  },
  "a write over the border gets no ids for the other side": {
    notices: /in extent \d+, repaired up to/,
    mutate: () => swap(RepairedExtents.prototype, "prepare", () => () => false),
  },
  "writes beyond what is repaired are sent": {
    notices: /in extent \d+, repaired up to/,
    mutate: () => swap(LiveRepair.prototype, "takes", () => () => true),
  },
  "requests do not wait for an extent to be opened again": {
    notices: /in closed extent|does not wait for/,
    mutate: () => swap(LiveRepair.prototype, "collect", () => () => {}),
  },
  "a close does not wait for what was submitted before it": {
    notices: /does not wait for/,
    mutate() {
      let table: JobTable | null = null;
      const undo = swap(
        JobTable.prototype,
        "admit",
        (admit) =>
          function (this: JobTable, slot, id) {
            table = this;
            admit.call(this, slot, id);
          },
      );
      const undoSend = swap(
        RepairSender.prototype,
        "send",
        (send) =>
          function (this: RepairSender, slot, ...rest) {
            const head = table!.head;
            if (table!.kind[slot] === Kind.close) table!.head = NONE;
            send.call(this, slot, ...rest);
            table!.head = head;
          },
      );
      return () => {
        undo();
        undoSend();
      };
    },
  },
  "an extent is opened again before it is copied": {
    notices: /which is open|does not wait for/,
    mutate() {
      const { find } = JobTable.prototype;
      let hides = false;
      const undo = swap(
        RepairSender.prototype,
        "send",
        (send) =>
          function (this: RepairSender, slot, lane, extent, order) {
            hides = order.do === "reopen";
            send.call(this, slot, lane, extent, order);
            hides = false;
          },
      );
      JobTable.prototype.find = function (id) {
        return hides ? NONE : find.call(this, id);
      };
      return () => {
        undo();
        JobTable.prototype.find = find;
      };
    },
  },
  "extents are taken for equal": {
    notices: /differs in the end/,
    mutate: () =>
      swap(
        RepairRound.prototype,
        "answered",
        (answered) =>
          function (this: RepairRound, slot, lane, frame) {
            frame.generation = 1n;
            frame.flushNumber = 1;
            frame.isDirty = false;
            answered.call(this, slot, lane, frame);
          },
      ),
  },
  "nobody notices that the source is gone": {
    notices: /never answered|of null|differs in the end/,
    mutate: () =>
      swap(
        LiveRepair.prototype,
        "laneLost",
        (laneLost) =>
          function (this: LiveRepair, lane) {
            if (lane.standing === "repairing") laneLost.call(this, lane);
          },
      ),
  },
};

for (const [name, { mutate, notices }] of Object.entries(MUTANTS))
  t.test(`noticed: ${name}`, async (t) => {
    const found = findings(mutate);
    t.ok(
      found.some((line) => notices.test(line)),
      found.slice(0, 3).join("; ") || "nothing was found",
    );
  });
