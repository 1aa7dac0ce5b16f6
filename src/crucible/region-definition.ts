import type { Uuid } from "../base/ids.js";

/** What region.json says and RegionInfo carries (wire reference 2.1). */
export interface RegionDefinition {
  /** Bytes, power of two. */
  readonly blockSize: number;
  /** Blocks per extent. */
  readonly extentSize: number;
  /** log2 of the block size. */
  readonly shift: number;
  readonly extentCount: number;
  readonly uuid: Uuid;
  readonly encrypted: boolean;
  readonly databaseReadVersion: number;
  readonly databaseWriteVersion: number;
}

export const regionBytes = (region: RegionDefinition): number =>
  region.blockSize * region.extentSize * region.extentCount;
