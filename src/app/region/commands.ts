import { regionBytes } from "../../crucible/region-definition.js";
import type { Command, Group, Input, Shell } from "../cli/command.js";
import { showBytes } from "../progress.js";
import { createRegion } from "./create.js";
import { readDefinition } from "./directory.js";
import { readExtentStates, summarize } from "./info.js";
import { GEOMETRY_OPTIONS, regionFromOptions } from "./options.js";

const DIR = { name: "DIR", required: true } as const;
const JSON_OPTION = { json: { help: "Print one JSON object, for scripts" } } as const;

const CREATE: Command = {
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

const INFO: Command = {
  name: "info",
  summary: "say what a region directory holds",
  operands: [DIR],
  options: JSON_OPTION,
  async run(input: Input, shell: Shell) {
    const directory = input.operands[0]!;
    const definition = readDefinition(directory);
    const summary = summarize(definition, await readExtentStates(directory, definition));
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
        }),
      );
      return;
    }
    const rows: [string, string][] = [
      ["region", definition.uuid],
      ["size", `${showBytes(summary.sizeBytes)} (${summary.sizeBytes} bytes)`],
      ["on disk", showBytes(summary.allocatedBytes)],
      ["blocks", `${definition.blockSize} bytes`],
      [
        "extents",
        `${definition.extentCount} of ${definition.extentSize} blocks (${showBytes(definition.blockSize * definition.extentSize)})`,
      ],
      ["encrypted", definition.encrypted ? "yes" : "no"],
      ["generation", `${summary.maxGeneration} (highest)`],
      ["flush number", `${summary.maxFlushNumber} (highest)`],
      ["extents dirty", `${summary.dirtyExtents}`],
      ["never flushed", `${summary.freshExtents}`],
    ];
    for (const [name, value] of rows) shell.print(`${name.padEnd(14)} ${value}`);
  },
};

const describe = (region: Parameters<typeof regionBytes>[0]) => ({
  uuid: region.uuid,
  size_bytes: regionBytes(region),
  block_size: region.blockSize,
  extent_size: region.extentSize,
  extent_count: region.extentCount,
  encrypted: region.encrypted,
});

export const REGION: Group = {
  name: "region",
  summary: "region directories: where a replica keeps its blocks",
  commands: [CREATE, INFO],
};
