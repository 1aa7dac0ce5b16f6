import { readFileSync } from "node:fs";
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

// Operations on a volume in use, by the commands that users type: a replica is replaced, repaired, compared with the others.

const folder = makeFolder();
const runtimes: string[] = [];
t.teardown(async () => {
  await cleanUp();
  for (const one of [folder, ...runtimes]) removeFolder(one);
});
/** A runtime directory of its own, so that only one server is found there. */
function runtime(): { RUNTIME_DIRECTORY: string } {
  const path = makeRuntimeFolder();
  runtimes.push(path);
  return { RUNTIME_DIRECTORY: path };
}
t.afterEach(cleanUp);

function refused(t: Test, outcome: Outcome, status: number, code: string, detail: RegExp): void {
  t.equal(outcome.status, status, outcome.stderr);
  t.ok(outcome.stderr.startsWith(`${code}: `), outcome.stderr);
  t.ok(detail.test(outcome.stderr), outcome.stderr);
  t.equal(outcome.stderr.trim().split("\n").length, 1, "one line");
}

/** 16 MiB in 16 extents. */
const region = async (name: string): Promise<string> => {
  const directory = join(folder, name);
  const geometry = ["--block-size", "4096", "--extent-size", "256", "--extent-count", "16"];
  const outcome = await trivet("region", "create", directory, ...geometry);
  if (outcome.status !== 0) throw new Error(outcome.stderr);
  return directory;
};

/** A volume on three regions, with a name of its own and nothing else in its runtime directory. */
async function volume(name: string, ...more: string[]) {
  const env = runtime();
  const directories = await Promise.all([0, 1, 2].map((i) => region(`${name}${i}`)));
  const served = await Promise.all(directories.map((directory) => serveRegion(directory)));
  const targets = served.map(({ target }) => target);
  const address = `127.0.0.1:${await freePort()}`;
  const options = ["--address", address, "--export", name, ...more];
  const server = new Server("trivet", ["serve", ...targetOptions(targets), ...options], { env });
  await server.says(/serving/);
  const ask = (...args: string[]): Promise<Outcome> => run("trivet", args, { env });
  const write = async (fill: string): Promise<void> => {
    const script = `h.pwrite(b'${fill}' * 4096 * 1000, 102400); h.flush()`;
    const outcome = await run("nbdsh", ["-u", `nbd://${address}`, "-c", script], {
      env: { PATH: "/usr/bin:/bin" },
    });
    if (outcome.status !== 0) throw new Error(outcome.stderr);
  };
  return { directories, served, targets, server, ask, write };
}

t.test("a replica moves to another box while the volume is in use", async (t) => {
  const { directories, served, targets, server, ask, write } = await volume(
    "move",
    "--repair-rate",
    "0",
  );
  await write("a");
  const fresh = await serveRegion(await region("move-new"));
  const [first, second, third] = targets as [string, string, string];
  const none = "127.0.0.1:9";
  refused(
    t,
    await ask("replace", none, fresh.target),
    2,
    "TRIVET_E_REPLACE",
    /no replica of this volume is at 127\.0\.0\.1:9/,
  );
  refused(t, await ask("replace", first, second), 2, "TRIVET_E_REPLACE", /both are replicas/);
  refused(t, await ask("replace", first), 2, "TRIVET_E_USAGE", /needs NEW/);
  refused(
    t,
    await ask("replace", first, "nowhere"),
    2,
    "TRIVET_E_USAGE",
    /NEW: "nowhere" is no address/,
  );
  const idle = await ask("replace", none, third);
  t.equal(idle.status, 0);
  t.ok(/is a replica of this volume already/.test(idle.stdout), idle.stdout);

  const moved = await ask("replace", third, fresh.target, "move", "--wait");
  t.equal(moved.status, 0, moved.stderr);
  t.ok(
    moved.stdout.startsWith(
      `${fresh.target} is at work. Write ${fresh.target} in the place of ${third}`,
    ),
    moved.stdout,
  );
  const status = JSON.parse((await ask("status", "--json")).stdout);
  t.equal(status.health, "ok", JSON.stringify(status.problems));
  t.equal(status.replicas[2].address, fresh.target);
  t.equal(status.repair.last.complete, true);
  t.ok(status.repair.last.repaired >= 4, "the extents that hold data were copied");
  const again = await ask("replace", third, fresh.target, "--json");
  t.same(JSON.parse(again.stdout), { result: "completedAlready" });
  const shown = await ask("repair", "status");
  t.ok(/^The last one, of replica 2, took /m.test(shown.stdout), shown.stdout);
  await write("b");
  t.equal(await server.stop(), 0);
  for (const { server } of [served[0]!, served[1]!, fresh]) t.equal(await server.stop(), 0);
  const images = [directories[0]!, directories[1]!, join(folder, "move-new")].map(
    (directory, i) => ({
      directory,
      image: join(folder, `move-image${i}`),
    }),
  );
  for (const { directory, image } of images) {
    t.equal((await trivet("region", "verify", directory)).status, 0);
    t.equal((await trivet("region", "export", directory, image)).status, 0);
  }
  const [a, b, c] = images.map(({ image }) => readFileSync(image));
  t.ok(a!.equals(b!) && b!.equals(c!), "identical");
  t.ok(c!.subarray(102_400, 102_410).equals(Buffer.from("bbbbbbbbbb")));
});

t.test(
  "a region that does not fit, or holds other data, is refused with what overrules it",
  async (t) => {
    const { targets, server, ask, write } = await volume("fit");
    await write("a");
    const other = await volume("other");
    await other.write("z");
    t.equal(await other.server.stop(), 0);
    const [, , third] = targets as [string, string, string];
    const foreign = other.targets[0]!;
    refused(
      t,
      await ask("replace", third, foreign, "--wait"),
      5,
      "TRIVET_E_REFUSED",
      /--accept-foreign|accept-foreign/,
    );
    const status = await ask("status");
    t.equal(status.status, 8);
    t.ok(/^replica 2 .* refused /m.test(status.stdout), status.stdout);
    t.ok(/accept-foreign/.test(status.stdout), status.stdout);
    const forced = await ask("replace", third, foreign, "fit", "--accept-foreign", "--wait");
    t.equal(forced.status, 0, forced.stderr);
    t.equal((await ask("status")).status, 0, "and with it it is repaired");
    t.equal(await server.stop(), 0);
  },
);

t.test("scrub and repair by hand", async (t) => {
  const { server, ask, write } = await volume("scrub", "--scrub-every", "never");
  await write("a");
  t.ok(/No scrub has run/.test((await ask("scrub", "status")).stdout));
  const done = await ask("scrub", "start", "--rate", "0", "--wait");
  t.equal(done.status, 0, done.stderr);
  t.ok(/^The last scrub was done in .*\n0 blocks differed: /.test(done.stdout), done.stdout);
  t.ok(/0 blocks differed/.test((await ask("scrub", "status", "scrub")).stdout));
  const slow = await ask("scrub", "start", "--rate", "100K");
  t.equal(slow.status, 0, slow.stderr);
  refused(t, await ask("scrub", "start"), 4, "TRIVET_E_SCRUB_RUNNING", /runs already/);
  t.ok(/^scrub: \d+ % of 16 MiB/m.test((await ask("status")).stdout));
  t.equal((await ask("scrub", "stop")).stdout, "No scrub runs.\n");
  const stopped = JSON.parse((await ask("scrub", "status", "--json")).stdout);
  t.equal(stopped.state, "stopped");
  t.ok(stopped.block < stopped.blocks);
  refused(
    t,
    await ask("scrub", "start", "--rate", "quick"),
    2,
    "TRIVET_E_USAGE",
    /--rate: "quick"/,
  );
  refused(t, await ask("scrub"), 2, "TRIVET_E_USAGE", /needs a command: start, stop, status/);
  t.ok(/Limit: 20 MiB\/s\./.test((await ask("repair", "rate", "20M")).stdout));
  t.equal(
    JSON.parse((await ask("repair", "status", "--json")).stdout).bytes_per_second_max,
    20 * 2 ** 20,
  );
  t.ok(/Limit: none\./.test((await ask("repair", "rate", "0", "scrub")).stdout));
  refused(t, await ask("repair", "rate"), 2, "TRIVET_E_USAGE", /needs SIZE/);
  t.equal(await server.stop(), 0);
});

t.test("a volume in memory has nothing to replace, repair or compare", async (t) => {
  const env = runtime();
  const address = `127.0.0.1:${await freePort()}`;
  const server = new Server("trivet", ["serve", "--memory", "16M", "--address", address], { env });
  await server.says(/serving/);
  for (const args of [
    ["replace", "10.0.0.1:1", "10.0.0.2:1"],
    ["scrub", "start"],
    ["scrub", "stop"],
    ["repair", "rate", "1M"],
  ])
    refused(t, await run("trivet", args, { env }), 5, "TRIVET_E_REFUSED", /has no replicas/);
  t.equal(await server.stop(), 0);
});
