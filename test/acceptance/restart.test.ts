import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { prng } from "../kit/world.js";
import { isThere, kill, ledgers, run, Scene } from "./restart-scene.js";

// `trivet restart` under load: one process takes over from the other, and clients notice nothing but a short wait. How long it was is said,
// and never judged, as it depends on the machine.

const RESTARTS = Number(process.env.RESTARTS ?? 10);
const ROUNDS = Number(process.env.ROUNDS ?? 6);
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
      await until(() => !isThere(before));
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
      await until(() => one.requests > before);
      t.equal(await one.end(), undefined, "no error, and no end of the connection");
      t.same(await one.check(one.client), [], "everything acknowledged is there");
    }
    await scene.stop();
  });

/** What is said, by whichever process, when a restart has come so far. */
const STEPS = [
  "restart.begun",
  "leaving to process",
  "server.left",
  "replica.active",
  "volume.active",
  "server.ready",
];

for (const whom of ["predecessor", "successor"])
  t.test(`the ${whom} is killed at each step: what a crash leaves`, async (t) => {
    const scene = new Scene();
    await scene.open(t);
    const chance = prng(whom.length);
    const books = ledgers(chance);
    const fates: string[] = [];
    let clients = await scene.load(books);
    for (let round = 0; round < ROUNDS; round++) {
      await sleep(100 + chance() * 200);
      const before = scene.pid;
      const known = successors(scene).length;
      const step = STEPS[round % STEPS.length]!;
      const steps = times(scene, step);
      const said = ["server.ready", "server.succeeded", "restart.failed"].map((words) => {
        const earlier = times(scene, words);
        return () => times(scene, words) > earlier;
      });
      const [isReady, isSucceeded, hasFailed] = said as [Is, Is, Is];
      const left = times(scene, "leaving to process");
      const restart = scene.restart();
      await until(() => successors(scene).length > known || !isThere(before));
      const next = successors(scene)[known]!;
      scene.found(next);
      await until(() => times(scene, step) > steps);
      await sleep(chance() * 10);
      const victim = whom === "predecessor" ? before : next;
      kill(victim, "SIGKILL");
      await until(() => !isThere(victim));
      // Whoever is left finds out, and serves, or ends.
      if (whom === "predecessor") await until(() => !isThere(next) || isReady());
      else {
        await until(() => isSucceeded() || hasFailed() || !isThere(before));
        if (isSucceeded()) await until(() => !isThere(before));
        else if (times(scene, "leaving to process") > left) await until(isReady);
      }
      await Promise.race([restart, sleep(1000)]);
      const alive = [next, before].find(isThere);
      const survivor = alive === undefined ? "nobody" : alive === before ? "the old" : "the new";
      fates.push(`${step}: ${survivor}`);
      if (alive === undefined) await scene.serve();
      else scene.pid = alive;
      for (const one of clients) {
        const end = await Promise.race([one.end(), sleep(20_000, "stuck")]);
        t.equal(end === "stuck", false, `${fates.at(-1)}: no request is forgotten`);
        if (alive !== undefined)
          t.equal(end, undefined, `${fates.at(-1)}: whoever is left has the clients`);
        one.client.destroy();
      }
      const reader = await scene.tcp();
      for (const one of clients)
        t.same(await one.check(reader), [], `${fates.at(-1)}: nothing acknowledged is lost`);
      reader.close();
      clients = await scene.load(books);
    }
    for (const one of clients) t.equal(await one.end(), undefined);
    t.pass(`who served then: ${fates.join("; ")}`);
    await scene.stop();
  });

type Is = () => boolean;
const times = (scene: Scene, words: string): number =>
  scene.rig.server!.output.split(words).length - 1;
/** Processes that were started to take over. */
const successors = (scene: Scene): number[] =>
  [...scene.rig.server!.output.matchAll(/process (\d+) is started to take over/g)].map((one) =>
    Number(one[1]),
  );
async function until(done: () => boolean): Promise<void> {
  for (const end = performance.now() + 60_000; !done(); await sleep(1))
    if (performance.now() > end) throw new Error("waited in vain");
}

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

t.test("libnbd with structured replies, and qemu-io, over restarts", async (t) => {
  const scene = new Scene();
  await scene.open(t);
  const script = `
import os, time
end = time.time() + 4
n = 0
while time.time() < end:
    blocks = [(i, os.urandom(65536)) for i in range(8)]
    for i, data in blocks:
        h.pwrite(data, i * 102400 + 512)
    if n % 4 == 0:
        h.flush()
    for i, data in blocks:
        assert h.pread(len(data), i * 102400 + 512) == data
    n += 1
assert h.get_structured_replies_negotiated()
print(n)
`;
  const python = run("/usr/bin/python3", "-m", "nbd", "-u", scene.rig.uri, "-c", script);
  const commands = Array.from({ length: 150 }, (_, i) => [
    "-c",
    `write -P ${1 + (i % 200)} ${2 ** 21 + i * 4096} 64k`,
    "-c",
    `read -P ${1 + (i % 200)} ${2 ** 21 + i * 4096} 64k`,
    "-c",
    "sleep 20",
  ]).flat();
  const qemu = run("qemu-io", "-f", "raw", ...commands, scene.rig.unixUri);
  await sleep(500);
  for (let i = 0; i < 4; i++) {
    t.equal((await scene.restart()).status, 0);
    await sleep(200);
  }
  const [first, second] = await Promise.all([python, qemu]);
  t.equal(first.status, 0, first.stderr);
  t.ok(Number(first.stdout) > 0, `${first.stdout.trim()} rounds`);
  t.equal(second.status, 0, second.stderr);
  t.equal(/fail|error|Pattern verification/i.test(second.stdout + second.stderr), false);
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
