import { invariant } from "../base/invariant.js";
import { JOBS_PER_CONNECTION_MAX } from "../base/limits.js";
import { CompletedJobs } from "./completed-jobs.js";
import { JobKind, JobState, JobTable } from "./job-table.js";
import { Waiters } from "./waiters.js";

/** Who runs jobs. `startJob` may call `finish` or `pause` before it returns. */
export interface JobRunner {
  startJob(slot: number): void;
}

/**
 * The order of one connection's jobs (downstairs reference 5.6). A job runs when every id that it names is
 * complete. Independent jobs run at the same time; but jobs that overlap without naming each other,
 * which only a faulty peer sends, still run one after the other in the order in which they became
 * ready, as they would in a downstairs that does one thing at a time.
 *
 * A dependency is met by being complete when the job arrives or by completing while the job waits. A
 * flush or barrier in between does not undo that.
 *
 * It never touches storage, streams or time.
 */
export class JobQueue {
  readonly table = new JobTable();
  readonly completed = new CompletedJobs();
  readonly #waiters = new Waiters();
  readonly #runner: JobRunner;
  /** Ready, running and paused jobs, oldest first. */
  #first = -1;
  #last = -1;
  /** Jobs to look at, in order: a ring, so that a long chain of jobs does not become deep recursion. */
  #due = new Int32Array(64);
  #dueHead = 0;
  #dueCount = 0;
  #pumping = false;
  #running = 0;

  constructor(runner: JobRunner) {
    this.#runner = runner;
  }

  get count(): number {
    return this.table.count;
  }
  get running(): number {
    return this.#running;
  }
  get unmetDependencies(): number {
    return this.#waiters.edges;
  }

  /** A new job, or −1 when there are too many. Fill in its columns, `depend`, then `submit`. */
  take(kind: JobKind, id: number): number {
    return this.table.count >= JOBS_PER_CONNECTION_MAX ? -1 : this.table.take(kind, id);
  }

  /** False when the unmet dependencies of all jobs are too many. */
  depend(slot: number, on: number): boolean {
    if (this.completed.has(on)) return true;
    if (!this.#waiters.add(on, slot)) return false;
    this.table.unmet[slot]! += 1;
    return true;
  }

  submit(slot: number): void {
    if (this.table.unmet[slot] !== 0) return;
    this.#admit(slot);
    this.#pump();
  }

  /**
   * The job is done and answered. Its id becomes complete, and what waited for it starts. False when
   * the set of complete ids is full.
   */
  finish(slot: number): boolean {
    const { table } = this;
    invariant(table.state[slot] === JobState.running, "a finished job was running");
    this.#running -= 1;
    this.#unlink(slot);
    this.#releaseBehind(slot);
    const kind = table.kind[slot]!;
    const id = table.id[slot]!;
    table.give(slot);
    let room = true;
    if (kind < JobKind.extentFlush) {
      if (kind === JobKind.flush || kind === JobKind.barrier) this.completed.replaceBy(id);
      else room = this.completed.add(id);
      for (let edge = this.#waiters.take(id); edge !== -1; edge = this.#waiters.next(edge)) {
        const waiter = this.#waiters.job(edge);
        const unmet = table.unmet[waiter]! - 1;
        table.unmet[waiter] = unmet;
        if (unmet === 0) this.#admit(waiter);
      }
    }
    this.#pump();
    return room;
  }

  /** The job failed and waits; it keeps its place. Its state counts as not running. */
  pause(slot: number): void {
    const { table } = this;
    invariant(table.state[slot] === JobState.running, "a paused job was running");
    this.#running -= 1;
    table.state[slot] = JobState.paused;
    if (table.failures[slot]! < 255) table.failures[slot]! += 1;
    // What may pass a paused job (see `#blocker`) goes on; the rest comes to stand behind it again.
    this.#releaseBehind(slot);
    this.#pump();
  }
  resume(slot: number): void {
    invariant(this.table.state[slot] === JobState.paused, "a resumed job was paused");
    this.table.state[slot] = JobState.ready;
    this.#postDue(slot);
    this.#pump();
  }

  isRunning(slot: number): boolean {
    return this.table.state[slot] === JobState.running;
  }

  /** Takes every job that is not running out of the queue; `drop` is told each, before its slot is free. */
  abandon(drop: (slot: number) => void): void {
    const { table } = this;
    this.#dueCount = 0;
    for (let slot = 0; slot < table.used; slot++) {
      const state = table.state[slot]!;
      if (state === JobState.free || state === JobState.running) continue;
      drop(slot);
      if (state !== JobState.waiting) this.#unlink(slot);
      table.give(slot);
    }
    for (let slot = this.#first; slot !== -1; slot = table.next[slot]!)
      table.behindFirst[slot] = -1;
  }
  /** A running job of an abandoned queue has ended. */
  discard(slot: number): void {
    invariant(this.table.state[slot] === JobState.running, "a discarded job was running");
    this.#running -= 1;
    this.#unlink(slot);
    this.table.give(slot);
  }

  #admit(slot: number): void {
    const { table } = this;
    table.state[slot] = JobState.ready;
    table.previous[slot] = this.#last;
    table.next[slot] = -1;
    if (this.#last === -1) this.#first = slot;
    else table.next[this.#last] = slot;
    this.#last = slot;
    this.#postDue(slot);
  }

  #unlink(slot: number): void {
    const { table } = this;
    const previous = table.previous[slot]!;
    const next = table.next[slot]!;
    if (previous === -1) this.#first = next;
    else table.next[previous] = next;
    if (next === -1) this.#last = previous;
    else table.previous[next] = previous;
  }

  #releaseBehind(slot: number): void {
    const { table } = this;
    for (let next = table.behindFirst[slot]!; next !== -1; next = table.behindNext[next]!)
      this.#postDue(next);
    table.behindFirst[slot] = -1;
  }

  #postDue(slot: number): void {
    const size = this.#due.length;
    if (this.#dueCount === size) {
      const due = new Int32Array(size * 2);
      for (let i = 0; i < size; i++) due[i] = this.#due[(this.#dueHead + i) & (size - 1)]!;
      this.#due = due;
      this.#dueHead = 0;
    }
    this.#due[(this.#dueHead + this.#dueCount) & (this.#due.length - 1)] = slot;
    this.#dueCount += 1;
  }

  #pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    const { table } = this;
    while (this.#dueCount > 0) {
      const slot = this.#due[this.#dueHead]!;
      this.#dueHead = (this.#dueHead + 1) & (this.#due.length - 1);
      this.#dueCount -= 1;
      const blocker = this.#blocker(slot);
      if (blocker === -1) {
        table.state[slot] = JobState.running;
        this.#running += 1;
        this.#runner.startJob(slot);
      } else {
        if (table.behindFirst[blocker] === -1) table.behindFirst[blocker] = slot;
        else table.behindNext[table.behindLast[blocker]!] = slot;
        table.behindLast[blocker] = slot;
        table.behindNext[slot] = -1;
      }
    }
    this.#pumping = false;
  }

  /** A job that `slot` must not overtake (older), or must not run beside (a job tried again, against younger ones). */
  #blocker(slot: number): number {
    const { table } = this;
    const { kind, start, end, state, next } = table;
    const mine = kind[slot]!;
    if (mine === JobKind.barrier || mine === JobKind.liveNoOp) return -1;
    const from = start[slot]!;
    const to = end[slot]!;
    let older = true;
    for (let other = this.#first; other !== -1; other = next[other]!) {
      if (other === slot) {
        if (table.failures[slot] === 0) return -1;
        older = false;
        continue;
      }
      const theirs = kind[other]!;
      if (start[other]! >= to || from >= end[other]!) continue;
      if (mine === JobKind.read && (theirs === JobKind.read || theirs === JobKind.flush)) continue;
      if (mine === JobKind.flush && theirs === JobKind.read) continue;
      if (state[other] === JobState.paused && mayPass(mine, theirs)) continue;
      if (older || state[other] === JobState.running) return other;
    }
    return -1;
  }
}

/**
 * A job that failed does not hold up others for ever: nothing waits for a paused read or flush that
 * does not name it, and reads pass a paused write, as they may be answered from before it. Overlapping
 * writes keep their order.
 */
function mayPass(mine: number, paused: number): boolean {
  if (paused === JobKind.read || paused === JobKind.flush) return true;
  return mine === JobKind.read && paused <= JobKind.writeUnwritten;
}
