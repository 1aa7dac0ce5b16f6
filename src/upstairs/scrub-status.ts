import type { Fault } from "../base/fault.js";

// What whoever starts a scrub says and is told. Blocks are numbered over the whole volume.

export interface ScrubOptions {
  /** Bytes of the volume compared per second, at most; 0: as fast as guests leave room for. */
  readonly bytesPerSecond: number;
  /** Where to go on; default 0. */
  readonly fromBlock?: number;
}

/**
 * running: pieces are compared. waiting: not now (see `waitsFor`), it goes on by itself. done: the end was reached. stopped: asked to,
 * or the volume ended; `block` is where to go on.
 */
export type ScrubState = "running" | "waiting" | "done" | "stopped";

export interface ScrubStatus {
  readonly state: ScrubState;
  /** A sentence; null unless waiting. */
  readonly waitsFor: string | null;
  readonly fromBlock: number;
  /** Everything from `fromBlock` to here was compared. */
  readonly block: number;
  readonly blocks: number;
  readonly blockBytes: number;
  /** How many replicas the last piece was compared on. */
  readonly replicas: number;
  /** Blocks compared on two replicas only, as the third was away. */
  readonly comparedOnTwo: number;
  /** Blocks that were not the same, and good, on all that were compared. The four counts below add up to it when all is done. */
  readonly differing: number;
  /** Written anew, everywhere, by a copy that a rule chose for sure. */
  readonly repaired: number;
  /** Written anew though nothing spoke for one good copy against another; each is noted. */
  readonly undecided: number;
  /** No good copy is left; each is noted. */
  readonly lost: number;
  /** A guest wrote them meanwhile, which made them equal. */
  readonly overwritten: number;
  /** Bytes per second over the last seconds. */
  readonly bytesPerSecond: number;
  /** The limit; 0: none. */
  readonly bytesPerSecondMax: number;
  readonly elapsedMs: number;
  /** As far as one can tell; null: not running, or too early to say. */
  readonly remainingMs: number | null;
}

/** Offered by `Upstairs`. One scrub at a time. */
export interface Scrubbing {
  /**
   * Compares all blocks of all replicas, and makes equal what differs. `then` is called once, when it ends: null at the end of the volume
   * or after `stopScrub`; a fault when one runs already, the volume is read-only or not active, or it ended meanwhile. Never before
   * `scrub` returned.
   */
  scrub(options: ScrubOptions, then: (fault: Fault | null) => void): void;
  /** The one that runs, or else the last one; null: there was none. */
  readonly scrubStatus: ScrubStatus | null;
  /** It ends with its position in `scrubStatus.block`. False: none runs. */
  stopScrub(): boolean;
  /** Another limit for the one that runs. False: none runs. */
  setScrubRate(bytesPerSecond: number): boolean;
}
