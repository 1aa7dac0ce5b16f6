import { randomUUID } from "node:crypto";
import type { Uuid } from "../../base/ids.js";
import { EXTENT_BYTES_MAX } from "../../base/limits.js";
import type { RegionDefinition } from "../../crucible/region-definition.js";
import { DATABASE_VERSION } from "../../region/config.js";
import { blockShift, chooseGeometry, type Geometry } from "../../region/geometry.js";
import type { Input, OptionSpecs } from "../cli/command.js";
import { usage } from "../cli/usage.js";
import { parseCount, parseSize, parseUuidValue } from "../cli/values.js";

/** Options that describe a region to be made. */
export const GEOMETRY_OPTIONS: OptionSpecs = {
  size: { value: "SIZE", help: "Size of the volume, such as 100G; extents are chosen to suit" },
  "block-size": {
    value: "BYTES",
    shownDefault: "4096",
    help: "Unit of addressing: a power of two, 512 to 32768",
  },
  "extent-size": { value: "BLOCKS", help: "Blocks in one extent file, instead of --size" },
  "extent-count": { value: "N", help: "Number of extent files, instead of --size" },
  uuid: { value: "UUID", shownDefault: "a random one", help: "Name of the region" },
};

export const BLOCK_BYTES_DEFAULT = 4096;
const U32_MAX = 0xffff_ffff;

export function parseBlockSize(text: string | undefined): number {
  if (text === undefined) return BLOCK_BYTES_DEFAULT;
  const blockSize = parseSize("--block-size", text);
  blockShift(blockSize, "--block-size");
  return blockSize;
}

/** `sizeBytes` is used where no size is given: the length of an image. */
export function regionFromOptions(input: Input, sizeBytes?: number): RegionDefinition {
  return {
    ...geometryFromOptions(input, sizeBytes),
    uuid: uuidFromOptions(input),
    encrypted: false,
    databaseReadVersion: DATABASE_VERSION,
    databaseWriteVersion: DATABASE_VERSION,
  };
}

function uuidFromOptions(input: Input): Uuid {
  const text = input.text("uuid");
  return text === undefined ? (randomUUID() as Uuid) : parseUuidValue("--uuid", text);
}

function geometryFromOptions(input: Input, sizeBytes?: number): Geometry {
  const blockSize = parseBlockSize(input.text("block-size"));
  const size = input.text("size");
  const extentSize = input.text("extent-size");
  const extentCount = input.text("extent-count");
  if (extentSize === undefined && extentCount === undefined) {
    const bytes = size === undefined ? sizeBytes : parseSize("--size", size);
    if (bytes === undefined) {
      throw usage("give --size, or --extent-size and --extent-count");
    }
    return chooseGeometry(bytes, blockSize);
  }
  if (size !== undefined) throw usage("give --size, or --extent-size and --extent-count, not both");
  if (extentSize === undefined || extentCount === undefined) {
    throw usage("--extent-size and --extent-count belong together");
  }
  return {
    blockSize,
    shift: blockShift(blockSize, "--block-size"),
    extentSize: parseCount("--extent-size", extentSize, 1, EXTENT_BYTES_MAX / blockSize),
    extentCount: parseCount("--extent-count", extentCount, 1, U32_MAX),
  };
}
