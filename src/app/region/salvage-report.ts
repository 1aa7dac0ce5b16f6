import { DOUBTS } from "../../region/choose-block.js";
import { showBytes } from "../progress.js";
import { doubtfulBlocks, goneBlocks, isLive, type SalvageReport } from "./salvage.js";
import type { CopyReport, ExtentReport, Finding, Remark } from "./salvage-extent.js";

// The report of a salvage, for people and for programs.

const WORDS: Readonly<Record<Remark, string>> = {
  gone: "gone: no copy fits its context",
  older: "doubtful: taken from an older copy",
  "age-unknown": "doubtful: taken from a copy whose age is unknown",
  weak: "doubtful: the data fits a context that may not be the last",
  differ: "doubtful: copies of the same age differ",
  contradicted: "doubtful: never written by the best copy, but another one has data",
  single: "doubtful: the age of only one copy is known",
  dirty: "doubtful: possibly written after the last flush, and no other copy agrees",
  mended: "proved by its context, but taken from another copy than the best",
};

const letter = (source: number): string => String.fromCharCode(65 + source);
const span = (first: number, count: number): string =>
  count === 1 ? `${first}` : `${first}-${first + count - 1}`;

const imageBytes = ({ geometry }: SalvageReport): number =>
  geometry.blockSize * geometry.extentSize * geometry.extentCount;

/** Lines for a person. `keptBad`: blocks that are gone were not filled with zeros. */
export function reportLines(report: SalvageReport, keptBad: boolean): string[] {
  const { geometry, sources, extents } = report;
  const lines = sources.map(({ directory, uuid, problem }, i) => {
    const what = problem ?? `region ${uuid}`;
    return `${letter(i)}: ${directory}: ${what}`;
  });
  for (let i = 0; i < extents.length; ) {
    const extent = extents[i]!;
    const what = describeCopies(extent);
    let end = i + 1;
    // Extents about which there is nothing more to be said share a line.
    if (extent.findings.length === 0) {
      while (end < extents.length && sameLine(extents[end]!, what)) end += 1;
    }
    lines.push(`${end === i + 1 ? "extent" : "extents"} ${span(i, end - i)}: ${what}`);
    for (const finding of extent.findings) {
      lines.push(`  ${describeFinding(finding, extent.extent, report)}`);
    }
    i = end;
  }
  for (const note of report.notes) lines.push(`note: ${note}`);
  const total = geometry.extentCount * geometry.extentSize;
  lines.push(
    `${report.image}: ${showBytes(imageBytes(report))}, ${report.writtenBlocks} of ${total} blocks hold data`,
  );
  const gone = goneBlocks(report);
  const doubtful = doubtfulBlocks(report);
  if (report.blocks.mended > 0) {
    lines.push(`${report.blocks.mended} blocks were bad in the best copy and good in another`);
  }
  if (doubtful > 0) lines.push(`${doubtful} blocks are doubtful`);
  if (gone > 0) {
    const filling = keptBad ? "kept as they lie in the best copy" : "filled with zeros";
    lines.push(`${gone} blocks are gone, ${filling}`);
  }
  if (gone + doubtful === 0 && !isLive(report)) lines.push("every block is proved");
  return lines;
}

const sameLine = (extent: ExtentReport, what: string): boolean =>
  extent.findings.length === 0 && describeCopies(extent) === what;

function describeCopies({ copies, best, missing }: ExtentReport): string {
  const parts: string[] = [];
  const show = ({ source, name, age, problem, unreadableBlocks }: CopyReport): string => {
    const isBeside = name.split("/").length > 3;
    const numbers =
      age === undefined
        ? "age unknown"
        : `generation ${age.generation}, flush ${age.flushNumber}${age.dirty ? ", dirty" : ""}`;
    const unreadable = unreadableBlocks > 0 ? `, ${unreadableBlocks} blocks unreadable` : "";
    const trouble = problem === undefined ? "" : `: ${problem}`;
    return `${letter(source)}${isBeside ? ` ${name}` : ""} (${numbers}${unreadable}${trouble})`;
  };
  const isPlain = (copy: CopyReport): boolean =>
    copy.problem === undefined && copy.unreadableBlocks === 0 && copy.name.split("/").length === 3;
  const leading = copies.slice(0, best);
  if (leading.length > 1 && leading.every(isPlain)) {
    const names = leading.map(({ source }) => letter(source)).join(", ");
    parts.push(show(leading[0]!).replace(letter(leading[0]!.source), names));
  } else parts.push(...leading.map(show));
  parts.push(...copies.slice(best).map(show));
  for (const { source, why } of missing) parts.push(`${letter(source)}: ${why}`);
  return parts.join("; ");
}

function describeFinding(finding: Finding, extent: number, report: SalvageReport): string {
  const { blockSize, extentSize } = report.geometry;
  const { first, count, remark, source } = finding;
  const block = extent * extentSize + first;
  const bytes = `bytes ${block * blockSize}-${(block + count) * blockSize - 1}`;
  const from = source < 0 ? "" : `, from ${letter(source)}`;
  return `${count === 1 ? "block" : "blocks"} ${span(block, count)} (${bytes}): ${WORDS[remark]}${from}`;
}

/** One object for programs. 64-bit numbers are strings, which JSON numbers cannot hold. */
export function reportJson(report: SalvageReport, keptBad: boolean): object {
  const { geometry } = report;
  return {
    image: report.image,
    size_bytes: imageBytes(report),
    block_size: geometry.blockSize,
    extent_size: geometry.extentSize,
    extent_count: geometry.extentCount,
    ok: goneBlocks(report) + doubtfulBlocks(report) === 0 && !isLive(report),
    written_blocks: report.writtenBlocks,
    doubtful_blocks: doubtfulBlocks(report),
    gone_blocks: goneBlocks(report),
    gone_blocks_are: keptBad ? "as found" : "zeros",
    mended_blocks: report.blocks.mended,
    blocks_by_doubt: Object.fromEntries(DOUBTS.map((doubt) => [doubt, report.blocks[doubt]])),
    regions: report.sources.map(({ directory, uuid, problem, inUse }) => ({
      directory,
      uuid: uuid ?? null,
      problem: problem ?? null,
      in_use: inUse,
    })),
    notes: report.notes,
    extents: report.extents.map(({ extent, copies, best, missing, findings }) => ({
      extent,
      copies: copies.map(({ source, name, age, problem, unreadableBlocks }, i) => ({
        region: source,
        file: name,
        best: i < best,
        generation: age === undefined ? null : `${age.generation}`,
        flush_number: age?.flushNumber ?? null,
        dirty: age?.dirty ?? null,
        problem: problem ?? null,
        unreadable_blocks: unreadableBlocks,
      })),
      missing: missing.map(({ source, why }) => ({ region: source, why })),
      blocks: findings.map(({ first, count, remark, source }) => ({
        first: extent * geometry.extentSize + first,
        count,
        what: remark,
        region: source < 0 ? null : source,
      })),
    })),
  };
}
