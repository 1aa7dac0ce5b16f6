import { Fault } from "../../base/fault.js";
import { type RegionDefinition, regionBytes } from "../../crucible/region-definition.js";
import { extentLayout, extentPath } from "../../region/layout.js";
import type { Progress } from "../progress.js";
import { blocksPerPiece, openExtent, Piece } from "./extent-file.js";
import { inParallel } from "./parallel.js";
import type { Workspace } from "./workspace.js";

export interface BadExtent {
  readonly extent: number;
  /** Relative to the region directory. */
  readonly file: string;
  /** First bad block of the extent, counted within it; −1: the extent as a whole. */
  readonly block: number;
  readonly code: string;
  readonly reason: string;
}

/**
 * Checks every block of a region at rest: a block with a context must have the hash that the
 * context names, one without must be zero. Returns what is wrong, in order of extents.
 */
export async function verifyRegion(
  directory: string,
  region: RegionDefinition,
  workspace: Workspace,
  threads: number,
  progress: (totalBytes: number) => Progress,
): Promise<BadExtent[]> {
  const layout = extentLayout(region);
  const step = blocksPerPiece(layout);
  const bad: BadExtent[] = [];
  const idle: Piece[] = [];
  const shown = progress(regionBytes(region));
  const verifyExtent = async (number: number, piece: Piece): Promise<void> => {
    const extent = await openExtent(directory, layout, number);
    try {
      for (let first = 0; first < layout.blocks; first += step) {
        const count = Math.min(step, layout.blocks - first);
        await piece.load(extent, first, count);
        const block = piece.firstBad();
        if (block >= 0) {
          const reason = `block ${first + block} does not fit its context`;
          const file = extentPath(number);
          bad.push({
            extent: number,
            file,
            block: first + block,
            code: "TRIVET_E_REGION_VERIFY",
            reason,
          });
          return;
        }
        shown.advance(count * layout.blockBytes);
      }
    } finally {
      await extent.file.close();
    }
  };
  try {
    await inParallel(region.extentCount, threads, async (number) => {
      const piece = idle.pop() ?? new Piece(layout, workspace.arena, workspace.hasher);
      try {
        await verifyExtent(number, piece);
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        const { code, message: reason } = error;
        bad.push({ extent: number, file: extentPath(number), block: -1, code, reason });
      } finally {
        idle.push(piece);
      }
    });
  } finally {
    shown.done();
    for (const piece of idle) piece.free();
  }
  return bad.sort((a, b) => a.extent - b.extent);
}
