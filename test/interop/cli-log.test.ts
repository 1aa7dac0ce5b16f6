import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { NbdClient } from "../acceptance/client.js";
import { makeFolder, makeRuntimeFolder, removeFolder } from "../kit/folders.js";
import { cleanUp, freePort, type Outcome, run, Server, serveRegion } from "../kit/programs.js";

// The write log as operators meet it: a server that is killed, whatever may be wrong with what it left, and `trivet log dump`.

const BLOCK = 4096;
const folder = makeFolder();
const runtime = makeRuntimeFolder();
const state = join(folder, "state");
const config = join(folder, "photos.toml");
const env = { RUNTIME_DIRECTORY: runtime };
const logPath = join(runtime, "photos.log");
t.teardown(async () => {
  await cleanUp();
  for (const one of [folder, runtime]) removeFolder(one);
});

const ask = (...args: string[]): Promise<Outcome> => run("trivet", args, { env });

let port = 0;
t.before(async () => {
  const targets: string[] = [];
  for (let i = 0; i < 3; i++) {
    const region = join(folder, `region${i}`);
    await ask("region", "create", region, "--size", "4M");
    targets.push((await serveRegion(region)).target);
  }
  port = await freePort();
  const lines = [
    `target = ${JSON.stringify(targets)}`,
    `address = "127.0.0.1:${port}"`,
    `state-dir = "${state}"`,
    `ack = "buffered"`,
    `arena = "32M"`,
  ];
  writeFileSync(config, `${lines.join("\n")}\n`);
});

const dump = (...args: string[]): Promise<Outcome> => ask("log", "dump", ...args);
const serve = (...args: string[]): Server =>
  new Server("trivet", ["serve", config, ...args], { env });
async function serving(...args: string[]): Promise<Server> {
  const server = serve(...args);
  await server.says(/serving 4 MiB/);
  return server;
}
function refused(t: Test, outcome: Outcome, status: number, code: string, detail: RegExp): void {
  t.equal(outcome.status, status, outcome.stderr);
  t.ok(outcome.stderr.startsWith(`${code}: `), outcome.stderr);
  t.ok(detail.test(outcome.stderr), outcome.stderr);
  t.equal(outcome.stderr.trim().split("\n").length, 1, "one line");
}
const fill = (value: number, blocks = 1): Buffer => Buffer.alloc(blocks * BLOCK, value);

/** A server is killed right after these writes, of so many blocks each, were acknowledged. */
async function killedAfter(writes: readonly [block: number, value: number, blocks: number][]) {
  const server = await serving();
  const client = await NbdClient.connect({ port });
  for (const [block, value, blocks] of writes)
    await client.write(block * BLOCK, fill(value, blocks));
  await server.stop("SIGKILL");
  client.destroy();
}
/** What a block holds, read from a server that then stops in order. */
async function readBack(server: Server, block: number): Promise<number> {
  const client = await NbdClient.connect({ port });
  const data = await client.read(block * BLOCK, BLOCK);
  client.close();
  if ((await server.stop()) !== 0) throw new Error(server.output);
  return data.every((byte) => byte === data[0]) ? data[0]! : -1;
}
function patch(at: number, bytes: readonly number[]): void {
  const file = openSync(logPath, "r+");
  writeSync(file, Buffer.from(bytes), 0, bytes.length, at);
  closeSync(file);
}
function peek(at: number, length: number): Buffer {
  const file = openSync(logPath, "r");
  const bytes = Buffer.alloc(length);
  readSync(file, bytes, 0, length, at);
  closeSync(file);
  return bytes;
}
const asides = (): string[] =>
  (existsSync(state) ? readdirSync(state) : [])
    .filter((name) => name.startsWith("photos.") && name.endsWith(".log"))
    .sort();

t.test("dump: bad input", async (t) => {
  const help = await dump("--help");
  t.equal(help.status, 0);
  t.ok(/Usage: trivet log dump NAME\|PATH/.test(help.stdout));
  const group = await ask("log");
  refused(t, group, 2, "TRIVET_E_USAGE", /trivet log needs a command: dump/);
  refused(t, await dump(), 2, "TRIVET_E_USAGE", /needs NAME\|PATH/);
  refused(t, await dump("nobody"), 3, "TRIVET_E_LOG_MISSING", /no write log of nobody: looked for/);
  refused(t, await dump(join(folder, "none")), 3, "TRIVET_E_LOG_MISSING", /there is no file/);
  refused(t, await dump(runtime), 3, "TRIVET_E_LOG_FORMAT", /no regular file/);
  const alien = await dump(config);
  refused(t, alien, 3, "TRIVET_E_LOG_MISSING", /no write log of photos/);
  const text = join(folder, "text");
  writeFileSync(text, "not a log at all ".repeat(1000));
  const other = await dump(text);
  refused(t, other, 3, "TRIVET_E_LOG_FORMAT", /is no write log/);
  const empty = join(folder, "empty");
  writeFileSync(empty, "");
  const nothing = await dump(empty);
  t.equal(nothing.status, 0);
  t.ok(/nothing was ever in it/.test(nothing.stdout), nothing.stdout);
});

t.test("places that will not do, and one owner at a time", async (t) => {
  const disk = await ask("serve", config, "--write-log", join(folder, "photos.log"));
  refused(t, disk, 4, "TRIVET_E_LOG_PLACE", /is on a disk/);
  const alien = join(runtime, "alien.log");
  writeFileSync(alien, "somebody's notes, and nothing else\n".repeat(400));
  const before = readFileSync(alien);
  const other = await ask("serve", config, "--write-log", alien);
  refused(t, other, 3, "TRIVET_E_LOG_FORMAT", /is no write log, and is left as it is/);
  t.ok(readFileSync(alien).equals(before));
  const server = await serving();
  t.ok(statSync(logPath).size > 32 * 2 ** 20);
  t.equal(statSync(logPath).mode & 0o777, 0o600);
  const address = `127.0.0.1:${await freePort()}`;
  const second = await ask("serve", config, "--address", address);
  refused(
    t,
    second,
    4,
    "TRIVET_E_LOG_LOCKED",
    new RegExp(
      `another server of the volume photos runs on this machine \\(pid ${server.child.pid}\\)`,
    ),
  );
  const live = await dump("photos");
  t.equal(live.status, 0, live.stderr);
  t.ok(new RegExp(`process ${server.child.pid}, which runs`).test(live.stdout), live.stdout);
  t.equal(await server.stop(), 0);
  t.equal(existsSync(logPath), false, "nothing is left after an orderly stop");
  const buffered = await serving("--write-log", "none");
  t.ok(/whatever is not flushed is lost when this process dies/.test(buffered.output));
  t.equal(await buffered.stop(), 0);
});

t.test("killed: shown, and written again", async (t) => {
  await killedAfter([
    [1, 0x11, 1],
    [2, 0x22, 20],
    [1, 0x33, 1],
  ]);
  const shown = await dump("photos");
  t.equal(shown.status, 0, shown.stderr);
  t.ok(/volume +photos \([0-9a-f-]{36}\)/.test(shown.stdout), shown.stdout);
  t.ok(/left +3 writes of 88 KiB that no flush covers, 3 of them acknowledged/.test(shown.stdout));
  t.ok(/which is gone/.test(shown.stdout));
  t.ok(/goes on with generation \d+ and writes 3 writes again/.test(shown.stdout));
  const before = readFileSync(logPath);
  const rescued = join(folder, "rescued");
  const json = await dump(logPath, "--json", "--payload", rescued);
  t.equal(json.status, 0, json.stderr);
  const report = JSON.parse(json.stdout);
  t.same(
    report.rows.map((row: Record<string, unknown>) => [
      row.kind,
      row.start_block,
      row.blocks,
      row.acknowledged,
    ]),
    [
      ["write", 1, 1, true],
      ["write", 2, 20, true],
      ["write", 1, 1, true],
    ],
  );
  t.equal(report.session.state, "open");
  const [first, second] = report.rows as { row: number }[];
  t.ok(readFileSync(join(rescued, `${first!.row}-1.bin`)).equals(fill(0x11)));
  t.ok(readFileSync(join(rescued, `${second!.row}-2.bin`)).equals(fill(0x22, 20)));
  const again = await dump(logPath, "--payload", rescued);
  t.equal(again.status, 4, "nothing is written over");
  t.ok(readFileSync(logPath).equals(before), "dumping changed nothing");
  const server = await serving("--arena", "64M");
  t.ok(/going on with the arena of the log, 33554432 bytes/.test(server.output), server.output);
  t.ok(/3 writes are written again/.test(server.output), server.output);
  t.equal(await readBack(server, 1), 0x33);
});

t.test("a log of another version is put aside, and the volume goes on", async (t) => {
  for (const version of [3, 1]) {
    await killedAfter([[1, 0x40 + version, 1]]);
    const kept = asides();
    patch(8, [version]);
    refused(t, await dump(logPath), 3, "TRIVET_E_LOG_FORMAT", /has version \d of the layout/);
    const server = await serving();
    const newer = version === 3 ? /version 3, newer than 2/ : /version 1, older than 2/;
    t.ok(newer.test(server.output), server.output);
    t.ok(/"log.level":"error".*log\.aside/.test(server.output), "loudly");
    await server.stop();
    const [aside] = asides().filter((name) => !kept.includes(name));
    t.ok(readFileSync(join(state, aside!)).subarray(0, 8).equals(Buffer.from("TRIVETWL")));
    t.equal(readFileSync(join(state, aside!))[8], version);
    t.equal(existsSync(logPath), false);
  }
});

t.test("a log of another volume is put aside, and the volume goes on", async (t) => {
  await killedAfter([[5, 0x51, 1]]);
  const other = join(folder, "other.toml");
  writeFileSync(other, readFileSync(config, "utf8"));
  const server = new Server("trivet", ["serve", other, "--write-log", logPath], { env });
  await server.says(/serving/);
  t.ok(/belongs to the volume photos .* 1 writes/.test(server.output), server.output);
  t.equal(await server.stop(), 0);
  const aside = readdirSync(state).find(
    (name) => name.startsWith("other.") && name.endsWith(".log"),
  );
  const shown = await dump(join(state, aside!));
  t.equal(shown.status, 0, shown.stderr);
  t.ok(/1 writes of 4 KiB/.test(shown.stdout), "what was put aside can be read");
  t.ok(
    statSync(join(state, aside!)).blocks * 512 < 8 * 2 ** 20,
    "and is no larger than it has to be",
  );
});

t.test("a damaged log stops the volume, and a person decides", async (t) => {
  const damages: [string, () => void, RegExp][] = [
    ["a row", () => patch(4096 + 128 + 20, [9]), /row 1 is damaged/],
    ["the header", () => patch(16, [99]), /the header is damaged/],
    [
      "the payload",
      () => {
        const at = 4096 + 128;
        const view = peek(at, 128);
        const bodyAt = peek(24, 4).readUInt32LE();
        patch(bodyAt + view.readDoubleLE(40) + 77, [0xff]);
      },
      /row 1, block 7: the payload does not have the hash/,
    ],
  ];
  for (const [name, damage, what] of damages) {
    await killedAfter([[7, 0x71, 1]]);
    const kept = asides();
    damage();
    refused(t, await dump(logPath), 3, "TRIVET_E_LOG_DAMAGED", /one thing is wrong with it/);
    const shown = await dump(logPath);
    t.ok(what.test(shown.stdout), `${name}: ${shown.stdout}`);
    const server = serve();
    t.equal(await server.ended(), 11, server.output);
    const last = server.output.trim().split("\n").at(-1)!;
    t.ok(/^TRIVET_E_LOG_CORRUPT: .*photos\.log is damaged: /.test(last), last);
    t.ok(what.test(server.output), server.output);
    t.equal(asides().length, kept.length + 1, "put aside");
    const next = await serving();
    t.equal(await next.stop(), 0, "started again it goes on without");
  }
});

t.test(
  "another host came while it was dead: superseded, until somebody says otherwise",
  async (t) => {
    const visit = async (): Promise<void> => {
      const args = ["--write-log", "none", "--state-dir", join(folder, "elsewhere")];
      const visitor = await serving(...args);
      const client = await NbdClient.connect({ port });
      await client.write(9 * BLOCK, fill(0xee));
      client.close();
      t.equal(await visitor.stop(), 0);
    };
    await killedAfter([[9, 0x91, 1]]);
    await visit();
    const kept = asides();
    const server = serve();
    t.equal(await server.ended(), 10, server.output);
    t.ok(/TRIVET_E_SUPERSEDED: .*another host has used the volume since/.test(server.output));
    const [aside] = asides().filter((name) => !kept.includes(name));
    const shown = await dump(join(state, aside!));
    t.ok(
      /1 writes of 4 KiB that no flush covers, 1 of them acknowledged/.test(shown.stdout),
      shown.stdout,
    );
    t.equal(await readBack(await serving(), 9), 0xee, "started again it takes the volume back");

    await killedAfter([[9, 0x92, 1]]);
    await visit();
    const given = `${BigInt(Math.floor(Date.now() / 1000)) + 1000n}`;
    const forced = await serving("--gen", given);
    t.ok(
      new RegExp(`going on with generation ${given} as asked for, without the write log`).test(
        forced.output,
      ),
    );
    t.equal(await readBack(forced, 9), 0xee);
  },
);

t.test("a generation that was given is used after the log was finished", async (t) => {
  await killedAfter([[11, 0xb1, 1]]);
  const low = serve("--gen", "5");
  t.equal(await low.ended(), 5);
  const last = low.output.trim().split("\n").at(-1)!;
  t.ok(
    /^TRIVET_E_GENERATION_TOO_LOW: generation 5 .*the write log was left by generation/.test(last),
    last,
  );
  const given = `${BigInt(Math.floor(Date.now() / 1000)) + 5000n}`;
  const server = await serving("--gen", given);
  t.ok(/1 writes are written again/.test(server.output), server.output);
  t.ok(new RegExp(`the volume is active with generation ${given}`).test(server.output));
  t.equal(await readBack(server, 11), 0xb1);
});

t.test("a log that cannot be put aside is not lost", async (t) => {
  await killedAfter([[13, 0xd1, 1]]);
  patch(8, [2]);
  const blocked = join(folder, "blocked");
  writeFileSync(blocked, "");
  const server = serve("--state-dir", join(blocked, "state"));
  await server.says(/serving|TRIVET_E/);
  t.ok(/cannot be copied/.test(server.output), server.output);
  await server.stop();
  const beside = readdirSync(runtime).filter((name) => name.startsWith("photos.log."));
  t.equal(beside.length, 1, "then it is beside the place where it was");
});
