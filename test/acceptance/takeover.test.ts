import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { freePort } from "../kit/programs.js";
import { prng } from "../kit/world.js";
import { NbdClient } from "./client.js";
import { isShutdown, Ledger } from "./ledger.js";
import { READY, Rig } from "./rig.js";

t.test("a newer generation takes over under load", async (t) => {
  const rig = new Rig();
  t.teardown(() => rig.remove());
  await rig.create({ blockSize: 4096, extentSize: 256, extentCount: 4 });
  await rig.startAll();
  const first = await rig.serve(["--gen", "10"]);
  const ledger = new Ledger(512, prng(3));
  const client = await NbdClient.connect({ port: rig.nbdPort });
  const load = ledger.load(client, 16, () => false);
  await sleep(2000);

  const port = await freePort();
  const elsewhere = { ...process.env, RUNTIME_DIRECTORY: join(rig.runtime, "second") };
  const second = rig.launch(["--address", `127.0.0.1:${port}`, "--gen", "11"], elsewhere);
  await second.prints(READY);
  const ended = await load;
  t.ok(isShutdown(ended), `the first server's client was sent away (${ended?.message})`);
  t.equal(await first.exited, 10, "the first server stops with the status of a superseded one");
  t.match(first.output, /TRIVET_E_SUPERSEDED/, "and says why");

  const heir = await NbdClient.connect({ port });
  t.same(await ledger.check(heir, ledger.flushed), [], "everything flushed is there");
  t.ok(
    ledger.flushed.some((write) => write > 0),
    "something had been flushed",
  );
  const before = await heir.read(0, 512 * 4096);
  await sleep(1500);
  t.ok((await heir.read(0, 512 * 4096)).equals(before), "nothing is written by the first any more");
  heir.close();
  t.equal(await second.stop("SIGTERM"), 0);
});
