import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { makeFolder, removeFolder } from "../kit/folders.js";
import { cleanUp, freePort, run, Server, trivet } from "../kit/programs.js";

// The demo, from its first start to its end, twice on the same data.

const folder = makeFolder();
t.teardown(async () => {
  await cleanUp();
  removeFolder(folder);
});

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};
const pidsIn = (output: string): number[] =>
  /or any of ([\d, ]+)/.exec(output)![1]!.split(", ").map(Number);
const nbdsh = (uri: string, code: string) =>
  run("nbdsh", ["-u", uri, "-c", code], { env: { PATH: "/usr/bin:/bin" } });

t.test(
  "a demo starts, keeps its data, survives a replica's death, and stops in order",
  async (t) => {
    const dir = join(folder, "demo");
    const address = `127.0.0.1:${await freePort()}`;
    const uri = `nbd://${address}`;
    const args = ["demo", "--dir", dir, "--address", address];
    const first = new Server("trivet", [...args, "--size", "64M"]);
    await first.says(/ctrl-C stops/);
    for (const part of [dir, uri, "nbdcopy", "qemu-img", "nbd-client -b 4096", "fio "]) {
      t.ok(first.output.includes(part), part);
    }
    const written = await nbdsh(uri, "h.pwrite(b'photos!!' * 512, 1 << 20); h.flush()");
    t.equal(written.status, 0, written.stderr);

    const other = await trivet(...args);
    t.equal(other.status, 3);
    t.ok(other.stderr.startsWith("TRIVET_E_REGION_LOCKED: another demo runs in "), other.stderr);

    const pids = pidsIn(first.output);
    t.equal(pids.length, 3);
    process.kill(pids[1]!, "SIGKILL");
    const more = await nbdsh(uri, "h.pwrite(b'x' * 4096, 0); h.flush(); h.pread(4096, 1 << 20)");
    t.equal(more.status, 0, more.stderr);
    await first.says(/downstairs 1 ended[\s\S]*downstairs 1 runs again/);
    await first.says(/downstairs 1 runs again[\s\S]*replica 1 \S+ is back/);
    t.equal(await first.stop("SIGINT"), 0);
    t.ok(/stopped in order/.test(first.output));
    t.equal(pids.filter(isAlive).length, 0, "no child is left");

    const resized = await trivet(...args, "--size", "128M");
    t.equal(resized.status, 3);
    t.ok(resized.stderr.startsWith("TRIVET_E_REGION_RESIZE: "), resized.stderr);

    const plan = readFileSync(join(dir, "demo.json"), "utf8");
    const second = new Server("trivet", args);
    await second.says(/ctrl-C stops/);
    t.equal(readFileSync(join(dir, "demo.json"), "utf8"), plan, "the same ports");
    const read = await nbdsh(
      uri,
      "print(h.pread(512, (1 << 20) + 512)[:8].decode(), h.get_size())",
    );
    t.equal(read.stdout.trim(), `photos!! ${64 * 2 ** 20}`);

    // Killed itself, its children notice.
    const orphans = pidsIn(second.output);
    second.child.kill("SIGKILL");
    await second.ended();
    for (let i = 0; i < 100 && orphans.some(isAlive); i++) {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    t.equal(orphans.filter(isAlive).length, 0, "replicas do not outlive a demo that was killed");
    const third = new Server("trivet", args);
    await third.says(/ctrl-C stops/);
    const again = await nbdsh(uri, "print(h.pread(512, 1 << 20)[:8].decode())");
    t.equal(again.stdout.trim(), "photos!!");
    t.equal(await third.stop("SIGTERM"), 0);
  },
);

t.test("an address in use stops the demo before anything is served", async (t) => {
  const address = `127.0.0.1:${await freePort()}`;
  const memory = new Server("trivet", ["serve", "--memory", "16M", "--address", address]);
  await memory.says(/serving/);
  const dir = join(folder, "clash");
  const clash = await trivet("demo", "--dir", dir, "--size", "16M", "--address", address);
  t.equal(clash.status, 4);
  const last = clash.stderr.trim().split("\n").at(-1)!;
  t.ok(last.startsWith("TRIVET_E_ADDRESS_IN_USE: "), last);
  t.equal(await memory.stop(), 0);
});

t.test("the folder is where it says, also without a home", async (t) => {
  const here = join(folder, "here");
  mkdirSync(here);
  const address = `127.0.0.1:${await freePort()}`;
  const options = { cwd: here, env: { HOME: "/nonexistent", XDG_DATA_HOME: "" } };
  const server = new Server("trivet", ["demo", "--size", "16M", "--address", address], options);
  await server.says(/ctrl-C stops/);
  t.ok(server.output.includes(`Data: ${join(here, "trivet-demo")}`));
  t.ok(readdirSync(join(here, "trivet-demo")).includes("region2"));
  t.equal(await server.stop("SIGINT"), 0);
});

t.test("set-up has nothing to do the second time, and says nothing", async (t) => {
  const root = new URL("../../../", import.meta.url).pathname;
  const setup = ["native/setup.mjs", "build"];
  await run("node", setup, { cwd: root });
  const started = performance.now();
  const outcome = await run("node", setup, { cwd: root });
  const elapsed = performance.now() - started;
  t.equal(outcome.status, 0, outcome.stderr);
  t.equal(outcome.stdout + outcome.stderr, "");
  t.ok(elapsed < 3000, `${elapsed} ms`);
  const wrong = await run("node", ["native/setup.mjs", "tset"], { cwd: root });
  t.equal(wrong.status, 2);
});
