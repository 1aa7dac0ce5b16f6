import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { until } from "../kit/until.js";
import { prng } from "../kit/world.js";
import { isThere, ledgers, run, Scene } from "./restart-scene.js";

// `trivet restart` under load: one process takes over from the other, and clients notice nothing but a short wait. How long it was is said,
// and never judged, as it depends on the machine.

const RESTARTS = Number(process.env.RESTARTS ?? 3);
const shown = (all: readonly number[]): string => all.map((ms) => `${Math.round(ms)}`).join(" ");

for (const ack of ["quorum", "buffered"])
  t.test(`${RESTARTS} restarts under load, ${ack}`, async (t) => {
    const scene = new Scene();
    await scene.open(t, "--ack", ack);
    const chance = prng(ack.length);
    const clients = await scene.load(ledgers(chance));
    await sleep(300);
    const usual = Math.max(...clients.map((one) => one.takeLongest()));
    const stalls: number[] = [];
    for (let i = 0; i < RESTARTS; i++) {
      const before = scene.pid;
      const outcome = await scene.restart();
      t.equal(outcome.status, 0, outcome.stderr);
      t.equal(scene.pid === before, false, "another process");
      await until("the end of the one before", () => !isThere(before));
      await sleep(50 + chance() * 100);
      stalls.push(Math.max(...clients.map((one) => one.takeLongest())));
    }
    for (const one of clients) {
      t.equal(await one.end(), undefined, "no error, and no end of the connection");
      t.same(await one.check(one.client), [], "everything acknowledged is there");
      t.ok(one.requests > 100 * RESTARTS, `${one.requests} requests`);
    }
    t.pass(`longest request in ms: ${Math.round(usual)} without a restart, then ${shown(stalls)}`);
    const outcome = await scene.trivet("status", "--json");
    t.equal(JSON.parse(outcome.stdout).server.pid, scene.pid, outcome.stderr);
    await scene.stop();
    for (const program of scene.rig.downstairs) await program!.stop("SIGTERM");
    const [first, ...others] = scene.rig.exports();
    for (const other of others)
      t.equal((await run("cmp", first!, other)).status, 0, "the replicas are equal");
    await scene.rig.startAll();
    await scene.serve();
    const client = await scene.tcp();
    for (const one of clients) t.same(await one.check(client), [], "also after a stop and a start");
    client.close();
    await scene.stop();
  });

for (const away of [1, 2])
  t.test(`${away} of three replicas away: nobody is let go`, async (t) => {
    const scene = new Scene();
    await scene.open(t);
    const chance = prng(away);
    const clients = await scene.load(ledgers(chance));
    await sleep(200);
    for (let i = 0; i < away; i++) await scene.rig.downstairs[i]!.stop("SIGKILL");
    await sleep(300);
    const started = scene.restart();
    if (away === 2) {
      await sleep(3000);
      for (const one of clients) one.takeLongest();
      await scene.rig.startDownstairs(0);
    }
    const outcome = await started;
    t.equal(outcome.status, 0, outcome.stderr);
    await sleep(300);
    for (const one of clients) {
      const before = one.requests;
      await until("requests", () => one.requests > before);
      t.equal(await one.end(), undefined, "no error, and no end of the connection");
      t.same(await one.check(one.client), [], "everything acknowledged is there");
    }
    await scene.stop();
  });

t.test("a successor that cannot serve: the server goes on, with its clients", async (t) => {
  const scene = new Scene();
  await scene.open(t);
  await scene.stop();
  const file = join(scene.rig.dir, "vol.toml");
  const socket = join(scene.rig.dir, "file.sock");
  const config = (more: string): void =>
    writeFileSync(
      file,
      `target = ${JSON.stringify(scene.rig.ports.map((port) => `127.0.0.1:${port}`))}
state-dir = "${join(scene.rig.dir, "state")}"
arena = "32M"
${more}
`,
    );
  config(`socket = "${socket}"`);
  await scene.serveFile(file);
  const chance = prng(3);
  const clients = await scene.loadAt(socket, ledgers(chance));
  const { pid } = scene;
  for (const [why, more, pattern] of [
    ["before it is ready", `socket = "${socket}"\nsoket = "x"`, /ended before it was ready/],
    [
      "after it was given everything",
      `socket = "${join(scene.rig.dir, "no/such/folder.sock")}"`,
      /ended before it served/,
    ],
  ] as const) {
    config(more);
    const outcome = await scene.restart();
    t.equal(outcome.status, 4, outcome.stderr);
    t.ok(
      /^TRIVET_E_HAND_OVER: .*\. The server that runs goes on serving/m.test(outcome.stderr),
      outcome.stderr,
    );
    t.ok(pattern.test(outcome.stderr), `${why}: ${outcome.stderr}`);
    t.ok(isThere(pid), "the same process");
    await sleep(200);
  }
  config(`socket = "${socket}"`);
  t.equal((await scene.restart()).status, 0, "and then it works");
  await sleep(100);
  for (const one of clients) {
    t.equal(await one.end(), undefined, "no error, and no end of the connection");
    t.same(await one.check(one.client), []);
  }
  await scene.stop();
});

t.test("what cannot be restarted says why", async (t) => {
  const scene = new Scene();
  await scene.open(t);
  const missing = await scene.trivet("restart", "nothing");
  t.equal(missing.status, 5);
  t.ok(/^TRIVET_E_NO_SERVER: no server of nothing runs here/.test(missing.stderr), missing.stderr);
  await scene.stop();
  await scene.serveMemory();
  const refused = await scene.trivet("restart");
  t.equal(refused.status, 5, refused.stderr);
  t.ok(/^TRIVET_E_REFUSED: a volume in memory would lose/.test(refused.stderr), refused.stderr);
});
