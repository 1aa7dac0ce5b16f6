import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import t, { type Test } from "tap";
import { until } from "../kit/until.js";
import { prng } from "../kit/world.js";
import { must, QEMU_IO_COMMANDS, run, start, temporaryFolder } from "./tools.js";

// Foreign NBD clients against memory exports, on both engines, over TCP and a unix socket.

const SERVER = "dist/test/interop/fixture/nbd-memory-server.js";
const MIB = 1024 * 1024;

interface Served {
  readonly child: ChildProcess;
  /** URIs of an export, over each transport. */
  uris(name: string): string[];
  stop(): Promise<void>;
}

async function serve(folder: string, engine: string): Promise<Served> {
  const socket = join(folder, `${engine}.sock`);
  const child = start(process.execPath, SERVER, "--engine", engine, "--socket", socket, "--tcp");
  const [line] = (await once(createInterface({ input: child.stdout! }), "line")) as [string];
  const { addresses } = JSON.parse(line) as { addresses: string[] };
  const tcp = addresses.find((address) => !address.startsWith("unix:"));
  return {
    child,
    uris: (name) => [`nbd+unix:///${name}?socket=${socket}`, `nbd://${tcp}/${name}`],
    stop: async () => {
      child.kill("SIGTERM");
      const [status] = (await once(child, "exit")) as [number | null];
      if (status !== 0) throw new Error(`the server ended ${status}`);
      if (existsSync(socket)) throw new Error("the socket is left behind");
    },
  };
}

/** Random data with holes in it. */
function image(folder: string, seed: number, bytes: number): string {
  const chance = prng(seed);
  const data = Buffer.alloc(bytes);
  for (let at = 0; at < bytes; at += 64 * 1024) {
    if (chance() < 0.4) continue;
    for (let i = at; i < Math.min(bytes, at + 64 * 1024); i += 4)
      data.writeUInt32LE(Math.floor(chance() * 2 ** 32), i);
  }
  const path = join(folder, `image-${seed}.raw`);
  writeFileSync(path, data);
  return path;
}

/** Everything that is asked of a server; `raw` is an image of its size. */
async function examine(t: Test, served: Served, folder: string, raw: string): Promise<void> {
  await t.test("nbdinfo", async (t) => {
    for (const uri of served.uris("blocks")) {
      const { exports } = JSON.parse(await must("nbdinfo", "--json", uri));
      const [info] = exports;
      t.equal(info["export-size"], 64 * MIB);
      t.equal(info.block_minimum ?? info.block_size_minimum, 4096);
      t.equal(info.block_size_preferred, 4096);
      t.equal(info.block_size_maximum, 64 * MIB);
      t.same(info.contexts, ["base:allocation"]);
      const can = "connect read write flush fua trim zero cache df multi-conn structured-reply";
      for (const what of can.split(" ")) await must("nbdinfo", "--can", what, uri);
      t.equal((await run("nbdinfo", "--can", "fast-zero", uri)).status, 2);
      t.equal((await run("nbdinfo", "--is", "read-only", uri)).status, 2);
      t.equal((await run("nbdinfo", "--is", "tls", uri)).status, 2);
      t.ok(/^ +0 +67108864 +0 +data/.test(await must("nbdinfo", "--map", uri)));
    }
    for (const uri of served.uris("fixed")) {
      await must("nbdinfo", "--is", "read-only", uri);
      t.equal((await run("nbdinfo", "--can", "write", uri)).status, 2);
    }
    for (const uri of served.uris("")) {
      const names = JSON.parse(await must("nbdinfo", "--list", "--json", uri)).exports.map(
        (one: Record<string, string>) => one["export-name"],
      );
      t.same(names, ["blocks", "sectors", "bytes", "fixed"]);
      t.equal((await must("nbdinfo", "--size", uri)).trim(), String(64 * MIB));
    }
    for (const uri of served.uris("none")) t.equal((await run("nbdinfo", uri)).status, 1);
  });

  await t.test("nbdcopy there and back, one connection and several", async (t) => {
    const back = join(folder, "back.raw");
    for (const name of ["blocks", "bytes"])
      for (const uri of served.uris(name))
        for (const how of [[], ["--connections=4", "--requests=64"], ["--synchronous"]]) {
          await must("qemu-io", "-f", "raw", "-c", "write -P 0xee 0 64M", uri);
          await must("nbdcopy", ...how, raw, uri);
          await must("nbdcopy", ...how, uri, back);
          await must("cmp", raw, back);
        }
    t.pass("every copy is the same");
  });

  await t.test("qemu-img and qemu-io", async (t) => {
    for (const uri of served.uris("blocks")) {
      await must("nbdcopy", raw, uri);
      const info = JSON.parse(await must("qemu-img", "info", "--output=json", uri));
      t.equal(info["virtual-size"], 64 * MIB);
      const map = JSON.parse(await must("qemu-img", "map", "--output=json", uri));
      t.same(
        map.map((one: Record<string, unknown>) => [one.start, one.length, one.data]),
        [[0, 64 * MIB, true]],
      );
      await must("qemu-img", "compare", "-f", "raw", "-F", "raw", raw, uri);
      const io = (...commands: string[]) =>
        must("qemu-io", "-f", "raw", ...commands.flatMap((one) => ["-c", one]), uri);
      const said = await io(...QEMU_IO_COMMANDS);
      t.equal(/verification failed|error/i.test(said), false, said);
      const wrong = await run("qemu-io", "-f", "raw", "-c", "read -P 1 0 512", uri);
      t.ok(/verification failed/.test(wrong.stdout), "qemu-io does compare");
      const bench = ["bench", "-f", "raw", "-c", "2000", "-d", "16"];
      await must("qemu-img", ...bench, uri);
      await must("qemu-img", ...bench, "-w", "--flush-interval=50", uri);
    }
  });

  await t.test("nbdsh: requests that no honest client sends", async (t) => {
    const script = join(folder, "illegal.py");
    writeFileSync(script, ILLEGAL);
    for (const uri of served.uris("blocks"))
      t.equal(await must("nbdsh", "-u", uri, "-c", `exec(open("${script}").read())`), "done\n");
  });

  await t.test("fio with verification", async (t) => {
    const report = join(folder, "fio.txt");
    // libnbd refuses by itself what is off the announced block size.
    const loads = {
      blocks: ["--bsrange=4k-128k", "--blockalign=4k"],
      sectors: ["--bsrange=512-128k", "--blockalign=512"],
      bytes: ["--bsrange=512-128k", "--blockalign=512"],
    };
    for (const [name, sizes] of Object.entries(loads))
      for (const uri of served.uris(name))
        for (const load of [
          ["--rw=randwrite", "--bs=4k", "--iodepth=16"],
          ["--rw=randrw", ...sizes, "--iodepth=32", "--fsync=16"],
        ]) {
          const common = ["--name=v", "--ioengine=nbd", `--uri=${uri}`, "--size=16m"];
          const verify = [
            "--verify=crc32c",
            "--do_verify=1",
            "--verify_state_save=0",
            `--output=${report}`,
          ];
          await must("fio", ...common, ...load, ...verify);
          t.ok(/err= 0/.test(readFileSync(report, "utf8")));
        }
  });

  await t.test("a file system through nbdfuse", async (t) => {
    // mkfs writes less than 4096 bytes, and nbdfuse does not merge.
    for (const uri of served.uris("sectors")) {
      const mount = join(folder, "mount");
      mkdirSync(mount, { recursive: true });
      const fuse = start("nbdfuse", mount, uri);
      const disk = join(mount, "nbd");
      try {
        await until("nbdfuse", () => existsSync(disk));
        await must("mkfs.ext4", "-q", "-F", "-b", "4096", disk);
        await must("e2fsck", "-f", "-n", disk);
        const files = join(folder, "tree");
        mkdirSync(files, { recursive: true });
        writeFileSync(join(files, "hello"), "from a file system\n".repeat(1000));
        await must("mkfs.ext4", "-q", "-F", "-d", files, disk);
        await must("e2fsck", "-f", "-n", disk);
        t.ok((await must("debugfs", "-R", "cat /hello", disk)).startsWith("from a file system"));
      } finally {
        await run("fusermount3", "-u", mount);
        if (fuse.exitCode === null) await once(fuse, "exit");
      }
    }
  });

  await t.test("nbd-client -l", async (t) => {
    const port = /:(\d+)\//.exec(served.uris("")[1]!)![1]!;
    const said = await must("nbd-client", "-l", "127.0.0.1", port);
    t.same(said.match(/^\w+(?=:|$)/gm)?.slice(1), ["blocks", "sectors", "bytes", "fixed"]);
  });
}

for (const engine of ["ring", "plain"])
  t.test(`engine ${engine}`, async (t) => {
    const folder = temporaryFolder();
    const served = await serve(folder.path, engine);
    try {
      await examine(t, served, folder.path, image(folder.path, 7, 64 * MIB));
      await served.stop();
      t.pass("it ends with status 0 and removes its socket");
    } finally {
      served.child.kill("SIGKILL");
      folder.remove();
    }
  });

t.test("socket activation: libnbd starts the server", async (t) => {
  const program = ["[", process.execPath, SERVER, "]"];
  t.equal((await must("nbdinfo", "--size", "--", ...program)).trim(), String(64 * MIB));
  const folder = temporaryFolder();
  try {
    await must("nbdcopy", "--", image(folder.path, 8, MIB), ...program);
  } finally {
    folder.remove();
  }
});

const ILLEGAL = `
h.set_strict_mode(0)
def fails(errno, f):
    try:
        f()
    except nbd.Error as e:
        assert e.errno == errno, (errno, e)
        return
    assert False, errno
size = h.get_size()
one = b"\\x01"
fails("EINVAL", lambda: h.pread(0, 0))
fails("EINVAL", lambda: h.pread(1, size))
fails("EINVAL", lambda: h.pread(4096, size - 1))
fails("ENOSPC", lambda: h.pwrite(one * 100, size - 50))
fails("ENOSPC", lambda: h.pwrite(one * 100000, 2 ** 62))
fails("EINVAL", lambda: h.pwrite(b"", 0))
fails("EINVAL", lambda: h.pwrite(one, 0, 1 << 14))
fails("EINVAL", lambda: h.trim(4096, size))
fails("EINVAL", lambda: h.cache(4096, size))
fails("ENOSPC", lambda: h.zero(4096, size))
fails("EINVAL", lambda: h.zero(4096, 0, nbd.CMD_FLAG_FAST_ZERO))
fails("EINVAL", lambda: h.flush(nbd.CMD_FLAG_DF))
for i in range(20):
    h.pwrite(bytes([i + 1]) * 7, 4093 * i, nbd.CMD_FLAG_FUA)
h.flush()
for i in range(20):
    assert h.pread(7, 4093 * i, nbd.CMD_FLAG_DF if i % 2 else 0) == bytearray([i + 1]) * 7
h.zero(4093 * 5, 3, nbd.CMD_FLAG_NO_HOLE)
assert h.pread(7, 4093 * 5) == bytearray([0, 0, 0, 6, 6, 6, 6])
h.cache(size, 0)
h.trim(size - 4096, 0)
big = bytearray(b"0123456789abcdef" * (2 * 1024 * 1024))
h.pwrite(big, 1000)
assert h.pread(len(big), 1000) == big
h.shutdown()
print("done")
`;
