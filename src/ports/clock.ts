import type { Cancel } from "./stream.js";

/** The only source of time. */
export interface Clock {
  /** Monotonic milliseconds, fractions allowed; origin arbitrary. */
  nowMs(): number;
  /** Seconds since 1970 by the wall clock: for generations only. */
  wallSeconds(): number;
  /** Never before `nowMs` has grown by so much. 0: the next turn of the loop, with no delay beyond that. */
  after(delayMs: number, run: () => void): Cancel;
}
