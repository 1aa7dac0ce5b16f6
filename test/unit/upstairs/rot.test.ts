import t from "tap";
import { Core } from "../../../src/upstairs/core.js";
import { Copies } from "../../../src/upstairs/heal-copies.js";
import { Inspector } from "../../../src/upstairs/heal-inspect.js";
import { Mend } from "../../../src/upstairs/heal-mend.js";
import { Flag, NONE } from "../../../src/upstairs/job-table.js";
import { Reads } from "../../../src/upstairs/reads.js";
import { hashApi } from "../../kit/replica.js";
import { rot } from "../../kit/upstairs-rot.js";

const hash = await hashApi();

// Disks flip bits, answers come late, connections break, guests read and write, a scrub runs: nothing wrong is ever read, nothing newer
// is overwritten, and at the end all is equal.

t.test("seeds of rot", async (t) => {
  const given = Number(process.env.SEED ?? 0);
  const seeds =
    given > 0 ? [given] : Array.from({ length: Number(process.env.SEEDS ?? 20) }, (_, i) => i + 1);
  for (const seed of seeds) t.same(rot(hash, { seed }).broken, [], `seed ${seed}`);
});

t.test("the same with replicas that die, and are repaired beside it", async (t) => {
  let repairs = 0;
  for (let seed = 1; seed <= Number(process.env.SEEDS ?? 20); seed++) {
    const { broken, stage } = rot(hash, { seed, repairs: true });
    t.same(broken, [], `seed ${seed}`);
    repairs += stage.said("repair.done").length;
  }
  t.ok(repairs >= 5, `${repairs} repairs`);
});

// The judge of this must notice when a rule is broken. Each rule is broken on purpose.

function findings(mutate: () => () => void): string[] {
  const restore = mutate();
  try {
    const found: string[] = [];
    for (let seed = 1; seed <= 8 && found.length === 0; seed++)
      try {
        found.push(...rot(hash, { seed }).broken);
      } catch (error) {
        found.push(`${error}`);
      }
    return found;
  } finally {
    restore();
  }
}

const MUTANTS: Readonly<Record<string, { mutate: () => () => void; notices: RegExp }>> = {
  "a mend overwrites what a guest wrote meanwhile": {
    notices: /differs in the end|got its write/,
    mutate() {
      const { overtaken } = Mend.prototype;
      Mend.prototype.overtaken = () => {};
      return () => {
        Mend.prototype.overtaken = overtaken;
      };
    },
  },
  "the hash of an answer is not checked when the read was asked twice": {
    notices: /got damaged data/,
    mutate() {
      const { isGood } = Inspector.prototype;
      const { askTwice } = Reads.prototype;
      let asked = 0;
      Reads.prototype.askTwice = function (slot, lane) {
        const may = askTwice.call(this, slot, lane);
        if (may) asked += 1;
        return may;
      };
      Inspector.prototype.isGood = function (response, slot, lane) {
        const isGood = isGood_(this, response, slot, lane);
        return isGood || asked > 0;
      };
      const isGood_ = (self: Inspector, ...args: Parameters<Inspector["isGood"]>): boolean =>
        isGood.apply(self, args);
      return () => {
        Inspector.prototype.isGood = isGood;
        Reads.prototype.askTwice = askTwice;
      };
    },
  },
  "the buffer of the slower answer is freed as soon as the faster is there": {
    notices: /wrong hash|got damaged data|differs in the end/,
    mutate() {
      // What `place` gave is freed as soon as nobody waits for the answer, though the stream will still write there.
      const { finish } = Core.prototype;
      Core.prototype.finish = function (slot, lane, part) {
        finish.call(this, slot, lane, part);
        const { table } = this;
        for (const other of this.lanes)
          for (let i = 0; i < other.readCount; i++) {
            const read = other.reads[i]!;
            const own = table.own[read]!;
            if ((table.flags[read]! & Flag.orphan) === 0 || own === NONE) continue;
            this.readShare.free(own);
            table.own[read] = NONE;
          }
      };
      return () => {
        Core.prototype.finish = finish;
      };
    },
  },
  "a damaged copy is taken for a good one when copies are compared": {
    notices: /differs in the end|got its write/,
    mutate() {
      const { judge } = Copies.prototype;
      const getter = Object.getOwnPropertyDescriptor(Copies.prototype, "isAllSame")!;
      Object.defineProperty(Copies.prototype, "isAllSame", {
        get: () => false,
        configurable: true,
      });
      Copies.prototype.judge = () => 0;
      return () => {
        Copies.prototype.judge = judge;
        Object.defineProperty(Copies.prototype, "isAllSame", getter);
      };
    },
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
