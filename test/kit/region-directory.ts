import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { RegionDefinition } from "../../src/crucible/region-definition.js";
import { renderRegionConfig } from "../../src/region/config.js";
import { extentLayout, extentPath } from "../../src/region/layout.js";
import { freshTail } from "../../src/region/metadata.js";

/** A directory for one test, gone with it. */
export function scratchDirectory(t: { teardown(run: () => void): void }): string {
  const directory = mkdtempSync(join(tmpdir(), "trivet-test-"));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** A fresh region on the real file system. */
export function makeRegion(directory: string, region: RegionDefinition): void {
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, "region.json"), renderRegionConfig(region));
  const layout = extentLayout(region);
  const file = Buffer.alloc(layout.fileBytes);
  Buffer.from(freshTail(layout.bitmapBytes)).copy(file, layout.bitmapAt);
  for (let extent = 0; extent < region.extentCount; extent++) {
    const path = join(directory, extentPath(extent));
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, file);
  }
}
