import {
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import t from "tap";
import { openForReading } from "../../../../src/app/region/salvage-copy.js";
import { extentLayout, extentPath, slotOffset } from "../../../../src/region/layout.js";
import { FabricatedRegion, snapshot } from "../../../kit/fabricated-region.js";
import { makeFolder, removeFolder } from "../../../kit/folders.js";
import { remarks, Salvaging } from "../../../kit/salvaging.js";
import { regionOf } from "../../../kit/store.js";

// Three copies of one volume, damaged in each way by itself. Never is anything written to them.

const BS = 512;
const BLOCKS = 20;
const EXTENTS = 3;
const layout = extentLayout({ blockSize: BS, extentSize: BLOCKS });
const data = (block: number, version: number): Buffer =>
  Buffer.alloc(BS, `${block} in version ${version} `);

/** Even blocks hold version 1 of flush 1; blocks below 10 of extent 0 version 2 of flush 2. The rest was never written. */
function expected(): Buffer {
  const image = Buffer.alloc(BS * BLOCKS * EXTENTS);
  for (let block = 0; block < BLOCKS * EXTENTS; block += 2) {
    data(block, block < 10 ? 2 : 1).copy(image, block * BS);
  }
  return image;
}

async function volume(folder: string, lagging: readonly number[] = []) {
  const regions: FabricatedRegion[] = [];
  for (let i = 0; i < 3; i++) {
    const uuid = `12345678-1111-2222-3333-00000000000${i}`;
    const region = await FabricatedRegion.of(regionOf(BS, BLOCKS, EXTENTS, uuid));
    for (let block = 0; block < BLOCKS * EXTENTS; block += 2) region.write(block, data(block, 1));
    region.flush(5n, 1);
    if (!lagging.includes(i)) {
      for (let block = 0; block < 10; block += 2) region.write(block, data(block, 2));
      region.flush(5n, 2);
    }
    regions.push(region);
  }
  const directories = regions.map((_, i) => join(folder, `region${i}`));
  const save = (): void => {
    for (const [i, region] of regions.entries()) region.save(directories[i]!);
  };
  save();
  return { regions, directories, save };
}

type Volume = Awaited<ReturnType<typeof volume>>;
type Said = { readonly [block: number]: string };

/** Salvages after `damage`; `said` names all blocks about which something is said. */
function damaged(
  name: string,
  damage: (volume: Volume) => void,
  said: Said,
  more: { lagging?: number[]; image?: (image: Buffer) => void; use?: number[] } = {},
): void {
  t.test(name, async (t) => {
    const folder = makeFolder();
    const made = await volume(folder, more.lagging);
    damage(made);
    const before = made.directories.flatMap(snapshot);
    const salvaging = await Salvaging.start();
    const directories = (more.use ?? [0, 1, 2]).map((i) => made.directories[i]!);
    const { image, report } = await salvaging.read(folder, directories);
    const found = remarks(report).flatMap((remark, block) =>
      remark === "" ? [] : [[block, remark]],
    );
    t.same(
      found,
      Object.entries(said).map(([block, remark]) => [Number(block), remark]),
    );
    const wanted = expected();
    more.image?.(wanted);
    for (let block = 0; block < BLOCKS * EXTENTS; block++) {
      const range = [block * BS, (block + 1) * BS] as const;
      t.ok(image.subarray(...range).equals(wanted.subarray(...range)), `block ${block}`);
    }
    t.same(made.directories.flatMap(snapshot), before, "inputs are as they were");
    t.equal(salvaging.arena.allocations, 0, "all working memory was given back");
    t.equal(salvaging.locks, salvaging.unlocks);
    t.same(readdirSync(folder).sort(), ["region0", "region1", "region2"], "nothing is left behind");
    removeFolder(folder);
  });
}

const blocks = (from: number, to: number, remark: string): Said =>
  Object.fromEntries(Array.from({ length: to - from }, (_, i) => [from + i, remark]));
const edit =
  (region: number, extent: number, change: (bytes: Buffer) => void) =>
  ({ regions, save }: Volume): void => {
    change(regions[region]!.extents[extent]!.bytes);
    save();
  };
const file = ({ directories }: Volume, region: number, extent: number): string =>
  join(directories[region]!, extentPath(extent));
const flip = (at: number) => (bytes: Buffer) => {
  bytes[at]! ^= 0x10;
};
const slotA = (block: number) => slotOffset(layout, 0, block);
const slotB = (block: number) => slotOffset(layout, 1, block);
const noSaid: Said = {};
const setAllBits = (bytes: Buffer): void => {
  for (const [i, byte] of [0xff, 0xff, 0x0f].entries()) bytes[layout.bitmapAt + i] = byte;
};
/** All bits of extent 0 are set, which is true only of blocks 10, 12 … 18. */
const wrongBits = (rewritten: string, unwritten: string): Said => {
  const said: Record<number, string> = {};
  for (let block = 0; block < 10; block += 2) said[block] = rewritten;
  for (let block = 1; block < 20; block += 2) said[block] = unwritten;
  return said;
};

damaged("nothing", () => {}, noSaid);
damaged("a lagging replica", () => {}, noSaid, { lagging: [1] });
damaged("a bad block in the best copy", edit(0, 0, flip(BS * 4 + 7)), { 4: "mended" });
damaged("a bad block in another copy", edit(1, 0, flip(BS * 4 + 7)), noSaid);
damaged(
  "a bad block where only older copies are left: said, unless it is proved to be the same",
  (made) => {
    // Block 4 was written again since, block 12 was not.
    edit(0, 0, flip(BS * 4))(made);
    edit(0, 0, flip(BS * 12))(made);
  },
  { 4: "older", 12: "mended" },
  { lagging: [1, 2], image: (image) => data(4, 1).copy(image, 4 * BS) },
);
damaged(
  "a block that is bad everywhere",
  (made) => {
    for (const i of [0, 1, 2]) edit(i, 1, flip(BS * 2 + i))(made);
  },
  { 22: "gone" },
  { image: (image) => image.fill(0, 22 * BS, 23 * BS) },
);
damaged(
  "both context slots bad, in all copies but one",
  (made) => {
    for (const i of [0, 1]) {
      edit(i, 0, (bytes) => bytes.fill(0xee, slotA(4), slotA(5)))(made);
      edit(i, 0, (bytes) => bytes.fill(0xee, slotB(4), slotB(5)))(made);
    }
  },
  { 4: "mended" },
);
damaged(
  "data of one copy, contexts of another",
  (made) => {
    for (const i of [0, 1]) edit(i, 1, flip(BS * 2 + i))(made);
    edit(2, 1, (bytes) => bytes.fill(0, layout.slotsAAt, layout.bitmapAt))(made);
  },
  { 22: "mended" },
);
damaged("a wrong bitmap", edit(0, 0, setAllBits), wrongBits("mended", "mended"));
damaged(
  "a bitmap with bits for blocks that do not exist is not believed at all",
  edit(0, 0, (bytes) => bytes.fill(0xff, layout.bitmapAt, layout.metadataAt)),
  noSaid,
);
damaged(
  "a wrong bitmap in the only copy of this age",
  edit(0, 0, setAllBits),
  wrongBits("weak", "older"),
  { lagging: [1, 2] },
);
damaged(
  "a torn metadata record",
  edit(0, 1, (bytes) => bytes.fill(0xff, layout.metadataAt, layout.metadataAt + 20)),
  noSaid,
);
damaged(
  "metadata records torn in two replicas: the third cannot be known to be the newest",
  (made) => {
    for (const i of [0, 1]) edit(i, 0, (bytes) => bytes.fill(0xff, layout.metadataAt))(made);
  },
  { 0: "single", 2: "single", 4: "single", 6: "single", 8: "single" },
  {
    lagging: [2],
    image: (image) => {
      for (let block = 0; block < 10; block += 2) data(block, 1).copy(image, block * BS);
    },
  },
);
damaged(
  "metadata records torn in all",
  (made) => {
    for (const i of [0, 1, 2]) edit(i, 2, (bytes) => bytes.fill(0xff, layout.metadataAt))(made);
  },
  blocks(40, 60, "age-unknown"),
);
damaged("a missing extent file", (made) => rmSync(file(made, 0, 1)), noSaid);
damaged(
  "an extent that only one has",
  (made) => {
    rmSync(file(made, 0, 1));
    rmSync(file(made, 2, 1));
  },
  blocks(20, 40, "single"),
);
damaged(
  "an extent that nobody has",
  (made) => {
    for (const i of [0, 1, 2]) rmSync(file(made, i, 1));
  },
  blocks(20, 40, "gone"),
  { image: (image) => image.fill(0, 20 * BS, 40 * BS) },
);
damaged("an empty file", (made) => truncateSync(file(made, 0, 0)), noSaid);
damaged("a file cut in its data", (made) => truncateSync(file(made, 0, 0), BS * 5 + 9), noSaid);
damaged(
  "the newest file cut behind its data: its blocks have no contexts and no age",
  (made) => truncateSync(file(made, 0, 0), layout.dataBytes),
  noSaid,
  {
    lagging: [1, 2],
    image: (image) => {
      for (let block = 0; block < 10; block += 2) data(block, 1).copy(image, block * BS);
    },
  },
);
damaged("a file that is too long", (made) => truncateSync(file(made, 0, 0), 20_000), noSaid);
damaged(
  "a folder in the place of a file, and a link to nowhere",
  (made) => {
    rmSync(file(made, 0, 0));
    mkdirSync(file(made, 0, 0));
    rmSync(file(made, 1, 2));
    symlinkSync("/nowhere/at/all", file(made, 1, 2));
  },
  noSaid,
);
damaged(
  "no region.json in one",
  ({ directories }) => rmSync(join(directories[1]!, "region.json")),
  noSaid,
);
damaged(
  "a broken region.json in two",
  ({ directories }) => {
    writeFileSync(join(directories[0]!, "region.json"), '{ "block_size": 5');
    truncateSync(join(directories[1]!, "region.json"));
  },
  noSaid,
);
damaged("one region that is whole", () => {}, noSaid, { use: [1] });
damaged(
  "one region with a bad block",
  edit(1, 1, flip(BS * 2)),
  { 22: "gone" },
  { use: [1], image: (image) => image.fill(0, 22 * BS, 23 * BS) },
);
damaged(
  "a rewritten file beside a half overwritten one",
  (made) => {
    // The replacement was fetched whole, and the crash came while it was copied over.
    const whole = readFileSync(file(made, 0, 0));
    mkdirSync(`${file(made, 2, 0)}.replace`);
    writeFileSync(`${file(made, 2, 0)}.replace/000`, whole);
    const half = readFileSync(file(made, 2, 0));
    whole.copy(half, 0, 0, BS * 3);
    writeFileSync(file(made, 2, 0), half);
    for (const i of [0, 1]) rmSync(file(made, i, 0));
  },
  blocks(0, 20, "single"),
  { lagging: [2] },
);
damaged(
  "zeros where a rescue could not read: data and contexts of an extent, in the best copy",
  edit(0, 1, (bytes) => bytes.fill(0, 0, layout.metadataAt)),
  Object.fromEntries(Array.from({ length: 10 }, (_, i) => [20 + 2 * i, "differ"])),
);

t.test("a disk that refuses: everything around the bad sectors is read", async (t) => {
  const folder = makeFolder();
  const { directories } = await volume(folder, [1, 2]);
  const salvaging = await Salvaging.start();
  const eio = Object.assign(new Error("EIO: i/o error, read"), { code: "EIO", syscall: "read" });
  const refusing = async (path: string) => {
    const handle = await openForReading(path);
    const isBad = path === join(directories[0]!, extentPath(0));
    return {
      stat: () => handle.stat(),
      close: () => handle.close(),
      async read(into: Uint8Array, at: number, length: number, position: number) {
        // One sector of block 4, and the slots of blocks 6 and 7 in array A.
        const bad = [
          [4 * BS, 5 * BS],
          [slotA(6), slotA(8)],
        ] as const;
        if (isBad && bad.some(([from, to]) => position < to && position + length > from)) throw eio;
        return await handle.read(into, at, length, position);
      },
    };
  };
  const { image, report } = await salvaging.read(folder, directories, { openFile: refusing });
  const said = remarks(report);
  t.equal(said[4], "older");
  t.equal(said.filter((remark) => remark !== "").length, 3, said.join());
  t.ok(image.subarray(4 * BS, 5 * BS).equals(data(4, 1)));
  t.ok(image.subarray(2 * BS, 3 * BS).equals(data(2, 2)));
  t.equal(report.extents[0]!.copies[0]!.unreadableBlocks, 1);
  // A file that cannot even be opened.
  const closed = async (path: string) => {
    if (path.endsWith("000"))
      throw Object.assign(new Error("EACCES"), { code: "EACCES", syscall: "open", path });
    return await openForReading(path);
  };
  const none = await salvaging.read(folder, directories, { openFile: closed });
  t.ok(/permission denied/.test(none.report.extents[0]!.missing[0]!.why));
  t.equal(none.report.blocks.gone, 20);
  removeFolder(folder);
});

t.test("what is gone can be kept as it lies there", async (t) => {
  const folder = makeFolder();
  const made = await volume(folder);
  for (const i of [0, 1, 2]) edit(i, 1, flip(BS * 2 + i))(made);
  const salvaging = await Salvaging.start();
  const { image, report } = await salvaging.read(folder, made.directories, { keepBad: true });
  const almost = data(22, 1);
  flip(0)(almost);
  t.ok(image.subarray(22 * BS, 23 * BS).equals(almost));
  t.equal(report.blocks.gone, 1);
  removeFolder(folder);
});

t.test("the image is sparse", async (t) => {
  const folder = makeFolder();
  const region = await FabricatedRegion.of(regionOf(4096, 256, 8));
  region.write(300, Buffer.alloc(4096, 1));
  region.write(301, Buffer.alloc(4096, 0));
  region.flush(1n, 1);
  region.save(join(folder, "r"));
  const salvaging = await Salvaging.start();
  const path = join(folder, "image");
  const report = await salvaging.run([join(folder, "r")], path);
  t.equal(report.writtenBlocks, 2);
  t.equal(statSync(path).size, 8 << 20);
  t.ok(statSync(path).blocks * 512 <= 64 * 1024, `${statSync(path).blocks * 512} bytes allocated`);
  t.equal(readFileSync(path).indexOf(1), 300 * 4096);
  removeFolder(folder);
});

t.test("what does not belong together is refused, and leaves nothing behind", async (t) => {
  const folder = makeFolder();
  const { directories } = await volume(folder);
  const at = (name: string): string => join(folder, name);
  const salvaging = await Salvaging.start();
  const make = async (name: string, ...of: Parameters<typeof regionOf>): Promise<string> => {
    (await FabricatedRegion.of(regionOf(...of))).save(at(name));
    return at(name);
  };
  const [a, b] = directories as [string, string];
  const refuses = (list: readonly string[], code: string, message: RegExp, options = {}) =>
    t.rejects(salvaging.run(list, at("image"), options), { code, message });
  const larger = await make("larger", BS, BLOCKS, EXTENTS + 1);
  await refuses([a, larger], "TRIVET_E_SALVAGE_GEOMETRY", /larger has 4 extents.*region0 says 3/);
  const sealed = await make("sealed", BS, BLOCKS, EXTENTS, undefined, true);
  await refuses([a, sealed], "TRIVET_E_SALVAGE_GEOMETRY", /one is encrypted and one is not/);
  await refuses([sealed], "TRIVET_E_SALVAGE_ENCRYPTED", /sealed is encrypted/);
  await refuses([at("none")], "TRIVET_E_REGION_MISSING", /no directory .*none/);
  writeFileSync(at("plain"), "");
  await refuses([at("plain")], "TRIVET_E_REGION_MISSING", /plain is no directory/);
  await refuses([a, `${a}/../region0`], "TRIVET_E_USAGE", /are one directory/);
  symlinkSync(a, at("link"));
  await refuses([a, at("link")], "TRIVET_E_USAGE", /are one directory/);
  rmSync(at("link"));
  mkdirSync(at("bare"));
  await refuses([at("bare")], "TRIVET_E_SALVAGE_NOTHING", /not one extent file/);
  writeFileSync(join(b, "00/000/001.db"), "");
  await refuses([a, b], "TRIVET_E_REGION_SQLITE", /extent 1 is in the old SQLite format/);
  rmSync(join(b, "00/000/001.db"));
  // Without any region.json the files tell what to say.
  for (const directory of directories) rmSync(join(directory, "region.json"));
  const hint = /no region.json can be read; .* have 12195 bytes, which fits --geometry 512,20,3$/;
  await refuses(directories, "TRIVET_E_SALVAGE_GEOMETRY", hint);
  const geometry = { blockSize: BS, shift: 9, extentSize: BLOCKS, extentCount: EXTENTS };
  const { image } = await salvaging.read(folder, directories, { geometry });
  t.ok(image.equals(expected()));
  const slip = { geometry: { ...geometry, extentSize: 21 } };
  await refuses(
    directories,
    "TRIVET_E_SALVAGE_GEOMETRY",
    /means extent files of 12803 bytes/,
    slip,
  );
  const short = { geometry: { ...geometry, extentCount: 2 } };
  await refuses(directories, "TRIVET_E_SALVAGE_GEOMETRY", /holds an extent 2/, short);
  t.equal(existsSync(at("image")), false);
  t.equal(existsSync(at("image.partial")), false);
  removeFolder(folder);
});

t.test("an image goes nowhere where it could harm", async (t) => {
  const folder = makeFolder();
  const { directories } = await volume(folder);
  const salvaging = await Salvaging.start();
  const refuses = (image: string, message: RegExp, options = {}) =>
    t.rejects(salvaging.run(directories, image, options), {
      code: "TRIVET_E_SALVAGE_OUTPUT",
      message,
    });
  const [a] = directories as [string];
  await refuses(join(a, "image"), /lies in .*region0/);
  await refuses(join(a, "00/000/000"), /lies in .*region0/, { force: true });
  symlinkSync(join(a, "00"), join(folder, "way"));
  await refuses(join(folder, "way/image"), /lies in .*region0/);
  await refuses(join(folder, "nowhere/image"), /no directory .*nowhere/);
  const path = join(folder, "image");
  writeFileSync(path, "something dear");
  await refuses(path, /is there already/);
  t.equal(readFileSync(path, "utf8"), "something dear");
  await refuses(folder, /no ordinary file/, { force: true });
  symlinkSync(join(a, "00/000/000"), join(folder, "link"));
  await refuses(join(folder, "link"), /no ordinary file/, { force: true });
  // A second name of an extent file: only the name is replaced.
  const before = snapshot(join(a, "00"));
  rmSync(path);
  linkSync(join(a, "00/000/000"), path);
  const content = readFileSync(path);
  await salvaging.run(directories, path, { force: true });
  t.ok(readFileSync(path).equals(expected()));
  t.ok(readFileSync(join(a, "00/000/000")).equals(content));
  t.equal(snapshot(join(a, "00")).length, before.length);
  // What a killed salvage left does not stand in the way, and an old image survives a failure.
  writeFileSync(`${path}.partial`, "half");
  await salvaging.run(directories, path, { force: true });
  const old = readFileSync(path);
  const full = salvaging.run(directories, path, {
    force: true,
    openFile: async () => ({
      stat: () => Promise.resolve({ size: layout.fileBytes, isFile: () => true }),
      close: () => Promise.reject(new Error("a mistake of ours")),
      read: () => Promise.resolve({ bytesRead: 0 }),
    }),
  });
  await t.rejects(full, { message: "a mistake of ours" });
  t.ok(readFileSync(path).equals(old));
  t.equal(existsSync(`${path}.partial`), false);
  removeFolder(folder);
});

t.test("a region in use", async (t) => {
  const folder = makeFolder();
  const { directories } = await volume(folder);
  const salvaging = await Salvaging.start();
  salvaging.locked.add(directories[1]!);
  const path = join(folder, "image");
  await t.rejects(salvaging.run(directories, path), { message: /region1 is locked/ });
  t.equal(salvaging.locks, salvaging.unlocks);
  const report = await salvaging.run(directories, path, { liveAnyway: true });
  t.equal(report.sources[1]!.inUse, true);
  t.ok(report.notes.some((note) => /region1 was in use/.test(note)));
  removeFolder(folder);
});

t.test("a copy of a region is no second witness", async (t) => {
  const folder = makeFolder();
  const made = await volume(folder);
  const twin = join(folder, "twin");
  made.regions[0]!.save(twin);
  const salvaging = await Salvaging.start();
  const { report } = await salvaging.read(folder, [made.directories[0]!, twin]);
  t.equal(report.blocks.single, 60);
  t.ok(report.notes.some((note) => /count as one replica/.test(note)));
  removeFolder(folder);
});
