import { open } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { Fault } from "../../base/fault.js";
import { EXTENT_BYTES_MAX } from "../../base/limits.js";
import { type RegionDefinition, regionBytes } from "../../crucible/region-definition.js";
import { DATABASE_VERSION } from "../../region/config.js";
import { blockShift, checkGeometry } from "../../region/geometry.js";
import { extentLayout, METADATA_BYTES, SLOT_BYTES, slotOffset } from "../../region/layout.js";
import type { Command, Input, Shell } from "../cli/command.js";
import { usage } from "../cli/usage.js";
import { parseCount, parseUuidValue } from "../cli/values.js";
import { stderrProgress } from "../progress.js";
import { createRegion } from "./create.js";
import { readDefinition } from "./directory.js";
import { type DumpResult, dumpBlock, dumpExtent, dumpExtents } from "./dump.js";
import { exportRegion, openExportTarget } from "./export.js";
import { importImage } from "./import.js";
import { type ExtentState, readExtentStates } from "./info.js";
import { verifyRegion } from "./verify.js";
import { type OfflineWorkspace, withWorkspace } from "./workspace.js";

// The offline commands of crucible-downstairs, with its options and its output.

const U32_MAX = 0xffff_ffff;
const DATA = { value: "DIR", short: "d", help: "Region directory" } as const;

const required = (input: Input, name: string): string => {
  const text = input.text(name);
  if (text === undefined) throw usage(`--${name} is missing`);
  return text;
};

/** Runs `work` with the lock of every directory held. */
const locked = <T>(
  directories: readonly string[],
  work: (workspace: OfflineWorkspace) => Promise<T>,
): Promise<T> =>
  withWorkspace(async (workspace) => {
    const unlocks: (() => void)[] = [];
    try {
      for (const directory of directories) unlocks.push(workspace.lock(directory));
      return await work(workspace);
    } finally {
      for (const unlock of unlocks) unlock();
    }
  });

/** Also the geometry that `create` makes. Sizes that the original takes and misreads are refused. */
export function compatRegion(input: Input): RegionDefinition {
  const number = (name: string, fallback: number, max: number): number => {
    const text = input.text(name);
    return text === undefined ? fallback : parseCount(`--${name}`, text, 1, max);
  };
  const blockSize = number("block-size", 512, Number.MAX_SAFE_INTEGER);
  const region: RegionDefinition = {
    blockSize,
    shift: blockShift(blockSize, "--block-size"),
    extentSize: number("extent-size", 100, EXTENT_BYTES_MAX),
    extentCount: number("extent-count", 15, U32_MAX),
    uuid: parseUuidValue("--uuid", required(input, "uuid")),
    encrypted: input.flag("encrypted"),
    databaseReadVersion: DATABASE_VERSION,
    databaseWriteVersion: DATABASE_VERSION,
  };
  checkGeometry(region, "the region wanted");
  return region;
}

/** `create` without `--clone-source`, which needs the network. */
export async function compatCreate(input: Input, shell: Shell): Promise<void> {
  const directory = required(input, "data");
  const wanted = compatRegion(input);
  const path = input.text("import-path");
  if (path === undefined) {
    await createRegion(directory, wanted);
    return;
  }
  const image = await open(path, "r");
  try {
    const { size } = await image.stat();
    const needed = Math.ceil(size / (wanted.blockSize * wanted.extentSize));
    const region = { ...wanted, extentCount: Math.max(wanted.extentCount, needed) };
    await createRegion(directory, region);
    await locked([directory], (workspace) =>
      importImage(directory, region, image, size, workspace, (total) =>
        stderrProgress("importing", total),
      ),
    );
    // What `export --count` needs to give the image back.
    shell.print(`Copied ${Math.ceil(size / region.blockSize)} blocks of ${region.blockSize} bytes`);
  } finally {
    await image.close();
  }
}

export const COMPAT_EXPORT: Command = {
  name: "export",
  summary: "write blocks of a region to a file",
  operands: [],
  options: {
    count: { value: "N", shownDefault: "0: all", help: "Number of blocks" },
    data: DATA,
    "export-path": { value: "FILE", short: "e", help: "File to write" },
    skip: { value: "N", short: "s", shownDefault: "0", help: "Blocks to leave out at the start" },
  },
  async run(input) {
    const directory = required(input, "data");
    const path = required(input, "export-path");
    const max = Number.MAX_SAFE_INTEGER;
    const skip = parseCount("--skip", input.text("skip") ?? "0", 0, max);
    const count = parseCount("--count", input.text("count") ?? "0", 0, max);
    const region = readDefinition(directory);
    await locked([directory], async (workspace) => {
      const target = await openExportTarget(path, true);
      try {
        const range = { skip, count: count === 0 ? max : count };
        const progress = (total: number) => stderrProgress("exporting", total);
        await exportRegion(directory, region, range, target, workspace, progress);
      } finally {
        await target.close();
      }
    });
  },
};

export const COMPAT_VERIFY: Command = {
  name: "verify",
  summary: "check every block of a region",
  operands: [],
  options: {
    data: DATA,
    threads: { value: "N", short: "t", shownDefault: "all cores", help: "Extents checked at once" },
  },
  async run(input, shell) {
    const directory = required(input, "data");
    const text = input.text("threads");
    const threads =
      text === undefined ? availableParallelism() : parseCount("--threads", text, 1, 64);
    const region = readDefinition(directory);
    const bad = await locked([directory], (workspace) =>
      verifyRegion(directory, region, workspace, threads, (total) =>
        stderrProgress("verifying", total),
      ),
    );
    if (bad.length === 0) return;
    for (const { extent, file, reason } of bad) {
      shell.print(`validation failed for extent ${extent} (file ${file}): ${reason}`);
    }
    throw new Fault("TRIVET_E_REGION_VERIFY", "Region failed to verify");
  },
};

const DIRECTORIES_MAX = 3;

export const COMPAT_DUMP: Command = {
  name: "dump",
  summary: "show and compare the numbers or the blocks of one to three regions",
  operands: [],
  options: {
    data: { ...DATA, multiple: true },
    extent: { value: "N", short: "e", help: "Compare the blocks of one extent" },
    block: { value: "N", short: "b", help: "Compare one block, counted over the region" },
    "only-show-differences": { short: "o", help: "Leave out what is equal" },
    "no-color": { help: "Plain text" },
  },
  async run(input, shell) {
    const directories = input.list("data");
    if (directories.length < 1 || directories.length > DIRECTORIES_MAX) {
      throw usage(`dump takes one to three --data, not ${directories.length}`);
    }
    const extent = input.text("extent");
    const block = input.text("block");
    if (extent !== undefined && block !== undefined) {
      throw usage("give --extent or --block, not both");
    }
    const compares = extent !== undefined || block !== undefined;
    if (compares && directories.length < 2)
      throw usage("comparing blocks takes two --data or more");
    const regions = directories.map(readDefinition);
    const region = sameShape(directories, regions);
    const style = {
      color: !input.flag("no-color"),
      onlyDifferences: input.flag("only-show-differences"),
    };
    const result = await locked(directories, async (workspace): Promise<DumpResult> => {
      const max = Number.MAX_SAFE_INTEGER;
      if (block !== undefined) {
        const number = parseCount("--block", block, 0, max);
        // Only the table of extents and that of blocks fail when something differs.
        const detail = await dumpBlock(directories, region, number, workspace, style);
        return { ...detail, differs: false };
      }
      const states: ExtentState[][] = [];
      for (const directory of directories) states.push(await readExtentStates(directory, region));
      if (extent === undefined) return dumpExtents(region, states, style);
      const number = parseCount("--extent", extent, 0, region.extentCount - 1);
      return dumpExtent(directories, region, states, number, workspace, style);
    });
    for (const line of result.lines) shell.print(line);
    if (result.differs) throw new Fault("TRIVET_E_REGION_VERIFY", "the regions differ");
  },
};

function sameShape(
  directories: readonly string[],
  regions: readonly RegionDefinition[],
): RegionDefinition {
  const first = regions[0]!;
  for (const [i, region] of regions.entries()) {
    for (const key of ["blockSize", "extentSize", "extentCount"] as const) {
      if (region[key] === first[key]) continue;
      throw new Fault(
        "TRIVET_E_GEOMETRY_MISMATCH",
        `${directories[i]} has ${key} ${region[key]}, ${directories[0]} has ${first[key]}`,
      );
    }
  }
  return first;
}

export const COMPAT_EXTENT_INFO: Command = {
  name: "extent-info",
  summary: "print where things lie in the extent files of a region",
  operands: [],
  options: {
    data: DATA,
    block: { value: "N|N-M", short: "b", help: "Also the offsets of these blocks of an extent" },
  },
  async run(input, shell) {
    const directory = required(input, "data");
    const region = readDefinition(directory);
    const layout = extentLayout(region);
    const size = regionBytes(region);
    const rows: [string, string | number][] = [
      ["Region directory:", directory],
      ["UUID:", region.uuid],
      ["Encrypted:", `${region.encrypted}`],
      ["Block size:", `${region.blockSize} bytes`],
      ["Extent size:", `${region.extentSize} blocks`],
      ["Extent count:", region.extentCount],
      ["Total size:", `${size} bytes (${(size / (1 << 20)).toFixed(2)} MiB)`],
      ["DB read version:", region.databaseReadVersion],
      ["DB write version:", region.databaseWriteVersion],
    ];
    shell.print("=== Region Information ===");
    for (const [name, value] of rows) shell.print(`${name.padEnd(20)} ${value}`);
    shell.print("");
    shell.print("=== Extent File Layout ===");
    const parts: [string, number, number][] = [
      ["Block data", 0, layout.dataBytes],
      ["Context slots A", layout.slotsAAt, layout.slotsBytes],
      ["Context slots B", layout.slotsBAt, layout.slotsBytes],
      ["Active bitmap", layout.bitmapAt, layout.bitmapBytes],
      ["Metadata", layout.metadataAt, METADATA_BYTES],
    ];
    for (const [name, at, length] of parts) {
      shell.print(`${`${name}:`.padEnd(20)} offset ${at} (0x${at.toString(16)}), ${length} bytes`);
    }
    shell.print(`${"File size:".padEnd(20)} ${layout.fileBytes} bytes`);
    const range = input.text("block");
    if (range === undefined) return;
    const match = /^(\d+)(?:-(\d+))?$/.exec(range);
    const first = Number(match?.[1] ?? Number.NaN);
    const last = Number(match?.[2] ?? first);
    if (!(first <= last && last < layout.blocks)) {
      throw usage(`--block: "${range}" is no block or range from 0 to ${layout.blocks - 1}`);
    }
    shell.print("");
    for (let block = first; block <= last; block++) {
      const bit = `byte ${layout.bitmapAt + (block >>> 3)} bit ${block & 7}`;
      shell.print(
        `Block ${block}: data ${block * layout.blockBytes}, slot A ${slotOffset(layout, 0, block)}, slot B ${slotOffset(layout, 1, block)} (${SLOT_BYTES} bytes each), active ${bit}`,
      );
    }
  },
};
