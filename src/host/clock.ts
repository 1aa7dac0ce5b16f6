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
    // Node counts from when the loop began this turn, in whole milliseconds, so its timers come early now and then. Whoever
    // asks the time then and finds that the moment has not come would wait for ever.
    const dueMs = performance.now() + delayMs;
    const fire = (): void => {
      const leftMs = dueMs - performance.now();
      if (leftMs > 0) timer = setTimeout(fire, leftMs);
      else run();
    };
    let timer = setTimeout(fire, delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
};
