import {
  closeSync,
  cpSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import t, { type Test } from "tap";
import { makeFolder, REGIONS, removeFolder, unpackRegion } from "../kit/folders.js";
import { cleanUp, type Outcome, run, Server, serveRegion, trivet } from "../kit/programs.js";

// Region commands as users type them: what they print, and how they end.

const folder = makeFolder();
t.teardown(async () => {
  await cleanUp();
  removeFolder(folder);
});

/** One line `CODE: sentence. advice` on standard error, and nothing like a stack trace. */
function refused(t: Test, outcome: Outcome, status: number, code: string, detail: RegExp): void {
  t.equal(outcome.status, status, outcome.stderr);
  const lines = outcome.stderr.trim().split("\n");
  t.equal(lines.length, 1, outcome.stderr);
  t.ok(lines[0]!.startsWith(`${code}: `), lines[0]!);
  t.ok(detail.test(lines[0]!), lines[0]!);
  t.ok(/\. [A-Z].*\.$/.test(lines[0]!), "advice follows");
}

const small = ["--block-size", "512", "--extent-size", "20", "--extent-count", "8"];
const create = (name: string, ...more: string[]) =>
  trivet("region", "create", join(folder, name), ...(more.length > 0 ? more : small));

t.test("create, info, import, verify, export", async (t) => {
  const made = await trivet("region", "create", join(folder, "a"), "--size", "8M", "--json");
  t.equal(made.status, 0);
  const about = JSON.parse(made.stdout);
  t.equal(about.size_bytes, 8 * 2 ** 20);
  t.equal(about.block_size, 4096);
  const image = Buffer.alloc(5 * 2 ** 20 + 1000);
  for (let i = 0; i < 3 * 2 ** 20; i++) image[i + 100_000] = (i * 7) % 251;
  writeFileSync(join(folder, "image"), image);
  const imported = await trivet("region", "import", join(folder, "a"), join(folder, "image"));
  t.equal(imported.status, 0, imported.stderr);
  const verified = await trivet("region", "verify", join(folder, "a"), "--json");
  t.equal(verified.status, 0, verified.stderr);
  t.equal(JSON.parse(verified.stdout).ok, true);
  t.equal((await trivet("region", "export", join(folder, "a"), join(folder, "out"))).status, 0);
  const out = readFileSync(join(folder, "out"));
  t.equal(out.length, 8 * 2 ** 20);
  t.ok(out.subarray(0, image.length).equals(image));
  t.ok(out.subarray(image.length).every((byte) => byte === 0));
  const info = JSON.parse((await trivet("region", "info", join(folder, "a"), "--json")).stdout);
  t.equal(info.max_flush_number, 1);
  t.equal(info.in_use, false);
  t.ok(
    (await trivet("region", "info", join(folder, "a"))).stdout.includes("8 MiB (8388608 bytes)"),
  );
  const again = await trivet("region", "export", join(folder, "a"), join(folder, "out"));
  refused(t, again, 4, "TRIVET_E_FILE", /out: exists already/);
  // Without a region one is made as large as the image.
  t.equal((await trivet("region", "import", join(folder, "b"), join(folder, "image"))).status, 0);
  t.equal((await trivet("region", "verify", join(folder, "b"))).status, 0);
});

t.test("what is not a sound region is said in one sentence", async (t) => {
  const at = (name: string) => join(folder, name);
  const runs = (name: string) => trivet("region", "run", at(name), "--port", "0");
  refused(t, await runs("nowhere"), 3, "TRIVET_E_REGION_MISSING", /nowhere/);
  refused(
    t,
    await trivet("region", "info", at("nowhere")),
    3,
    "TRIVET_E_REGION_MISSING",
    /no directory .*nowhere/,
  );
  await create("missing-extent");
  rmSync(at("missing-extent/00/000/005"));
  refused(t, await runs("missing-extent"), 3, "TRIVET_E_EXTENT_MISSING", /00\/000\/005/);
  await create("short");
  truncateSync(at("short/00/000/003"), 5000);
  refused(t, await runs("short"), 3, "TRIVET_E_EXTENT_SIZE", /00\/000\/003.*5000 .*expected 12195/);
  refused(t, await trivet("region", "info", at("short")), 3, "TRIVET_E_EXTENT_SIZE", /12195/);
  await create("long");
  truncateSync(at("long/00/000/003"), 12196);
  refused(t, await runs("long"), 3, "TRIVET_E_EXTENT_SIZE", /12196 .*expected 12195/);
  await create("torn");
  const file = openSync(at("torn/00/000/002"), "r+");
  writeSync(file, Buffer.alloc(16, 0xee), 0, 16, 12195 - 32 + 12);
  closeSync(file);
  refused(t, await runs("torn"), 3, "TRIVET_E_EXTENT_METADATA", /00\/000\/002.*expected 2/);
  await create("old");
  writeFileSync(at("old/00/000/004.db"), "");
  refused(t, await runs("old"), 3, "TRIVET_E_REGION_SQLITE", /SQLite/);
  await create("no-json");
  writeFileSync(at("no-json/region.json"), '{"block_size": 512');
  refused(t, await runs("no-json"), 3, "TRIVET_E_REGION_CONFIG", /region\.json/);
});

t.test("damaged data is found and counted", async (t) => {
  const directory = unpackRegion("activate-io-512", 1, folder);
  const file = openSync(join(directory, "00/000/002"), "r+");
  writeSync(file, Buffer.from([0xff, 0xfe]), 0, 2, 512 * 4);
  closeSync(file);
  const verify = await trivet("region", "verify", directory);
  refused(t, verify, 3, "TRIVET_E_REGION_VERIFY", /1 of 8 extents/);
  t.ok(/extent 2 \(00\/000\/002\): block 4 does not fit/.test(verify.stdout));
});

t.test("regions neither grow nor shrink, and nothing is overwritten", async (t) => {
  await create("fixed");
  refused(t, await create("fixed"), 3, "TRIVET_E_REGION_EXISTS", /fixed holds the region/);
  refused(
    t,
    await create("fixed", "--size", "1G"),
    3,
    "TRIVET_E_REGION_RESIZE",
    /neither grow nor shrink/,
  );
  writeFileSync(join(folder, "large"), Buffer.alloc(20 * 512 * 8 + 1, 1));
  const large = await trivet("region", "import", join(folder, "fixed"), join(folder, "large"));
  refused(t, large, 3, "TRIVET_E_REGION_RESIZE", /do not grow/);
  refused(
    t,
    await create("odd", "--size", "1G", "--block-size", "1536"),
    3,
    "TRIVET_E_REGION_GEOMETRY",
    /1536/,
  );
  refused(t, await create("none", "--block-size", "512"), 2, "TRIVET_E_USAGE", /--size/);
  refused(
    t,
    await create("none", "--sise", "1G"),
    2,
    "TRIVET_E_USAGE",
    /--sise \(did you mean --size\?\)/,
  );
});

t.test("a region that is open is locked", async (t) => {
  await create("open");
  const { server } = await serveRegion(join(folder, "open"));
  const other = await trivet("region", "run", join(folder, "open"), "--port", "0");
  refused(t, other, 3, "TRIVET_E_REGION_LOCKED", /open is open in another process/);
  const verify = await trivet("region", "verify", join(folder, "open"));
  refused(t, verify, 3, "TRIVET_E_REGION_LOCKED", /another process/);
  const info = await trivet("region", "info", join(folder, "open"), "--json");
  t.equal(JSON.parse(info.stdout).in_use, true);
  t.equal(await server.stop(), 0);
  t.equal((await trivet("region", "verify", join(folder, "open"))).status, 0, "and then no more");
});

t.test("one process runs several regions; a port in use is said", async (t) => {
  await create("p0");
  await create("p1");
  const first = await serveRegion(join(folder, "p0"));
  const clash = await trivet("region", "run", join(folder, "p1"), "--port", `${first.port}`);
  refused(t, clash, 4, "TRIVET_E_ADDRESS_IN_USE", /127\.0\.0\.1:/);
  await first.server.stop("SIGINT");
  const both = new Server("trivet", [
    "region",
    "run",
    join(folder, "p0"),
    join(folder, "p1"),
    "--port",
    "0",
  ]);
  await both.says(/p0 is served[\s\S]*p1 is served/);
  t.equal(await both.stop(), 0);
  refused(
    t,
    await trivet("region", "run", join(folder, "p0"), "--port", "65000"),
    2,
    "TRIVET_E_USAGE",
    /69000/,
  );
});

t.test("it ends with standard input when asked to", async (t) => {
  await create("stdin");
  const server = new Server("trivet", [
    "region",
    "run",
    join(folder, "stdin"),
    "--port",
    "0",
    "--until-stdin-ends",
  ]);
  await server.says(/is served on/);
  server.child.stdin!.end();
  t.equal(await server.ended(), 0);
});

t.test("crucible-downstairs: the original's options, output and exit status", async (t) => {
  const downstairs = (...args: string[]) => run("crucible-downstairs", args);
  const uuid = "12345678-1111-2222-3333-123456789999";
  const at = (name: string) => join(folder, name);
  const made = await downstairs(
    "create",
    "-d",
    at("c0"),
    "-u",
    uuid,
    "--extent-size",
    "20",
    "--extent-count",
    "8",
  );
  t.equal(made.status, 0, made.stderr);
  const theirs = unpackRegion("fresh-512x20x8", 0, folder);
  const recorded = JSON.parse(
    readFileSync(new URL("fresh-512x20x8/region0.json", REGIONS), "utf8"),
  );
  t.same(readFileSync(at("c0/00/000/007")), readFileSync(join(theirs, "00/000/007")));
  const dump = await downstairs("dump", "--no-color", "-d", at("c0"));
  t.same(
    dump.stdout
      .trimEnd()
      .split("\n")
      .map((line) => line.trimEnd()),
    recorded.dump,
  );
  t.equal((await downstairs("verify", "-d", at("c0"))).status, 0);
  const version = await downstairs("version");
  t.ok(version.stdout.includes("Upstairs <-> Downstairs Message Version: 13"));
  t.ok(
    (await downstairs("extent-info", "-d", at("c0"), "-b", "3-4")).stdout.includes("12195 bytes"),
  );

  const source = unpackRegion("activate-io-512", 0, folder);
  const image = gunzipSync(readFileSync(new URL("activate-io-512/region0.img.gz", REGIONS)));
  t.equal((await downstairs("export", "-d", source, "-e", at("whole"))).status, 0);
  t.ok(readFileSync(at("whole")).equals(image));
  t.equal(
    (await downstairs("export", "-d", source, "-e", at("part"), "-s", "30", "--count", "12"))
      .status,
    0,
  );
  t.ok(readFileSync(at("part")).equals(image.subarray(30 * 512, 42 * 512)));
  const imported = await downstairs(
    "create",
    "-d",
    at("c1"),
    "-u",
    uuid,
    "--extent-size",
    "20",
    "--extent-count",
    "2",
    "-i",
    at("whole"),
  );
  t.equal(imported.status, 0, imported.stderr);
  t.ok(imported.stdout.includes("160"));
  t.equal((await downstairs("export", "-d", at("c1"), "-e", at("back"))).status, 0);
  t.ok(readFileSync(at("back")).equals(image));

  const other = join(folder, "other");
  cpSync(source, other, { recursive: true });
  t.equal((await downstairs("dump", "--no-color", "-d", source, "-d", other)).status, 0);
  const differ = await downstairs("dump", "--no-color", "-d", source, "-d", at("c1"));
  t.equal(differ.status, 1);
  t.ok(/ <---/.test(differ.stdout));
  const blocks = await downstairs("dump", "--no-color", "-d", source, "-d", other, "-e", "2");
  t.equal(blocks.status, 0, blocks.stderr);
  const block = await downstairs("dump", "--no-color", "-d", source, "-d", other, "-b", "45");
  t.ok(block.stdout.includes("Extent 2 Block in extent 5  Actual block 45"));

  for (const args of [
    [],
    ["--help"],
    ["frobnicate"],
    ["create", "-d", at("c0"), "-u", uuid],
    ["create", "-d", at("c9")],
    ["create", "-d", at("c9"), "-u", uuid, "--block-size", "1536"],
    ["create", "-d", at("c9"), "-u", uuid, "--block-size", "1000"],
    ["create", "-d", at("c9"), "-u", uuid, "--block-size", "65536"],
    ["create", "-d", at("c9"), "-u", uuid, "--extent-size", "1048577"],
    ["run", "-d", at("nowhere")],
    ["run", "-d", at("c0"), "-p", "62000"],
    ["run", "-d", at("c0"), "--cert-pem", "x"],
    ["verify"],
    ["dump", "-d", at("c0"), "-e", "1"],
  ]) {
    const outcome = await downstairs(...args);
    t.equal(outcome.status, 1, args.join(" "));
    t.ok(outcome.stderr.startsWith("Error: "), args.join(" "));
    t.equal(outcome.stderr.includes("    at "), false, "no stack trace");
  }
});

t.test("crucible-downstairs clones from a read-only region", async (t) => {
  const source = join(folder, "clone-source");
  cpSync(unpackRegion("activate-io-512", 2, folder), source, { recursive: true });
  const { server, port } = await serveRegion(source, "--mode", "ro");
  const target = join(folder, "clone-target");
  const made = await run("crucible-downstairs", [
    "create",
    "-d",
    target,
    "-u",
    "12345678-1111-2222-3333-12345678aaaa",
    "--extent-size",
    "20",
    "--extent-count",
    "8",
    "--clone-source",
    `127.0.0.1:${port + 4000}`,
  ]);
  t.equal(made.status, 0, made.stderr);
  await server.stop();
  for (const extent of ["000", "003", "007"]) {
    const path = `00/000/${extent}`;
    t.ok(readFileSync(join(target, path)).equals(readFileSync(join(source, path))), path);
  }
});
