import { Fault } from "../base/fault.js";
import { BLOCK_SHIFT_MAX, BLOCK_SHIFT_MIN, EXTENT_BYTES_MAX } from "../base/limits.js";
import type { RegionDefinition } from "../crucible/region-definition.js";

const MIB = 1024 * 1024;
const EXTENT_COUNT_MAX = 0xffff_ffff;

export type Geometry = Pick<RegionDefinition, "blockSize" | "extentSize" | "extentCount" | "shift">;

/** log2 of a legal block size; a Fault otherwise. `where` names what the numbers come from. */
export function blockShift(blockSize: number, where: string): number {
  for (let shift = BLOCK_SHIFT_MIN; shift <= BLOCK_SHIFT_MAX; shift++)
    if (blockSize === 2 ** shift) return shift;
  throw new Fault(
    "TRIVET_E_REGION_GEOMETRY",
    `${where}: block size ${blockSize} is not a power of two from ${2 ** BLOCK_SHIFT_MIN} to ${2 ** BLOCK_SHIFT_MAX}`,
  );
}

/** Refuses what the format or the protocol cannot carry. */
export function checkGeometry(geometry: Geometry, where: string): void {
  const { blockSize, extentSize, extentCount, shift } = geometry;
  const refuse = (what: string): never => {
    throw new Fault("TRIVET_E_REGION_GEOMETRY", `${where}: ${what}`);
  };
  const expected = blockShift(blockSize, where);
  if (shift !== expected)
    refuse(`extent_size.shift is ${shift}, expected ${expected} for blocks of ${blockSize} bytes`);
  if (!Number.isSafeInteger(extentSize) || extentSize < 1)
    refuse(`extent size is ${extentSize} blocks, expected at least 1`);
  if (extentSize > EXTENT_BYTES_MAX / blockSize)
    refuse(
      `an extent of ${extentSize} blocks of ${blockSize} bytes exceeds ${EXTENT_BYTES_MAX / MIB} MiB`,
    );
  if (!Number.isSafeInteger(extentCount) || extentCount < 1 || extentCount > EXTENT_COUNT_MAX)
    refuse(`extent count is ${extentCount}, expected 1 to ${EXTENT_COUNT_MAX}`);
  if (!Number.isSafeInteger(blockSize * extentSize * extentCount))
    refuse(`${extentCount} extents of ${extentSize} blocks exceed 2^53 bytes`);
}

const EXTENT_BYTES_USUAL = 64 * MIB;
const EXTENT_BYTES_SMALL = MIB;
const EXTENTS_FEW = 16;
const EXTENTS_MANY = 4096;

/**
 * Extents for a volume of at least `sizeBytes`. An extent is one file, one sync in a flush, and what repair copies
 * at a time while writes to it wait. So: 64 MiB; smaller ones (down to 1 MiB) while there would be fewer than 16; larger
 * ones (up to 512 MiB) while there would be more than 4096; then halved as long as that makes the size come
 * out exactly, if the count stays within 4096. What still does not divide is rounded up to a whole extent.
 *
 * 1 GiB: 16 × 64 MiB. 100 GiB: 1600 × 64 MiB. 1 TiB: 4096 × 256 MiB. 100 MiB: 25 × 4 MiB.
 */
export function chooseGeometry(sizeBytes: number, blockSize: number): Geometry {
  const where = "size";
  const shift = blockShift(blockSize, where);
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 1)
    throw new Fault("TRIVET_E_REGION_GEOMETRY", `${where}: ${sizeBytes} bytes is no size`);
  const count = (bytes: number): number => Math.ceil(sizeBytes / bytes);
  let extentBytes = EXTENT_BYTES_USUAL;
  while (extentBytes > EXTENT_BYTES_SMALL && count(extentBytes) < EXTENTS_FEW) extentBytes /= 2;
  while (extentBytes < EXTENT_BYTES_MAX && count(extentBytes) > EXTENTS_MANY) extentBytes *= 2;
  let exact = extentBytes;
  while (sizeBytes % exact !== 0 && exact > EXTENT_BYTES_SMALL && count(exact / 2) <= EXTENTS_MANY)
    exact /= 2;
  if (sizeBytes % exact === 0) extentBytes = exact;
  const geometry = {
    blockSize,
    extentSize: extentBytes / blockSize,
    extentCount: count(extentBytes),
    shift,
  };
  checkGeometry(geometry, where);
  return geometry;
}
