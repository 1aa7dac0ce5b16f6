import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A new empty directory; remove it with `removeFolder`. */
export const makeFolder = (where = tmpdir()): string => mkdtempSync(join(where, "trivet-test-"));

/** The same in memory, as a runtime directory is. */
export function makeRuntimeFolder(): string {
  try {
    return mkdtempSync("/dev/shm/trivet-test-");
  } catch {
    return makeFolder();
  }
}

export const removeFolder = (path: string): void => rmSync(path, { recursive: true, force: true });

export const REGIONS = new URL("../../../test/golden/regions/", import.meta.url);

/** Unpacks a recorded region directory below `into` and answers its path. */
export function unpackRegion(name: string, index: number, into: string): string {
  const archive = new URL(`${name}/region${index}.tar.gz`, REGIONS).pathname;
  execFileSync("tar", ["xzf", archive, "--no-same-owner", "-C", into]);
  return join(into, `region${index}`);
}
