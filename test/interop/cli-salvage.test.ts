import {
  closeSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import t, { type Test } from "tap";
import { snapshot } from "../kit/fabricated-region.js";
import { makeFolder, REGIONS, removeFolder, unpackRegion } from "../kit/folders.js";
import { cleanUp, type Outcome, serveRegion, trivet } from "../kit/programs.js";

// `trivet region salvage` as typed, on regions that the original programs left, and on broken ones.

const folder = makeFolder();
t.teardown(async () => {
  await cleanUp();
  removeFolder(folder);
});

function refused(t: Test, outcome: Outcome, status: number, code: string, detail: RegExp): void {
  t.equal(outcome.status, status, outcome.stderr);
  const lines = outcome.stderr.trim().split("\n");
  t.equal(lines.length, 1, outcome.stderr);
  t.ok(lines[0]!.startsWith(`${code}: `), lines[0]!);
  t.ok(detail.test(lines[0]!), lines[0]!);
  t.ok(/\. [A-Z].*\.$/.test(lines[0]!), "advice follows");
}

/** All three recorded regions of a name, in a folder of their own. */
function unpack(name: string): { at: string; regions: string[] } {
  const at = makeFolder();
  t.teardown(() => removeFolder(at));
  return { at, regions: [0, 1, 2].map((i) => unpackRegion(name, i, at)) };
}
const recordedImage = (name: string, index: number): Buffer =>
  gunzipSync(readFileSync(new URL(`${name}/region${index}.img.gz`, REGIONS)));
const salvage = (...args: string[]): Promise<Outcome> => trivet("region", "salvage", ...args);

for (const name of [
  "activate-io-512",
  "activate-io-4096",
  "after-generation-5",
  "reconcile-after",
]) {
  t.test(`${name}: three sound regions, and each by itself`, async (t) => {
    const { at, regions } = unpack(name);
    const before = regions.flatMap(snapshot);
    const out = join(at, "image");
    const all = await salvage(...regions, "-o", out);
    t.equal(all.status, 0, all.stdout + all.stderr);
    t.ok(/every block is proved/.test(all.stdout), all.stdout);
    t.ok(readFileSync(out).equals(recordedImage(name, 0)));
    t.equal(statSync(out).mode & 0o777, 0o600);
    const one = await salvage(regions[1]!, "-o", out, "--force");
    t.equal(one.status, 0, one.stdout + one.stderr);
    t.ok(/only one region was given/.test(one.stdout));
    t.ok(readFileSync(out).equals(recordedImage(name, 1)));
    t.same(regions.flatMap(snapshot), before, "inputs are as they were");
  });
}

t.test("killed-dirty: extents that were dirty when everything was killed", async (t) => {
  const { at, regions } = unpack("killed-dirty");
  const out = join(at, "image");
  // All three agree, so nothing is doubtful.
  t.equal((await salvage(...regions, "-o", out)).status, 0);
  t.ok(readFileSync(out).equals(recordedImage("killed-dirty", 0)));
  // Alone, what was written since the last flush is.
  const one = await salvage(regions[2]!, "-o", join(at, "one"), "--json");
  refused(t, one, 7, "TRIVET_E_SALVAGE_DOUBTFUL", /50 blocks are doubtful, 0 are gone/);
  const report = JSON.parse(one.stdout);
  t.equal(report.ok, false);
  t.equal(report.blocks_by_doubt.dirty, 50);
  t.equal(report.regions[0].directory, regions[2]);
  t.equal(report.extents[3].copies[0].dirty, true);
  t.same(report.extents[3].blocks, [{ first: 65, count: 15, what: "dirty", region: 0 }]);
  t.ok(readFileSync(join(at, "one")).equals(recordedImage("killed-dirty", 2)));
});

t.test("reconcile-before: replicas that were killed at different moments", async (t) => {
  const { at, regions } = unpack("reconcile-before");
  const out = join(at, "image");
  const { stdout } = await salvage(...regions, "-o", out, "--json");
  const report = JSON.parse(stdout);
  const image = readFileSync(out);
  const after = recordedImage("reconcile-after", 0);
  // What reconciliation made of them, but for blocks that it chose otherwise where nobody can know.
  const doubtful = new Set<number>();
  for (const { blocks } of report.extents) {
    for (const { first, count } of blocks) for (let i = 0; i < count; i++) doubtful.add(first + i);
  }
  for (let block = 0; block < report.extent_size * report.extent_count; block++) {
    const range = [block * report.block_size, (block + 1) * report.block_size] as const;
    const same = image.subarray(...range).equals(after.subarray(...range));
    t.ok(same || doubtful.has(block), `block ${block}`);
  }
});

t.test("what is broken is named, and the rest is saved", async (t) => {
  const { at, regions } = unpack("activate-io-512");
  const [a, b, c] = regions as [string, string, string];
  rmSync(join(a, "region.json"));
  rmSync(join(a, "00/000/002"));
  truncateSync(join(b, "00/000/003"), 700);
  for (const [i, region] of regions.entries()) {
    const file = openSync(join(region, "00/000/001"), "r+");
    writeSync(file, Buffer.from([0xee, 0xff, i]), 0, 3, 512 * 4 + 5);
    closeSync(file);
  }
  const before = regions.flatMap(snapshot);
  const out = join(at, "image");
  const result = await salvage(a, b, c, "-o", out);
  refused(t, result, 7, "TRIVET_E_SALVAGE_DOUBTFUL", /0 blocks are doubtful, 1 are gone/);
  for (const said of [
    /^A: .*region0: region\.json is missing$/m,
    /^extent 1: A, B, C \(generation \d+, flush \d+\)\n {2}block 24 \(bytes 12288-12799\): gone/m,
    /^extent 2: B, C .*; A: the file is missing$/m,
    /^extent 3: A, C .*; B \(age unknown.*: it has 700 bytes, expected 12195/m,
    /^note: .*region0 could not be locked/m,
    /^1 blocks are gone, filled with zeros$/m,
  ]) {
    t.ok(said.test(result.stdout), `${said}\n${result.stdout}`);
  }
  const image = readFileSync(out);
  const recorded = recordedImage("activate-io-512", 0);
  recorded.fill(0, 24 * 512, 25 * 512);
  t.ok(image.equals(recorded));
  t.same(regions.flatMap(snapshot), before, "inputs are as they were");
  const kept = await salvage(a, b, c, "-o", out, "--force", "--keep-bad");
  t.equal(kept.status, 7);
  t.ok(/1 blocks are gone, kept as they lie/.test(kept.stdout));
  t.equal(readFileSync(out)[24 * 512 + 5], 0xee);
});

t.test("without any region.json the geometry has to be said", async (t) => {
  const { at, regions } = unpack("activate-io-4096");
  for (const region of regions) rmSync(join(region, "region.json"));
  const out = join(at, "image");
  const blind = await salvage(...regions, "-o", out);
  refused(t, blind, 3, "TRIVET_E_SALVAGE_GEOMETRY", /fits --geometry 4096,/);
  const [, hint] = /fits --geometry (\S+?)\. /.exec(blind.stderr)!;
  const told = await salvage(...regions, "-o", out, "--geometry", hint!);
  t.equal(told.status, 0, told.stdout + told.stderr);
  t.ok(readFileSync(out).equals(recordedImage("activate-io-4096", 0)));
});

t.test("encrypted regions are refused, or saved as they are with what decrypts them", async (t) => {
  const { at, regions } = unpack("encrypted");
  const out = join(at, "image");
  refused(t, await salvage(...regions, "-o", out), 3, "TRIVET_E_SALVAGE_ENCRYPTED", /is encrypted/);
  const saved = await salvage(...regions, "-o", out, "--ciphertext", "--json");
  t.equal(saved.status, 0, saved.stderr);
  const report = JSON.parse(saved.stdout);
  t.ok(readFileSync(out).equals(recordedImage("encrypted", 0)));
  // Nonce and tag of each written block, as they lie in its slot.
  const seals = readFileSync(`${out}.seals`);
  t.equal(seals.length, 28 * report.extent_size * report.extent_count);
  const written = Array.from({ length: seals.length / 28 }, (_, i) =>
    seals.subarray(i * 28, i * 28 + 28).some((byte) => byte !== 0),
  ).filter(Boolean).length;
  t.equal(written, report.written_blocks);
  t.ok(written > 0);
  // The region need not say that it is encrypted: its blocks do.
  for (const region of regions) rmSync(join(region, "region.json"));
  const geometry = [report.block_size, report.extent_size, report.extent_count].join();
  const blind = await salvage(...regions, "-o", join(at, "other"), "--geometry", geometry);
  refused(t, blind, 3, "TRIVET_E_SALVAGE_ENCRYPTED", /block \d+ is encrypted/);
  t.same(
    snapshot(at).filter((line) => /other/.test(line)),
    [],
    "nothing is left behind",
  );
});

t.test("a region that is served is refused, or read with a warning", async (t) => {
  const directory = join(folder, "served");
  await trivet("region", "create", directory, "--size", "1M");
  const { server } = await serveRegion(directory);
  const out = join(folder, "served.img");
  refused(t, await salvage(directory, "-o", out), 3, "TRIVET_E_REGION_LOCKED", /another process/);
  const live = await salvage(directory, "-o", out, "--live-anyway");
  refused(t, live, 7, "TRIVET_E_SALVAGE_DOUBTFUL", /in use while they were read/);
  t.ok(/note: .*served was in use/.test(live.stdout));
  t.equal(statSync(out).size, 1 << 20);
  t.equal(await server.stop(), 0);
});

t.test("what is typed wrong is said in one sentence", async (t) => {
  const { at, regions } = unpack("fresh-512x20x8");
  const [a, b, c] = regions as [string, string, string];
  const out = join(at, "image");
  refused(t, await salvage(a), 2, "TRIVET_E_USAGE", /-o IMAGE/);
  refused(t, await salvage("-o", out), 2, "TRIVET_E_USAGE", /DIR/);
  refused(t, await salvage(a, b, c, at, "-o", out), 2, "TRIVET_E_USAGE", /4 directories/);
  refused(t, await salvage(a, a, "-o", out), 2, "TRIVET_E_USAGE", /one directory/);
  refused(t, await salvage(a, "-o", join(a, "x")), 2, "TRIVET_E_SALVAGE_OUTPUT", /lies in/);
  const missing = join(at, "none");
  refused(t, await salvage(missing, "-o", out), 3, "TRIVET_E_REGION_MISSING", /none/);
  const geometry = (text: string) => salvage(a, "-o", out, "--geometry", text);
  refused(t, await geometry("512,20"), 2, "TRIVET_E_USAGE", /BLOCKSIZE,BLOCKS,EXTENTS/);
  refused(t, await geometry("512,x,8"), 2, "TRIVET_E_USAGE", /"x"/);
  refused(t, await geometry("500,20,8"), 3, "TRIVET_E_REGION_GEOMETRY", /500/);
  refused(t, await geometry("512,20,9"), 3, "TRIVET_E_SALVAGE_GEOMETRY", /region0 has 8 extents/);
  t.equal((await salvage(a, "-o", out)).status, 0);
  refused(t, await salvage(a, "-o", out), 2, "TRIVET_E_SALVAGE_OUTPUT", /is there already/);
  const help = await salvage("--help");
  t.equal(help.status, 0);
  t.ok(/Exit status: 0 .* 7/.test(help.stdout));
});
