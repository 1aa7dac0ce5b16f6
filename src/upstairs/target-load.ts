import type { Clock } from "../ports/clock.js";
import type { Cancel } from "../ports/stream.js";
import type { Lane } from "./lane.js";

// Whether a replica under repair is too slow for the guest. It gets the guest's writes up to the extent that it has reached, and when it
// does not keep up, writes have to wait for it although it counts for nothing yet. Owns the measure: the part of each window of time in
// which it alone kept writes waiting. More than half of one, and it has to go.

interface Hold {
  heldMs: number;
  sinceMs: number | null;
  timer: Cancel;
}

export class TargetLoad {
  readonly #clock: Clock;
  readonly #windowMs: number;
  readonly #tooSlow: (lane: Lane) => void;
  readonly #holds = new Map<Lane, Hold>();

  constructor(clock: Clock, windowMs: number, tooSlow: (lane: Lane) => void) {
    this.#clock = clock;
    this.#windowMs = windowMs;
    this.#tooSlow = tooSlow;
  }

  /** A write waits, and only because of `lane`. */
  holdsUp(lane: Lane): void {
    const nowMs = this.#clock.nowMs();
    const hold = this.#holds.get(lane);
    if (hold !== undefined) {
      hold.sinceMs ??= nowMs;
      return;
    }
    const timer = this.#clock.after(this.#windowMs, () => this.#windowEnds(lane));
    this.#holds.set(lane, { heldMs: 0, sinceMs: nowMs, timer });
  }
  /** Writes go on. */
  submitted(): void {
    if (this.#holds.size === 0) return;
    const nowMs = this.#clock.nowMs();
    for (const hold of this.#holds.values()) {
      if (hold.sinceMs !== null) hold.heldMs += nowMs - hold.sinceMs;
      hold.sinceMs = null;
    }
  }

  #windowEnds(lane: Lane): void {
    const { heldMs, sinceMs } = this.#holds.get(lane)!;
    this.#holds.delete(lane);
    const nowMs = this.#clock.nowMs();
    const inAllMs = sinceMs === null ? heldMs : heldMs + nowMs - sinceMs;
    if (inAllMs * 2 > this.#windowMs) this.#tooSlow(lane);
    else if (sinceMs !== null) this.holdsUp(lane);
  }

  forget(lane: Lane): void {
    this.#holds.get(lane)?.timer.cancel();
    this.#holds.delete(lane);
  }
  dispose(): void {
    for (const lane of [...this.#holds.keys()]) this.forget(lane);
  }
}
