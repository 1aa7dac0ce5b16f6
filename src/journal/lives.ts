import type { Generation } from "../base/ids.js";
import { LIVES_MAX } from "./layout.js";

// Who wrote what the regions carry? A generation alone does not say: two hosts whose clocks show the same second choose the same one.
// Every session begins to count flushes at a number drawn by lot, above all that it found, so generation and flush number together do.

/** A session that may have changed regions. */
export interface LogLife {
  /** What it promoted itself with. `from` is lower where several sessions were taken together. */
  readonly from: Generation;
  readonly generation: Generation;
  /** Generation that reconciliation wrote into extents, one above those found; 0: there was nothing to reconcile. */
  readonly reconciled: Generation;
  /** Flush numbers that it may have used; `last` below `first`: none. */
  readonly first: number;
  readonly last: number;
}

/** `lives` and one more, or one more beginning of the newest. When they are too many, the oldest two are taken together. */
export function withLife(lives: readonly LogLife[], life: LogLife): readonly LogLife[] {
  const newest = lives.at(-1);
  if (newest?.generation === life.generation)
    return [
      ...lives.slice(0, -1),
      { ...life, ...span(newest, life), reconciled: life.reconciled || newest.reconciled },
    ];
  const all = [...lives, life];
  if (all.length <= LIVES_MAX) return all;
  const [oldest, next, ...rest] = all as [LogLife, LogLife, ...LogLife[]];
  const reconciled = next.reconciled || oldest.reconciled;
  return [{ ...next, ...span(oldest, next), from: oldest.from, reconciled }, ...rest];
}

const span = (a: LogLife, b: LogLife): Pick<LogLife, "first" | "last"> => ({
  first: Math.min(a.first, b.first),
  last: Math.max(a.last, b.last),
});

/** Whether it was one of `lives` that wrote such numbers into an extent. */
export const areOf = (lives: readonly LogLife[], generation: bigint, flush: number): boolean =>
  lives.some(
    (life) =>
      ((generation >= life.from && generation <= life.generation) ||
        (life.reconciled > 0n && generation === life.reconciled)) &&
      flush >= life.first &&
      flush <= life.last,
  );
