import type { Core } from "./core.js";

/**
 * How often a replica was given up for what it did, lately: each time makes the pause before its next repair longer, so that one that is
 * too slow for good costs the volume a repair now and then, and not all the time. Forgotten once it was at work for long enough.
 */
export class Strikes {
  readonly #core: Core;
  readonly #counts = [0, 0, 0];
  /** Since when it is at work; −1: it is not. */
  readonly #activeMs = [-1, -1, -1];

  constructor(core: Core) {
    this.#core = core;
  }

  count(index: number): number {
    return this.#counts[index]!;
  }

  seenActive(index: number, nowMs: number): void {
    if (this.#activeMs[index]! < 0) this.#activeMs[index] = nowMs;
    else if (nowMs - this.#activeMs[index]! >= this.#core.tuning.calmMs) this.#counts[index] = 0;
  }

  /** It is being given up now; returns the pause before it is tried again. */
  add(index: number): number {
    const { pauseFirstMs, pauseMaxMs } = this.#core.tuning;
    this.#activeMs[index] = -1;
    const before = this.#counts[index]!;
    this.#counts[index] = before + 1;
    return Math.min(pauseMaxMs, pauseFirstMs * 2 ** Math.min(before, 30));
  }
}
