import type { RegionDefinition } from "../crucible/region-definition.js";

// Where things lie in a region directory and in an extent file of version 2. Pure arithmetic.

/** One context slot, one metadata record (raw extent, version 2). */
export const SLOT_BYTES = 48;
export const METADATA_BYTES = 32;
/** Name of the region description inside a region directory. */
export const REGION_CONFIG_NAME = "region.json";
/** The smallest unit that disks write whole. */
const SECTOR_BYTES = 512;
/** Dirty byte, generation and flush number: what must not be torn apart. */
const METADATA_WHOLE_BYTES = 17;

/** Offsets and lengths in bytes, all from the beginning of the extent file. */
export interface ExtentLayout {
  readonly blockBytes: number;
  /** Blocks per extent. */
  readonly blocks: number;
  readonly dataBytes: number;
  readonly slotsAAt: number;
  readonly slotsBAt: number;
  /** Length of one slot array. */
  readonly slotsBytes: number;
  readonly bitmapAt: number;
  readonly bitmapBytes: number;
  readonly metadataAt: number;
  readonly fileBytes: number;
  /**
   * The dirty byte and the numbers behind it lie in different sectors, so one write of the
   * record can be torn between them.
   */
  readonly metadataTearable: boolean;
}

export function extentLayout(
  region: Pick<RegionDefinition, "blockSize" | "extentSize">,
): ExtentLayout {
  const { blockSize: blockBytes, extentSize: blocks } = region;
  const dataBytes = blockBytes * blocks;
  const slotsBytes = SLOT_BYTES * blocks;
  const bitmapAt = dataBytes + 2 * slotsBytes;
  const bitmapBytes = Math.ceil(blocks / 8);
  const metadataAt = bitmapAt + bitmapBytes;
  return {
    blockBytes,
    blocks,
    dataBytes,
    slotsAAt: dataBytes,
    slotsBAt: dataBytes + slotsBytes,
    slotsBytes,
    bitmapAt,
    bitmapBytes,
    metadataAt,
    fileBytes: metadataAt + METADATA_BYTES,
    metadataTearable: (metadataAt % SECTOR_BYTES) + METADATA_WHOLE_BYTES > SECTOR_BYTES,
  };
}

/** Offset of a block's slot in array A (0) or B (1). */
export const slotOffset = (layout: ExtentLayout, array: number, block: number): number =>
  layout.dataBytes + SLOT_BYTES * (array * layout.blocks + block);

const hex = (value: number, digits: number): string =>
  value.toString(16).toUpperCase().padStart(digits, "0");

/** Directory of an extent file below the region directory: 4096 extents share one. */
export const extentDirectory = (extent: number): string =>
  `${hex(extent >>> 24, 2)}/${hex((extent >>> 12) & 0xfff, 3)}`;
export const extentName = (extent: number): string => hex(extent & 0xfff, 3);
/** "00/000/03B" for extent 59. */
export const extentPath = (extent: number): string =>
  `${extentDirectory(extent)}/${extentName(extent)}`;
/** How many extents one directory holds. */
export const EXTENTS_PER_DIRECTORY = 4096;

/** What repair leaves beside an extent file (crucible-downstairs: replacing an extent's file). */
export const COPY_SUFFIX = ".copy";
export const REPLACE_SUFFIX = ".replace";
export const COMPLETED_SUFFIX = ".completed";
/** Extents of the time before version 2 kept their contexts in a database of this name. */
export const SQLITE_SUFFIX = ".db";
