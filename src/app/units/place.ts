import { accessSync, constants, realpathSync, type Stats, statSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { Fault } from "../../base/fault.js";

// Whether services, which run as another user and do not see home directories, can start the program from where it lies.

/** What systemd gives services to look in. */
const SERVICE_PATH = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];
/** What the units hide from services (ProtectHome=, PrivateTmp=). */
const HIDDEN = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"];
const NEEDED = [
  "build/bin/trivet",
  "build/native/Release/trivet-attach",
  "build/native/Release/trivet-flusher",
  "dist/src/app/trivet.js",
];

/** Throws a Fault that says what services could not use, and why. */
export function checkPlace(program: string, node: string): void {
  for (const name of NEEDED) checkFile(join(program, name));
  checkFile(node);
}

function checkFile(path: string): void {
  const why = unusable(path);
  if (why !== undefined)
    throw new Fault("TRIVET_E_UNITS_PLACE", `services could not use ${path}: ${why}`);
}

/** Undefined when the user of a service may read the file. Tested is the place that links lead to, too. */
export function unusable(path: string): string | undefined {
  let real: string;
  try {
    real = realpathSync(path);
  } catch {
    return "it is not there";
  }
  for (const one of new Set([path, real])) {
    const hidden = HIDDEN.find((folder) => one.startsWith(`${folder}/`));
    if (hidden !== undefined) return `what is below ${hidden} is hidden from them`;
  }
  if ((modeOf(real) & 0o004) === 0) return "only its owner may read it";
  for (let folder = dirname(real); folder !== "/"; folder = dirname(folder))
    if ((modeOf(folder) & 0o001) === 0) return `others may not enter ${folder}`;
  return undefined;
}
const modeOf = (path: string): number => (statSync(path) as Stats).mode;

/** The `node` that a service finds without being told; undefined when there is none. */
export function nodeOfServices(folders: readonly string[] = SERVICE_PATH): string | undefined {
  for (const folder of folders) {
    const path = join(folder, "node");
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // The next one.
    }
  }
  return undefined;
}

/** What to write into the units about Node: nothing, when services find the one that runs now. */
export function nodeForUnits(running: string, found = nodeOfServices()): string | undefined {
  if (found === undefined) return running;
  return realpathSync(found) === realpathSync(running) ? undefined : running;
}

/** Where a program is, by PATH and the folders of administrators; undefined: nowhere. */
export function findProgram(name: string, path = process.env.PATH ?? ""): string | undefined {
  for (const folder of [...path.split(delimiter), "/usr/sbin", "/sbin"]) {
    const candidate = join(folder === "" ? "." : folder, name);
    try {
      accessSync(candidate, constants.X_OK);
      return candidate;
    } catch {
      // The next one.
    }
  }
  return undefined;
}
