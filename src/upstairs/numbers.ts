import type { Closed } from "./extent-jobs.js";

/**
 * What the numbers of a replica's extents are worth. Generation and flush number name a state of an extent only among replicas that
 * got the same jobs.
 *
 * ours      it took part in this session before: equal numbers, equal contents
 * known     it is a region of this volume that did not: the same, but for this session's own generation, which somebody else must
 *           have written there
 * foreign   another region: numbers say nothing, except that an extent was never written
 */
export type Numbers = "ours" | "known" | "foreign";

/** Whether an extent has to be copied, as both said when they closed it. */
export function extentDiffers(
  theirs: Closed,
  ours: Closed,
  numbers: Numbers,
  generation: bigint,
): boolean {
  if (theirs.isDirty || ours.isDirty) return true;
  if (theirs.generation !== ours.generation || theirs.flushNumber !== ours.flushNumber) return true;
  if (theirs.generation === 0n && theirs.flushNumber === 0) return false;
  return numbers === "foreign" || (numbers === "known" && theirs.generation === generation);
}
