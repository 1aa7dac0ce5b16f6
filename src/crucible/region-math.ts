import type { BlockIndex, ExtentId } from "../base/ids.js";
import { invariant } from "../base/invariant.js";
import { BLOCK_SHIFT_MAX, BLOCK_SHIFT_MIN, EXTENT_BYTES_MAX } from "../base/limits.js";
import { type RegionDefinition, regionBytes } from "./region-definition.js";

// Where a block lies (wire reference 2.1): block b is in extent ⌊b / blocks per extent⌋. Positions come from peers, so
// ranges are checked by `rangeProblem` before anything else here is asked; the rest takes them for granted.

/** Database version that both sides of version 13 use. */
export const DATABASE_VERSION = 1;

export const regionBlocks = (region: RegionDefinition): number =>
  region.extentSize * region.extentCount;

export const extentBytes = (region: RegionDefinition): number =>
  region.extentSize * region.blockSize;

/** What is wrong with the range [start, start+count), in words; null when it is inside the region. */
export function rangeProblem(
  region: RegionDefinition,
  start: number,
  count: number,
): string | null {
  const blocks = regionBlocks(region);
  if (count < 1) return "an empty range of blocks";
  if (start > blocks || count > blocks - start)
    return `blocks ${start} to ${start + count - 1} of a region of ${blocks}`;
  return null;
}

export function extentOf(region: RegionDefinition, block: number): ExtentId {
  invariant(block >= 0 && block < regionBlocks(region), "the block is in the region");
  return Math.floor(block / region.extentSize) as ExtentId;
}

/** Position inside its extent, in blocks. */
export function offsetInExtent(region: RegionDefinition, block: number): number {
  invariant(block >= 0 && block < regionBlocks(region), "the block is in the region");
  return block % region.extentSize;
}

export function firstBlockOf(region: RegionDefinition, extent: number): BlockIndex {
  invariant(extent >= 0 && extent < region.extentCount, "the extent is in the region");
  return (extent * region.extentSize) as BlockIndex;
}

/** How many of the `count` blocks from `start` lie in the extent of `start`: the first step of a walk over a range. */
export function blocksInExtent(region: RegionDefinition, start: number, count: number): number {
  return Math.min(count, region.extentSize - offsetInExtent(region, start));
}

/** What makes a definition unusable, in words; null when it is sound. Peers and files are asked this before anything is computed. */
export function definitionProblem(region: RegionDefinition): string | null {
  const { blockSize, extentSize, shift, extentCount } = region;
  if (shift < BLOCK_SHIFT_MIN || shift > BLOCK_SHIFT_MAX || blockSize !== 2 ** shift)
    return `a block size of ${blockSize} bytes with shift ${shift}`;
  if (extentSize < 1 || extentSize > EXTENT_BYTES_MAX / blockSize)
    return `extents of ${extentSize} blocks of ${blockSize} bytes`;
  if (extentCount < 1) return "a region without extents";
  if (!Number.isSafeInteger(regionBytes(region))) return "a region of 2^53 bytes or more";
  const { databaseReadVersion: read, databaseWriteVersion: write } = region;
  if (read !== DATABASE_VERSION || write !== DATABASE_VERSION)
    return `database versions ${read} (read) and ${write} (write)`;
  return null;
}

/** Whether two regions can hold replicas of one volume; their uuids must differ, everything else agree. */
export function sameGeometry(a: RegionDefinition, b: RegionDefinition): boolean {
  return (
    a.blockSize === b.blockSize &&
    a.extentSize === b.extentSize &&
    a.shift === b.shift &&
    a.extentCount === b.extentCount &&
    a.encrypted === b.encrypted &&
    a.databaseReadVersion === b.databaseReadVersion &&
    a.databaseWriteVersion === b.databaseWriteVersion
  );
}
