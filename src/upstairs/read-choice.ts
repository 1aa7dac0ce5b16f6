import type { Core } from "./core.js";
import type { Lane } from "./lane.js";

// Which replica is asked for a read. Decides; asks nobody.

/** Every so many reads one goes to the next replica in turn, so that a slow one is noticed to have recovered. */
const EXPLORE_EVERY = 64;

/** Worse than any replica that answers. */
const TROUBLED_MS = 1e12;

export class ReadChoice {
  readonly #core: Core;
  #turn = 0;

  constructor(core: Core) {
    this.#core = core;
  }

  /** The active replica that will answer soonest, as far as one can tell; null when none may have it now. */
  choose(slot: number): Lane | null {
    const { lanes, table } = this.#core;
    this.#turn += 1;
    if (this.#turn % EXPLORE_EVERY === 0) {
      const lane = lanes[(this.#turn / EXPLORE_EVERY) % lanes.length]!;
      if (this.mayHave(lane, slot) && this.shouldHave(lane, slot)) return lane;
    }
    const bytes = table.bytes[slot]!;
    let best: Lane | null = null;
    let bestMs = 0;
    for (let r = 0; r < lanes.length; r++) {
      const lane = lanes[r]!;
      if (!this.mayHave(lane, slot)) continue;
      // One that is in trouble is better than nobody, and than waiting.
      const ms = lane.expectedMs(bytes) + (this.shouldHave(lane, slot) ? 0 : TROUBLED_MS);
      if (best === null || ms < bestMs) {
        best = lane;
        bestMs = ms;
      }
    }
    return best;
  }
  mayHave(lane: Lane, slot: number): boolean {
    const { table, tuning } = this.#core;
    if (lane.standing !== "active" || (table.tried[slot]! & (1 << lane.index)) !== 0) return false;
    if (lane.sentJobs === 0) return true;
    return lane.sentJobs < tuning.jobsMax && lane.sentBytes + table.bytes[slot]! <= tuning.bytesMax;
  }
  shouldHave(lane: Lane, slot: number): boolean {
    const { table } = this.#core;
    if (lane.isTroubled || lane.isStalled) return false;
    return !lane.hasBad(table.start[slot]!, table.blocks[slot]!);
  }
  /** Everybody who is there, or will be back with all that was written, gave a bad answer. */
  isHopeless(slot: number): boolean {
    const tried = this.#core.table.tried[slot]!;
    const { lanes } = this.#core;
    if (tried === 0) return false;
    for (let r = 0; r < lanes.length; r++) {
      const { standing } = lanes[r]!;
      if ((standing === "active" || standing === "offline") && (tried & (1 << r)) === 0)
        return false;
    }
    return true;
  }
}
