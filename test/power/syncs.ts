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
  numbers:
    "the metadata, before the flush is answered; the part behind the dirty byte, where one write could be torn",
  clean: "the cleared dirty byte, where it is written by itself",
  opening: "what a dead process left, before anything is built on it",
  fetched: "a fetched file, before it is called a replacement",
  fetchedName: "its name in its directory, before that is called a replacement",
  promised: "the name of a replacement, before the extent is overwritten",
  copied: "the overwritten extent, before the replacement goes",
  copiedName: "its name, if it was made anew",
  settled: "that the replacement is called completed, before it is emptied",
  removed: "that it is gone",
} as const;
/** Left out, these cost nothing as long as a directory's changes come to the disk in their order. */
export const BELT_AND_BRACES: readonly Reason[] = ["clean", "copiedName", "removed"];
export type Reason = keyof typeof REASONS;

/** Told from the file and from what was written to it since the last sync. */
export function reasonOf(call: Call, disk: RecordedDisk, region: RegionDefinition): Reason | null {
  const node = disk.nodeOf(call);
  if (node === undefined) return null;
  const path = disk.pathOf(node) ?? "";
  const { dataBytes, metadataAt } = extentLayout(region);
  if (!(node instanceof FileNode)) {
    if (path === "/r" || path === "") return "rootNames";
    if (path.endsWith(".copy")) return "fetchedName";
    if (node.changes.length === 0) return null;
    const made = node.changes.flatMap(({ entries }) =>
      entries.filter(([, child]) => child !== null).map(([name]) => name),
    );
    if (made.some((name) => name.endsWith(".replace"))) return "promised";
    if (made.some((name) => name.endsWith(".completed"))) return "settled";
    if (made.length === 0) return "removed";
    const removes = node.changes.some(({ entries }) => entries.some(([, child]) => child === null));
    return removes ? "copiedName" : "folderNames";
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
  return ended[0]!.data[0] === 0 ? "clean" : "mark";
}
