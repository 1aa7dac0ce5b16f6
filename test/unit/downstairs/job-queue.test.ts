import fc from "fast-check";
import t from "tap";
import { JobQueue } from "../../../src/downstairs/job-queue.js";
import { JobKind } from "../../../src/downstairs/job-table.js";
import { prng } from "../../kit/world.js";

type Spec = {
  readonly kind: JobKind;
  readonly id: number;
  readonly deps: readonly number[];
  readonly start: number;
  readonly end: number;
};

/** Feeds a queue by hand; what runs is kept until it is told to end. */
class Hand {
  readonly queue = new JobQueue({ startJob: (slot) => this.#start(slot) });
  readonly running = new Map<number, number>();
  readonly started: number[] = [];
  /** Ends barriers and no-ops at once, as the runner does. */
  readonly #specs = new Map<number, Spec>();

  give(spec: Spec): void {
    const slot = this.queue.take(spec.kind, spec.id);
    this.#specs.set(spec.id, spec);
    this.queue.table.start[slot] = spec.start;
    this.queue.table.end[slot] = spec.end;
    for (const on of spec.deps) this.queue.depend(slot, on);
    this.queue.submit(slot);
  }
  end(id: number): void {
    const slot = this.running.get(id)!;
    this.running.delete(id);
    this.queue.finish(slot);
  }
  pause(id: number): number {
    const slot = this.running.get(id)!;
    this.running.delete(id);
    this.queue.pause(slot);
    return slot;
  }
  #start(slot: number): void {
    const { id, kind } = this.queue.table;
    this.started.push(id[slot]!);
    if (kind[slot] === JobKind.barrier || kind[slot] === JobKind.liveNoOp) this.queue.finish(slot);
    else this.running.set(id[slot]!, slot);
  }
  specOf(id: number): Spec {
    return this.#specs.get(id)!;
  }
}

const job = (kind: JobKind, id: number, deps: number[] = [], start = 0, end = start + 1): Spec =>
  kind === JobKind.flush
    ? { kind, id, deps, start: 0, end: Number.POSITIVE_INFINITY }
    : { kind, id, deps, start, end };
const { write, read, flush, barrier, liveNoOp, liveReopen } = JobKind;

t.test("jobs that came before what they depend on", async (t) => {
  const hand = new Hand();
  hand.give(job(liveReopen, 1003, [1002]));
  hand.give(job(write, 1004, [1003], 50));
  hand.give(job(liveNoOp, 1002, [1001]));
  hand.give(job(liveNoOp, 1001, [1000]));
  t.same(hand.started, []);
  hand.give(job(liveNoOp, 1000));
  t.same(hand.started, [1000, 1001, 1002, 1003]);
  hand.end(1003);
  t.same(hand.started, [1000, 1001, 1002, 1003, 1004]);
});

t.test("a flush forgets older ids, for those that come later", async (t) => {
  const hand = new Hand();
  hand.give(job(write, 1000, [], 3));
  hand.end(1000);
  hand.give(job(flush, 1001, [1000]));
  hand.give(job(read, 1002, [1000, 1001], 3));
  hand.end(1001);
  t.same(hand.started, [1000, 1001, 1002], "1000 was complete when the read came");
  hand.give(job(read, 1003, [1000], 3));
  hand.give(job(read, 1004, [1001], 3));
  t.same(hand.started, [1000, 1001, 1002, 1004]);
  hand.give(job(barrier, 1005, [1001]));
  hand.give(job(read, 1006, [1001], 3));
  t.same(hand.started, [1000, 1001, 1002, 1004, 1005]);
});

t.test("overlapping jobs that do not name each other keep their order", async (t) => {
  const hand = new Hand();
  hand.give(job(write, 1, [], 0, 10));
  hand.give(job(write, 2, [], 5, 15));
  hand.give(job(read, 3, [], 12, 13));
  hand.give(job(read, 4, [], 20, 21));
  hand.give(job(flush, 5));
  hand.give(job(write, 6, [], 30, 31));
  t.same(
    hand.started,
    [1, 4],
    "2 behind 1, 3 behind 2, the flush behind writes, 6 behind the flush",
  );
  hand.end(1);
  t.same(hand.started, [1, 4, 2]);
  hand.end(2);
  t.same(hand.started, [1, 4, 2, 3, 5]);
  hand.end(5);
  t.same(hand.started, [1, 4, 2, 3, 5, 6], "nothing waits for the reads");
});

t.test("a job that failed lets others pass, but no overlapping write", async (t) => {
  const hand = new Hand();
  hand.give(job(write, 1, [], 0, 10));
  hand.give(job(write, 2, [], 9, 11));
  hand.give(job(read, 3, [], 0, 1));
  hand.give(job(write, 4, [], 40, 41));
  const slot = hand.pause(1);
  t.same(hand.started, [1, 4, 3]);
  hand.queue.resume(slot);
  t.same(hand.started, [1, 4, 3], "not beside the read that passed");
  hand.end(3);
  t.same(hand.started, [1, 4, 3, 1]);
  hand.end(1);
  t.same(hand.started, [1, 4, 3, 1, 2]);
});

t.test("a chain of any length is no recursion", async (t) => {
  const hand = new Hand();
  const length = 60_000;
  for (let id = length; id > 0; id--) hand.give(job(liveNoOp, id, [id - 1]));
  t.equal(hand.started.length, 0);
  hand.give(job(liveNoOp, 0));
  t.equal(hand.started.length, length + 1);
  t.equal(hand.queue.count, 0);
});

t.test("limits are answers, not crashes", async (t) => {
  const hand = new Hand();
  let taken = 0;
  while (hand.queue.take(read, taken) >= 0) taken += 1;
  t.equal(taken, 65_536);
});

t.test("any upstairs: dependencies hold, overlapping jobs never run together", async (t) => {
  fc.assert(
    fc.property(fc.integer(), (seed) => {
      const chance = prng(seed);
      const pick = (n: number): number => Math.floor(chance() * n);
      const hand = new Hand();
      const done = new Set<number>();
      const specs: Spec[] = [];
      for (let id = 0; id < 120; id++) {
        const kind = [write, write, read, read, flush, barrier, liveReopen][pick(7)]!;
        const deps = Array.from({ length: pick(4) }, () => pick(id + 1)).filter((d) => d < id);
        const start = pick(12);
        specs.push(job(kind, id, deps, start, start + 1 + pick(4)));
      }
      // Arrival is nearly in order.
      const arrivals = [...specs].sort((a, b) => a.id - b.id + (chance() - 0.5) * 6);
      let seen = 0;
      const check = (): boolean => {
        for (; seen < hand.started.length; seen++) {
          const spec = hand.specOf(hand.started[seen]!);
          // Barriers end as they start, so a dependency may be one of those that started before.
          for (const dep of spec.deps)
            if (!done.has(dep) && hand.specOf(dep).kind !== barrier) return false;
        }
        const live = [...hand.running.keys()].map((id) => hand.specOf(id));
        return live.every((a) =>
          live.every(
            (b) =>
              a === b ||
              a.start >= b.end ||
              b.start >= a.end ||
              (a.kind === read && (b.kind === read || b.kind === flush)) ||
              (b.kind === read && a.kind === flush),
          ),
        );
      };
      const endOne = (): void => {
        const ids = [...hand.running.keys()];
        if (ids.length === 0) return;
        const id = ids[pick(ids.length)]!;
        if (chance() < 0.2) {
          hand.queue.resume(hand.pause(id));
          return;
        }
        done.add(id);
        hand.end(id);
      };
      for (const spec of arrivals) {
        hand.give(spec);
        if (!check()) return false;
        while (chance() < 0.5 && hand.running.size > 0) {
          endOne();
          // A job tried again starts a second time; only first starts count.
          if (!check()) return false;
        }
      }
      for (let i = 0; i < 5000 && hand.running.size > 0; i++) endOne();
      return hand.running.size === 0;
    }),
    { numRuns: 200 },
  );
  t.pass("in 200 runs");
});
