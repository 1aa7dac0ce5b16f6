import { LOST, recoverBlock, SlotFit } from "./recovery.js";

// What one copy of an extent is worth as a witness for one block, when copies that may be damaged are compared. Stricter
// than what opening a region needs: there a bitmap is believed, here it is only one of several pieces of evidence.

export const Grade = {
  /** Data and contexts contradict each other: nothing here can be believed. */
  bad: 0,
  /** The data fits a context, but not the one in use, or a write is known to be missing. */
  weak: 1,
  good: 2,
} as const;
export type Grade = (typeof Grade)[keyof typeof Grade];

export interface Judgement {
  readonly grade: Grade;
  /** False: the block was never written as far as this copy knows, and reads as zeros. */
  readonly written: boolean;
  /** The array (0 or 1) whose slot describes the data. */
  readonly array: 0 | 1;
}

// The same few objects for every block of a volume.
const row = (grade: Grade, written: boolean): readonly [Judgement, Judgement] => [
  { grade, written, array: 0 },
  { grade, written, array: 1 },
];
const BAD = row(Grade.bad, false);
const WEAK_EMPTY = row(Grade.weak, false);
const WEAK = row(Grade.weak, true);
const EMPTY = row(Grade.good, false);
const GOOD = row(Grade.good, true);

/** Nothing of the block could be read. */
export const UNREADABLE = BAD[0];

/** A clean extent, whose bitmap says that `active` is in use. `zero`: the block's bytes are all zero. */
export function judgeClean(active: 0 | 1, a: SlotFit, b: SlotFit, zero: boolean): Judgement {
  const inactive = active === 0 ? 1 : 0;
  const used = active === 0 ? a : b;
  const other = active === 0 ? b : a;
  if (used === SlotFit.fits) return GOOD[active];
  if (used === SlotFit.empty && zero) {
    // A first write goes to array B, so an empty slot there is in use only if something was lost. And a context
    // that does not fit tells of a write, which either never arrived or is lost: nobody can say which.
    const doubt = other === SlotFit.other || (other === SlotFit.empty && active === 1);
    return doubt ? WEAK_EMPTY[active] : EMPTY[active];
  }
  if (other === SlotFit.fits) return WEAK[inactive];
  if (used === SlotFit.damaged) return WEAK[active];
  if (other === SlotFit.damaged) return WEAK[inactive];
  return BAD[active];
}

/** A dirty extent. */
export function judgeDirty(a: SlotFit, b: SlotFit, zero: boolean): Judgement {
  const choice = recoverBlock(a, b);
  if (choice === LOST) return BAD[0];
  const fit = choice === 0 ? a : b;
  if (fit === SlotFit.fits) return GOOD[choice];
  if (fit === SlotFit.damaged) return WEAK[choice];
  if (!zero) return BAD[choice];
  return a === SlotFit.empty && b === SlotFit.empty ? EMPTY[choice] : WEAK_EMPTY[choice];
}

/**
 * A copy that is not known to be dirty, and has no bitmap that could be believed. `lead`: by how many flushes slot A was
 * written after slot B; 0: nobody can say. Data that fits one slot may be what the other one, written later, replaced.
 */
export function judgeUnmapped(a: SlotFit, b: SlotFit, zero: boolean, lead: number): Judgement {
  const judged = judgeDirty(a, b, zero);
  const { grade, written, array } = judged;
  if (grade !== Grade.good || !written) return judged;
  const rival = array === 0 ? b : a;
  const isLater = array === 0 ? lead > 0 : lead < 0;
  return rival !== SlotFit.other || isLater ? judged : WEAK[array];
}
