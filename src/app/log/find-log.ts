import { existsSync, readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { Fault } from "../../base/fault.js";
import { type Env, runtimeName } from "../control/paths.js";
import { readConfigFile } from "../serve/config-file.js";
import { defaultLogPaths, LOG_ENDING } from "../serve/log-place.js";
import { configPathOf } from "../serve/settings.js";

const SHARED_MEMORY = "/dev/shm";
const SYSTEM_FOLDER = "/run/trivet";

/** The log that an operand means: a path, or the one of a volume, wherever a server would have put it. Throws TRIVET_E_LOG_MISSING. */
export function findLog(operand: string, env: Env): string {
  const isConfig = operand.endsWith(".toml");
  const isPath = operand.includes("/") || (!isConfig && existsSync(operand));
  if (isPath && !isConfig) return operand;
  const volume = isConfig ? basename(operand, ".toml") : operand;
  const configured = configuredPath(operand);
  if (configured === "none")
    throw new Fault("TRIVET_E_LOG_MISSING", `the file of ${volume} says write-log = "none"`);
  if (configured !== undefined) return configured;
  const name = runtimeName(volume, LOG_ENDING);
  // Ours, and that of the unit.
  const usual = [...defaultLogPaths(env, volume), join(SYSTEM_FOLDER, volume, name)];
  const found = [...usual, ...ofOtherUsers(name)].find((path) => existsSync(path));
  if (found !== undefined) return found;
  throw new Fault(
    "TRIVET_E_LOG_MISSING",
    `there is no write log of ${volume}: looked for ${usual.join(", ")}`,
  );
}

function ofOtherUsers(name: string): string[] {
  try {
    return readdirSync(SHARED_MEMORY)
      .filter((folder) => /^trivet-\d+$/.test(folder))
      .map((folder) => join(SHARED_MEMORY, folder, name));
  } catch {
    return [];
  }
}

/** What the volume's file says, when there is one and we may read it. */
function configuredPath(operand: string): string | undefined {
  try {
    return readConfigFile(configPathOf(operand)).get("write-log")?.texts[0];
  } catch (error) {
    if (operand.endsWith(".toml") && error instanceof Fault) throw error;
    return undefined;
  }
}
