import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { must, QEMU_IO_COMMANDS, run, start } from "../interop/tools.js";
import { until } from "../kit/until.js";
import { prng } from "../kit/world.js";
import { Rig } from "./rig.js";

// Programs that no one here wrote, on a volume with three replicas, over TCP and over a unix socket.

const MIB = 1 << 20;
const SIZE = 64 * MIB;

t.test("foreign clients on the whole path", async (t) => {
  const rig = new Rig();
  t.teardown(() => rig.remove());
  await rig.create({ blockSize: 4096, extentSize: 2048, extentCount: 8 });
  await rig.startAll();
  await rig.serve();
  const raw = join(rig.dir, "image.raw");
  writeFileSync(raw, image(SIZE));
  for (const [name, uri] of [
    ["tcp", rig.uri],
    ["unix socket", rig.unixUri],
  ] as const)
    await t.test(name, (t) => examine(t, rig, uri, raw));

  t.equal(await rig.stopServer(), 0, "the server stops in order");
  for (const program of rig.downstairs) t.equal(await program?.stop("SIGTERM"), 0);
  const [a, b, c] = rig.exports().map((path) => readFileSync(path));
  t.ok(a!.equals(b!) && b!.equals(c!), "the three regions are identical");
});

async function examine(t: Test, rig: Rig, uri: string, raw: string): Promise<void> {
  await t.test("nbdinfo", async (t) => {
    const [info] = JSON.parse(await must("nbdinfo", "--json", uri)).exports;
    t.equal(info["export-size"], SIZE);
    t.same(info.contexts, ["base:allocation"]);
    for (const what of ["write", "flush", "fua", "trim", "zero", "multi-conn", "structured-reply"])
      await must("nbdinfo", "--can", what, uri);
    await must("nbdinfo", "--list", uri);
  });

  await t.test("nbdcopy", async (t) => {
    const back = join(rig.dir, "back.raw");
    for (const how of [[], ["--connections=4", "--requests=64"]]) {
      await must("qemu-io", "-f", "raw", "-c", `write -P 0xee 0 ${SIZE}`, uri);
      await must("nbdcopy", ...how, "--flush", raw, uri);
      await must("nbdcopy", ...how, uri, back);
      await must("cmp", raw, back);
    }
    t.pass("every copy is the same");
  });

  await t.test("qemu-img and qemu-io", async (t) => {
    const info = JSON.parse(await must("qemu-img", "info", "--output=json", uri));
    t.equal(info["virtual-size"], SIZE);
    await must("qemu-img", "compare", "-f", "raw", "-F", "raw", raw, uri);
    const said = await must(
      "qemu-io",
      "-f",
      "raw",
      ...QEMU_IO_COMMANDS.flatMap((one) => ["-c", one]),
      uri,
    );
    t.notOk(/verification failed|error/i.test(said), said);
    await must("qemu-img", "bench", "-f", "raw", "-c", "2000", "-d", "16", uri);
    const writing = ["-c", "2000", "-d", "16", "-w", "--flush-interval=100"];
    await must("qemu-img", "bench", "-f", "raw", ...writing, uri);
  });

  await t.test("nbdsh", async (t) => {
    const script = join(rig.dir, "requests.py");
    writeFileSync(script, REQUESTS);
    t.equal(await must("nbdsh", "-u", uri, "-c", `exec(open("${script}").read())`), "done\n");
  });

  await t.test("fio with verification", async (t) => {
    const report = join(rig.dir, "fio.txt");
    for (const load of [
      ["--rw=randwrite", "--bs=4k", "--iodepth=16"],
      ["--rw=randrw", "--bsrange=512-256k", "--blockalign=512", "--iodepth=32", "--fsync=32"],
    ]) {
      const common = ["--name=v", "--ioengine=nbd", `--uri=${uri}`, "--size=32m", "--do_verify=1"];
      const check = ["--verify=crc32c", "--verify_state_save=0", `--output=${report}`];
      await must("fio", ...common, ...check, ...load);
      t.match(readFileSync(report, "utf8"), /err= 0/);
    }
  });

  await t.test("a file system through nbdfuse", async (t) => {
    const mount = join(rig.dir, "mount");
    mkdirSync(mount, { recursive: true });
    const fuse = start("nbdfuse", mount, uri);
    const disk = join(mount, "nbd");
    try {
      await until("nbdfuse", () => existsSync(disk));
      const tree = join(rig.dir, "tree");
      mkdirSync(tree, { recursive: true });
      writeFileSync(join(tree, "hello"), "from a file system\n".repeat(1000));
      await must("mkfs.ext4", "-q", "-F", "-d", tree, disk);
      await must("e2fsck", "-f", "-n", disk);
      const read = await must("debugfs", "-R", "cat /hello", disk);
      t.ok(read.startsWith("from a file system"));
    } finally {
      await run("fusermount3", "-u", mount);
      if (fuse.exitCode === null) await once(fuse, "exit");
    }
  });

  await t.test("nbd-client -l", async (t) => {
    t.match(await must("nbd-client", "-l", "127.0.0.1", `${rig.nbdPort}`), /Negotiation/);
  });
}

/** Random data with holes in it. */
function image(bytes: number): Buffer {
  const chance = prng(5);
  const data = Buffer.alloc(bytes);
  for (let at = 0; at < bytes; at += 64 * 1024) {
    if (chance() < 0.4) continue;
    for (let i = at; i < at + 64 * 1024; i += 4)
      data.writeUInt32LE(Math.floor(chance() * 2 ** 32), i);
  }
  return data;
}

/** Requests that the other clients do not make: across blocks, extents and pieces, and zeros over the whole volume. */
const REQUESTS = `
size = h.get_size()
h.set_strict_mode(0)
data = bytes(range(256)) * 8192 * 4
h.pwrite(data, 8 * 1024 * 1024 - 777)
assert h.pread(len(data), 8 * 1024 * 1024 - 777) == data
h.zero(size, 0, nbd.CMD_FLAG_FUA)
assert h.pread(size // 2, size // 4) == bytes(size // 2)
h.pwrite(b"x" * 513, size - 513, nbd.CMD_FLAG_FUA)
assert h.pread(513, size - 513) == b"x" * 513
h.trim(size, 0)
h.flush()
h.shutdown()
print("done")
`;
