import type { Tuning } from "./options.js";

/** What a replica remembers of closes in answer to PromoteToActive; a promotion that succeeds forgets them. */
export interface Refusals {
  readonly name: string;
  /** In a row. */
  readonly refusals: number;
  readonly refusedSinceMs: number;
}

/**
 * Those whose refusal counts. A session that was active is given little patience: with some downstairs a second attempt
 * erases the record of the session that refused the first (wire reference 11, trap 24). At the start a connection of our
 * own former life may linger for 45 s, so refusals must have gone on for longer.
 */
export function whoRefuses<R extends Refusals>(
  replicas: readonly R[],
  wasActive: boolean,
  nowMs: number,
  tuning: Pick<Tuning, "refusalsWhenActive" | "refusalsAtStart" | "refusalsMs">,
): readonly R[] {
  return replicas.filter(({ refusals, refusedSinceMs }) =>
    wasActive
      ? refusals >= tuning.refusalsWhenActive
      : refusals >= tuning.refusalsAtStart && nowMs - refusedSinceMs >= tuning.refusalsMs,
  );
}
