import type { Core } from "./core.js";
import type { IdList } from "./id-list.js";
import { Flag, Kind, Part } from "./job-table.js";
import type { ClosedExtents } from "./sender.js";

// The jobs of repair: four per extent, with ids that follow each other. Owns which extents have theirs: the one at work, and those
// ahead that a write touches together with it. What the jobs are sent as, and when, is live-repair's.
//
//   0 … done ─┤ at work ├─ ids reserved ─┤ not yet: writes there are skipped for a replica under repair
//                                        └ `limit`, `reach`

/** What a replica said of an extent when it closed it. */
export interface Closed {
  readonly generation: bigint;
  readonly flushNumber: number;
  readonly isDirty: boolean;
}

export interface ExtentJobs {
  readonly extent: number;
  /** Slots, in order of their ids. */
  readonly close: number;
  readonly copy: number;
  readonly noop: number;
  readonly reopen: number;
  readonly reopenId: number;
  /** By replica. */
  readonly closed: (Closed | null)[];
}

export class RepairedExtents implements ClosedExtents {
  readonly #core: Core;
  readonly #extentBlocks: number;
  current: ExtentJobs | null = null;
  /** Those after the current one, without a gap. */
  #ahead: ExtentJobs[] = [];
  /** The highest extent that has jobs or is done. */
  limit = -1;

  constructor(core: Core) {
    this.#core = core;
    this.#extentBlocks = core.extentBlocks;
  }

  /** A replica under repair gets writes that begin before this block. */
  get reach(): number {
    return (this.limit + 1) * this.#extentBlocks;
  }
  get isAhead(): boolean {
    return this.#ahead.length > 0;
  }

  /**
   * A write to this range is about to get its id. If it begins where a replica under repair takes part and ends where it does not, the
   * extents up to its end get their ids now, so that it can be told to wait for them (wire reference 8.4). True: some did.
   */
  prepare(start: number, blocks: number): boolean {
    const last = Math.floor((start + blocks - 1) / this.#extentBlocks);
    if (last <= this.limit || start >= this.reach) return false;
    while (this.limit < last) this.#ahead.push(this.#reserve(this.limit + 1));
    return true;
  }

  /** The jobs of the extent that is next. */
  begin(extent: number): ExtentJobs {
    this.current = this.#ahead.shift() ?? this.#reserve(extent);
    return this.current;
  }
  done(): void {
    this.current = null;
  }
  /** All that were reserved and are not begun, which is the caller's to end. */
  takeAhead(): readonly ExtentJobs[] {
    return this.#ahead.splice(0);
  }

  #reserve(extent: number): ExtentJobs {
    this.limit = extent;
    const close = this.#job(Kind.close, extent);
    const copy = this.#job(Kind.copy, extent);
    const noop = this.#job(Kind.noop, extent);
    const reopen = this.#job(Kind.reopen, extent);
    const { table } = this.#core;
    const reopenId = table.id[reopen]!;
    // Now, like the ids, and not when it is sent: a flush after these jobs must have a higher number than the extent gets from them.
    table.ticket[close] = this.#core.takeFlushNumber();
    return { extent, close, copy, noop, reopen, reopenId, closed: [null, null, null] };
  }
  #job(kind: number, extent: number): number {
    const { table, lanes } = this.#core;
    const slot = table.take(kind);
    table.start[slot] = extent * this.#extentBlocks;
    table.blocks[slot] = this.#extentBlocks;
    table.flags[slot] = Flag.answered;
    // One that is away now opens all extents when it is back, and has no part in these jobs even then.
    for (const { standing, index } of lanes)
      table.part[slot * 3 + index] =
        standing === "active" || standing === "repairing" ? Part.reserved : Part.skipped;
    this.#core.admit(slot);
    return slot;
  }

  /** ClosedExtents. A reopen from before the newest flush is that flush's to wait for. */
  collect(start: number, blocks: number, floor: number, to: IdList): void {
    const first = this.current ?? this.#ahead[0];
    if (first === undefined) return;
    const from = Math.max(first.extent, Math.floor(start / this.#extentBlocks));
    const last = Math.floor((start + blocks - 1) / this.#extentBlocks);
    const until = Math.min(this.limit, last);
    for (let extent = from; extent <= until; extent++) {
      const jobs =
        extent === this.current?.extent ? this.current : this.#ahead[extent - this.#firstAhead];
      if (jobs !== undefined && jobs.reopenId > floor) to.push(jobs.reopenId);
    }
  }
  get #firstAhead(): number {
    return this.#ahead[0]?.extent ?? 0;
  }
}
