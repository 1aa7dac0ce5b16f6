import fc from "fast-check";
import t from "tap";
import { RangeQueue } from "../../../src/volume/range-queue.js";

function queueOf(slots: number) {
  const told: number[] = [];
  const queue = new RangeQueue({ rangeFree: (slot) => told.push(slot) });
  queue.grow(slots);
  return { queue, told };
}

t.test("turns come in order of arrival, and nobody overtakes", async (t) => {
  const { queue, told } = queueOf(8);
  t.equal(queue.enter(0, 0, 10, false), true);
  t.equal(queue.enter(1, 5, 15, false), false);
  t.equal(queue.enter(2, 12, 20, false), false, "free of 0, but behind 1");
  t.equal(queue.enter(3, 30, 40, false), true);
  t.equal(queue.enter(4, 10, 12, true), false);
  t.equal(queue.conflicts(20, 30, false), false, "ranges are half open");
  queue.leave(3);
  t.same(told, []);
  queue.leave(0);
  t.same(told, [1]);
  queue.leave(1);
  t.same(told, [1, 2, 4]);
  queue.leave(2);
  queue.leave(4);
  t.equal(queue.isEmpty, true);
});

t.test("readers do not wait for readers", async (t) => {
  const { queue, told } = queueOf(8);
  t.equal(queue.enter(0, 0, 10, true), true);
  t.equal(queue.enter(1, 0, 10, true), true);
  t.equal(queue.enter(2, 0, 10, false), false);
  t.equal(queue.enter(3, 0, 10, true), false, "a writer in between is not starved");
  queue.leave(0);
  t.same(told, []);
  queue.leave(1);
  queue.leave(2);
  t.same(told, [2, 3]);
});

t.test("leaving from within one's turn", async (t) => {
  const order: number[] = [];
  const queue = new RangeQueue({
    rangeFree: (slot) => {
      order.push(slot);
      queue.leave(slot);
    },
  });
  const many = 20_000;
  queue.grow(many);
  queue.enter(0, 0, 1, false);
  for (let slot = 1; slot < many; slot++) queue.enter(slot, 0, 1, false);
  queue.leave(0);
  t.equal(order.length, many - 1, "a long chain does not exhaust the stack");
  t.ok(order.every((slot, i) => slot === i + 1));
  t.equal(queue.isEmpty, true);
});

t.test(
  "whoever is active conflicts with nobody before it, and everybody gets a turn",
  async (t) => {
    const entry = fc.record({
      from: fc.nat(30),
      length: fc.integer({ min: 1, max: 10 }),
      shared: fc.boolean(),
    });
    const holds = fc.property(
      fc.array(entry, { maxLength: 40 }),
      fc.infiniteStream(fc.nat()),
      (entries, chance) => {
        const active = new Set<number>();
        const present: number[] = [];
        const check = (slot: number) => {
          const one = entries[slot]!;
          for (const other of present) {
            if (other === slot) break;
            const them = entries[other]!;
            const overlap = them.from < one.from + one.length && one.from < them.from + them.length;
            if (overlap && !(them.shared && one.shared))
              throw new Error(`${slot} runs beside ${other}`);
          }
          active.add(slot);
        };
        const queue = new RangeQueue({ rangeFree: check });
        queue.grow(64);
        const leave = () => {
          const all = [...active];
          const slot = all[chance.next().value! % all.length]!;
          active.delete(slot);
          present.splice(present.indexOf(slot), 1);
          queue.leave(slot);
        };
        for (const [slot, { from, length, shared }] of entries.entries()) {
          present.push(slot);
          if (queue.enter(slot, from, from + length, shared)) check(slot);
          if (chance.next().value! % 3 === 0 && active.size > 0) leave();
        }
        while (active.size > 0) leave();
        return present.length === 0 && queue.isEmpty;
      },
    );
    fc.assert(holds, { numRuns: 500, seed: Number(process.env.SEED ?? 1) });
    t.pass("500 runs");
  },
);
