import { type DeviceClient, DeviceStatus } from "../ports/device.js";
import type { Cancel } from "../ports/stream.js";
import type { Core } from "./core.js";
import { Flag, Kind, NONE, Part } from "./job-table.js";
import type { Lane } from "./lane.js";

// Flushes, whoever wants them, and what follows from one that is finished: jobs retire. One flush is on its way at a time, so requests that
// come meanwhile share the next one.
//
//   wanted (requests, writes with FUA) ──► submitted ──► answered: two replicas have it ──► settled: nobody
//     idle for a while, memory short ────────▲                                              has it before it:
//     orderly stop (answered when settled) ──┘                                              jobs up to it retire

/** A replica's acknowledgements that make something safe. */
export const QUORUM = 2;
/** As many jobs without a flush are enough, whatever memory they take. */
const UNCOVERED_JOBS_MAX = 10_000;

export class Flushes {
  readonly #core: Core;
  /** Told when retiring freed memory of writes. */
  readonly #retired: () => void;
  /** Requests and FUA writes that wait for the next flush. */
  #wanted = NONE;
  #wantedLast = NONE;
  /** The flush that was submitted and is not answered. */
  #current = NONE;
  /** A barrier that is not settled. */
  #barrier = NONE;
  /** Writes were submitted since the last flush was. */
  #isDirty = false;
  /** Payload that no flush or barrier covers yet. */
  #uncoveredBytes = 0;
  #uncoveredJobs = 0;
  #relief = false;
  #final: (() => void) | null = null;
  #lastWriteMs = 0;
  #idleTimer: Cancel | null = null;
  submitted = 0;
  barriers = 0;

  constructor(core: Core, retired: () => void) {
    this.#core = core;
    this.#retired = retired;
  }

  get isIdle(): boolean {
    return this.#wanted === NONE && this.#current === NONE;
  }

  /** A request for a flush. It covers every write that was submitted, so every one that was answered. */
  ask(client: DeviceClient, tag: number): void {
    const { table } = this.#core;
    if (!this.#isDirty && this.#current === NONE) {
      client.deviceDone(tag, DeviceStatus.ok, NONE, NONE);
      return;
    }
    const slot = table.take(Kind.flush);
    table.client[slot] = client;
    table.tag[slot] = tag;
    if (this.#isDirty) this.cover(slot);
    else {
      // Nothing was written since the flush that is on its way: that one will do.
      table.chain[slot] = table.chain[this.#current]!;
      table.chain[this.#current] = slot;
    }
  }

  /** `slot`, a request or a submitted write with FUA, is answered with the next flush. */
  cover(slot: number): void {
    const { table } = this.#core;
    table.chain[slot] = NONE;
    if (this.#wanted === NONE) this.#wanted = slot;
    else table.chain[this.#wantedLast] = slot;
    this.#wantedLast = slot;
    this.pump();
  }

  /** A write was submitted. */
  wrote(slot: number, heldBytes: number): void {
    const core = this.#core;
    this.#isDirty = true;
    this.#uncoveredBytes += heldBytes;
    this.#uncoveredJobs += 1;
    this.#lastWriteMs = core.table.since[slot]!;
    this.#idleTimer ??= core.ports.clock.after(core.tuning.autoFlushMs, this.#onIdleTimer);
    if (
      this.#uncoveredBytes * 2 >= core.writeShare.sizeBytes ||
      this.#uncoveredJobs >= UNCOVERED_JOBS_MAX
    )
      this.relieve();
  }

  /** Memory is short: let jobs retire. When nothing but an absent replica keeps them, that one is given up. */
  relieve(): void {
    if (this.#uncoveredJobs > 0) {
      this.#relief = true;
      this.pump();
    }
  }
  /** Whether a flush would let memory be freed, or is about to. */
  get canRelieve(): boolean {
    return this.#uncoveredJobs > 0 || this.#current !== NONE || this.#barrier !== NONE;
  }

  /** Submits what is wanted, if it can be. */
  pump(): void {
    const core = this.#core;
    if (this.#current !== NONE || core.acceptingCount < QUORUM) return;
    if (this.#wanted !== NONE || this.#final !== null) this.#submitFlush();
    else if (this.#relief && this.#barrier === NONE) {
      if (core.tuning.relief === "barrier") this.#submitBarrier();
      else this.#submitFlush();
    }
  }

  #submitFlush(): void {
    const core = this.#core;
    const { table } = core;
    const slot = table.take(Kind.flush);
    table.chain[slot] = this.#wanted;
    this.#wanted = NONE;
    this.#wantedLast = NONE;
    this.#current = slot;
    this.#isDirty = false;
    this.submitted += 1;
    table.ticket[slot] = core.takeFlushNumber();
    this.#submit(slot);
  }
  /**
   * A flush beside those that are asked for: it answers nobody, and what is asked for is flushed as if it had not been. Other limits than
   * dependencies do not hold for it. Returns its job id.
   */
  submitOwn(): number {
    const core = this.#core;
    const { table } = core;
    const slot = table.take(Kind.flush);
    table.flags[slot] = Flag.own;
    table.ticket[slot] = core.takeFlushNumber();
    this.submitted += 1;
    this.#admit(slot);
    return table.id[slot]!;
  }
  #submitBarrier(): void {
    const slot = this.#core.table.take(Kind.barrier);
    this.#core.table.flags[slot] = Flag.answered;
    this.#barrier = slot;
    this.barriers += 1;
    this.#submit(slot);
  }
  #submit(slot: number): void {
    this.#relief = false;
    this.#uncoveredBytes = 0;
    this.#uncoveredJobs = 0;
    this.#admit(slot);
  }
  #admit(slot: number): void {
    const core = this.#core;
    core.admit(slot);
    core.table.row[slot] = core.newestRow;
    core.table.since[slot] = core.ports.clock.nowMs();
    core.spread(slot);
    core.writers.raise(core.table.id[slot]!);
  }

  /** `lane` acknowledged the flush or barrier in `slot`. */
  acked(slot: number, lane: Lane): void {
    const core = this.#core;
    core.finish(slot, lane, lane.doneAs);
    if (core.table.kind[slot] === Kind.flush) lane.lastFlush = core.table.id[slot]!;
    this.progress(slot);
  }

  /** Something changed for the flush or barrier in `slot`: answer and retire what that allows. */
  progress(slot: number): void {
    const core = this.#core;
    const { table } = core;
    const settled = table.isSettled(slot);
    const id = table.id[slot]!;
    if (slot === this.#current && table.count(slot, Part.done) >= QUORUM) {
      // The last flush of a session waits for everybody who is there (wire reference 9.1).
      if (this.#final === null || settled) this.#answer(slot);
    }
    if (settled && this.#mayRetire(slot) && table.find(id) === slot) this.#retireUpTo(slot);
    this.pump();
  }
  /** Whether a flush or barrier that is settled lets jobs before it go. */
  #mayRetire(slot: number): boolean {
    const { table } = this.#core;
    const flags = table.flags[slot]!;
    if ((flags & Flag.answered) !== 0) return true;
    return (flags & Flag.own) !== 0 && table.count(slot, Part.done) >= QUORUM;
  }

  #answer(slot: number): void {
    const { table, ports } = this.#core;
    // Two replicas have it on disk, so any two hold it, which is what a successor starts with.
    ports.journal.covered(table.row[slot]!);
    // Whoever is answered may ask for the end, which takes a flush of its own.
    const final = this.#final;
    this.#current = NONE;
    table.flags[slot] = table.flags[slot]! | Flag.answered;
    let waiter = table.chain[slot]!;
    table.chain[slot] = NONE;
    while (waiter !== NONE) {
      const next = table.chain[waiter]!;
      this.#answerWaiter(waiter, DeviceStatus.ok);
      waiter = next;
    }
    if (final !== null && !this.#isDirty && this.#wanted === NONE) {
      this.#final = null;
      final();
    }
  }
  #answerWaiter(slot: number, status: DeviceStatus): void {
    const { table } = this.#core;
    const client = table.client[slot]!;
    const tag = table.tag[slot]!;
    table.chain[slot] = NONE;
    if (table.kind[slot] === Kind.write) table.flags[slot] = table.flags[slot]! | Flag.answered;
    else table.drop(slot);
    client.deviceDone(tag, status, NONE, NONE);
  }

  /** Everything up to the flush or barrier in `last` that is done with is forgotten (wire reference 6.9). */
  #retireUpTo(last: number): void {
    const core = this.#core;
    const { table } = core;
    const until = table.id[last]!;
    // Of a barrier: every replica that takes part has it, though not on disk.
    core.ports.journal.covered(table.row[last]!);
    core.replayPossible = table.kind[last] === Kind.flush;
    if (last === this.#barrier) this.#barrier = NONE;
    core.isRetiring = true;
    for (let slot = table.head; slot !== NONE && table.id[slot]! <= until; ) {
      const next = table.next[slot]!;
      const isDone =
        (table.flags[slot]! & (Flag.answered | Flag.own)) !== 0 && table.isSettled(slot);
      if (isDone && table.kind[slot] !== Kind.read) {
        if (slot === this.#barrier) this.#barrier = NONE;
        table.retire(slot);
        if (table.pins[slot] === 0) core.recycle(slot);
      }
      slot = next;
    }
    core.isRetiring = false;
    this.#retired();
  }

  /** A replica's jobs were skipped, or count now: finishes whatever that allows. */
  recheck(): void {
    const { table } = this.#core;
    let newest = NONE;
    for (let slot = table.head; slot !== NONE; slot = table.next[slot]!) {
      const kind = table.kind[slot]!;
      if (kind !== Kind.flush && kind !== Kind.barrier) continue;
      if (this.#mayRetire(slot) && table.isSettled(slot)) newest = slot;
    }
    if (newest !== NONE) this.#retireUpTo(newest);
    if (this.#current !== NONE) this.progress(this.#current);
    this.pump();
  }

  /** One last flush that everybody who is there acknowledges; at once when there is nothing to flush. */
  finish(then: () => void): void {
    if (!this.#isDirty && this.isIdle && this.#core.table.liveCount === 0) {
      then();
      return;
    }
    this.#final = then;
    this.pump();
  }

  /** Everything that waits ends with `status`; FUA writes among it too. */
  failAll(status: DeviceStatus): void {
    const { table } = this.#core;
    this.dispose();
    this.#final = null;
    let waiter = this.#wanted;
    this.#wanted = NONE;
    this.#wantedLast = NONE;
    for (let pass = 0; pass < 2; pass++) {
      while (waiter !== NONE) {
        const next = table.chain[waiter]!;
        this.#answerWaiter(waiter, status);
        waiter = next;
      }
      if (this.#current === NONE) break;
      waiter = table.chain[this.#current]!;
      table.chain[this.#current] = NONE;
    }
    this.#current = NONE;
    this.#barrier = NONE;
    this.#isDirty = false;
    this.#relief = false;
    this.#uncoveredBytes = 0;
    this.#uncoveredJobs = 0;
  }

  dispose(): void {
    this.#idleTimer?.cancel();
    this.#idleTimer = null;
  }

  /** After a while without writes, what was written is flushed, so that it is safe and its memory free. */
  readonly #onIdleTimer = (): void => {
    const { clock } = this.#core.ports;
    const { autoFlushMs } = this.#core.tuning;
    this.#idleTimer = null;
    if (!this.#isDirty) return;
    const left = this.#lastWriteMs + autoFlushMs - clock.nowMs();
    const isBusy = this.#current !== NONE || this.#core.lanes.some((lane) => lane.sentJobs > 0);
    if (left <= 0 && !isBusy && this.#core.acceptingCount >= QUORUM) {
      this.#submitFlush();
      return;
    }
    this.#idleTimer = clock.after(left > 0 ? left : autoFlushMs, this.#onIdleTimer);
  };
}
