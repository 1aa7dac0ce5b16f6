import { existsSync, statSync, writeFileSync } from "node:fs";
import { createConnection } from "node:net";
import { join } from "node:path";
import t, { type Test } from "tap";
import { makeFolder, makeRuntimeFolder, removeFolder } from "../kit/folders.js";
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

// A running server, asked over its control socket by the commands that users type.

const folder = makeFolder();
const runtimes: string[] = [];
t.teardown(async () => {
  await cleanUp();
  for (const one of [folder, ...runtimes]) removeFolder(one);
});
t.afterEach(cleanUp);

function refused(t: Test, outcome: Outcome, status: number, code: string, detail: RegExp): void {
  t.equal(outcome.status, status, outcome.stderr);
  t.ok(outcome.stderr.startsWith(`${code}: `), outcome.stderr);
  t.ok(detail.test(outcome.stderr), outcome.stderr);
  t.equal(outcome.stderr.trim().split("\n").length, 1, "one line");
}

/** A runtime directory of its own, so that tests do not find each other's servers. */
function runtime(): { readonly folder: string; readonly env: Record<string, string> } {
  const path = makeRuntimeFolder();
  runtimes.push(path);
  return { folder: path, env: { RUNTIME_DIRECTORY: path } };
}
const ask = (env: Record<string, string>, ...args: string[]): Promise<Outcome> =>
  run("trivet", args, { env });
const memory = async (env: Record<string, string>, ...more: string[]): Promise<Server> =>
  new Server(
    "trivet",
    ["serve", "--memory", "16M", "--address", `127.0.0.1:${await freePort()}`, ...more],
    { env },
  );

async function eventually(holds: () => Promise<boolean>, seconds = 30): Promise<boolean> {
  for (const end = performance.now() + seconds * 1000; performance.now() < end; ) {
    if (await holds()) return true;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  return false;
}

t.test("a volume on replicas: well, degraded, down, and well again", async (t) => {
  const { env, folder: sockets } = runtime();
  const regions = [0, 1, 2].map((i) => join(folder, `health${i}`));
  for (const region of regions) await trivet("region", "create", region, "--size", "4M");
  const served = await Promise.all(regions.map((region) => serveRegion(region)));
  const server = new Server(
    "trivet",
    [
      "serve",
      ...targetOptions(served.map(({ target }) => target)),
      "--address",
      `127.0.0.1:${await freePort()}`,
      "--export",
      "photos",
      "--gen",
      "18446744073709551615",
    ],
    { env },
  );
  await server.says(/serving/);
  t.equal(statSync(join(sockets, "photos.control")).mode & 0o777, 0o600);
  for (const args of [["status"], ["status", "photos"]]) {
    const well = await ask(env, ...args);
    t.equal(well.status, 0, well.stderr);
    t.ok(/^volume +photos: all is well\n/.test(well.stdout), well.stdout);
    t.equal(well.stdout.match(/^replica \d .*active/gm)?.length, 3, well.stdout);
  }
  const json = JSON.parse((await ask(env, "status", "--json")).stdout);
  t.equal(json.generation, "18446744073709551615", "not rounded");
  t.equal(json.health, "ok");
  t.equal(json.size_bytes, 4 * 2 ** 20);
  t.equal(json.server.pid, server.child.pid);
  t.same(
    json.replicas.map((replica: { state: string }) => replica.state),
    ["active", "active", "active"],
  );

  const statusIs = (wanted: number) => async () => (await ask(env, "status")).status === wanted;
  served[2]!.server.child.kill("SIGKILL");
  t.ok(await eventually(statusIs(8)), "degraded");
  const degraded = await ask(env, "status");
  t.ok(/^! replica 2 \(.*\) is away: /m.test(degraded.stdout), degraded.stdout);
  served[1]!.server.child.kill("SIGKILL");
  t.ok(await eventually(statusIs(9)), "down");
  const down = await ask(env, "status");
  t.ok(/^! 1 of 3 replicas are at work: writes wait until two are/m.test(down.stdout), down.stdout);
  for (const i of [1, 2]) {
    const again = new Server("trivet", [
      "region",
      "run",
      regions[i]!,
      "--port",
      `${served[i]!.port}`,
    ]);
    await again.says(/is served on/);
  }
  t.ok(await eventually(statusIs(0)), "well again");
  t.equal(await server.stop(), 0);
  t.equal(existsSync(join(sockets, "photos.control")), false, "removed by an orderly stop");
  refused(t, await ask(env, "status"), 5, "TRIVET_E_NO_SERVER", /no server runs here/);
});

t.test("a server that waits for its replicas can be asked for whom", async (t) => {
  const { env } = runtime();
  const targets = [await freePort(), await freePort(), await freePort()];
  const server = new Server(
    "trivet",
    [
      "serve",
      ...targetOptions(targets.map((port) => `127.0.0.1:${port}`)),
      "--address",
      `127.0.0.1:${await freePort()}`,
    ],
    { env },
  );
  t.ok(await eventually(async () => (await ask(env, "status")).status === 9));
  const { stdout } = await ask(env, "status");
  t.ok(/waits for its replicas/.test(stdout), stdout);
  t.equal(stdout.match(/^! replica \d .* is not connected: /gm)?.length, 3, stdout);
  t.equal(await server.stop(), 0);
});

t.test("which server is meant", async (t) => {
  const { env, folder: sockets } = runtime();
  refused(t, await ask(env, "status"), 5, "TRIVET_E_NO_SERVER", /no server runs here/);
  const music = await memory(env, "--export", "music");
  const photos = await memory(env, "--export", "photos");
  await Promise.all([music.says(/serving/), photos.says(/serving/)]);
  refused(
    t,
    await ask(env, "status"),
    2,
    "TRIVET_E_USAGE",
    /2 servers run here, name one: music, photos/,
  );
  t.ok(/volume +music/.test((await ask(env, "status", "music")).stdout));
  const path = join(sockets, "photos.control");
  t.ok(/volume +photos/.test((await ask(env, "status", "--control", path)).stdout));
  refused(t, await ask(env, "status", "videos"), 5, "TRIVET_E_NO_SERVER", /no server of videos/);
  refused(
    t,
    await ask(env, "status", "--control", "/no/such"),
    5,
    "TRIVET_E_NO_SERVER",
    /\/no\/such/,
  );
  refused(t, await ask(env, "status", "music", "--control", path), 2, "TRIVET_E_USAGE", /not both/);
  refused(t, await ask(env, "status", "a", "b"), 2, "TRIVET_E_USAGE", /does not take "b"/);
  const file = join(folder, "films.toml");
  const own = join(folder, "own.sock");
  const address = `127.0.0.1:${await freePort()}`;
  writeFileSync(file, `memory = "16M"\naddress = "${address}"\ncontrol = "${own}"\n`);
  const films = new Server("trivet", ["serve", file], { env });
  await films.says(/serving/);
  t.ok(/volume +films/.test((await ask(env, "status", file)).stdout), "its file says where");
  writeFileSync(file, 'memory = "16M"\ncontrol = "none"\n');
  refused(t, await ask(env, "status", file), 5, "TRIVET_E_NO_SERVER", /control = "none"/);
});

t.test("sockets that are left over, and those that are not", async (t) => {
  const { env, folder: sockets } = runtime();
  const path = join(sockets, "memory.control");
  const killed = await memory(env);
  await killed.says(/serving/);
  await killed.stop("SIGKILL");
  t.ok(existsSync(path), "a killed server leaves its socket");
  refused(t, await ask(env, "status"), 5, "TRIVET_E_NO_SERVER", /./);
  const first = await memory(env);
  await first.says(/serving/);
  t.equal((await ask(env, "status")).status, 0, "its successor takes the place");
  const named = await memory(env, "--control", path);
  t.equal(await named.ended(), 4);
  t.ok(/TRIVET_E_ADDRESS_IN_USE: .*memory\.control/.test(named.output), named.output);
  const second = await memory(env);
  await second.says(/control\.unavailable[\s\S]*serving/);
  const pid = async () => JSON.parse((await ask(env, "status", "--json")).stdout).server.pid;
  t.equal(await pid(), first.child.pid, "the first keeps it");
  t.equal(await first.stop(), 0);
  t.ok(
    await eventually(async () => (await ask(env, "status")).status === 0),
    "the second has it soon after",
  );
  t.equal(await pid(), second.child.pid);
  t.equal(await second.stop(), 0);
  t.equal(existsSync(path), false);
  const without = await memory(env, "--control", "none");
  await without.says(/serving/);
  t.equal(existsSync(path), false);
  writeFileSync(join(folder, "file"), "mine");
  const onFile = await memory(env, "--control", join(folder, "file"));
  t.equal(await onFile.ended(), 4);
  t.ok(existsSync(join(folder, "file")), "what is no socket stays");
});

t.test("many clients, and one that speaks something else", async (t) => {
  const { env, folder: sockets } = runtime();
  const server = await memory(env);
  await server.says(/serving/);
  const bad = await new Promise<string>((resolve) => {
    const socket = createConnection({ path: join(sockets, "memory.control") });
    let heard = "";
    socket.on("data", (data) => {
      heard += data.toString("hex");
    });
    socket.on("error", () => {});
    socket.on("close", () => resolve(heard));
    socket.write("GET / HTTP/1.1\r\n\r\n");
  });
  t.equal(bad, "", "nothing is said to it");
  const outcomes = await Promise.all(Array.from({ length: 6 }, () => ask(env, "status")));
  t.same(
    outcomes.map(({ status }) => status),
    [0, 0, 0, 0, 0, 0],
  );
  t.ok(/control\.bad/.test(server.output));
  const watch = new Server("trivet", ["status", "--watch", "--json"], { env });
  await watch.says(/"report"[\s\S]*\n[\s\S]*"report"/);
  t.equal(await server.stop(), 0, "watching does not keep it");
  t.equal(await watch.ended(), 5);
  t.ok(/TRIVET_E_CONNECTION/.test(watch.output));
});
