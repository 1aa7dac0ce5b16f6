import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Fault } from "../../base/fault.js";
import type { RegionDefinition } from "../../crucible/region-definition.js";
import { parseRegionConfig } from "../../region/config.js";
import { REGION_CONFIG_NAME } from "../../region/layout.js";

/** Name of region.json while an image is imported: a region half filled must not be opened. */
export const IMPORTING_NAME = `${REGION_CONFIG_NAME}.importing`;

export const configPath = (directory: string): string => join(directory, REGION_CONFIG_NAME);

/** Reads and checks region.json. Throws TRIVET_E_REGION_MISSING, TRIVET_E_REGION_CONFIG or TRIVET_E_REGION_GEOMETRY. */
export function readDefinition(directory: string): RegionDefinition {
  const path = configPath(directory);
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code !== "ENOENT" && code !== "ENOTDIR") throw error;
    if (!existsSync(directory)) {
      throw new Fault("TRIVET_E_REGION_MISSING", `there is no directory ${directory}`);
    }
    const why = existsSync(join(directory, IMPORTING_NAME))
      ? "an import into it was not finished: remove it and import again"
      : `it has no ${REGION_CONFIG_NAME}`;
    throw new Fault("TRIVET_E_REGION_MISSING", `${directory} is no region: ${why}`);
  }
  return parseRegionConfig(text, path);
}

/** True when there is a region, or one whose import was not finished. */
export const isRegion = (directory: string): boolean =>
  existsSync(configPath(directory)) || existsSync(join(directory, IMPORTING_NAME));
