import { cpSync, readFileSync, rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { prng } from "../kit/world.js";
import { NbdClient } from "./client.js";
import { Ledger } from "./ledger.js";
import { Rig } from "./rig.js";

t.test("three downstairs killed at once, one set back: a fresh start makes them one", async (t) => {
  const rig = new Rig();
  t.teardown(() => rig.remove());
  await rig.create({ blockSize: 4096, extentSize: 128, extentCount: 4 });
  const ledger = new Ledger(512, prng(11));

  // First life: flushed state that region 2 is later set back to.
  await rig.startAll();
  await rig.serve();
  const early = await NbdClient.connect({ port: rig.nbdPort });
  const until = Date.now() + 1000;
  t.equal(await ledger.load(early, 16, () => Date.now() > until), undefined);
  await early.flush();
  early.close();
  await rig.stopAll();
  cpSync(rig.region(2), `${rig.region(2)}.old`, { recursive: true });

  // Second life: more writes, then everything dies at once.
  await rig.startAll();
  await rig.serve();
  const client = await NbdClient.connect({ port: rig.nbdPort });
  let dead = false;
  const load = ledger.load(client, 16, () => dead);
  await sleep(2000);
  await Promise.all(rig.downstairs.map((program) => program?.stop("SIGKILL")));
  dead = true;
  await rig.server?.stop("SIGKILL");
  await load;
  rmSync(rig.region(2), { recursive: true });
  cpSync(`${rig.region(2)}.old`, rig.region(2), { recursive: true });

  // Third life.
  await rig.startAll();
  const server = await rig.serve();
  t.match(server.output, /reconcil/, "the server says that it reconciles");
  const reader = await NbdClient.connect({ port: rig.nbdPort });
  t.same(await ledger.check(reader, ledger.flushed), [], "everything flushed is there");
  t.ok(
    ledger.flushed.some((write) => write > 0),
    "something had been flushed",
  );
  reader.close();
  await rig.stopAll();
  const [a, b, c] = rig.exports().map((image) => readFileSync(image));
  t.ok(a!.equals(b!) && b!.equals(c!), "the three regions are identical");
});
