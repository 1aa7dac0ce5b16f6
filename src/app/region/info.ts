import { type RegionDefinition, regionBytes } from "../../crucible/region-definition.js";
import { extentLayout } from "../../region/layout.js";
import { openExtent } from "./extent-file.js";
import { inParallel } from "./parallel.js";

/** Numbers of one extent as they stand in its file. */
export interface ExtentState {
  readonly generation: bigint;
  readonly flushNumber: number;
  readonly dirty: boolean;
  readonly allocatedBytes: number;
}

export interface RegionSummary {
  readonly definition: RegionDefinition;
  readonly sizeBytes: number;
  readonly allocatedBytes: number;
  readonly maxGeneration: bigint;
  readonly maxFlushNumber: number;
  readonly dirtyExtents: number;
  /** Extents that were never flushed. */
  readonly freshExtents: number;
}

const OPEN_AT_ONCE = 16;
const STAT_BLOCK_BYTES = 512;

/** Reads the metadata of every extent. Throws the Fault of the first one that cannot be read. */
export async function readExtentStates(
  directory: string,
  region: RegionDefinition,
): Promise<ExtentState[]> {
  const layout = extentLayout(region);
  const states = new Array<ExtentState>(region.extentCount);
  await inParallel(region.extentCount, OPEN_AT_ONCE, async (number) => {
    const { file, metadata } = await openExtent(directory, layout, number);
    try {
      const { blocks } = await file.stat();
      const { generation, flushNumber, dirty } = metadata;
      states[number] = {
        generation,
        flushNumber,
        dirty,
        allocatedBytes: blocks * STAT_BLOCK_BYTES,
      };
    } finally {
      await file.close();
    }
  });
  return states;
}

export function summarize(
  definition: RegionDefinition,
  states: readonly ExtentState[],
): RegionSummary {
  let maxGeneration = 0n;
  let maxFlushNumber = 0;
  let allocatedBytes = 0;
  let dirtyExtents = 0;
  let freshExtents = 0;
  for (const state of states) {
    if (state.generation > maxGeneration) maxGeneration = state.generation;
    maxFlushNumber = Math.max(maxFlushNumber, state.flushNumber);
    allocatedBytes += state.allocatedBytes;
    if (state.dirty) dirtyExtents += 1;
    else if (state.flushNumber === 0) freshExtents += 1;
  }
  return {
    definition,
    sizeBytes: regionBytes(definition),
    allocatedBytes,
    maxGeneration,
    maxFlushNumber,
    dirtyExtents,
    freshExtents,
  };
}
