import {
  closeSync,
  openSync,
  readSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import t from "tap";
import { readDefinition } from "../../../../src/app/region/directory.js";
import { openExtent } from "../../../../src/app/region/extent-file.js";
import { verifyRegion } from "../../../../src/app/region/verify.js";
import { extentLayout, extentPath } from "../../../../src/region/layout.js";
import { FakeArena } from "../../../kit/arena.js";
import { makeFolder, removeFolder, unpackRegion } from "../../../kit/folders.js";
import { FakeHasher } from "../../../kit/hasher.js";

const quiet = () => ({ advance() {}, done() {} });

async function verifyAfter(damage: (directory: string) => void, name = "activate-io-512") {
  const folder = makeFolder();
  try {
    const arena = new FakeArena();
    const workspace = { arena, hasher: await FakeHasher.over(arena) };
    const directory = unpackRegion(name, 0, folder);
    const region = readDefinition(directory);
    damage(directory);
    return await verifyRegion(directory, region, workspace, 3, quiet);
  } finally {
    removeFolder(folder);
  }
}

function flip(path: string, at: number): void {
  const file = openSync(path, "r+");
  const byte = Buffer.alloc(1);
  readSync(file, byte, 0, 1, at);
  byte[0]! ^= 0x10;
  writeSync(file, byte, 0, 1, at);
  closeSync(file);
}

const file = (directory: string, extent: number): string => join(directory, extentPath(extent));
const layout = extentLayout({ blockSize: 512, extentSize: 20 });

t.test("every kind of damage is found, in the right extent and block", async (t) => {
  t.same(await verifyAfter(() => {}), []);
  const data = await verifyAfter((d) => flip(file(d, 2), 512 * 7 + 100));
  t.equal(data.length, 1);
  t.equal(data[0]!.extent, 2);
  t.equal(data[0]!.file, "00/000/002");
  t.equal(data[0]!.block, 7);
  t.equal(data[0]!.code, "TRIVET_E_REGION_VERIFY");
  const never = await verifyAfter((d) => flip(file(d, 6), 512 * 3));
  t.equal(never[0]!.extent, 6, "data where nothing was ever written");
  t.equal(never[0]!.block, 3);
  const size = await verifyAfter((d) => truncateSync(file(d, 1), layout.fileBytes - 1));
  t.equal(size[0]!.code, "TRIVET_E_EXTENT_SIZE");
  t.equal(size[0]!.block, -1);
  const missing = await verifyAfter((d) => rmSync(file(d, 4)));
  t.equal(missing[0]!.code, "TRIVET_E_EXTENT_MISSING");
  const metadata = await verifyAfter((d) => flip(file(d, 5), layout.metadataAt + 17));
  t.equal(metadata[0]!.code, "TRIVET_E_EXTENT_METADATA");
  const old = await verifyAfter((d) => writeFileSync(`${file(d, 3)}.db`, ""));
  t.equal(old[0]!.code, "TRIVET_E_REGION_SQLITE");
  const several = await verifyAfter((d) => {
    flip(file(d, 3), 0);
    flip(file(d, 2), 0);
    flip(file(d, 7), 0);
  });
  t.same(
    several.map((bad) => bad.extent),
    [2, 3, 7],
    "in order",
  );
});

t.test("a dirty extent with a block that fits neither context is lost, not guessed", async (t) => {
  const bad = await verifyAfter((directory) => {
    // Both slots of a block that was written twice; the data then fits neither.
    for (let block = 0; block < 20; block++) flip(file(directory, 0), 512 * block);
  }, "killed-dirty");
  t.equal(bad.length, 1);
  t.equal(bad[0]!.extent, 0);
  t.ok(/EXTENT_CONTEXT|REGION_VERIFY/.test(bad[0]!.code));
});

t.test("a torn metadata record names the extent and what was expected", async (t) => {
  const folder = makeFolder();
  const directory = unpackRegion("activate-io-512", 0, folder);
  const path = file(directory, 5);
  const handle = openSync(path, "r+");
  writeSync(handle, Buffer.alloc(20, 0xff), 0, 20, layout.metadataAt);
  closeSync(handle);
  await t.rejects(openExtent(directory, layout, 5), {
    code: "TRIVET_E_EXTENT_METADATA",
    message: /extent 5: .*expected 2/,
  });
  removeFolder(folder);
});
