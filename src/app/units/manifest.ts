import { readFileSync } from "node:fs";
import { join, normalize } from "node:path";
import * as v from "valibot";
import { Fault } from "../../base/fault.js";
import { MANIFEST_PATH } from "./shipped.js";

// The list of what was installed: paths below the prefix, what their contents may be, and the folders that were made for them. Whoever
// takes things away believes nothing else, so it names only what lies where such files go.

const INSIDE = "usr/local/lib/";

export interface InstalledFile {
  readonly path: string;
  /** Hashes of contents that were written here. More than one only while an installation is under way. */
  readonly sha256: readonly string[];
}
export interface Manifest {
  readonly version: 1;
  readonly files: readonly InstalledFile[];
  /** Made by an installation, the outer ones first. Removed when nothing else is in them. */
  readonly folders: readonly string[];
}
export const EMPTY_MANIFEST: Manifest = { version: 1, files: [], folders: [] };

const isInside = (path: string): boolean => normalize(path) === path && path.startsWith(INSIDE);
/** Folders may also be those above. */
const isFolder = (path: string): boolean =>
  normalize(path) === path && (isInside(path) || INSIDE.startsWith(`${path}/`));
const schema = v.strictObject({
  version: v.literal(1),
  files: v.pipe(
    v.array(
      v.strictObject({
        path: v.pipe(v.string(), v.check(isInside, "a place outside")),
        sha256: v.array(v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/))),
      }),
    ),
    v.maxLength(1000),
  ),
  folders: v.pipe(
    v.array(v.pipe(v.string(), v.check(isFolder, "a place outside"))),
    v.maxLength(1000),
  ),
});

/** Empty when nothing was installed. Throws a Fault when the file is no such list. */
export function readManifest(prefix: string): Manifest {
  const path = join(prefix, MANIFEST_PATH);
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return EMPTY_MANIFEST;
    throw error;
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw damaged(path, "it is no JSON");
  }
  const result = v.safeParse(schema, parsed);
  if (result.success) return result.output;
  const issue = result.issues[0];
  throw damaged(path, `${v.getDotPath(issue) ?? "it"} is ${issue.received}`);
}

const damaged = (path: string, why: string): Fault =>
  new Fault("TRIVET_E_UNITS_MANIFEST", `${path} is no list of installed files: ${why}`);
