import type { Clock } from "../ports/clock.js";
import type { Cancel } from "../ports/stream.js";

export const hostClock: Clock = {
  nowMs: () => performance.now(),
  wallSeconds: () => Math.floor(Date.now() / 1000),
  after: (delayMs: number, run: () => void): Cancel => {
    if (delayMs <= 0) {
      // A timer would cost a millisecond, and answers of a store take this way.
      const immediate = setImmediate(run);
      return { cancel: () => clearImmediate(immediate) };
    }
    const timer = setTimeout(run, delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
};
