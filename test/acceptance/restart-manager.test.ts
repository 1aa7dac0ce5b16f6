import { existsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import t, { type Test } from "tap";
import { prng } from "../kit/world.js";
import { ledgers, type Managed, Scene } from "./restart-scene.js";

// A service manager that keeps descriptors over a restart, as systemd does: the server ends, another one starts, and the clients of the
// first are those of the second.

const RESTARTS = Number(process.env.RESTARTS ?? 2);

async function begin(t: Test, ...more: string[]): Promise<{ scene: Scene; manager: Managed }> {
  const scene = new Scene();
  await scene.prepare(t);
  const manager = await scene.manage("--hand-over", ...more);
  return { scene, manager };
}

t.test(`${RESTARTS} restarts through a descriptor store`, async (t) => {
  const { scene, manager } = await begin(t);
  const chance = prng(5);
  const clients = await scene.load(ledgers(chance));
  const stalls: number[] = [];
  for (let i = 0; i < RESTARTS; i++) {
    await sleep(100 + chance() * 200);
    for (const one of clients) one.takeLongest();
    t.equal(await manager.stop(), 0, "it ends in order");
    // Two listeners, the control socket, two clients, and what they are.
    t.equal(manager.stored, 6);
    t.ok(existsSync(scene.rig.socket), "the socket is still there");
    await manager.start();
    t.equal(manager.stored, 0, "taken out before they are served");
    await sleep(100);
    stalls.push(Math.max(...clients.map((one) => one.takeLongest())));
  }
  for (const one of clients) {
    t.equal(await one.end(), undefined, "no error, and no end of the connection");
    t.same(await one.check(one.client), [], "everything acknowledged is there");
  }
  t.pass(`longest request in ms: ${stalls.map(Math.round).join(" ")}`);
  const status = await scene.trivet("status", "--json");
  t.equal(JSON.parse(status.stdout).server.pid, manager.pid, status.stderr);
});

t.test("killed: the store is empty, and the log is finished as ever", async (t) => {
  const { scene, manager } = await begin(t);
  const chance = prng(6);
  const clients = await scene.load(ledgers(chance));
  await sleep(300);
  t.equal(await manager.kill(), -9);
  t.equal(manager.stored, 0);
  for (const one of clients) t.ok((await one.end()) instanceof Error, "the connection ended");
  await manager.start();
  const reader = await scene.tcp();
  for (const one of clients) t.same(await one.check(reader), [], "nothing acknowledged is lost");
  reader.close();
  t.ok(manager.output.includes("volume.resumed"));
});

t.test("two replicas away: clients stay, and the log is finished by the next", async (t) => {
  const { scene, manager } = await begin(t, "--degraded-after", "1s");
  const chance = prng(8);
  const clients = await scene.load(ledgers(chance));
  await sleep(300);
  for (const i of [0, 1]) await scene.rig.downstairs[i]!.stop("SIGKILL");
  await sleep(300);
  t.equal(await manager.stop(), 0);
  t.equal(manager.stored, 6);
  await scene.rig.startDownstairs(0);
  await manager.start();
  await sleep(300);
  for (const one of clients) {
    t.equal(await one.end(), undefined, "no error, and no end of the connection");
    t.same(await one.check(one.client), []);
  }
  t.ok(manager.output.includes("volume.resumed"), "writes were written again");
});

t.test("what the store lost, or a stranger put there", async (t) => {
  const { scene, manager } = await begin(t);
  const idle = await scene.tcp();
  t.equal(await manager.stop(), 0);
  t.ok(manager.stored > 0);
  manager.send("clear");
  await sleep(100);
  await manager.start();
  await scene.unix().then((client) => client.close());
  await t.rejects(idle.flush(), "its connection was closed with the store");
  // A client that leaves meanwhile is no client any more.
  const leaving = await scene.tcp();
  t.equal(await manager.stop(), 0);
  leaving.destroy();
  await sleep(100);
  await manager.start();
  const client = await scene.tcp();
  await client.flush();
  client.close();
  t.equal(join(scene.rig.dir, "nbd.sock"), scene.rig.socket);
});
