import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { until } from "../kit/until.js";
import { prng } from "../kit/world.js";
import { isThere, kill, ledgers, Scene } from "./restart-scene.js";

// Either process of a restart dies: at each step what is left is what a crash leaves, or a server that has everything.

const ROUNDS = Number(process.env.ROUNDS ?? 6);

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
      await until("a successor", () => successors(scene).length > known || !isThere(before));
      const next = successors(scene)[known]!;
      scene.found(next);
      await until(step, () => times(scene, step) > steps);
      await sleep(chance() * 10);
      const victim = whom === "predecessor" ? before : next;
      kill(victim, "SIGKILL");
      await until("its death", () => !isThere(victim));
      // Whoever is left finds out, and serves, or ends.
      if (whom === "predecessor") await until("the next one", () => !isThere(next) || isReady());
      else {
        await until("an end", () => isSucceeded() || hasFailed() || !isThere(before));
        if (isSucceeded()) await until("the end of the one before", () => !isThere(before));
        else if (times(scene, "leaving to process") > left) await until("the next one", isReady);
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
