import type { RegionDefinition } from "../../src/crucible/region-definition.js";
import { extentLayout } from "../../src/region/layout.js";
import { FileNode, type RecordedDisk } from "./disk.js";
import type { Call } from "./recording.js";

/** Every sync that the programs issue has one of these reasons. */
export const REASONS = {
  extentMade: "a new extent file, before region.json",
  definition: "region.json under its temporary name",
  rootNames: "names in the region's own directory",
  folderNames: "names in the directories above extents, when they are made",
  mark: "the dirty mark before zeros",
  contexts: "the new contexts, before the data",
  data: "the data, before the metadata",
  numbers: "the metadata, before the flush is answered",
  opening: "what a dead process left, before anything is built on it",
  fetched: "a fetched file, before it is called a replacement",
  promised: "the name of a replacement, before the extent is overwritten",
  copied: "the overwritten extent, before the replacement goes",
} as const;
export type Reason = keyof typeof REASONS;

/** Told from the file and from what was written to it since the last sync. */
export function reasonOf(call: Call, disk: RecordedDisk, region: RegionDefinition): Reason | null {
  const node = disk.nodeOf(call);
  if (node === undefined) return null;
  const path = disk.pathOf(node) ?? "";
  const { dataBytes, metadataAt } = extentLayout(region);
  if (!(node instanceof FileNode)) {
    if (path === "/r" || path === "") return "rootNames";
    const replaces = node.changes.some(({ entries }) =>
      entries.some(([name, child]) => child !== null && name.endsWith(".replace")),
    );
    if (replaces) return "promised";
    return /\.copy$/.test(path) || node.changes.length === 0 ? null : "folderNames";
  }
  if (path.includes(".json")) return "definition";
  if (path.includes(".copy/")) return "fetched";
  const ended = node.ops.filter((op) => op.end < call.begin);
  if (ended.length === 0) return null;
  const isDataOnly = call.flags === 1;
  if (!isDataOnly) {
    if (node.durable.length === 0 && ended.length === 1 && ended[0]!.offset >= dataBytes)
      return "extentMade";
    const resized = ended.some((op) => op.sizeAfter >= 0);
    return resized ? "copied" : "opening";
  }
  if (ended.some((op) => op.offset >= metadataAt && op.data.length > 1)) return "numbers";
  if (ended.some((op) => op.offset < dataBytes)) return "data";
  if (ended.some((op) => op.offset < metadataAt)) return "contexts";
  return "mark";
}
