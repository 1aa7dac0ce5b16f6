import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync } from "node:fs";
import { open, rename } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { Fault } from "../../base/fault.js";
import { type RegionDefinition, regionBytes } from "../../crucible/region-definition.js";
import { renderRegionConfig } from "../../region/config.js";
import { checkGeometry } from "../../region/geometry.js";
import {
  EXTENTS_PER_DIRECTORY,
  extentDirectory,
  extentLayout,
  extentPath,
  REGION_CONFIG_NAME,
} from "../../region/layout.js";
import { freshTail } from "../../region/metadata.js";
import { syncDirectory, writeAll } from "../files.js";
import { configPath, readDefinition } from "./directory.js";
import { inParallel } from "./parallel.js";

const OPEN_AT_ONCE = 32;
/** Up to here each file is synced by itself; beyond, one sync of the file system is quicker. */
const SYNC_EACH_MAX = 64;

/**
 * Makes a region directory with sparse extent files. `region.json` comes last: a directory whose
 * making was cut short is no region, rather than half of one.
 */
export async function createRegion(directory: string, region: RegionDefinition): Promise<void> {
  await createExtents(directory, region);
  await writeDefinition(directory, region);
}

/** Everything but region.json. Refuses a directory that holds anything. */
export async function createExtents(directory: string, region: RegionDefinition): Promise<void> {
  checkGeometry(region, directory);
  refuseOccupied(directory, region);
  const made = mkdirSync(directory, { recursive: true });
  const layout = extentLayout(region);
  const tail = freshTail(layout.bitmapBytes);
  for (let first = 0; first < region.extentCount; first += EXTENTS_PER_DIRECTORY) {
    mkdirSync(join(directory, extentDirectory(first)), { recursive: true });
  }
  const syncEach = region.extentCount <= SYNC_EACH_MAX;
  await inParallel(region.extentCount, OPEN_AT_ONCE, async (extent) => {
    const file = await open(join(directory, extentPath(extent)), "wx", 0o644);
    try {
      // Writing the end makes the file as long as it has to be; what lies before is a hole.
      await writeAll(file, tail, layout.bitmapAt);
      if (syncEach) await file.sync();
    } finally {
      await file.close();
    }
  });
  if (!syncEach) await syncFileSystem(directory);
  await syncDirectories(directory, region);
  // Of the parents too, as far up as they are new.
  let child = resolve(directory);
  const last = made === undefined ? child : resolve(made);
  for (;;) {
    const parent = dirname(child);
    await syncDirectory(parent);
    if (child === last || parent === child) break;
    child = parent;
  }
}

function refuseOccupied(directory: string, region: RegionDefinition): void {
  if (existsSync(configPath(directory))) {
    const old = readDefinition(directory);
    if (regionBytes(old) !== regionBytes(region)) {
      throw new Fault(
        "TRIVET_E_REGION_RESIZE",
        `${directory} holds a region of ${regionBytes(old)} bytes, not ${regionBytes(region)}; regions neither grow nor shrink`,
      );
    }
    throw new Fault("TRIVET_E_REGION_EXISTS", `${directory} holds the region ${old.uuid} already`);
  }
  if (existsSync(directory) && readdirSync(directory).some((name) => name !== "lost+found")) {
    throw new Fault("TRIVET_E_REGION_EXISTS", `${directory} is not empty`);
  }
}

/** Through a temporary file and rename, so that it is there as a whole or not at all. */
export async function writeDefinition(directory: string, region: RegionDefinition): Promise<void> {
  const temporary = join(directory, `.${REGION_CONFIG_NAME}.${process.pid}`);
  const file = await open(temporary, "wx", 0o600);
  try {
    await file.writeFile(renderRegionConfig(region));
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, configPath(directory));
  await syncDirectory(directory);
}

async function syncDirectories(directory: string, region: RegionDefinition): Promise<void> {
  const paths = new Set<string>();
  for (let first = 0; first < region.extentCount; first += EXTENTS_PER_DIRECTORY) {
    const inner = extentDirectory(first);
    paths.add(join(directory, inner));
    paths.add(join(directory, dirname(inner)));
  }
  paths.add(directory);
  for (const path of paths) await syncDirectory(path);
}

/** syncfs(2), which Node lacks, by the program that every system has. */
async function syncFileSystem(path: string): Promise<void> {
  const result = spawnSync("sync", ["-f", path], { stdio: ["ignore", "ignore", "pipe"] });
  if (result.status === 0) return;
  const why = result.error?.message ?? result.stderr.toString().trim();
  throw new Fault("TRIVET_E_FILE", `${path}: its file system could not be synced (${why})`);
}
