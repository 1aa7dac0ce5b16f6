import { SlotKind } from "./slot.js";

// Which of a block's two slots is the true one, when the bitmap cannot be trusted (the extent is dirty).

/** What a slot says about the block as it lies on disk. */
export const SlotFit = {
  empty: 0,
  /** Does not describe this data, or cannot be decoded (a torn write). */
  other: 1,
  /** The disk hash fits, but the slot contradicts itself: its context hash is not this data's (a torn write). */
  damaged: 2,
  fits: 3,
} as const;
export type SlotFit = (typeof SlotFit)[keyof typeof SlotFit];

export const slotFit = (kind: SlotKind, diskHash: boolean, contextHash: boolean): SlotFit => {
  if (kind === SlotKind.empty) return SlotFit.empty;
  if (kind === SlotKind.undecodable || !diskHash) return SlotFit.other;
  return contextHash ? SlotFit.fits : SlotFit.damaged;
};

export const LOST = -1;

/**
 * 0: array A, 1: array B, LOST: neither describes the block and neither is empty. If both fit, B wins,
 * as in the original; a slot torn by a power cut, which only we look for, never wins over a whole one.
 * If nothing fits, an empty slot tells that the first write to the block never reached the disk.
 */
export function recoverBlock(a: SlotFit, b: SlotFit): 0 | 1 | typeof LOST {
  if (a === SlotFit.empty && b === SlotFit.empty) return 0;
  if (b === SlotFit.fits) return 1;
  if (a === SlotFit.fits) return 0;
  if (b === SlotFit.damaged) return 1;
  if (a === SlotFit.damaged) return 0;
  if (a === SlotFit.empty) return 0;
  if (b === SlotFit.empty) return 1;
  return LOST;
}
