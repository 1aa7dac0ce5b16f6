import fc from "fast-check";
import t from "tap";
import { CompletedJobs } from "../../../src/downstairs/completed-jobs.js";
import { Waiters } from "../../../src/downstairs/waiters.js";

/** Ids as they come: mostly in sequence, some far away, some large. */
const id = fc.oneof(
  fc.integer({ min: 1000, max: 1600 }),
  fc.integer({ min: 0, max: 20 }).map((k) => k * 2 ** 32 + 1000),
  fc.maxSafeNat(),
);

t.test("completed jobs are a set that a flush replaces", async (t) => {
  const step = fc.record({ id, how: fc.integer({ min: 0, max: 60 }) });
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 1500 }), (steps) => {
      const completed = new CompletedJobs();
      let model = new Set<number>();
      for (const { id, how } of steps) {
        if (how === 0) {
          completed.replaceBy(id);
          model = new Set([id]);
        } else if (how < 40) {
          if (!completed.add(id)) return false;
          model.add(id);
        } else if (completed.has(id) !== model.has(id)) return false;
      }
      return completed.count === model.size && [...model].every((known) => completed.has(known));
    }),
    { numRuns: 60 },
  );
  t.pass("it agrees with a plain set");
});

t.test("waiters come in order of arrival, each as often as it asked", async (t) => {
  const step = fc.record({ id, job: fc.nat(5000), how: fc.integer({ min: 0, max: 3 }) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 2500 }), (steps) => {
      const waiters = new Waiters();
      const model = new Map<number, number[]>();
      const take = (from: number): boolean => {
        const got: number[] = [];
        for (let edge = waiters.take(from); edge !== -1; edge = waiters.next(edge))
          got.push(waiters.job(edge));
        const want = model.get(from) ?? [];
        model.delete(from);
        return got.length === want.length && got.every((job, i) => job === want[i]);
      };
      for (const { id, job, how } of steps) {
        if (how === 0) {
          if (!take(id)) return false;
          continue;
        }
        waiters.add(id, job);
        model.set(id, [...(model.get(id) ?? []), job]);
      }
      return [...model.keys()].every(take) && waiters.edges === 0;
    }),
    { numRuns: 60 },
  );
  t.pass("they agree with plain lists");
});
