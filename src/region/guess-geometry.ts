import { BLOCK_SHIFT_MAX, BLOCK_SHIFT_MIN, EXTENT_BYTES_MAX } from "../base/limits.js";
import { extentLayout } from "./layout.js";

/** Block size and blocks per extent whose extent files have exactly `fileBytes`; usually one pair, smallest blocks first. */
export function guessGeometry(
  fileBytes: number,
): { readonly blockSize: number; readonly extentSize: number }[] {
  const found: { blockSize: number; extentSize: number }[] = [];
  for (let shift = BLOCK_SHIFT_MIN; shift <= BLOCK_SHIFT_MAX; shift++) {
    const blockSize = 2 ** shift;
    // A block costs its bytes, two slots and a bit: the count is known up to the rounding of the bitmap.
    const empty = extentLayout({ blockSize, extentSize: 0 }).fileBytes;
    const perBlock = extentLayout({ blockSize, extentSize: 8 }).fileBytes - empty;
    const about = Math.floor(((fileBytes - empty) * 8) / perBlock);
    for (let extentSize = Math.max(1, about - 1); extentSize <= about + 1; extentSize++) {
      if (extentSize * blockSize > EXTENT_BYTES_MAX) break;
      if (extentLayout({ blockSize, extentSize }).fileBytes === fileBytes) {
        found.push({ blockSize, extentSize });
      }
    }
  }
  return found;
}
