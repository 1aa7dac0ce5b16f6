import { execFileSync, spawn } from "node:child_process";
import { lstatSync, mkdtempSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { until } from "../kit/until.js";
import { archive } from "./cpio.js";
import { buildWriter, librariesOf, programPath } from "./image.js";
import { newestOf } from "./kernels.js";
import { needs } from "./modules.js";
import { type Row, table } from "./rounds.js";
import { complaints } from "./writers.js";

t.test("an archive is one that cpio unpacks", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "trivet-vm-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const data = [0, 1, 2, 3, 4, 5].map((n) => Buffer.from("abcdef".slice(0, n)));
  const bytes = archive([
    { kind: "folder", path: "a" },
    ...data.map((content, i) => ({
      kind: "file" as const,
      path: `a/${"n".repeat(i + 1)}`,
      mode: i === 3 ? 0o755 : 0o640,
      data: content,
    })),
    { kind: "link", path: "a/link", target: "n" },
  ]);
  execFileSync(programPath("busybox", "busybox-static"), ["cpio", "-i", "-d"], {
    cwd: folder,
    input: bytes,
    stdio: ["pipe", "pipe", "pipe"],
  });
  for (const [i, content] of data.entries()) {
    const path = join(folder, "a", "n".repeat(i + 1));
    t.ok(readFileSync(path).equals(content), `file of ${i} bytes`);
    t.equal(lstatSync(path).mode & 0o777, i === 3 ? 0o755 : 0o640);
  }
  t.equal(readlinkSync(join(folder, "a/link")), "n");
});

t.test("the agent answers each of many requests, also while earlier ones end", async (t) => {
  const agent = join(import.meta.dirname, "../../../test/vm/guest/agent");
  const child = spawn(programPath("busybox", "busybox-static"), ["sh", agent]);
  t.teardown(() => child.kill("SIGKILL"));
  let said = "";
  child.stdout.on("data", (data) => {
    said += data;
  });
  await until("the agent", () => said === "ready\n");
  const count = 150;
  for (let i = 1; i <= count; i++) {
    // In pieces, with jobs ending in between.
    const request = `${i} sleep 0.0${i % 7}; echo ${"x".repeat(i % 40)}; printf ${i}; exit ${i % 5}\n`;
    const half = Math.floor(request.length / 2);
    child.stdin.write(request.slice(0, half));
    await sleep(i % 4);
    child.stdin.write(request.slice(half));
  }
  await until("all answers", () => said.split(" = ").length > count, 30_000).catch(() => {});
  const wrong: number[] = [];
  for (let i = 1; i <= count; i++) {
    const lines = said.split("\n").filter((line) => line.startsWith(`${i} `));
    const wanted = [`${i} | ${"x".repeat(i % 40)}`, `${i} | ${i}`, `${i} = ${i % 5}`];
    if (lines.join("\n") !== wanted.join("\n")) wrong.push(i);
  }
  t.same(wrong, []);
});

t.test("the newest kernel of a line", async (t) => {
  const names = [
    "linux-image-6.1.0-9-cloud-amd64",
    "linux-image-6.1.0-56-cloud-amd64",
    "linux-image-6.1.0-57-cloud-amd64-unsigned",
    "linux-image-6.1.0-58-cloud-amd64-dbg",
    "linux-image-6.1.0-99-amd64",
    "linux-image-6.10.6-cloud-amd64",
    "linux-image-6.12-cloud-amd64",
    "linux-image-6.12.9+deb12-cloud-amd64",
    "linux-image-6.12.117+deb12-cloud-amd64",
    "linux-image-6.16-rc7-cloud-amd64",
    "linux-image-cloud-amd64",
  ];
  t.equal(newestOf("6.1", names), "6.1.0-56-cloud-amd64");
  t.equal(newestOf("new", names), "6.12.117+deb12-cloud-amd64");
  t.equal(
    newestOf("new", [...names, "linux-image-7.1+deb14-cloud-amd64"]),
    "7.1+deb14-cloud-amd64",
  );
  t.equal(newestOf("6.1", names.slice(4)), undefined);
});

t.test("what a module needs", async (t) => {
  t.same(needs(Buffer.from("x\0depends=net-failover,virtio_ring\0name=a\0")), [
    "net_failover",
    "virtio_ring",
  ]);
  t.same(needs(Buffer.from("x\0depends=\0name=a\0")), []);
  t.same(needs(Buffer.from("nothing")), []);
});

t.test("a program's libraries, and a program that is not there", async (t) => {
  const found = librariesOf(programPath("mkfs.ext4", "e2fsprogs"));
  t.ok(found.some((path) => /\/libext2fs\.so/.test(path)));
  t.ok(
    found.some((path) => /\/ld-linux/.test(path)),
    "the loader too",
  );
  t.same(librariesOf(programPath("busybox", "busybox-static")), []);
  t.throws(() => programPath("no-such-thing", "its-package"), /package its-package/);
});

t.test("what a file may hold", async (t) => {
  const block = (slot: number, write: number): Buffer => {
    const piece = Buffer.alloc(8);
    piece.writeUInt32LE(slot, 0);
    piece.writeUInt32LE(write, 4);
    return write === 0 ? Buffer.alloc(4096) : Buffer.alloc(4096, piece);
  };
  const judge = (...blocks: Buffer[]) =>
    complaints(Buffer.concat(blocks), Uint32Array.of(5, 7, 0, 2)).length;
  t.equal(judge(block(0, 5), block(1, 0)), 0, "what was acknowledged, and nothing");
  t.equal(judge(block(0, 7), block(1, 2)), 0, "what was under way");
  t.equal(judge(block(0, 6)), 0, "the file may end early where nothing was acknowledged");
  t.same(complaints(block(0, 1), Uint32Array.of(1, 1, 0, 0, 0, 0, 0, 9)), [], "long before");
  t.equal(complaints(Buffer.alloc(0), Uint32Array.of(0, 0, 0, 0, 3, 3)).length, 1);
  t.equal(judge(block(0, 4), block(1, 0)), 1, "older than acknowledged");
  t.equal(judge(block(0, 8), block(1, 0)), 1, "never sent");
  t.equal(judge(block(1, 5), block(1, 0)), 1, "of another place");
  t.equal(judge(block(0, 0), block(1, 0)), 1, "gone");
  const torn = block(0, 6);
  block(0, 5).copy(torn, 0, 0, 2048);
  t.equal(judge(torn, block(1, 0)), 1, "torn");
});

t.test("the writer keeps count of what it wrote and of what failed", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "trivet-vm-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const program = join(folder, "writer");
  writeFileSync(program, buildWriter(), { mode: 0o755 });
  const play = async (path: string): Promise<{ ledger: Uint32Array; now: number[] }> => {
    const out = join(folder, "out");
    const child = spawn(program, [path, "64", "3", "buffered", out], { stdio: "inherit" });
    const ended = new Promise((resolve) => child.once("close", resolve));
    await sleep(400);
    child.kill("SIGTERM");
    t.equal(await ended, 0);
    const bytes = readFileSync(`${out}.ledger`);
    const ledger = new Uint32Array(128).map((_, i) => bytes.readUInt32LE(4 * i));
    return { ledger, now: readFileSync(`${out}.now`, "utf8").split(" ").map(Number) };
  };

  const file = join(folder, "file");
  const good = await play(file);
  t.same(complaints(readFileSync(file), good.ledger), []);
  t.ok(good.now[0]! >= 8, `${good.now[0]} writes`);
  t.ok(
    good.ledger.some((write, i) => i % 2 === 0 && write > 0),
    "some were acknowledged",
  );
  t.same([good.now[1], good.now[4]], [0, 0], "no errors");

  const bad = await play("/dev/full");
  t.equal(bad.now[0], 0, "no write went well");
  t.ok(bad.now[1]! >= 3, `${bad.now[1]} errors`);
  t.equal(bad.now[4], 28, "the first was ENOSPC");
  t.ok(
    bad.ledger.every((write, i) => i % 2 === 1 || write === 0),
    "nothing was acknowledged",
  );
});

t.test("the table", async (t) => {
  const row: Row = {
    scenario: "replica-loss",
    client: "nbd-client",
    kernel: "6.1.0-56",
    writes: 12,
    errors: 0,
    stallMs: 1234,
    fsck: "clean",
    compared: 9,
    seconds: 31.4,
    wrong: [],
  };
  const lines = table([row, { ...row, wrong: ["x"] }]).split("\n");
  t.equal(lines.length, 4);
  t.equal(new Set(lines.map((line) => line.length)).size, 1, "all lines are of one width");
  t.ok(/\| 1\.23 s +\| clean +\| 9 +\| 31 s +\| ok +\|$/.test(lines[2]!));
  t.ok(lines[3]!.endsWith("| FAILED |"));
});
