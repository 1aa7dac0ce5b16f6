import { invariant } from "../base/invariant.js";
import type { Address } from "../ports/stream.js";

/**
 * What a job is. Reconciliation messages are jobs too: they have no dependencies and no id that others may
 * name, but run under the same exclusion as everything else.
 */
export const JobKind = {
  write: 0,
  writeUnwritten: 1,
  read: 2,
  flush: 3,
  barrier: 4,
  liveClose: 5,
  liveFlushClose: 6,
  liveRepair: 7,
  liveReopen: 8,
  liveNoOp: 9,
  extentFlush: 10,
  extentClose: 11,
  extentRepair: 12,
  extentReopen: 13,
} as const;
export type JobKind = (typeof JobKind)[keyof typeof JobKind];

/**
 *   free ─► waiting ─► ready ─► running ─► free
 *           (deps)       ▲         │
 *                        └─ paused ┘  (failed, tried again later)
 *
 * `ready` is entered when every dependency is complete; the job may still stand behind an overlapping one.
 */
export const JobState = { free: 0, waiting: 1, ready: 2, running: 3, paused: 4 } as const;
export type JobState = (typeof JobState)[keyof typeof JobState];

/**
 * The jobs of one connection: a column per property, a row (slot) per job, so that a job costs no
 * object. Grows by doubling; a slot is reused at once.
 */
export class JobTable {
  kind = new Uint8Array(0);
  state = new Uint8Array(0);
  /** How often it failed. */
  failures = new Uint8Array(0);
  /** Job id, or repair id of a reconciliation message. */
  id = new Float64Array(0);
  /** Dependencies not complete yet. */
  unmet = new Int32Array(0);
  /** Blocks [start, end) that it touches, as the region numbers them. */
  start = new Float64Array(0);
  end = new Float64Array(0);
  /** Arena allocation that the job owns; −1: none. */
  frameAt = new Float64Array(0);
  frameBytes = new Float64Array(0);
  contextsAt = new Float64Array(0);
  dataAt = new Float64Array(0);
  extent = new Float64Array(0);
  flushNumber = new Float64Array(0);
  generation = new BigUint64Array(0);
  /** Flush: highest extent covered; −1: all. */
  limit = new Float64Array(0);
  /** Neighbours in the list of jobs that are ready, running or paused, in the order in which they became ready. */
  previous = new Int32Array(0);
  next = new Int32Array(0);
  /** Jobs standing behind this one (first, last), and the next in the same queue. */
  behindFirst = new Int32Array(0);
  behindLast = new Int32Array(0);
  behindNext = new Int32Array(0);
  /** Where a repair copies from. */
  readonly source: (Address | undefined)[] = [];
  #freeSlot = -1;
  #used = 0;
  #count = 0;

  constructor() {
    this.#resize(64);
  }

  get count(): number {
    return this.#count;
  }
  /** Slots ever used: an upper bound for walks over all jobs. */
  get used(): number {
    return this.#used;
  }

  take(kind: JobKind, id: number): number {
    let slot = this.#freeSlot;
    if (slot !== -1) this.#freeSlot = this.next[slot]!;
    else {
      if (this.#used === this.kind.length) this.#resize(this.#used * 2);
      slot = this.#used++;
    }
    this.#count += 1;
    this.kind[slot] = kind;
    this.state[slot] = JobState.waiting;
    this.failures[slot] = 0;
    this.id[slot] = id;
    this.unmet[slot] = 0;
    this.start[slot] = 0;
    this.end[slot] = 0;
    this.frameAt[slot] = -1;
    this.frameBytes[slot] = 0;
    this.behindFirst[slot] = -1;
    return slot;
  }

  give(slot: number): void {
    invariant(this.state[slot] !== JobState.free, "a job ends once");
    this.state[slot] = JobState.free;
    this.source[slot] = undefined;
    this.next[slot] = this.#freeSlot;
    this.#freeSlot = slot;
    this.#count -= 1;
  }

  #resize(size: number): void {
    const bytes = (old: Uint8Array): Uint8Array<ArrayBuffer> => grown(new Uint8Array(size), old);
    const ints = (old: Int32Array): Int32Array<ArrayBuffer> => grown(new Int32Array(size), old);
    const numbers = (old: Float64Array): Float64Array<ArrayBuffer> =>
      grown(new Float64Array(size), old);
    this.kind = bytes(this.kind);
    this.state = bytes(this.state);
    this.failures = bytes(this.failures);
    this.id = numbers(this.id);
    this.unmet = ints(this.unmet);
    this.start = numbers(this.start);
    this.end = numbers(this.end);
    this.frameAt = numbers(this.frameAt);
    this.frameBytes = numbers(this.frameBytes);
    this.contextsAt = numbers(this.contextsAt);
    this.dataAt = numbers(this.dataAt);
    this.extent = numbers(this.extent);
    this.flushNumber = numbers(this.flushNumber);
    const generation = new BigUint64Array(size);
    generation.set(this.generation);
    this.generation = generation;
    this.limit = numbers(this.limit);
    this.previous = ints(this.previous);
    this.next = ints(this.next);
    this.behindFirst = ints(this.behindFirst);
    this.behindLast = ints(this.behindLast);
    this.behindNext = ints(this.behindNext);
  }
}

function grown<T extends { set(from: ArrayLike<number>): void }>(
  to: T,
  from: ArrayLike<number>,
): T {
  to.set(from);
  return to;
}
