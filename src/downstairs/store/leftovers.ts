import { Fault } from "../../base/fault.js";
import type { FileTree, Then } from "../../ports/files.js";
import type { Address } from "../../ports/stream.js";
import {
  COMPLETED_SUFFIX,
  COPY_SUFFIX,
  extentDirectory,
  extentName,
  REPLACE_SUFFIX,
  SQLITE_SUFFIX,
} from "../../region/layout.js";
import { sqliteFault } from "../../region/sqlite.js";
import type { RepairPeer } from "../region-store.js";
import type { Extents } from "./extents.js";
import { inOrder } from "./flow.js";

// Replacing an extent's file by another replica's, in steps each of which may be the last one before a crash
// (crucible-downstairs 6.3; the names are shared with the original, so either program finishes what the other began).
//
//   X.copy/X       being fetched: worth nothing, removed at the next open
//   X.replace/X    fetched whole: a promise; X is overwritten with it, at the next open if need be
//   X.completed/   X is whole again: only to be removed

const SQLITE_LEFTOVERS = [`${SQLITE_SUFFIX}-shm`, `${SQLITE_SUFFIX}-wal`];

/**
 * What has to be done before an extent may be opened, given the names in its directory. A read-only open does
 * nothing and ignores them all, but refuses an SQLite extent like any other.
 */
export function settleLeftovers(
  tree: FileTree,
  extents: Extents,
  extent: number,
  names: ReadonlySet<string>,
  readOnly: boolean,
): Fault | ((next: Then) => void)[] {
  const name = extentName(extent);
  if (names.has(name + SQLITE_SUFFIX)) return sqliteFault(extents.directory, extent);
  if (readOnly) return [];
  const path = extents.path(extent);
  // Whoever died here may not have come to sync what it renamed last; what follows is right only once that cannot be taken back.
  const isPromised = [REPLACE_SUFFIX, COMPLETED_SUFFIX].some((suffix) => names.has(name + suffix));
  const steps: ((next: Then) => void)[] = isPromised ? [syncDirectory(tree, extents, extent)] : [];
  const remove = (suffix: string): void => {
    if (names.has(name + suffix)) steps.push((next) => tree.remove(path + suffix, next));
  };
  remove(COPY_SUFFIX);
  remove(COMPLETED_SUFFIX);
  if (names.has(name + REPLACE_SUFFIX)) steps.push(...finishReplacing(tree, extents, extent));
  for (const suffix of SQLITE_LEFTOVERS) remove(suffix);
  return steps;
}

/** From X.replace on. Every step may be repeated. */
function finishReplacing(
  tree: FileTree,
  extents: Extents,
  extent: number,
): ((next: Then) => void)[] {
  const path = extents.path(extent);
  const sync = syncDirectory(tree, extents, extent);
  return [
    (next) => tree.copyOver(`${path}${REPLACE_SUFFIX}/${extentName(extent)}`, path, next),
    sync,
    (next) => tree.rename(path + REPLACE_SUFFIX, path + COMPLETED_SUFFIX, next),
    sync,
    (next) => tree.remove(path + COMPLETED_SUFFIX, next),
    sync,
  ];
}
const syncDirectory =
  (tree: FileTree, extents: Extents, extent: number) =>
  (next: Then): void =>
    tree.syncDirectory(`${extents.directory}/${extentDirectory(extent)}`, next);

/** Fetches the source's file and puts it in the place of a closed extent's. */
export function replaceFile(
  tree: FileTree,
  peer: RepairPeer,
  extents: Extents,
  extent: number,
  source: Address,
  then: Then,
): void {
  const path = extents.path(extent);
  const name = extentName(extent);
  const directory = `${extents.directory}/${extentDirectory(extent)}`;
  const where = `${source.host}:${source.port}`;
  const repairFault = (what: string): Fault =>
    new Fault("TRIVET_E_REPAIR", `extent ${extent} from ${where}: ${what}`);
  inOrder(
    [
      (next) =>
        tree.list(directory, (fault, names) => {
          const found = [REPLACE_SUFFIX, COPY_SUFFIX].find((s) => names?.includes(name + s));
          next(
            fault ??
              (found === undefined
                ? null
                : new Fault(
                    "TRIVET_E_REPAIR",
                    `${path}${found} is left of an earlier repair, which the next open of the extent settles`,
                  )),
          );
        }),
      (next) => tree.makeDirectory(path + COPY_SUFFIX, false, next),
      (next) =>
        peer.files(source, extent, (fault, names) => {
          const alone = names.length === 1 && names[0] === name;
          const shown = names.slice(0, 4).join(", ");
          next(fault ?? (alone ? null : repairFault(`it lists [${shown}], expected [${name}]`)));
        }),
      (next) => peer.fetch(source, extent, "data", `${path}${COPY_SUFFIX}/${name}`, next),
      (next) => checkSize(tree, extents, `${path}${COPY_SUFFIX}/${name}`, next),
      (next) =>
        peer.ready(source, extent, (fault, ready) =>
          next(fault ?? (ready ? null : repairFault("it was opened while it was copied"))),
        ),
      (next) => tree.syncDirectory(path + COPY_SUFFIX, next),
      (next) => tree.rename(path + COPY_SUFFIX, path + REPLACE_SUFFIX, next),
      (next) => tree.syncDirectory(directory, next),
      ...finishReplacing(tree, extents, extent),
    ],
    then,
  );
}

/** From here on there would be no way back: a file of another size is refused while the old one still stands. */
function checkSize(tree: FileTree, extents: Extents, path: string, next: Then): void {
  tree.sizeOf(path, (fault, size) => {
    const expected = extents.layout.fileBytes;
    const text = `${path}: ${size} bytes were fetched, expected ${expected}`;
    next(fault ?? (size === expected ? null : new Fault("TRIVET_E_REPAIR", text)));
  });
}
