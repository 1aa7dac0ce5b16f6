import { createHash } from "node:crypto";
import { Fault } from "../../base/fault.js";
import type { RegionDefinition } from "../../crucible/region-definition.js";
import { extentLayout } from "../../region/layout.js";
import {
  READ_CONTEXT_BYTES_MAX,
  SLOT_CONTEXT_AT,
  SlotKind,
  slotKind,
  slotToReadContext,
} from "../../region/slot.js";
import { blocksPerPiece, openExtent, Piece } from "./extent-file.js";
import type { ExtentState } from "./info.js";
import type { Workspace } from "./workspace.js";

// The tables of `crucible-downstairs dump`, column by column as agents and people know them.

const GREEN = 32;
const RED = 31;
const BLUE = 34;

export interface DumpStyle {
  readonly color: boolean;
  readonly onlyDifferences: boolean;
}

/** Colour codes, or nothing. 0 ends a colour. */
const paint = (style: DumpStyle, code: number): string => (style.color ? `\x1b[${code}m` : "");

const allSame = <T>(values: readonly T[]): boolean => values.every((value) => value === values[0]);

/** The highest value is green, smaller ones are red. */
function tones(values: readonly (bigint | number)[]): number[] {
  return values.map((value) => (values.some((other) => other > value) ? RED : GREEN));
}

export interface DumpResult {
  readonly lines: readonly string[];
  readonly differs: boolean;
}

/** One row per extent with the numbers of every region; `states[region][extent]`. */
export function dumpExtents(
  region: RegionDefinition,
  states: readonly (readonly ExtentState[])[],
  style: DumpStyle,
): DumpResult {
  const { extentCount, extentSize } = region;
  const regions = states.map((_, index) => index);
  const extentWidth = Math.max(3, `${extentCount}`.length);
  const blockWidth = Math.max(3, `${extentCount * extentSize}`.length);
  const blocksWidth = Math.max(7, 2 * blockWidth + 1);
  let generationWidth = 4;
  let flushWidth = 3;
  let maxGeneration = 0n;
  let maxFlush = 0;
  let differs = false;
  let headed = false;
  const lines: string[] = [];
  for (let extent = 0; extent < extentCount; extent++) {
    const row = states.map((of) => of[extent]!);
    const generations = row.map((state) => state.generation);
    const flushes = row.map((state) => state.flushNumber);
    const dirty = row.map((state) => state.dirty);
    const different = !allSame(generations) || !allSame(flushes) || !allSame(dirty);
    for (const generation of generations) {
      if (generation > maxGeneration) maxGeneration = generation;
    }
    maxFlush = Math.max(maxFlush, ...flushes);
    if (style.onlyDifferences && !different) continue;
    if (!headed) {
      headed = true;
      generationWidth = Math.max(generationWidth, `${maxGeneration}`.length + 1);
      flushWidth = Math.max(flushWidth, `${maxFlush}`.length + 1);
      const generationHeads = regions.map((i) => ` ${`GEN${i}`.padStart(generationWidth)}`);
      const flushHeads = regions.map((i) => ` ${`FL${i}`.padStart(flushWidth)}`);
      const dirtyHeads = regions.map((i) => ` D${i}`);
      lines.push(
        `${"EXT".padStart(extentWidth)} ${"BLOCKS".padStart(blocksWidth)}${generationHeads.join("")} ${flushHeads.join("")} ${dirtyHeads.join("")}${style.color ? "" : " DIFF"}`,
      );
    }
    differs ||= different;
    const first = `${extent * extentSize}`.padStart(blockWidth, "0");
    const last = `${(extent + 1) * extentSize - 1}`.padStart(blockWidth, "0");
    const cells = (values: readonly (bigint | number)[], width: number): string => {
      const colors = tones(values);
      return values
        .map((value, i) => ` ${paint(style, colors[i]!)}${`${value}`.padStart(width)}`)
        .join("");
    };
    const marks = dirty.map((d) => `  ${paint(style, d ? RED : GREEN)}${d ? "T" : "F"}`);
    const end = !style.color && different ? " <---" : paint(style, 0);
    lines.push(
      `${`${extent}`.padStart(extentWidth)} ${first}-${last}${cells(generations, generationWidth)}${paint(style, 0)} ${cells(flushes, flushWidth)}${paint(style, 0)} ${marks.join("")}${end}`,
    );
  }
  lines.push(`Max gen: ${maxGeneration},  Max flush: ${maxFlush}`);
  return { lines, differs };
}

/** What one region holds in one block. */
export interface BlockView {
  readonly data: Buffer;
  readonly kind: SlotKind;
  /** Context as a read answers it, in hexadecimal: equal texts, equal contexts. */
  readonly context: string;
  readonly nonce: string;
  readonly tag: string;
  /** u64 little-endian, as it lies in the slot. */
  readonly hash: string;
}

/** Blocks [first, first+count) of an extent, of several regions, handed to `see` one block at a time. */
export async function viewBlocks(
  directories: readonly string[],
  region: RegionDefinition,
  extent: number,
  first: number,
  count: number,
  workspace: Workspace,
  see: (block: number, views: readonly BlockView[]) => void,
): Promise<void> {
  const layout = extentLayout(region);
  const { arena, hasher } = workspace;
  const pieces = directories.map(() => new Piece(layout, arena, hasher));
  const scratch = arena.alloc(READ_CONTEXT_BYTES_MAX);
  const files = [];
  try {
    for (const directory of directories) files.push(await openExtent(directory, layout, extent));
    const step = blocksPerPiece(layout);
    for (let from = first; from < first + count; from += step) {
      const here = Math.min(step, first + count - from);
      for (const [i, piece] of pieces.entries()) await piece.load(files[i]!, from, here);
      for (let k = 0; k < here; k++) {
        see(
          from + k,
          pieces.map((piece) => view(piece, k, arena.bytes, scratch, layout.blockBytes)),
        );
      }
    }
  } finally {
    for (const { file } of files) await file.close();
    for (const piece of pieces) piece.free();
    arena.free(scratch);
  }
}

function view(
  piece: Piece,
  k: number,
  bytes: Buffer,
  scratch: number,
  blockBytes: number,
): BlockView {
  const slot = piece.slotAt(k);
  const kind = slotKind(bytes, slot);
  const context = slot + SLOT_CONTEXT_AT;
  const length = slotToReadContext(bytes, slot, scratch);
  const isEncrypted = kind === SlotKind.encrypted;
  return {
    data: Buffer.from(bytes.subarray(piece.blockAt(k), piece.blockAt(k) + blockBytes)),
    kind,
    context: bytes.toString("hex", scratch, scratch + length),
    nonce: isEncrypted ? bytes.toString("hex", context + 9, context + 21) : "",
    tag: isEncrypted ? bytes.toString("hex", context + 21, context + 37) : "",
    hash: kind === SlotKind.plain ? bytes.toString("hex", context, context + 8) : "",
  };
}

/** A letter for each region: equal letters, equal values. */
export function letters(values: readonly string[]): string[] {
  const [a, b] = values;
  return values.map((value, i) => {
    if (i === 0 || value === a) return "A";
    return i === 1 || value === b ? "B" : "C";
  });
}

const paintedLetter = (style: DumpStyle, letter: string): string => {
  const color = letter === "A" ? GREEN : letter === "B" ? BLUE : RED;
  return `${paint(style, color)}${letter}${paint(style, 0)}`;
};

/** Every block of one extent: whether data (D) and contexts (C) agree. */
export async function dumpExtent(
  directories: readonly string[],
  region: RegionDefinition,
  states: readonly (readonly ExtentState[])[],
  extent: number,
  workspace: Workspace,
  style: DumpStyle,
): Promise<DumpResult> {
  const lines: string[] = [];
  const numbers = states.map((of) => of[extent]!);
  const row = (name: string, cells: readonly string[]): void => {
    lines.push(`${name.padEnd(9)}${cells.map((cell) => `${cell.padStart(8)} `).join("")}`);
  };
  lines.push(`           Extent ${extent}`);
  row(
    "GEN",
    numbers.map((n) => `${n.generation}`),
  );
  row(
    "FLUSH_ID",
    numbers.map((n) => `${n.flushNumber}`),
  );
  row(
    "DIRTY",
    numbers.map((n) => (n.dirty ? "D" : " ")),
  );
  lines.push("");
  const base = extent * region.extentSize;
  const width = Math.max(3, `${base + region.extentSize - 1}`.length);
  const heads = (letter: string): string => numbers.map((_, i) => ` ${letter}${i}`).join("");
  lines.push(
    `${"BLOCK".padStart(width)} ${heads("D")} ${heads("C")}${style.onlyDifferences ? "" : " DIFF "}`,
  );
  let differs = false;
  await viewBlocks(directories, region, extent, 0, region.extentSize, workspace, (block, views) => {
    const data = letters(views.map((v) => v.data.toString("latin1")));
    const contexts = letters(views.map((v) => v.context));
    const different = !allSame(data) || !allSame(contexts);
    differs ||= different;
    if (style.onlyDifferences && !different) return;
    const cells = (of: readonly string[]): string =>
      of.map((letter) => `  ${paintedLetter(style, letter)}`).join("");
    const mark = style.onlyDifferences ? "" : ` ${different ? "<---" : "    "}`;
    lines.push(
      `${`${base + block}`.padStart(width, "0")} ${cells(data)} ${cells(contexts)}${mark}`,
    );
  });
  return { lines, differs };
}

/** One block in detail, by its number in the region. */
export async function dumpBlock(
  directories: readonly string[],
  region: RegionDefinition,
  block: number,
  workspace: Workspace,
  style: DumpStyle,
): Promise<DumpResult> {
  const total = region.extentCount * region.extentSize;
  if (block >= total) {
    throw new Fault("TRIVET_E_USAGE", `block ${block} is beyond the last one, ${total - 1}`);
  }
  const extent = Math.floor(block / region.extentSize);
  const inside = block % region.extentSize;
  let views: readonly BlockView[] = [];
  await viewBlocks(directories, region, extent, inside, 1, workspace, (_, found) => {
    views = found;
  });
  const lines = [`Extent ${extent} Block in extent ${inside}  Actual block ${block}`, ""];
  const data = letters(views.map((v) => v.data.toString("latin1")));
  if (!style.onlyDifferences || !allSame(data)) {
    lines.push(`${"DATA".padStart(6)}  ${"SHA256".padEnd(64)}  VER`);
    lines.push(`${"-".repeat(6)}  ${"-".repeat(64)}  ---`);
    for (const [i, v] of views.entries()) {
      const digest = createHash("sha256").update(v.data).digest("hex");
      lines.push(`${`${i}`.padStart(6)}  ${digest}   ${paintedLetter(style, data[i]!)} `);
    }
    lines.push("");
  }
  const contextsDiffer = !allSame(views.map((v) => v.context));
  const part = (name: string, width: number, values: readonly string[], show: boolean): void => {
    if (!show) return;
    const center = (text: string): string => {
      const left = Math.floor((width - text.length) / 2);
      return " ".repeat(Math.max(0, left)) + text.padEnd(width - Math.max(0, left));
    };
    const heads = values.map((_, i) => `${center(`${i}`)} `).join("");
    lines.push(`${name.padStart(6)}  ${heads}${style.onlyDifferences ? "" : " DIFF "}`);
    const rules = values.map(() => `${"-".repeat(width)} `).join("");
    lines.push(`${"-".repeat(6)}  ${rules}${style.onlyDifferences ? "" : "----- "}`);
    if (values.some((value) => value !== "")) {
      const cells = values.map((value) => `${center(value)} `).join("");
      lines.push(`${"0".padStart(6)}  ${cells}${allSame(values) ? "" : " <--- "}`);
    }
    lines.push("");
  };
  const showContexts = !style.onlyDifferences || contextsDiffer;
  const hashes = views.map((v) => v.hash);
  part(
    "NONCES",
    24,
    views.map((v) => v.nonce),
    showContexts,
  );
  part(
    "TAGS",
    32,
    views.map((v) => v.tag),
    showContexts,
  );
  part("HASHES", 16, hashes, !style.onlyDifferences || !allSame(hashes));
  return { lines, differs: !allSame(data) || contextsDiffer };
}
