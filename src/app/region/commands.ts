import { statSync } from "node:fs";
import { open } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { Fault } from "../../base/fault.js";
import { type RegionDefinition, regionBytes } from "../../crucible/region-definition.js";
import type { Command, Input, Shell } from "../cli/command.js";
import { parseCount } from "../cli/values.js";
import { showBytes, stderrProgress } from "../progress.js";
import { createRegion } from "./create.js";
import { isRegion, readDefinition } from "./directory.js";
import { exportRegion, openExportTarget } from "./export.js";
import { importImage } from "./import.js";
import { readExtentStates, summarize } from "./info.js";
import { GEOMETRY_OPTIONS, regionFromOptions } from "./options.js";
import { verifyRegion } from "./verify.js";
import { withWorkspace } from "./workspace.js";

const DIR = { name: "DIR", required: true } as const;
const JSON_OPTION = { json: { help: "Print one JSON object, for scripts" } } as const;
const THREADS_MAX = 64;
/** Bad extents named one by one; the rest is counted. */
const BAD_SHOWN_MAX = 20;

const describe = (region: RegionDefinition) => ({
  uuid: region.uuid,
  size_bytes: regionBytes(region),
  block_size: region.blockSize,
  extent_size: region.extentSize,
  extent_count: region.extentCount,
  encrypted: region.encrypted,
});

export const CREATE: Command = {
  name: "create",
  summary: "make a region directory, sparse and quick at any size",
  operands: [DIR],
  options: { ...GEOMETRY_OPTIONS, ...JSON_OPTION },
  details: [
    "The three regions of a volume need the same block size, extent size and extent count.",
    "Example: trivet region create /srv/trivet/photos --size 500G",
  ],
  async run(input: Input, shell: Shell) {
    const directory = input.operands[0]!;
    const region = regionFromOptions(input);
    await createRegion(directory, region);
    if (input.flag("json")) {
      shell.print(JSON.stringify({ directory, ...describe(region) }));
      return;
    }
    shell.print(
      `${directory}: region ${region.uuid}, ${showBytes(regionBytes(region))} in ${region.extentCount} extents of ${showBytes(region.blockSize * region.extentSize)}, blocks of ${region.blockSize} bytes`,
    );
  },
};

export const INFO: Command = {
  name: "info",
  summary: "say what a region directory holds",
  operands: [DIR],
  options: JSON_OPTION,
  async run(input: Input, shell: Shell) {
    const directory = input.operands[0]!;
    const definition = readDefinition(directory);
    const summary = summarize(definition, await readExtentStates(directory, definition));
    const inUse = await withWorkspace(async (workspace) => workspace.isLocked(directory));
    if (input.flag("json")) {
      const { maxGeneration, maxFlushNumber, dirtyExtents, freshExtents, allocatedBytes } = summary;
      shell.print(
        JSON.stringify({
          directory,
          ...describe(definition),
          allocated_bytes: allocatedBytes,
          // A 64-bit number, which JSON numbers cannot hold.
          max_generation: `${maxGeneration}`,
          max_flush_number: maxFlushNumber,
          dirty_extents: dirtyExtents,
          fresh_extents: freshExtents,
          in_use: inUse,
        }),
      );
      return;
    }
    const extentBytes = showBytes(definition.blockSize * definition.extentSize);
    const rows: [string, string][] = [
      ["region", definition.uuid],
      ["size", `${showBytes(summary.sizeBytes)} (${summary.sizeBytes} bytes)`],
      ["on disk", showBytes(summary.allocatedBytes)],
      ["blocks", `${definition.blockSize} bytes`],
      ["extents", `${definition.extentCount} of ${definition.extentSize} blocks (${extentBytes})`],
      ["encrypted", definition.encrypted ? "yes" : "no"],
      ["generation", `${summary.maxGeneration} (highest)`],
      ["flush number", `${summary.maxFlushNumber} (highest)`],
      ["extents dirty", `${summary.dirtyExtents}`],
      ["never flushed", `${summary.freshExtents}`],
      ["in use", inUse ? "yes, by another process: the numbers may be changing" : "no"],
    ];
    for (const [name, value] of rows) shell.print(`${name.padEnd(14)} ${value}`);
  },
};

export const VERIFY: Command = {
  name: "verify",
  summary: "check every block of a region at rest against its hash",
  operands: [DIR],
  options: {
    threads: { value: "N", short: "t", shownDefault: "all cores", help: "Extents checked at once" },
    ...JSON_OPTION,
  },
  async run(input: Input, shell: Shell) {
    const directory = input.operands[0]!;
    const region = readDefinition(directory);
    const text = input.text("threads");
    const threads =
      text === undefined ? availableParallelism() : parseCount("--threads", text, 1, THREADS_MAX);
    const bad = await withWorkspace(async (workspace) => {
      const unlock = workspace.lock(directory);
      const progress = (total: number) => stderrProgress("verifying", total);
      try {
        return await verifyRegion(directory, region, workspace, threads, progress);
      } finally {
        unlock();
      }
    });
    if (input.flag("json")) {
      shell.print(JSON.stringify({ directory, ...describe(region), ok: bad.length === 0, bad }));
    } else if (bad.length === 0) {
      shell.print(`${directory}: all ${region.extentCount} extents are well`);
    } else {
      for (const { extent, file, reason } of bad.slice(0, BAD_SHOWN_MAX)) {
        shell.print(`extent ${extent} (${file}): ${reason}`);
      }
      if (bad.length > BAD_SHOWN_MAX) shell.print(`and ${bad.length - BAD_SHOWN_MAX} more`);
    }
    if (bad.length > 0) {
      throw new Fault(
        "TRIVET_E_REGION_VERIFY",
        `${directory}: ${bad.length} of ${region.extentCount} extents are damaged`,
      );
    }
  },
};

export const EXPORT: Command = {
  name: "export",
  summary: "write a raw image of a region; zeros become holes",
  operands: [DIR, { name: "FILE", required: true }],
  options: { force: { help: "Replace FILE when it exists" } },
  async run(input: Input, shell: Shell) {
    const [directory, path] = input.operands as [string, string];
    const region = readDefinition(directory);
    await withWorkspace(async (workspace) => {
      const unlock = workspace.lock(directory);
      const target = await openExportTarget(path, input.flag("force"));
      try {
        const all = { skip: 0, count: region.extentCount * region.extentSize };
        const progress = (total: number) => stderrProgress("exporting", total);
        await exportRegion(directory, region, all, target, workspace, progress);
      } finally {
        await target.close();
        unlock();
      }
    });
    shell.print(`${path}: ${regionBytes(region)} bytes`);
  },
};

export const IMPORT: Command = {
  name: "import",
  summary: "fill a fresh region from a raw image; zeros stay unwritten",
  operands: [DIR, { name: "FILE", required: true }],
  options: GEOMETRY_OPTIONS,
  details: [
    "Without a region in DIR one is made, as large as the image or as --size says.",
    "Import the same image into all three regions of a volume before you serve it.",
  ],
  async run(input: Input, shell: Shell) {
    const [directory, path] = input.operands as [string, string];
    const image = await open(path, "r");
    try {
      const imageBytes = statSync(path).size;
      if (!isRegion(directory)) {
        await createRegion(directory, regionFromOptions(input, imageBytes));
      } else if (Object.keys(GEOMETRY_OPTIONS).some((name) => input.text(name) !== undefined)) {
        throw new Fault("TRIVET_E_REGION_EXISTS", `${directory} holds a region already`);
      }
      const region = readDefinition(directory);
      const written = await withWorkspace(async (workspace) => {
        const unlock = workspace.lock(directory);
        const progress = (total: number) => stderrProgress("importing", total);
        try {
          return await importImage(directory, region, image, imageBytes, workspace, progress);
        } finally {
          unlock();
        }
      });
      shell.print(
        `${directory}: ${written} blocks of ${region.blockSize} bytes written, the rest of the image is zeros`,
      );
    } finally {
      await image.close();
    }
  },
};
