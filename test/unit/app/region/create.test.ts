import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import t from "tap";
import { createExtents, createRegion } from "../../../../src/app/region/create.js";
import { IMPORTING_NAME, readDefinition } from "../../../../src/app/region/directory.js";
import { exportRegion, openExportTarget } from "../../../../src/app/region/export.js";
import { importImage } from "../../../../src/app/region/import.js";
import { readExtentStates } from "../../../../src/app/region/info.js";
import { verifyRegion } from "../../../../src/app/region/verify.js";
import type { Uuid } from "../../../../src/base/ids.js";
import type { RegionDefinition } from "../../../../src/crucible/region-definition.js";
import { chooseGeometry } from "../../../../src/region/geometry.js";
import { FakeArena } from "../../../kit/arena.js";
import { makeFolder, removeFolder, unpackRegion } from "../../../kit/folders.js";
import { FakeHasher } from "../../../kit/hasher.js";
import { prng } from "../../../kit/world.js";

const quiet = () => ({ advance() {}, done() {} });

const region = (geometry: Partial<RegionDefinition> = {}): RegionDefinition => ({
  blockSize: 512,
  shift: 9,
  extentSize: 20,
  extentCount: 8,
  uuid: "12345678-1111-2222-3333-123456789999" as Uuid,
  encrypted: false,
  databaseReadVersion: 1,
  databaseWriteVersion: 1,
  ...geometry,
});

t.test("a new region is the original's, byte for byte", async (t) => {
  const folder = makeFolder();
  const theirs = unpackRegion("fresh-512x20x8", 0, folder);
  const ours = join(folder, "deeply/nested/ours");
  await createRegion(ours, readDefinition(theirs));
  const output = execFileSync("diff", ["-r", theirs, ours], { encoding: "utf8" });
  t.equal(output, "");
  t.equal(statSync(join(ours, "region.json")).mode & 0o777, 0o600);
  t.same(readdirSync(ours).sort(), ["00", "region.json"], "nothing temporary is left");
  removeFolder(folder);
});

t.test("100 GiB take well under a second and no space", async (t) => {
  const folder = makeFolder();
  const started = performance.now();
  const directory = join(folder, "big");
  await createRegion(directory, region({ ...chooseGeometry(100 * 2 ** 30, 4096) }));
  const elapsed = performance.now() - started;
  // Generous for a busy machine; it takes a fifth of a second.
  t.ok(elapsed < 5000, `${elapsed} ms`);
  const states = await readExtentStates(directory, readDefinition(directory));
  const allocated = states.reduce((sum, state) => sum + state.allocatedBytes, 0);
  t.ok(allocated < 32 * 2 ** 20, `${allocated} bytes`);
  removeFolder(folder);
});

t.test("what is there is never touched", async (t) => {
  const folder = makeFolder();
  const directory = join(folder, "r");
  await createRegion(directory, region());
  await t.rejects(createRegion(directory, region()), { code: "TRIVET_E_REGION_EXISTS" });
  await t.rejects(createRegion(directory, region({ extentCount: 9 })), {
    code: "TRIVET_E_REGION_RESIZE",
  });
  const occupied = join(folder, "photos");
  mkdirSync(occupied);
  writeFileSync(join(occupied, "cat.jpg"), "meow");
  await t.rejects(createRegion(occupied, region()), { code: "TRIVET_E_REGION_EXISTS" });
  t.same(readdirSync(occupied), ["cat.jpg"]);
  const cut = join(folder, "cut");
  await createExtents(cut, region());
  t.throws(() => readDefinition(cut), { code: "TRIVET_E_REGION_MISSING" });
  await t.rejects(createRegion(join(folder, "odd"), region({ blockSize: 1536 })), {
    code: "TRIVET_E_REGION_GEOMETRY",
  });
  t.throws(() => readDefinition(join(folder, "nowhere")), { code: "TRIVET_E_REGION_MISSING" });
  removeFolder(folder);
});

t.test("an image goes in and comes out again, and verifies", async (t) => {
  const folder = makeFolder();
  const arena = new FakeArena();
  const workspace = { arena, hasher: await FakeHasher.over(arena) };
  const chance = prng(11);
  for (const imageBytes of [1, 512, 20 * 512, 20 * 512 * 3 + 700, 20 * 512 * 8]) {
    // Sparse: most blocks are zeros.
    const image = Buffer.alloc(imageBytes);
    for (let at = 0; at < imageBytes; at += 512) {
      if (chance() < 0.6) continue;
      for (let k = at; k < Math.min(at + 512, imageBytes); k++) image[k] = chance() * 256;
    }
    const path = join(folder, `image-${imageBytes}`);
    writeFileSync(path, image);
    const directory = join(folder, `region-${imageBytes}`);
    const definition = region();
    await createRegion(directory, definition);
    const file = await open(path, "r");
    await importImage(directory, definition, file, imageBytes, workspace, quiet);
    await file.close();
    t.same(await verifyRegion(directory, definition, workspace, 2, quiet), []);
    const out = join(folder, `out-${imageBytes}`);
    const target = await openExportTarget(out, false);
    await exportRegion(directory, definition, { skip: 0, count: 160 }, target, workspace, quiet);
    await target.close();
    const expected = Buffer.alloc(160 * 512);
    image.copy(expected);
    t.ok(readFileSync(out).equals(expected), `${imageBytes} bytes`);
    t.equal(existsSync(join(directory, IMPORTING_NAME)), false);
  }
  t.equal(arena.allocations, 0);
  removeFolder(folder);
});

t.test(
  "a block of zeros stays unwritten, a written one has the context the original gives it",
  async (t) => {
    const folder = makeFolder();
    const arena = new FakeArena();
    const workspace = { arena, hasher: await FakeHasher.over(arena) };
    const definition = region();
    const directory = join(folder, "r");
    await createRegion(directory, definition);
    const image = Buffer.alloc(512 * 3);
    image.fill(1, 512, 1024);
    const path = join(folder, "image");
    writeFileSync(path, image);
    const file = await open(path, "r");
    const written = await importImage(directory, definition, file, image.length, workspace, quiet);
    await file.close();
    t.equal(written, 1);
    const extent = readFileSync(join(directory, "00/000/000"));
    const slotsB = 512 * 20 + 48 * 20;
    t.same(extent.subarray(slotsB, slotsB + 48), Buffer.alloc(48));
    const hash = "bf9baf9e7d2dfc78";
    const slot = extent.subarray(slotsB + 48, slotsB + 96).toString("hex");
    t.equal(slot, `01${hash}00${hash}0000${"00".repeat(28)}`);
    const tail = extent.subarray(512 * 20 + 96 * 20).toString("hex");
    t.equal(tail, `020000${"00".repeat(9)}${"01"}${"00".repeat(7)}02000000${"00".repeat(11)}`);
    const states = await readExtentStates(directory, definition);
    t.same(
      states.map((state) => state.flushNumber),
      [1, 0, 0, 0, 0, 0, 0, 0],
    );
    removeFolder(folder);
  },
);

t.test("imports that would destroy or not fit are refused", async (t) => {
  const folder = makeFolder();
  const arena = new FakeArena();
  const workspace = { arena, hasher: await FakeHasher.over(arena) };
  const used = unpackRegion("activate-io-512", 0, folder);
  const path = join(folder, "image");
  writeFileSync(path, Buffer.alloc(512, 7));
  const file = await open(path, "r");
  const attempt = (directory: string, definition: RegionDefinition, bytes: number) =>
    importImage(directory, definition, file, bytes, workspace, quiet);
  await t.rejects(attempt(used, readDefinition(used), 512), { code: "TRIVET_E_REGION_EXISTS" });
  const fresh = join(folder, "fresh");
  await createRegion(fresh, region());
  await t.rejects(attempt(fresh, region(), 512 * 161), { code: "TRIVET_E_REGION_RESIZE" });
  const sealed = join(folder, "sealed");
  await createRegion(sealed, region({ encrypted: true }));
  await t.rejects(attempt(sealed, region({ encrypted: true }), 512), { code: "TRIVET_E_USAGE" });
  // The image turns out shorter than it was said to be: the region cannot be opened afterwards.
  await t.rejects(attempt(fresh, region(), 5 * 512), { code: "TRIVET_E_IO" });
  t.throws(() => readDefinition(fresh), {
    code: "TRIVET_E_REGION_MISSING",
    message: /import .* not finished/,
  });
  await file.close();
  t.equal(arena.allocations, 0);
  removeFolder(folder);
});
