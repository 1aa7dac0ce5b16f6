import { createHash } from "node:crypto";
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";

// Small file operations of installing and taking away.

export const sha256 = (text: string | Uint8Array): string =>
  createHash("sha256").update(text).digest("hex");

/** What is at a path: the hash of a plain file, "folder", "other" for a link or the like, undefined for nothing. */
export function contentAt(path: string): string | undefined {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return undefined;
  if (found.isDirectory()) return "folder";
  return found.isFile() ? sha256(readFileSync(path)) : "other";
}

/** As a whole or not at all, readable for everybody. What is at the path is replaced, links and files alike. */
export function writeWhole(path: string, text: string): void {
  const temporary = `${path}.${process.pid}.new`;
  try {
    writeFileSync(temporary, text, { flush: true });
    // Whatever the umask is: services run as other users.
    chmodSync(temporary, 0o644);
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

/** The folders of a path below `prefix` that are not there, the outer ones first. */
export function missingFolders(prefix: string, path: string): string[] {
  const missing: string[] = [];
  for (let folder = dirname(path); folder !== "."; folder = dirname(folder))
    if (lstatSync(join(prefix, folder), { throwIfNoEntry: false }) === undefined)
      missing.unshift(folder);
  return missing;
}

export function makeFolders(prefix: string, path: string): void {
  for (const folder of missingFolders(prefix, path)) {
    mkdirSync(join(prefix, folder));
    chmodSync(join(prefix, folder), 0o755);
  }
}

/** True when the folder is gone; a folder that holds something stays. */
export function removeEmptyFolder(path: string): boolean {
  try {
    rmdirSync(path);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return true;
    if (code === "ENOTEMPTY" || code === "EEXIST" || code === "EBUSY") return false;
    throw error;
  }
}
