import { createHash } from "node:crypto";
import { lstatSync, mkdirSync, readdirSync, type Stats } from "node:fs";
import { join } from "node:path";
import { Fault } from "../../base/fault.js";

// Where control sockets are. A server puts its own into the runtime folder that it was given; a command looks into every folder where
// a server that its user may speak to could have put one.

export type Env = Readonly<Record<string, string | undefined>>;

/** Not ".sock", as sockets of NBD often lie in the same folder. */
const ENDING = ".control";
const SYSTEM_FOLDER = "/run/trivet";
/** Paths of sockets are at most 107 bytes. */
const NAME_CHARS_MAX = 40;

/** The runtime folder of a server: as systemd says, or where such things go for this user. */
export function runtimeFolder(env: Env): string {
  const fromSystemd = env.RUNTIME_DIRECTORY?.split(":")[0];
  return fromSystemd ? fromSystemd : userFolder(env);
}
function userFolder(env: Env): string {
  const uid = process.getuid?.() ?? 0;
  if (uid === 0) return SYSTEM_FOLDER;
  if (env.XDG_RUNTIME_DIR) return join(env.XDG_RUNTIME_DIR, "trivet");
  return `/tmp/trivet-${uid}`;
}

/** Makes the folder when it is missing. Throws a Fault when another user could have put something there. */
export function makeRuntimeFolder(folder: string): void {
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  const uid = process.getuid?.() ?? 0;
  const found = lstatSync(folder);
  const isOurs = found.uid === uid || found.uid === 0;
  if (!found.isDirectory() || !isOurs || (found.mode & 0o022 & ~stickyMask(found)) !== 0)
    throw new Fault(
      "TRIVET_E_PERMISSION",
      `${folder} is no folder that only its owner writes to, so nothing is put there`,
    );
}
/** Others may write to a sticky folder, as to /tmp, without touching what is ours. */
const stickyMask = (found: Stats): number => ((found.mode & 0o1000) !== 0 ? 0o022 : 0);

export const controlFileName = (volume: string): string => runtimeName(volume, ENDING);

/** Names of volumes may hold anything; names of files may not, and have to be short. */
export function runtimeName(volume: string, ending: string): string {
  const escaped = encodeURIComponent(volume).replaceAll(/^\./g, "%2E");
  if (escaped.length <= NAME_CHARS_MAX) return `${escaped}${ending}`;
  const hash = createHash("sha256").update(volume).digest("hex").slice(0, 12);
  return `${escaped.slice(0, NAME_CHARS_MAX - 13)}~${hash}${ending}`;
}

export const controlPath = (env: Env, volume: string): string =>
  join(runtimeFolder(env), controlFileName(volume));

/** Every control socket that there is, of one volume or of all; also those of servers that are gone. */
export function findControlSockets(env: Env, volume?: string): readonly string[] {
  const wanted = volume === undefined ? undefined : controlFileName(volume);
  const found = new Set<string>();
  // Whoever names the folder means that one only.
  const folders = env.RUNTIME_DIRECTORY
    ? [runtimeFolder(env)]
    : new Set([userFolder(env), SYSTEM_FOLDER]);
  for (const folder of folders) {
    for (const entry of list(folder)) {
      if (entry.isDirectory()) {
        // A unit's own runtime folder lies one level deeper.
        const inner = join(folder, entry.name);
        for (const one of list(inner))
          if (isWanted(one.name, wanted)) found.add(join(inner, one.name));
      } else if (isWanted(entry.name, wanted)) found.add(join(folder, entry.name));
    }
  }
  return [...found].sort();
}

const isWanted = (name: string, wanted: string | undefined): boolean =>
  wanted === undefined ? name.endsWith(ENDING) : name === wanted;

function list(folder: string) {
  try {
    return readdirSync(folder, { withFileTypes: true });
  } catch {
    // Not there, or not for this user.
    return [];
  }
}
