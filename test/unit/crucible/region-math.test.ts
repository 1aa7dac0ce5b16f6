import t from "tap";
import type { Uuid } from "../../../src/base/ids.js";
import type { RegionDefinition } from "../../../src/crucible/region-definition.js";
import * as math from "../../../src/crucible/region-math.js";
import { MESSAGE_VERSION, speaksOurs, VERSION_HISTORY } from "../../../src/crucible/version.js";

const REGION: RegionDefinition = {
  blockSize: 512,
  extentSize: 20,
  shift: 9,
  extentCount: 8,
  uuid: "12345678-1111-2222-3333-000000000000" as Uuid,
  encrypted: false,
  databaseReadVersion: 1,
  databaseWriteVersion: 1,
};

t.test("blocks and extents", async (t) => {
  t.equal(math.regionBlocks(REGION), 160, "blocks in the region");
  t.equal(math.extentBytes(REGION), 10_240, "bytes in an extent");
  for (const [block, extent, offset] of [
    [0, 0, 0],
    [19, 0, 19],
    [20, 1, 0],
    [159, 7, 19],
  ] as const) {
    t.equal(math.extentOf(REGION, block), extent, `block ${block} is in extent ${extent}`);
    t.equal(math.offsetInExtent(REGION, block), offset, `at ${offset}`);
  }
  t.equal(math.firstBlockOf(REGION, 7), 140, "first block of the last extent");
  for (const wrong of [-1, 160])
    t.throws(() => math.extentOf(REGION, wrong), { name: "InvariantError" }, `${wrong}`);
  t.throws(() => math.firstBlockOf(REGION, 8), { name: "InvariantError" }, "no ninth extent");
});

t.test("a walk over extents covers a range once", async (t) => {
  const pieces: number[][] = [];
  for (let start = 15, left = 50; left > 0; ) {
    const count = math.blocksInExtent(REGION, start, left);
    pieces.push([math.extentOf(REGION, start), math.offsetInExtent(REGION, start), count]);
    start += count;
    left -= count;
  }
  t.same(pieces, [
    [0, 15, 5],
    [1, 0, 20],
    [2, 0, 20],
    [3, 0, 5],
  ]);
});

t.test("ranges outside the region are named, also absurd ones", async (t) => {
  t.equal(math.rangeProblem(REGION, 0, 160), null, "all of it");
  t.equal(math.rangeProblem(REGION, 159, 1), null, "the last block");
  t.equal(math.rangeProblem(REGION, 159, 2), "blocks 159 to 160 of a region of 160");
  t.equal(math.rangeProblem(REGION, 0, 0), "an empty range of blocks");
  const huge = Number.MAX_SAFE_INTEGER;
  for (const [start, count] of [
    [160, 1],
    [huge, 1],
    [1, huge],
    [huge, huge],
  ] as const)
    t.equal(typeof math.rangeProblem(REGION, start, count), "string", `${start}, ${count}`);
});

t.test("definitions that nothing can be computed with are named", async (t) => {
  t.equal(math.definitionProblem(REGION), null, "a sound one");
  const largest = { blockSize: 32_768, shift: 15, extentSize: 16_384, extentCount: 2 ** 22 };
  t.equal(math.definitionProblem({ ...REGION, ...largest }), null, "the largest extents");
  for (const change of [
    { blockSize: 256, shift: 8 },
    { blockSize: 65_536, shift: 16 },
    { blockSize: 1024 },
    { blockSize: 513 },
    { shift: 10 },
    { extentSize: 0 },
    { extentSize: 2 ** 20 + 1 },
    { extentCount: 0 },
    { ...largest, extentCount: 2 ** 32 - 1 },
    { databaseReadVersion: 2 },
    { databaseWriteVersion: 0 },
  ])
    t.equal(
      typeof math.definitionProblem({ ...REGION, ...change }),
      "string",
      JSON.stringify(change),
    );
});

t.test("replicas of one volume agree in everything but their uuid", async (t) => {
  const uuid = "12345678-1111-2222-3333-000000000001" as Uuid;
  t.equal(math.sameGeometry(REGION, { ...REGION, uuid }), true, "another uuid");
  for (const change of [
    { blockSize: 4096 },
    { shift: 12 },
    { extentSize: 21 },
    { extentCount: 9 },
    { encrypted: true },
    { databaseReadVersion: 2 },
    { databaseWriteVersion: 2 },
  ])
    t.equal(math.sameGeometry(REGION, { ...REGION, ...change }), false, JSON.stringify(change));
});

t.test("versions", async (t) => {
  t.equal(VERSION_HISTORY[0]?.version, MESSAGE_VERSION, "the history begins with ours");
  t.equal(speaksOurs(13, []), true, "ours");
  t.equal(speaksOurs(12, []), false, "an older one");
  t.equal(speaksOurs(14, [12, 13]), true, "a newer one that also speaks ours");
  t.equal(speaksOurs(14, [12]), false, "a newer one that does not");
});
