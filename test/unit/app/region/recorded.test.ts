import { readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import t from "tap";
import { readDefinition } from "../../../../src/app/region/directory.js";
import { dumpExtents } from "../../../../src/app/region/dump.js";
import { exportRegion, openExportTarget } from "../../../../src/app/region/export.js";
import { readExtentStates, summarize } from "../../../../src/app/region/info.js";
import { verifyRegion } from "../../../../src/app/region/verify.js";
import { FakeArena } from "../../../kit/arena.js";
import { makeFolder, REGIONS, removeFolder, unpackRegion } from "../../../kit/folders.js";
import { FakeHasher } from "../../../kit/hasher.js";

// What the original programs say about the region directories that they left behind.

const quiet = () => ({ advance() {}, done() {} });

for (const name of readdirSync(REGIONS).sort()) {
  t.test(`${name}: export, verify and dump as the original`, async (t) => {
    const folder = makeFolder();
    const arena = new FakeArena();
    const workspace = { arena, hasher: await FakeHasher.over(arena) };
    for (let i = 0; i < 3; i++) {
      const directory = unpackRegion(name, i, folder);
      const recorded = JSON.parse(
        readFileSync(new URL(`${name}/region${i}.json`, REGIONS), "utf8"),
      );
      const region = readDefinition(directory);

      const bad = await verifyRegion(directory, region, workspace, 4, quiet);
      t.same(bad, []);
      t.equal(recorded.verify_status, 0);

      const states = await readExtentStates(directory, region);
      const style = { color: false, onlyDifferences: false };
      const { lines, differs } = dumpExtents(region, [states], style);
      t.same(
        lines.map((line) => line.trimEnd()),
        recorded.dump,
      );
      t.equal(differs, false);
      const marked = recorded.dump.filter((line: string) => line.endsWith("T")).length;
      t.equal(summarize(region, states).dirtyExtents, marked);

      const path = join(folder, `image${i}`);
      const target = await openExportTarget(path, false);
      const all = { skip: 0, count: region.extentCount * region.extentSize };
      await exportRegion(directory, region, all, target, workspace, quiet);
      await target.close();
      const image = gunzipSync(readFileSync(new URL(`${name}/region${i}.img.gz`, REGIONS)));
      t.ok(readFileSync(path).equals(image), `region ${i} exports to the recorded image`);
      rmSync(path);
    }
    t.equal(arena.allocations, 0, "all working memory was given back");
    removeFolder(folder);
  });
}

t.test("a part is exported exactly, over the edges of extents", async (t) => {
  const folder = makeFolder();
  const arena = new FakeArena();
  const workspace = { arena, hasher: await FakeHasher.over(arena) };
  const directory = unpackRegion("activate-io-512", 0, folder);
  const region = readDefinition(directory);
  const image = gunzipSync(readFileSync(new URL("activate-io-512/region0.img.gz", REGIONS)));
  for (const [skip, count] of [
    [0, 1],
    [19, 2],
    [33, 50],
    [159, 10],
    [200, 5],
  ] as const) {
    const path = join(folder, `part-${skip}`);
    const target = await openExportTarget(path, false);
    await exportRegion(directory, region, { skip, count }, target, workspace, quiet);
    await target.close();
    t.same(readFileSync(path), image.subarray(skip * 512, (skip + count) * 512));
  }
  removeFolder(folder);
});

t.test("zeros become holes in what is exported", async (t) => {
  const folder = makeFolder();
  const arena = new FakeArena();
  const workspace = { arena, hasher: await FakeHasher.over(arena) };
  const directory = unpackRegion("encrypted", 0, folder);
  const region = readDefinition(directory);
  const path = join(folder, "image");
  const target = await openExportTarget(path, false);
  const all = { skip: 0, count: region.extentCount * region.extentSize };
  await exportRegion(directory, region, all, target, workspace, quiet);
  await target.close();
  const { size, blocks } = statSync(path);
  t.equal(size, 4096 * 64);
  t.ok(blocks * 512 < size, `${blocks * 512} bytes are allocated`);
  await t.rejects(openExportTarget(path, false), { code: "EEXIST" });
  removeFolder(folder);
});
