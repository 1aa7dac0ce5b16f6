import { execFile, spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import t, { type Test } from "tap";
import { nativeProgram } from "../../src/host/native.js";
import { makeFolder, makeRuntimeFolder, removeFolder } from "../kit/folders.js";
import { Machine } from "../kit/machine.js";
import {
  cleanUp,
  freePort,
  type Outcome,
  programPath,
  run,
  Server,
  targetOptions,
  trivet,
} from "../kit/programs.js";
import { must } from "./tools.js";

// trivet attach and detach as users type them, on made-up machines: what is wrong is said before the kernel is asked. A real kernel
// is none of these tests' business; where one would be asked, the native program finds none below the machine's folder.

const folder = makeFolder();
const machines: Machine[] = [];
const runtimes: string[] = [];
t.teardown(async () => {
  await cleanUp();
  for (const one of machines) one.remove();
  for (const one of [folder, ...runtimes]) removeFolder(one);
});
t.afterEach(cleanUp);

function refused(t: Test, outcome: Outcome, status: number, code: string, detail: RegExp): void {
  const last = outcome.stderr.trim().split("\n").at(-1) ?? "";
  t.equal(outcome.status, status, outcome.stderr);
  t.ok(last.startsWith(`${code}: `), outcome.stderr);
  t.ok(detail.test(last), outcome.stderr);
  t.equal(outcome.stdout, "");
}

interface Place {
  readonly machine: Machine;
  readonly env: Record<string, string>;
}
/** A machine with four free devices, and a runtime folder of its own. */
function place(): Place {
  const machine = new Machine();
  machines.push(machine);
  for (const index of [0, 1, 2, 3]) machine.device(index);
  const runtime = makeRuntimeFolder();
  runtimes.push(runtime);
  return { machine, env: { TRIVET_ROOT: machine.root, RUNTIME_DIRECTORY: runtime } };
}
/** A process that the machine takes for the one that keeps a device connected. */
function supervisorOf(machine: Machine): {
  readonly pid: number;
  endedBy(): NodeJS.Signals | null;
} {
  const child = spawn("sleep", ["600"], { stdio: "ignore" });
  t.teardown(() => child.kill("SIGKILL"));
  const pid = child.pid!;
  machine.process(pid, "trivet-attach");
  child.once("exit", () => machine.ended(pid));
  return { pid, endedBy: () => child.signalCode };
}
const attach = ({ env }: Place, ...args: string[]): Promise<Outcome> =>
  run("trivet", ["attach", ...args], { env });
const detach = ({ env }: Place, ...args: string[]): Promise<Outcome> =>
  run("trivet", ["detach", ...args], { env });
/** As far as it goes without a kernel. */
const reachedKernel = (t: Test, outcome: Outcome): void =>
  refused(t, outcome, 4, "TRIVET_E_NO_NBD", /there is no kernel below /);

async function memory(where: Place, ...more: string[]): Promise<{ server: Server; port: number }> {
  const port = await freePort();
  const args = ["serve", "--memory", "64M", "--address", `127.0.0.1:${port}`, ...more];
  const server = new Server("trivet", args, { env: where.env });
  await server.says(/serving/);
  return { server, port };
}

t.test("help", async (t) => {
  for (const name of ["attach", "detach"]) {
    const { status, stdout } = await trivet(name, "--help");
    t.equal(status, 0);
    t.ok(stdout.startsWith(`trivet ${name}: `));
    t.ok(/Usage: trivet \w+ NAME\|/.test(stdout), stdout);
  }
});

t.test("command lines that make no sense", async (t) => {
  const here = place();
  const wrong = async (detail: RegExp, ...args: string[]) =>
    refused(t, await attach(here, ...args), 2, "TRIVET_E_USAGE", detail);
  await wrong(/needs NAME\|ADDRESS/);
  await wrong(/"\/dev\/sda" is no device of the kernel's nbd/, "photos", "/dev/sda");
  await wrong(/"\/dev\/nbd0p1"/, "photos", "/dev/nbd0p1");
  await wrong(/--adopt needs the device/, "photos", "--adopt");
  await wrong(/none of 512, 1024, 2048 and 4096/, "photos", "--block-size", "8192");
  await wrong(/none of 512/, "photos", "--block-size", "3072");
  await wrong(/--dead-timeout: 0s is no whole number of seconds/, "photos", "--dead-timeout", "0s");
  await wrong(/--timeout: 500ms is no whole number/, "photos", "--timeout", "500ms");
  await wrong(/--max-request: 64M is not from 4K/, "photos", "--max-request", "64M");
  await wrong(/ADDRESS: "127.0.0.1:0" is no address/, "127.0.0.1:0");
  await wrong(/expected unix: and a path/, "unix:relative");
  refused(t, await detach(here), 2, "TRIVET_E_USAGE", /needs NAME\|\/dev\/nbdN/);
});

t.test("no module, not root", async (t) => {
  const here = place();
  const bare = { ...here, env: { ...here.env, TRIVET_ROOT: makeFolder(folder) } };
  for (const outcome of [await attach(bare, "photos"), await detach(bare, "photos")])
    refused(t, outcome, 4, "TRIVET_E_NO_NBD", /module nbd is not loaded.*modprobe nbd/);
  const program = programPath("trivet");
  const isRoot = process.getuid?.() === 0;
  for (const name of ["attach", "detach"]) {
    // A user of no rights, who may read what we may.
    const outcome = isRoot
      ? await run("unshare", ["--user", program, name, "photos"])
      : await trivet(name, "photos");
    refused(t, outcome, 4, "TRIVET_E_PERMISSION", new RegExp(`only root can ${name} devices`));
  }
});

t.test("volumes and servers that are not there, or are something else", async (t) => {
  const here = place();
  refused(
    t,
    await attach(here, "photos"),
    5,
    "TRIVET_E_NO_SERVER",
    /no server of photos runs here/,
  );
  const file = join(folder, "none.toml");
  refused(t, await attach(here, file), 2, "TRIVET_E_CONFIG", /there is no file .*none\.toml/);
  writeFileSync(file, 'memory = "16M"\nfrobnicate = 1\n');
  refused(t, await attach(here, file), 2, "TRIVET_E_CONFIG", /none\.toml:2:1: .*frobnicate/);
  const port = await freePort();
  const dead = await attach(here, `127.0.0.1:${port}`);
  refused(t, dead, 5, "TRIVET_E_DIAL", new RegExp(`127\\.0\\.0\\.1:${port}: .*refused`));
  refused(t, await attach(here, "unix:/no/such.sock"), 5, "TRIVET_E_DIAL", /No such file/);
  refused(t, await attach(here, "no-such-host.invalid:1"), 5, "TRIVET_E_DIAL", /no known host/);
  const web = createServer((socket) => {
    socket.on("error", () => {});
    socket.end("HTTP/1.1 400 Bad Request\r\n\r\n");
  });
  await new Promise<void>((resolve) => web.listen(port, "127.0.0.1", resolve));
  const other = await attach(here, `127.0.0.1:${port}`);
  refused(t, other, 5, "TRIVET_E_NBD_PROTOCOL", /does not speak NBD/);
  web.close();
  const { port: real } = await memory(here, "--export", "films");
  const unknown = await attach(here, `127.0.0.1:${real}`, "--export", "photos");
  refused(t, unknown, 5, "TRIVET_E_REFUSED", /has no such export/);
});

t.test("a volume by its name, its file and its address", async (t) => {
  const here = place();
  const { port } = await memory(here, "--export", "films");
  reachedKernel(t, await attach(here, "films"));
  reachedKernel(t, await attach(here, `127.0.0.1:${port}`));
  reachedKernel(t, await attach(here, `localhost:${port}`, "/dev/nbd2", "--export", "films"));
  reachedKernel(t, await attach(here, "films", "--foreground"));
  const file = join(folder, "songs.toml");
  const socket = join(here.env.RUNTIME_DIRECTORY!, "nbd.sock");
  writeFileSync(file, `memory = "16M"\nsocket = "${socket}"\ncontrol = "none"\nexport = "x y"\n`);
  refused(t, await attach(here, file), 5, "TRIVET_E_DIAL", /No such file/);
  const songs = new Server("trivet", ["serve", file], { env: here.env });
  await songs.says(/serving/);
  reachedKernel(t, await attach(here, file));
  reachedKernel(t, await attach(here, `unix:${socket}`));
});

t.test("devices in use, and volumes that have one", async (t) => {
  const here = place();
  const { machine } = here;
  const { port } = await memory(here, "--export", "films");
  machine.attached(0, 60);
  machine.process(60, "nbd-client");
  const busy = await attach(here, "films", "/dev/nbd0");
  refused(t, busy, 4, "TRIVET_E_DEVICE_BUSY", /attached by nbd-client \(process 60\).*--adopt/);
  refused(t, await attach(here, "films", "nbd7"), 4, "TRIVET_E_DEVICE", /no \/dev\/nbd7/);
  const none = await attach(here, "films", "nbd1", "--adopt");
  refused(t, none, 4, "TRIVET_E_NOT_ATTACHED", /nbd1 is not attached/);
  reachedKernel(t, await attach(here, "films", "nbd0", "--adopt"));

  const supervisor = supervisorOf(machine);
  const { pid } = supervisor;
  machine.attached(1, pid, "trivet/films");
  machine.record("films", "/dev/nbd1", pid);
  const again = await attach(here, "films");
  t.same([again.status, again.stdout], [0, "films is attached as /dev/nbd1 already\n"]);
  const json = await attach(here, "films", "/dev/nbd1", "--json");
  t.same(JSON.parse(json.stdout), {
    volume: "films",
    device: "/dev/nbd1",
    pid,
    size_bytes: 16 * 2 ** 20,
    block_bytes: 4096,
  });
  const twice = await attach(here, "films", "/dev/nbd2");
  refused(t, twice, 4, "TRIVET_E_ATTACHED", /films is attached as \/dev\/nbd1 on this host/);
  // The same volume under another name.
  const alias = await attach(here, `127.0.0.1:${port}`, "/dev/nbd2");
  refused(t, alias, 4, "TRIVET_E_ATTACHED", /films is attached as \/dev\/nbd1/);

  machine.put("/proc/self/mountinfo", "30 22 43:32 / /srv rw - ext4 /dev/nbd1 rw\n");
  const mounted = await detach(here, "films");
  refused(t, mounted, 4, "TRIVET_E_DEVICE_BUSY", /\/dev\/nbd1 is mounted on \/srv/);
  refused(t, await detach(here, "music"), 4, "TRIVET_E_NOT_ATTACHED", /music is not attached/);
  refused(t, await detach(here, "nbd3"), 4, "TRIVET_E_NOT_ATTACHED", /nbd3 is not attached/);
  t.equal(supervisor.endedBy(), null, "it keeps the device connected until then");
  reachedKernel(t, await detach(here, "films", "--force"));
  t.equal(supervisor.endedBy(), "SIGTERM", "nobody connects the device again");
  reachedKernel(t, await detach(here, "/dev/nbd0"));
});

t.test("a volume that is not active yet is waited for", async (t) => {
  const here = place();
  const regions = [0, 1, 2].map((i) => join(folder, `late${i}`));
  const ports: number[] = [];
  for (const region of regions) {
    await trivet("region", "create", region, "--size", "4M");
    ports.push(await freePort());
  }
  const targets = targetOptions(ports.map((port) => `127.0.0.1:${port}`));
  const port = await freePort();
  const address = `127.0.0.1:${port}`;
  const args = ["serve", ...targets, "--address", address, "--export", "late"];
  const server = new Server("trivet", args, { env: here.env });
  await server.says(/listen|wait|connect/i);
  const byName = new Server("trivet", ["attach", "late"], { env: here.env });
  // Another runtime folder: its control socket is not found.
  const stranger = { ...here.env, RUNTIME_DIRECTORY: makeFolder(folder) };
  const byAddress = new Server("trivet", ["attach", address], { env: stranger });
  await byName.says(/late is not active yet: .*replicas.*; waiting/);
  await byAddress.says(/does not answer yet, as its volume is not active; waiting/);
  t.equal(byName.hasEnded || byAddress.hasEnded, false);
  await Promise.all(regions.map((region, i) => serveRegionAt(region, ports[i]!)));
  t.equal(await byName.ended(), 4, byName.output);
  t.ok(
    /late is active\n[\s\S]*TRIVET_E_NO_NBD: there is no kernel below/.test(byName.output),
    byName.output,
  );
  t.equal(await byAddress.ended(), 4, byAddress.output);
});
async function serveRegionAt(region: string, port: number): Promise<void> {
  const server = new Server("trivet", ["region", "run", region, "--port", `${port}`]);
  await server.says(/is served on/);
}

t.test("a partition table that was made with other blocks", async (t) => {
  const here = place();
  const { port } = await memory(here, "--export", "disk");
  const image = Buffer.alloc(64 * 2 ** 20);
  image[446 + 4] = 0xee;
  image.writeUInt32LE(1, 446 + 8);
  image.writeUInt32LE(0xffffffff, 446 + 12);
  image.writeUInt16LE(0xaa55, 510);
  image.write("EFI PART", 512, "latin1");
  image.writeBigUInt64LE(1n, 512 + 24);
  const path = join(folder, "gpt.img");
  writeFileSync(path, image);
  await must("nbdcopy", path, `nbd://127.0.0.1:${port}/disk`);
  const wrong = await attach(here, "disk");
  refused(t, wrong, 3, "TRIVET_E_BLOCK_SIZE", /\(GPT\).*blocks of 512 bytes; with 4096/);
  reachedKernel(t, await attach(here, "disk", "--block-size", "512"));
});

t.test("the native program, asked by itself", async (t) => {
  const program = nativeProgram("trivet-attach");
  const ask = (...args: string[]): Promise<Outcome> =>
    new Promise((resolve) => {
      const child = execFile(program, args, (_, stdout, stderr) =>
        resolve({ status: child.exitCode ?? 128, stdout, stderr }),
      );
    });
  const help = await ask("--help");
  t.equal(help.status, 0);
  t.ok(help.stdout.startsWith("trivet-attach: "));
  for (const args of [
    [],
    ["frobnicate"],
    ["run"],
    ["run", "--server", "localhost:1"],
    ["run", "--server", "127.0.0.1:1", "--block-size", "513"],
    ["run", "--server", "127.0.0.1:1", "--adopt"],
    ["run", "--server"],
    ["probe", "--server", "127.0.0.1:1", "--read", "0,65537"],
    ["disconnect"],
    ["disconnect", "x"],
    ["status", "1", "2"],
  ]) {
    const { status, stdout } = await ask(...args);
    t.equal(status, 2, args.join(" "));
    t.equal(JSON.parse(stdout).error, "TRIVET_E_USAGE");
  }
  const plain = await ask("run", "--plain", "--bad");
  t.equal(plain.stderr, "TRIVET_E_USAGE: --bad is not known here\n");
  // Whether or not the kernel has the module, it answers; nothing is changed by asking.
  const status = await ask("status");
  t.ok(status.status === 0 || /NO_NBD/.test(status.stdout), status.stdout);
  const here = place();
  const { port } = await memory(here, "--export", "films");
  const server = ["--server", `127.0.0.1:${port}`, "--export", "films"];
  const found = await ask("probe", ...server, "--read", "0,16", "--read", "4096,8");
  t.same(JSON.parse(found.stdout), {
    size: 64 * 2 ** 20,
    flags: JSON.parse(found.stdout).flags,
    minimum: 1,
    preferred: 4096,
    maximum: 64 * 2 ** 20,
    read: ["00".repeat(16), "00".repeat(8)],
  });
  const beyond = await ask("probe", ...server, "--read", `${64 * 2 ** 20},512`);
  t.equal(beyond.status, 5);
});
