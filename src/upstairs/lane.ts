import type { Stream } from "../ports/stream.js";
import { type JobTable, NONE, Part } from "./job-table.js";
import type { RepairAddress } from "./reconcile.js";

/**
 * What the job engine knows of a replica:
 *
 *   out ── opened ──► active ── lost ──► offline ── resumed (replay) ──► active
 *    ▲ │                │ ▲                 │
 *    ├─┼── given up ────┴─┼─────────────────┘     only repair brings it back
 *    │ └── ready, repair starts ──► repairing ── all is copied ──► active
 *    └──── lost, failed ────────────────┘     it gets jobs, and counts for nothing
 */
export type Standing = "out" | "active" | "offline" | "repairing";

/** A read's cost that does not grow with its size, in bytes: what a round trip is worth. */
const READ_BASE_BYTES = 64 * 1024;
/** Weight of a new sample of the service time. */
const SMOOTHING = 1 / 8;
/** A sample counts for no more than so many times what was usual, and one that much better for half. */
const SURPRISE = 16;
/** What a job without data counts for, as any: a page. */
const JOB_BYTES_MIN = 4096;
/** More than this and a replica's disk is beyond being read around. */
const BAD_BLOCKS_MAX = 65_536;

/** Why a block of a replica is not read there. */
export const Bad = {
  /** It has a context, which its data does not agree with. */
  damaged: 1,
  /** It was not to be had, alone or with its neighbours; or there was data where nothing was written. */
  unreadable: 2,
  /** Never written here, while another replica has it damaged: this one may have lost it. */
  doubtful: 3,
} as const;

/** One replica's side of the jobs: what is before it, what it reads, how fast it lately was. Numbers only; rules are the engine's. */
export class Lane {
  readonly index: number;
  standing: Standing = "out";
  /** Set exactly while active or repairing. */
  stream: Stream | null = null;
  /** What a job becomes that it has done. */
  doneAs: number = Part.done;
  /** It took part in this session before. */
  wasMember = false;
  /** Where others copy its extents from; announced with each connection. */
  repairAddress: RepairAddress | null = null;
  /** Sent and not done, reads included. */
  sentJobs = 0;
  sentBytes = 0;
  /** Jobs that are no longer before it since the start: changes when it gets on. */
  doneJobs = 0;
  /** It is being sent a replay of more than may usually be before it. Meanwhile writes go on at half its pace. */
  isCatchingUp = false;
  /** Bytes that may be sent nevertheless. */
  #credit = 0;
  /** When it went offline, in milliseconds. */
  offlineSinceMs = 0;
  /** To be sent when it is back. */
  heldJobs = 0;
  heldBytes = 0;
  /** Job id of the last flush it acknowledged; −1: none. What LastFlush says. */
  lastFlush = -1;

  /** Slots of reads that it has, in no order. */
  reads = new Int32Array(256);
  readCount = 0;
  readBytes = 0;
  /** Smoothed milliseconds per byte of load. */
  #service = 0;

  /** It reports errors for something now: whatever is asked there may hang behind that. */
  isTroubled = false;
  /** Blocks that it could not give, until they are written again; one of Bad each. */
  readonly bad = new Map<number, number>();
  /** It answers no reads at all, though it has some (see hedge). */
  isStalled = false;
  /** When a read was last answered, in milliseconds. */
  lastReadMs = 0;

  // Counters for the status.
  errorReports = 0;
  badBlocks = 0;
  jobErrors = 0;
  replays = 0;
  readsAnswered = 0;
  readBytesAnswered = 0;
  stalls = 0;

  constructor(index: number) {
    this.index = index;
  }

  addRead(table: JobTable, slot: number): void {
    if (this.readCount === this.reads.length) {
      const wider = new Int32Array(this.readCount * 2);
      wider.set(this.reads);
      this.reads = wider;
    }
    table.position[slot] = this.readCount;
    this.reads[this.readCount++] = slot;
    this.readBytes += table.bytes[slot]!;
  }

  removeRead(table: JobTable, slot: number): void {
    const position = table.position[slot]!;
    const last = this.reads[--this.readCount]!;
    this.reads[position] = last;
    table.position[last] = position;
    table.position[slot] = NONE;
    this.readBytes -= table.bytes[slot]!;
  }

  /** Whether a write of so many bytes has to wait until there is less before it. One by itself never does. */
  isFull(bytes: number, jobsMax: number, bytesMax: number): boolean {
    if (this.sentJobs === 0) return false;
    if (this.sentJobs < jobsMax && this.sentBytes + bytes <= bytesMax) {
      this.isCatchingUp = false;
      return false;
    }
    return !this.isCatchingUp || this.#credit < Math.max(bytes, JOB_BYTES_MIN);
  }
  /** A job of so many bytes is no longer before it. */
  did(bytes: number): void {
    this.doneJobs += 1;
    if (this.isCatchingUp) this.#credit += Math.max(bytes, JOB_BYTES_MIN) / 2;
  }
  /** A write of so many bytes was sent. */
  took(bytes: number): void {
    if (this.isCatchingUp) this.#credit -= Math.max(bytes, JOB_BYTES_MIN);
  }
  catchUp(isCatchingUp: boolean): void {
    this.isCatchingUp = isCatchingUp;
    this.#credit = 0;
  }

  /** How long a read of so many bytes would take here, as far as one can tell. */
  expectedMs(bytes: number): number {
    return (this.#service + 1e-9) * (this.readBytes + bytes + READ_BASE_BYTES);
  }

  /** A read that was sent when `loadBytes` were outstanding, itself included, took so long. */
  learn(tookMs: number, loadBytes: number): void {
    const sample = tookMs / (loadBytes + READ_BASE_BYTES);
    const before = this.#service;
    if (before === 0) this.#service = sample;
    // Recovered from being stuck: one read in many is sent there to notice, so it must not take many.
    else if (sample * SURPRISE < before) this.#service = (before + sample) / 2;
    else this.#service += (Math.min(sample, before * SURPRISE) - before) * SMOOTHING;
  }

  /** `count` blocks from `start` are not to be had here; how many of them that is news of. */
  markBad(start: number, count: number, why: number): number {
    const before = this.bad.size;
    for (let block = start; block < start + count && this.bad.size < BAD_BLOCKS_MAX; block++)
      if (this.bad.get(block) !== Bad.damaged) this.bad.set(block, why);
    return this.bad.size - before;
  }
  hasBad(start: number, count: number): boolean {
    if (this.bad.size === 0) return false;
    for (let block = start; block < start + count; block++) if (this.bad.has(block)) return true;
    return false;
  }
  /** The same, by looking through the bad ones: for large ranges. */
  hasBadWithin(start: number, count: number): boolean {
    for (const block of this.bad.keys()) if (block >= start && block < start + count) return true;
    return false;
  }
  /** The range is copied from `other`, with what is damaged there. */
  inheritBad(other: Lane, start: number, count: number): void {
    const end = start + count;
    for (const block of this.bad.keys()) if (block >= start && block < end) this.bad.delete(block);
    for (const [block, why] of other.bad)
      if (why === Bad.damaged && block >= start && block < end) this.bad.set(block, why);
  }
  /** They are good, or will be by the time that anybody reads them. */
  written(start: number, count: number): void {
    if (this.bad.size > 0)
      for (let block = start; block < start + count; block++) this.bad.delete(block);
  }

  /** A new connection says nothing about the old one's speed. */
  forgetSpeed(): void {
    this.#service = 0;
    this.isStalled = false;
  }
}
