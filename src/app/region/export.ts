import { type FileHandle, open } from "node:fs/promises";
import type { RegionDefinition } from "../../crucible/region-definition.js";
import { extentLayout } from "../../region/layout.js";
import { writeAll } from "../files.js";
import type { Progress } from "../progress.js";
import { blocksPerPiece, openExtent, Piece } from "./extent-file.js";
import type { Workspace } from "./workspace.js";

export interface ExportRange {
  /** In blocks of the region. */
  readonly skip: number;
  readonly count: number;
}

/** Holes are kept in units of this many bytes, the page of most file systems. */
const HOLE_BYTES = 4096;

/**
 * Writes blocks in order to `target`, an empty file open for writing; runs of zeros become holes. Extents
 * that a killed process left are judged as when they are opened for use. Returns the blocks written.
 */
export async function exportRegion(
  directory: string,
  region: RegionDefinition,
  range: ExportRange,
  target: FileHandle,
  workspace: Workspace,
  progress: (totalBytes: number) => Progress,
): Promise<number> {
  const layout = extentLayout(region);
  const total = layout.blocks * region.extentCount;
  const begin = Math.min(range.skip, total);
  const end = Math.min(begin + range.count, total);
  const step = blocksPerPiece(layout);
  const shown = progress((end - begin) * layout.blockBytes);
  const piece = new Piece(layout, workspace.arena, workspace.hasher);
  try {
    let block = begin;
    while (block < end) {
      const number = Math.floor(block / layout.blocks);
      const extent = await openExtent(directory, layout, number);
      try {
        const extentEnd = Math.min(end, (number + 1) * layout.blocks);
        while (block < extentEnd) {
          const count = Math.min(step, extentEnd - block);
          await piece.load(extent, block - number * layout.blocks, count);
          const length = count * layout.blockBytes;
          await writeData(
            target,
            workspace,
            piece.dataAt,
            length,
            (block - begin) * layout.blockBytes,
          );
          block += count;
          shown.advance(length);
        }
      } finally {
        await extent.file.close();
      }
    }
    await target.truncate((end - begin) * layout.blockBytes);
    await target.sync();
    return end - begin;
  } finally {
    shown.done();
    piece.free();
  }
}

/** Arena memory at a place of the image; pages of zeros are left out. */
export async function writeData(
  target: FileHandle,
  { arena, hasher }: Workspace,
  at: number,
  length: number,
  position: number,
): Promise<void> {
  let from = 0;
  while (from < length) {
    const unit = Math.min(HOLE_BYTES, length - from);
    if (hasher.isZero(at + from, unit)) {
      from += unit;
      continue;
    }
    let to = from + unit;
    while (to < length && !hasher.isZero(at + to, Math.min(HOLE_BYTES, length - to))) {
      to = Math.min(length, to + HOLE_BYTES);
    }
    await writeAll(target, arena.bytes.subarray(at + from, at + to), position + from);
    from = to;
  }
}

/** Opens the file to export to; never one that exists, unless `replace`. */
export const openExportTarget = (path: string, replace: boolean): Promise<FileHandle> =>
  open(path, replace ? "w" : "wx", 0o600);
