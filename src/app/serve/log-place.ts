import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { isMemoryFolder } from "../../host/log-file.js";
import { type Env, runtimeFolder, runtimeName } from "../control/paths.js";

// Where a volume's write log is: as told, or where one is already, or in the first folder of memory that has room. Both a server and `trivet log dump` look here.

export const LOG_ENDING = ".log";

export interface WriteLogSetting {
  /** In order of preference. None: the volume goes without. */
  readonly paths: readonly string[];
  readonly isDefault: boolean;
  /** When another server of the volume has it, the volume goes without, as the one that has it is about to be superseded. */
  readonly mayBeTaken?: boolean;
  /** Why there is none although nobody said so. */
  readonly problem?: string;
}

export function readWriteLog(text: string | undefined, env: Env, volume: string): WriteLogSetting {
  if (text === "none") return { paths: [], isDefault: false };
  if (text !== undefined) return { paths: [text], isDefault: false };
  const paths = defaultLogPaths(env, volume);
  const there = paths.filter((path) => existsSync(path));
  const fit = paths.filter((path) => isMemoryFolder(dirname(path)));
  if (there.length > 0) return { paths: there.slice(0, 1), isDefault: true };
  if (fit.length > 0) return { paths: fit, isDefault: true };
  return {
    paths: [],
    isDefault: true,
    problem: `neither ${paths.map(dirname).join(" nor ")} is memory`,
  };
}

/** The runtime folder, which systemd keeps in memory; else shared memory, which every Linux has. */
export const defaultLogPaths = (env: Env, volume: string): readonly string[] =>
  [runtimeFolder(env), `/dev/shm/trivet-${process.getuid?.() ?? 0}`].map((folder) =>
    join(folder, runtimeName(volume, LOG_ENDING)),
  );
