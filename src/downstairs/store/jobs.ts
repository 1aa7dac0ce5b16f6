import { Fault } from "../../base/fault.js";
import type { Arena } from "../../ports/arena.js";
import type { FileIo } from "../../ports/files.js";
import { SlotKind, slotKind, slotToReadContext } from "../../region/slot.js";
import type { StoreDone } from "../region-store.js";
import type { Answers } from "./answers.js";
import { ExtentState, type Extents } from "./extents.js";
import type { Held } from "./held.js";
import {
  Piece,
  type PieceDone,
  SCRATCH_BLOCKS_LARGE,
  SCRATCH_BLOCKS_SMALL,
  scratchBytes,
} from "./piece.js";

/** Jobs that read run this many at a time, by size; others wait their turn. */
const SMALL = 64;
const LARGE = 6;

/** Told when a job has given its answer, with the decisions of a scan. */
export interface ScanDone {
  /** `written[i]`: block start+i has a context. */
  scanDone(tag: number, fault: Fault | null, written: Uint8Array): void;
}

/**
 * Jobs that look at blocks, read in pieces one after the other: reads, and the scans of write-unwritten. Owns the
 * scratch memory they need; jobs are kept and used again, so a steady load makes no garbage.
 */
export class Jobs {
  readonly #arena: Arena;
  readonly #answers: Answers;
  readonly #base: number;
  readonly #make: (jobs: Jobs) => Job;
  readonly #small: number[] = [];
  readonly #large: number[] = [];
  readonly #spare: Job[] = [];
  readonly #waitSmall = new Queue();
  readonly #waitLarge = new Queue();
  #running = 0;
  #idle: (() => void) | undefined;

  static readonly scratchBytes =
    SMALL * scratchBytes(SCRATCH_BLOCKS_SMALL) + LARGE * scratchBytes(SCRATCH_BLOCKS_LARGE);

  constructor(
    arena: Arena,
    io: FileIo,
    extents: Extents,
    held: Held,
    answers: Answers,
    scratchAt: number,
  ) {
    this.#arena = arena;
    this.#answers = answers;
    this.#base = scratchAt;
    this.#make = (jobs) => new Job(jobs, arena, io, extents, held);
    let at = scratchAt;
    for (let i = 0; i < SMALL; i++, at += scratchBytes(SCRATCH_BLOCKS_SMALL)) this.#small.push(at);
    for (let i = 0; i < LARGE; i++, at += scratchBytes(SCRATCH_BLOCKS_LARGE)) this.#large.push(at);
  }

  read(
    start: number,
    count: number,
    contextsAt: number,
    dataAt: number,
    done: StoreDone,
    tag: number,
  ): void {
    const job = this.#take();
    job.setRead(start, count, contextsAt, dataAt, done, tag);
    this.#start(job);
  }
  scan(start: number, count: number, done: ScanDone, tag: number): void {
    const job = this.#take();
    job.setScan(start, count, done, tag);
    this.#start(job);
  }
  /** Calls `then` when no job is left, perhaps at once. */
  whenIdle(then: () => void): void {
    if (this.#running === 0) then();
    else this.#idle = then;
  }

  /** From a job: it has ended and gave `scratchAt` back. */
  ended(job: Job, scratchAt: number, inTime: boolean, fault: Fault | null, value: number): void {
    const { done, tag, scanDone, written } = job;
    this.#spare.push(job);
    job.clear();
    this.#giveBack(scratchAt);
    this.#running -= 1;
    if (scanDone !== undefined) scanDone.scanDone(tag, fault, written);
    else if (inTime) done!.storeDone(tag, fault, value);
    else this.#answers.give(done!, tag, fault, value);
    if (this.#running === 0 && this.#idle !== undefined) {
      const idle = this.#idle;
      this.#idle = undefined;
      idle();
    }
  }

  #take(): Job {
    return this.#spare.pop() ?? this.#make(this);
  }
  #start(job: Job): void {
    this.#running += 1;
    const small = job.count <= SCRATCH_BLOCKS_SMALL;
    const at = (small ? this.#small : this.#large).pop();
    if (at === undefined) (small ? this.#waitSmall : this.#waitLarge).push(job);
    else job.begin(at, small ? SCRATCH_BLOCKS_SMALL : SCRATCH_BLOCKS_LARGE, false);
  }
  #giveBack(at: number): void {
    const small = at < this.#base + SMALL * scratchBytes(SCRATCH_BLOCKS_SMALL);
    const next = (small ? this.#waitSmall : this.#waitLarge).take();
    if (next === undefined) (small ? this.#small : this.#large).push(at);
    else next.begin(at, small ? SCRATCH_BLOCKS_SMALL : SCRATCH_BLOCKS_LARGE, false);
  }
  get bytes(): Buffer {
    return this.#arena.bytes;
  }
}

const NOTHING = new Uint8Array(0);

class Job implements PieceDone {
  readonly #jobs: Jobs;
  readonly #extents: Extents;
  readonly #piece: Piece;
  next: Job | undefined;
  #start = 0;
  count = 0;
  tag = 0;
  done: StoreDone | undefined;
  scanDone: ScanDone | undefined;
  written: Uint8Array = NOTHING;
  #contextsAt = 0;
  #dataAt = 0;
  #out = 0;
  #scratchAt = 0;
  #capacity = 0;
  /** Blocks done, and blocks in the piece under way. */
  #position = 0;
  #pieceCount = 0;

  constructor(jobs: Jobs, arena: Arena, io: FileIo, extents: Extents, held: Held) {
    this.#jobs = jobs;
    this.#extents = extents;
    this.#piece = new Piece(arena, io, extents, held, this);
  }

  setRead(
    start: number,
    count: number,
    contextsAt: number,
    dataAt: number,
    done: StoreDone,
    tag: number,
  ): void {
    this.#start = start;
    this.count = count;
    this.#contextsAt = contextsAt;
    this.#dataAt = dataAt;
    this.#out = contextsAt;
    this.done = done;
    this.tag = tag;
    this.#position = 0;
  }
  setScan(start: number, count: number, done: ScanDone, tag: number): void {
    this.setRead(start, count, 0, -1, NO_DONE, tag);
    this.scanDone = done;
    this.written = new Uint8Array(count);
  }
  clear(): void {
    this.done = undefined;
    this.scanDone = undefined;
    this.written = NOTHING;
  }

  begin(scratchAt: number, capacity: number, inTime: boolean): void {
    this.#scratchAt = scratchAt;
    this.#capacity = capacity;
    this.#run(inTime);
  }
  pieceDone(fault: Fault | null): void {
    const found = fault ?? this.#collect();
    if (found !== null) this.#jobs.ended(this, this.#scratchAt, true, found, 0);
    else this.#run(true);
  }

  /** `inTime`: we are called from a completion, so the caller of the job has returned. */
  #run(inTime: boolean): void {
    const { blocks, blockBytes } = this.#extents.layout;
    while (this.#position < this.count) {
      const block = this.#start + this.#position;
      const extent = Math.floor(block / blocks);
      const first = block - extent * blocks;
      const count = Math.min(this.count - this.#position, blocks - first, this.#capacity);
      if (this.#extents.states[extent] !== ExtentState.open) {
        const fault = this.#extents.closedFault(extent);
        this.#jobs.ended(this, this.#scratchAt, inTime, fault, 0);
        return;
      }
      this.#pieceCount = count;
      const dataAt = this.#dataAt < 0 ? -1 : this.#dataAt + this.#position * blockBytes;
      if (!this.#piece.begin(extent, first, count, dataAt, this.#scratchAt, this.#capacity)) return;
      const fault = this.#collect();
      if (fault !== null) {
        this.#jobs.ended(this, this.#scratchAt, inTime, fault, 0);
        return;
      }
    }
    this.#jobs.ended(this, this.#scratchAt, inTime, null, this.#out - this.#contextsAt);
  }

  /** Takes over what the piece found. */
  #collect(): Fault | null {
    const { bytes } = this.#jobs;
    for (let i = 0; i < this.#pieceCount; i++) {
      const slotAt = this.#piece.slotAt(i);
      if (this.scanDone !== undefined) {
        this.written[this.#position + i] = slotKind(bytes, slotAt) === SlotKind.empty ? 0 : 1;
        continue;
      }
      const length = slotToReadContext(bytes, slotAt, this.#out);
      if (length === 0) return this.#undecodable(this.#start + this.#position + i);
      this.#out += length;
    }
    this.#position += this.#pieceCount;
    return null;
  }
  #undecodable(block: number): Fault {
    const { blocks } = this.#extents.layout;
    const extent = Math.floor(block / blocks);
    return new Fault(
      "TRIVET_E_EXTENT_CONTEXT",
      `${this.#extents.path(extent)}: the context slot of block ${block % blocks} cannot be decoded`,
    );
  }
}
const NO_DONE: StoreDone = { storeDone: () => {} };

/** Jobs that wait, linked through themselves. */
class Queue {
  #first: Job | undefined;
  #last: Job | undefined;

  push(job: Job): void {
    job.next = undefined;
    if (this.#last === undefined) this.#first = job;
    else this.#last.next = job;
    this.#last = job;
  }
  take(): Job | undefined {
    const job = this.#first;
    if (job === undefined) return undefined;
    this.#first = job.next;
    if (this.#first === undefined) this.#last = undefined;
    job.next = undefined;
    return job;
  }
}
