import type { Fault } from "../base/fault.js";
import type { Generation, Uuid } from "../base/ids.js";

// The write log as the upstairs sees it: what must be known to outlive this process, and when. A row of the log is named by a
// 32-bit number that counts up and wraps round; rows are covered in the order in which they were written.
//
//   wrote ──► answered ──► covered: a flush after it is answered by two replicas
//
// Nothing on the way of a request allocates. Each call has happened, as far as a successor can tell, when it returns.

export const LogKind = { write: 1, zeroes: 2 } as const;

export interface Journal {
  /** What a dead predecessor left for us to finish; null: nothing. */
  readonly resume: Resume | null;
  /** No row is free: a flush has to cover some before anything else is written. */
  readonly isFull: boolean;
  /** The row covered last. */
  readonly lastCovered: number;
  /** Rows not covered. */
  readonly rows: number;
  /** 0: nothing is kept. */
  readonly rowsMax: number;

  /**
   * A write of `blocks` blocks from `start` with the payload at arena address `at` (−1: zeros). Its contexts lie at `tailAt`, or when
   * that is −1 and the payload is not zeros, in `tails` from word `tailsAt`. Called before any replica is sent the write or
   * anybody is told of it. Returns its row. Payload and contexts stay where they are until the row is covered.
   */
  wrote(
    id: number,
    start: number,
    blocks: number,
    at: number,
    tailAt: number,
    tails: Int32Array,
    tailsAt: number,
  ): number;
  /** The requester is about to be told that its write is done. */
  answered(row: number): void;
  /** Everything up to `row` is safe without us. Later calls may name earlier rows; those say nothing new. */
  covered(row: number): void;
  /** Whether `row` is not covered, and its payload may not be freed. */
  holds(row: number): boolean;

  /** We are about to promote ourselves with `generation`. */
  claimed(generation: Generation): void;
  /** We are about to change the regions for the first time with the generation claimed last. */
  activated(activation: JournalActivation): void;
  /** A flush with this number is about to be sent, with the generation claimed last. */
  flushing(flushNumber: number): void;
  /** A replica that took no part is equal to the others now, and does. */
  joined(index: number, region: Uuid): void;
  /** The last flush of an orderly stop is done: a successor has nothing to finish, and starts as it likes. */
  emptied(): void;
  /** Somebody else wrote in between, so that the rows must never be written again. They are put aside for people to look at. */
  voided(why: Fault): void;
}

export interface JournalActivation {
  /** The highest generation that any extent of any replica carried. */
  readonly highestSeen: Generation;
  /** What reconciliation is about to write into extents; null: there is nothing to reconcile. */
  readonly reconciledWith: Generation | null;
  /** The lowest flush number that this session may use, reconciliation included. */
  readonly firstFlush: number;
  /** Of each replica that takes part; null: it does not, yet. */
  readonly regions: readonly (Uuid | null)[];
  readonly blockBytes: number;
}

export interface Resume {
  /** What the predecessor claimed last. */
  readonly generation: Generation;
  /** Whether the numbers of an extent on disk are explained by what the log knows; otherwise a stranger wrote. */
  explains(generation: bigint, flushNumber: number): boolean;
  /** Regions that took part when it was written; none: it never came so far. */
  readonly regions: readonly Uuid[];
  /** 0: as `regions`. */
  readonly blockBytes: number;
  /** In the order in which they have to be written again. */
  readonly writes: readonly LoggedWrite[];
}

export interface LoggedWrite {
  readonly row: number;
  readonly kind: (typeof LogKind)[keyof typeof LogKind];
  readonly start: number;
  readonly blocks: number;
  /** Reserved in the arena; −1 for zeros. */
  readonly at: number;
  /** Reserved in the arena: contexts in their wire form. −1: in `tail`, or there are none as for zeros. */
  readonly tailAt: number;
  readonly tail: Uint8Array | null;
}

/** For volumes without a write log: keeps nothing, and there was nothing. */
export const nullJournal: Journal = {
  resume: null,
  isFull: false,
  lastCovered: 0,
  rows: 0,
  rowsMax: 0,
  wrote: () => 0,
  answered: () => {},
  covered: () => {},
  holds: () => false,
  claimed: () => {},
  activated: () => {},
  flushing: () => {},
  joined: () => {},
  emptied: () => {},
  voided: () => {},
};
