import type { RegionDefinition } from "../../src/crucible/region-definition.js";
import { renderRegionConfig } from "../../src/region/config.js";
import { extentLayout, extentPath } from "../../src/region/layout.js";
import { freshTail } from "../../src/region/metadata.js";
import { FakeDisk } from "./disk.js";

/** Where the region is on the disk. */
export const DIRECTORY = "/r";

/** A disk with a region directory as `create` makes it. */
export function freshDisk(region: RegionDefinition, sectorBytes = 512): FakeDisk {
  const disk = new FakeDisk(sectorBytes);
  disk.put(`${DIRECTORY}/region.json`, Buffer.from(renderRegionConfig(region)));
  const layout = extentLayout(region);
  const file = Buffer.alloc(layout.fileBytes);
  Buffer.from(freshTail(layout.bitmapBytes)).copy(file, layout.bitmapAt);
  for (let extent = 0; extent < region.extentCount; extent++)
    disk.put(`${DIRECTORY}/${extentPath(extent)}`, file);
  return disk;
}
