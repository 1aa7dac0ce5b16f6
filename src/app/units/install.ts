import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import {
  contentAt,
  makeFolders,
  missingFolders,
  removeEmptyFolder,
  sha256,
  writeWhole,
} from "./files.js";
import { type InstalledFile, type Manifest, readManifest } from "./manifest.js";
import { MANIFEST_PATH, type ShippedFile } from "./shipped.js";

// Putting files in place, and taking exactly these away again. A file that is not as it was installed is somebody's work, and stays.
//
//   content            not in the list     in the list
//   none               write               write
//   as shipped         note it             keep
//   as once installed  –                   write (a new version)
//   anything else      leave, or --force   leave, or --force

export type FileState = "installed" | "replaced" | "unchanged" | "removed" | "left" | "gone";

export interface FileReport {
  readonly path: string;
  readonly state: FileState;
}

export interface Terms {
  /** Absolute; "/" is the host itself. */
  readonly prefix: string;
  /** Nothing is written; the report is what would be. */
  readonly dryRun: boolean;
  /** Files that somebody changed, too. */
  readonly force: boolean;
}

export function install(shipped: readonly ShippedFile[], terms: Terms): FileReport[] {
  const before = readManifest(terms.prefix);
  const reports = shipped.map((file) => judge(file, before, terms));
  const obsolete = before.files.filter(({ path }) => !shipped.some((file) => file.path === path));
  const dropped = obsolete.map((file) => judgeRemoval(file, terms));
  if (terms.dryRun) return [...reports, ...dropped];

  mkdirSync(terms.prefix, { recursive: true });
  const left = new Set([...reports, ...dropped].filter(isLeft).map(({ path }) => path));
  const wanted = shipped.filter(({ path }) => !left.has(path));
  const folders = new Set(before.folders);
  for (const path of [MANIFEST_PATH, ...wanted.map((file) => file.path)])
    for (const folder of missingFolders(terms.prefix, path)) folders.add(folder);
  // First what may be there, also when this is cut short; at the end what is.
  const known = (path: string): readonly string[] =>
    before.files.find((file) => file.path === path)?.sha256 ?? [];
  const during = wanted.map(({ path, text }) => ({ path, sha256: [sha256(text), ...known(path)] }));
  const kept = before.files.filter(({ path }) => left.has(path));
  const going = obsolete.filter(({ path }) => !left.has(path));
  writeManifest(terms.prefix, [...during, ...kept, ...going], folders);
  for (const { path, text } of wanted) {
    const to = join(terms.prefix, path);
    makeFolders(terms.prefix, path);
    if (contentAt(to) !== sha256(text)) writeWhole(to, text);
  }
  for (const { path } of going) rmSync(join(terms.prefix, path), { force: true });
  const after = wanted.map(({ path, text }) => ({ path, sha256: [sha256(text)] }));
  writeManifest(terms.prefix, [...after, ...kept], folders);
  return [...reports, ...dropped];
}

function judge({ path, text }: ShippedFile, before: Manifest, terms: Terms): FileReport {
  const found = contentAt(join(terms.prefix, path));
  if (found === undefined) return { path, state: "installed" };
  if (found === sha256(text)) return { path, state: "unchanged" };
  const isOurs = before.files.some((file) => file.path === path && file.sha256.includes(found));
  return { path, state: isOurs || mayGo(found, terms) ? "replaced" : "left" };
}

function judgeRemoval({ path, sha256: hashes }: InstalledFile, terms: Terms): FileReport {
  const found = contentAt(join(terms.prefix, path));
  if (found === undefined) return { path, state: "gone" };
  return { path, state: hashes.includes(found) || mayGo(found, terms) ? "removed" : "left" };
}

/** A folder where a file should be holds who knows what: nobody who says --force means that. */
const mayGo = (found: string, { force }: Terms): boolean => force && found !== "folder";

export const isLeft = ({ state }: FileReport): boolean => state === "left";

function writeManifest(
  prefix: string,
  files: readonly InstalledFile[],
  folders: Iterable<string>,
): void {
  const manifest: Manifest = { version: 1, files, folders: [...folders] };
  makeFolders(prefix, MANIFEST_PATH);
  writeWhole(join(prefix, MANIFEST_PATH), `${JSON.stringify(manifest, null, 2)}\n`);
}

/** What is left stays in the list, so that it can be taken away later; without such files nothing stays, the list included. */
export function uninstall(terms: Terms): FileReport[] {
  const before = readManifest(terms.prefix);
  const reports = before.files.map((file) => judgeRemoval(file, terms));
  if (terms.dryRun || before.files.length === 0) return reports;
  for (const { path, state } of reports)
    if (state === "removed") rmSync(join(terms.prefix, path), { force: true });
  const left = new Set(reports.filter(isLeft).map(({ path }) => path));
  if (left.size === 0) rmSync(join(terms.prefix, MANIFEST_PATH), { force: true });
  const stay: string[] = [];
  for (const folder of [...before.folders].reverse())
    if (!removeEmptyFolder(join(terms.prefix, folder))) stay.unshift(folder);
  if (left.size > 0)
    writeManifest(
      terms.prefix,
      before.files.filter(({ path }) => left.has(path)),
      stay,
    );
  return reports;
}
