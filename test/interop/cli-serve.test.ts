import { cpSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { makeFolder, removeFolder } from "../kit/folders.js";
import {
  cleanUp,
  freePort,
  type Outcome,
  run,
  Server,
  serveRegion,
  targetOptions,
  trivet,
} from "../kit/programs.js";

// The server as users and service managers meet it: what it refuses, what it says, and how it ends.

const folder = makeFolder();
t.teardown(async () => {
  await cleanUp();
  removeFolder(folder);
});
t.afterEach(cleanUp);

function refused(t: Test, outcome: Outcome, status: number, code: string, detail: RegExp): void {
  t.equal(outcome.status, status, outcome.stderr);
  const last = outcome.stderr.trim().split("\n").at(-1)!;
  t.ok(last.startsWith(`${code}: `), last);
  t.ok(detail.test(last), last);
  t.ok(/\. [A-Z].*\.$/.test(last), "advice follows");
  t.equal(outcome.stderr.includes("    at "), false, "no stack trace");
}

const create = async (name: string, ...more: string[]): Promise<string> => {
  const directory = join(folder, name);
  const options = more.length > 0 ? more : ["--size", "4M"];
  const outcome = await trivet("region", "create", directory, ...options);
  if (outcome.status !== 0) throw new Error(outcome.stderr);
  return directory;
};

/** Three regions, served. */
async function threeRegions(name: string, ...options: string[]) {
  const made = [0, 1, 2].map(async (i) => serveRegion(await create(`${name}${i}`), ...options));
  const served = await Promise.all(made);
  return { served, targets: served.map(({ target }) => target) };
}

const listen = async (): Promise<string> => `127.0.0.1:${await freePort()}`;
const serveOn = (address: string, targets: readonly string[], ...more: string[]) =>
  new Server("trivet", ["serve", ...targetOptions(targets), "--address", address, ...more]);
const serveAll = async (targets: readonly string[], ...more: string[]): Promise<Outcome> =>
  trivet("serve", ...targetOptions(targets), "--address", await listen(), ...more);

t.test("command lines and files that cannot be meant", async (t) => {
  refused(
    t,
    await trivet("serve", "--memory", "64M", "--adress", "x"),
    2,
    "TRIVET_E_USAGE",
    /--adress \(did you mean --address\?\)/,
  );
  refused(t, await trivet("sevre"), 2, "TRIVET_E_USAGE", /"sevre" \(did you mean serve\?\)/);
  refused(t, await trivet("serve"), 2, "TRIVET_E_USAGE", /--target three times/);
  refused(
    t,
    await serveAll(["127.0.0.1:1", "127.0.0.1:2"]),
    2,
    "TRIVET_E_USAGE",
    /2 targets, expected 3/,
  );
  refused(
    t,
    await serveAll(["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:1"]),
    5,
    "TRIVET_E_SAME_REGION",
    /127\.0\.0\.1:1 is named twice/,
  );
  const three = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"];
  refused(t, await serveAll(three, "--gen", "0"), 2, "TRIVET_E_GENERATION_ZERO", /generation 0/);
  refused(t, await serveAll(three, "--gen", "seven"), 2, "TRIVET_E_USAGE", /--gen: "seven"/);
  const file = join(folder, "bad.toml");
  writeFileSync(file, 'export = "a"\ntarget = ["127.0.0.1:1"\nack = "quorum"\n');
  refused(t, await trivet("serve", file), 2, "TRIVET_E_CONFIG", /bad\.toml:\d+:\d+: /);
  writeFileSync(file, 'export = "a"\ntargets = ["127.0.0.1:1"]\n');
  refused(
    t,
    await trivet("serve", file),
    2,
    "TRIVET_E_CONFIG",
    /bad\.toml:2:1: there is no key targets \(did you mean target\?\)/,
  );
  writeFileSync(file, 'memory = "64M"\naddress = "localhost"\n');
  refused(
    t,
    await trivet("serve", file),
    2,
    "TRIVET_E_CONFIG",
    /bad\.toml:2:1: address: "localhost" is no address/,
  );
  refused(
    t,
    await trivet("serve", "no-such-volume"),
    2,
    "TRIVET_E_CONFIG",
    /\/etc\/trivet\/no-such-volume\.toml/,
  );
  for (const args of [
    ["--help"],
    ["serve", "--help"],
    ["region", "run", "-h"],
    ["help", "demo"],
    ["--version"],
    ["serve", "--version"],
  ]) {
    const outcome = await trivet(...args);
    t.equal(outcome.status, 0, args.join(" "));
    t.equal(outcome.stderr, "");
    t.ok(outcome.stdout.length > 5);
  }
});

t.test("a port in use is found before the volume is asked for", async (t) => {
  const address = await listen();
  const { targets } = await threeRegions("busy");
  const first = serveOn(address, targets);
  await first.says(/serving 4 MiB/);
  refused(
    t,
    await trivet("serve", "--memory", "64M", "--address", address),
    4,
    "TRIVET_E_ADDRESS_IN_USE",
    /127\.0\.0\.1/,
  );
  refused(
    t,
    await trivet("serve", ...targetOptions(targets), "--address", address, "--write-log", "none"),
    4,
    "TRIVET_E_ADDRESS_IN_USE",
    /127\.0\.0\.1/,
  );
  refused(
    t,
    await serveAll(targets, "--address", await listen()),
    4,
    "TRIVET_E_LOG_LOCKED",
    /another server of the volume 127.*pid \d+/,
  );
  const size = await run("nbdinfo", ["--size", `nbd://${address}`]);
  t.equal(size.stdout.trim(), `${4 * 2 ** 20}`, "whoever has the volume still has it");
  t.equal(await first.stop("SIGINT"), 0);
});

t.test("regions that do not make a volume", async (t) => {
  const { served, targets } = await threeRegions("good");
  const copy = join(folder, "copy");
  cpSync(join(folder, "good0"), copy, { recursive: true });
  const same = await serveRegion(copy);
  refused(
    t,
    await serveAll([targets[0]!, targets[1]!, same.target]),
    5,
    "TRIVET_E_SAME_REGION",
    /./,
  );
  const other = await serveRegion(await create("other", "--size", "8M"));
  refused(
    t,
    await serveAll([targets[0]!, targets[1]!, other.target]),
    5,
    "TRIVET_E_GEOMETRY_MISMATCH",
    /./,
  );
  const sealed = join(folder, "sealed");
  await run("crucible-downstairs", [
    "create",
    "-d",
    sealed,
    "-u",
    "12345678-1111-2222-3333-123456789999",
    "--block-size",
    "4096",
    "--extent-size",
    "256",
    "--extent-count",
    "4",
    "--encrypted",
  ]);
  const encrypted = await serveRegion(sealed);
  refused(
    t,
    await serveAll([targets[0]!, targets[1]!, encrypted.target]),
    5,
    "TRIVET_E_ENCRYPTED_MISMATCH",
    /./,
  );
  refused(t, await serveAll(targets, "--read-only"), 5, "TRIVET_E_READ_ONLY_MISMATCH", /./);
  await served[2]!.server.stop();
  const readOnly = await serveRegion(join(folder, "good2"), "--mode", "ro");
  refused(
    t,
    await serveAll([targets[0]!, targets[1]!, readOnly.target]),
    5,
    "TRIVET_E_READ_ONLY_MISMATCH",
    /./,
  );
});

t.test(
  "generations: a higher one takes the volume over, one that is too low is refused",
  async (t) => {
    const { served, targets } = await threeRegions("gen");
    const address = await listen();
    const first = serveOn(address, targets, "--gen", "10");
    await first.says(/serving/);
    const write = await run(
      "nbdsh",
      ["-u", `nbd://${address}`, "-c", "h.pwrite(b'x' * 4096, 0); h.flush()"],
      { env: { PATH: "/usr/bin:/bin" } },
    );
    t.equal(write.status, 0, write.stderr);
    // As on another host.
    const second = serveOn(await listen(), targets, "--gen", "11", "--write-log", "none");
    await second.says(/serving/);
    t.equal(await first.ended(), 10);
    const last = first.output.trim().split("\n").at(-1)!;
    t.ok(/^TRIVET_E_SUPERSEDED: .*\. Another host has taken the volume over/.test(last), last);
    t.equal(await second.stop(), 0);
    for (const { server } of served) t.equal(await server.stop(), 0);
    const again = [0, 1, 2].map((i) => serveRegion(join(folder, `gen${i}`)));
    const restarted = (await Promise.all(again)).map(({ target }) => target);
    refused(t, await serveAll(restarted, "--gen", "10"), 5, "TRIVET_E_GENERATION_TOO_LOW", /10/);
  },
);

t.test("the last used generation is kept, so that a clock set back does no harm", async (t) => {
  const { targets } = await threeRegions("clock");
  const state = join(folder, "state");
  const file = join(folder, "clock.toml");
  const socket = join(folder, "clock.sock");
  writeFileSync(
    file,
    `target = ${JSON.stringify(targets)}\nsocket = "${socket}"\nstate-dir = "${state}"\n`,
  );
  const first = new Server("trivet", ["serve", file]);
  await first.says(/serving/);
  const kept = () => BigInt(JSON.parse(readFileSync(join(state, "clock.json"), "utf8")).generation);
  const used = kept();
  t.ok(used > 1_700_000_000n);
  const info = await run("nbdinfo", ["--list", `nbd+unix:///?socket=${socket}`]);
  t.ok(info.stdout.includes('export="clock"'), "the export is named after the volume");
  t.equal(await first.stop(), 0);
  t.equal(existsSync(socket), false, "the socket file is gone");
  const future = used + 1_000_000_000n;
  const json = JSON.parse(readFileSync(join(state, "clock.json"), "utf8"));
  writeFileSync(join(state, "clock.json"), JSON.stringify({ ...json, generation: `${future}` }));
  const second = new Server("trivet", ["serve", file]);
  await second.says(/serving/);
  t.equal(kept(), future + 1n);
  t.equal(await second.stop(), 0);
});

t.test("three replicas on one host are a single point of failure, and it is said", async (t) => {
  const { targets } = await threeRegions("host");
  const server = serveOn(await listen(), targets);
  await server.says(/serving/);
  t.ok(/"log.level":"warn".*3 of 3 replicas are on 127\.0\.0\.1/.test(server.output));
  t.ok(
    server.output.split("\n").every((line) => line === "" || line.startsWith("{")),
    "JSON lines",
  );
  const ready = server.output.split("\n").find((line) => line.includes("server.ready"))!;
  const record = JSON.parse(ready);
  t.equal(record["event.action"], "server.ready");
  t.equal(record["service.name"], "trivet");
  t.ok(!Number.isNaN(Date.parse(record["@timestamp"])));
  t.equal(await server.stop("SIGHUP"), 0);
});

t.test("a client that comes before the volume is there waits for it", async (t) => {
  const directories = await Promise.all([0, 1, 2].map((i) => create(`late${i}`)));
  const ports = [await freePort(), await freePort(), await freePort()];
  const address = await listen();
  const server = serveOn(
    address,
    ports.map((port) => `127.0.0.1:${port}`),
  );
  let status = -1;
  // It listens before anything else.
  let early: Promise<Outcome> | undefined;
  for (let i = 0; i < 100 && early === undefined; i++) {
    const probe = await run("bash", ["-c", `exec 3<>/dev/tcp/127.0.0.1/${address.split(":")[1]}`]);
    if (probe.status === 0) early = run("nbdinfo", ["--size", `nbd://${address}`]);
    else await new Promise((resolve) => setTimeout(resolve, 100));
  }
  void early!.then((outcome) => {
    status = outcome.status;
  });
  await new Promise((resolve) => setTimeout(resolve, 500));
  t.equal(status, -1, "not answered and not sent away");
  for (const [i, port] of ports.entries()) {
    const region = new Server("trivet", ["region", "run", directories[i]!, "--port", `${port}`]);
    await region.says(/is served on/);
  }
  const outcome = await early!;
  t.equal(outcome.stdout.trim(), `${4 * 2 ** 20}`, outcome.stderr);
  t.equal(await server.stop(), 0);
});

t.test("an orderly stop works while the replicas are missing", async (t) => {
  const targets = [await listen(), await listen(), await listen()];
  const server = serveOn(await listen(), targets);
  await server.says(/3 of 3 replicas are on/);
  await new Promise((resolve) => setTimeout(resolve, 1000));
  t.equal(server.hasEnded, false, "it waits for them");
  t.equal(await server.stop(), 0);
});

t.test("sockets passed by whoever starts the server", async (t) => {
  const program = new URL("../../../build/bin/trivet", import.meta.url).pathname;
  const outcome = await run("nbdinfo", [
    "--size",
    "--",
    "[",
    program,
    "serve",
    "--memory",
    "16M",
    "]",
  ]);
  t.equal(outcome.stdout.trim(), `${16 * 2 ** 20}`, outcome.stderr);
});

/** Listens as a service manager does, and prints what it is told, a line each. */
const MANAGER = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print("bound", flush=True)
while True:
    print(s.recv(4096).decode(), flush=True)
`;

t.test("a service manager hears of readiness, life and the end", async (t) => {
  const path = join(folder, "notify.sock");
  const manager = new Server("/usr/bin/python3", ["-c", MANAGER, path]);
  await manager.says(/bound/);
  const env = { NOTIFY_SOCKET: path, WATCHDOG_USEC: "400000" };
  const server = new Server("trivet", ["serve", "--memory", "16M", "--address", await listen()], {
    env,
  });
  await manager.says(/READY=1[\s\S]*WATCHDOG=1[\s\S]*WATCHDOG=1[\s\S]*WATCHDOG=1/);
  t.equal(/STOPPING=1/.test(manager.output), false);
  t.equal(await server.stop(), 0);
  await manager.says(/STOPPING=1/);
  const directory = await create("notify");
  const region = new Server("trivet", ["region", "run", directory, "--port", "0"], { env });
  await manager.says(/STOPPING=1[\s\S]*READY=1[\s\S]*WATCHDOG=1/);
  t.equal(await region.stop(), 0);
});

t.test("crucible-nbd-server: the flags of the program it stands in for", async (t) => {
  const { targets } = await threeRegions("compat");
  const address = await listen();
  const args = [...targets.flatMap((target) => ["-t", target]), "--address", address];
  const server = new Server("crucible-nbd-server", [...args, "-g", "5"]);
  await server.says(/serving/);
  const info = await run("nbdinfo", ["--size", `nbd://${address}/whatever-name`]);
  t.equal(info.stdout.trim(), `${4 * 2 ** 20}`, "any name is accepted");
  t.equal(await server.stop(), 0);
  for (const option of [
    ["--key", "AAAA"],
    ["--cert-pem", "x"],
    ["--key-pem", "x"],
    ["--root-cert-pem", "x"],
    ["--control", "127.0.0.1:1"],
  ]) {
    const outcome = await run("crucible-nbd-server", [...args, ...option]);
    t.equal(outcome.status, 2);
    t.ok(outcome.stderr.startsWith(`Error: TRIVET_E_NOT_YET: ${option[0]}: `), outcome.stderr);
  }
  const zero = await run("crucible-nbd-server", [...args, "-g", "0"]);
  t.ok(zero.stderr.startsWith("Error: TRIVET_E_GENERATION_ZERO: "), zero.stderr);
  t.equal(zero.status, 2);
});
