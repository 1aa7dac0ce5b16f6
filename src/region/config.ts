import * as v from "valibot";
import { Fault } from "../base/fault.js";
import { parseUuid } from "../base/ids.js";
import type { RegionDefinition } from "../crucible/region-definition.js";
import { DATABASE_VERSION } from "../crucible/region-math.js";
import { checkGeometry } from "./geometry.js";

export { DATABASE_VERSION };

// region.json: the description of a region, and the body of the repair interface's region-info.

/** Exactly the original's bytes: keys in this order, two spaces, one newline at the end. */
export function renderRegionConfig(region: RegionDefinition): string {
  return `${JSON.stringify(regionConfigObject(region), null, 2)}\n`;
}

/** The same as an object, for HTTP answers. */
export function regionConfigObject(region: RegionDefinition): object {
  return {
    block_size: region.blockSize,
    extent_size: { value: region.extentSize, shift: region.shift },
    extent_count: region.extentCount,
    uuid: region.uuid,
    encrypted: region.encrypted,
    database_read_version: region.databaseReadVersion,
    database_write_version: region.databaseWriteVersion,
  };
}

const natural = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const schema = v.object({
  block_size: natural,
  extent_size: v.object({ value: natural, shift: natural }),
  extent_count: natural,
  uuid: v.string(),
  encrypted: v.boolean(),
  database_read_version: natural,
  database_write_version: natural,
});

/** Throws a Fault that names `where` (a path or an address), the key, and what was expected. Unknown keys are ignored. */
export function parseRegionConfig(text: string, where: string): RegionDefinition {
  const refuse = (what: string): never => {
    throw new Fault("TRIVET_E_REGION_CONFIG", `${where}: ${what}`);
  };
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    return refuse(`not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  const parsed = v.safeParse(schema, json);
  if (!parsed.success) {
    const issue = parsed.issues[0];
    const key = v.getDotPath(issue) ?? "the whole";
    return refuse(`${key} is ${issue.received}, expected ${issue.expected ?? "another value"}`);
  }
  const config = parsed.output;
  const uuid = parseUuid(config.uuid);
  if (uuid === undefined)
    return refuse(`uuid is ${JSON.stringify(config.uuid.slice(0, 60))}, expected a UUID`);
  for (const key of ["database_read_version", "database_write_version"] as const)
    if (config[key] !== DATABASE_VERSION)
      refuse(`${key} is ${config[key]}, expected ${DATABASE_VERSION}`);
  if (config.extent_count === 0)
    refuse("extent_count is 0, expected at least 1: its creation was not finished");
  const region: RegionDefinition = {
    blockSize: config.block_size,
    extentSize: config.extent_size.value,
    shift: config.extent_size.shift,
    extentCount: config.extent_count,
    uuid,
    encrypted: config.encrypted,
    databaseReadVersion: config.database_read_version,
    databaseWriteVersion: config.database_write_version,
  };
  checkGeometry(region, where);
  return region;
}
