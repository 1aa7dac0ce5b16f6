import type { Clock } from "../ports/clock.js";
import type { Cancel } from "../ports/stream.js";

export const hostClock: Clock = {
  nowMs: () => performance.now(),
  wallSeconds: () => Math.floor(Date.now() / 1000),
  after: (delayMs: number, run: () => void): Cancel => {
    const timer = setTimeout(run, delayMs);
    return { cancel: () => clearTimeout(timer) };
  },
};
