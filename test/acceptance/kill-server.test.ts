import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { prng } from "../kit/world.js";
import { NbdClient } from "./client.js";
import { Ledger } from "./ledger.js";
import { Rig } from "./rig.js";

// The server is killed in the middle of writing, as often as told, and what it had acknowledged is there each time, flushed or not. Nobody
// flushes before it is read.

const ROUNDS = Number(process.env.ROUNDS ?? 4);
const BLOCKS = 512;

const wroteAgain = (rig: Rig): number => Number(rig.server?.output.includes('"volume.resumed"'));

for (const ack of ["quorum", "buffered"])
  t.test(`killed under load, ${ack}: nothing acknowledged is lost`, async (t) => {
    const rig = new Rig();
    t.teardown(() => rig.remove());
    await rig.create({ blockSize: 4096, extentSize: 64, extentCount: 16 });
    await rig.startAll();
    const chance = prng(ack.length);
    const ledger = new Ledger(BLOCKS, chance);
    let resumed = 0;
    for (let round = 0; round < ROUNDS; round++) {
      await rig.serve(["--ack", ack, "--arena", "32M"]);
      resumed += wroteAgain(rig);
      const client = await NbdClient.connect({ port: rig.nbdPort });
      t.same(
        await ledger.check(client, ledger.acknowledged),
        [],
        `round ${round}: all that was acknowledged is read back`,
      );
      const load = ledger.load(client, 32, () => false);
      await sleep(100 + chance() * 900);
      await rig.server?.stop("SIGKILL");
      await load;
      client.destroy();
    }
    await rig.serve(["--ack", ack]);
    const client = await NbdClient.connect({ port: rig.nbdPort });
    t.same(await ledger.check(client, ledger.acknowledged), [], "and after the last");
    t.ok(
      ledger.acknowledged.some((write, block) => write > ledger.flushed[block]!),
      "some of it was never flushed",
    );
    client.close();
    t.ok(resumed + wroteAgain(rig) > 0, "writes had to be written again");
    t.equal(await rig.stopServer(), 0);
  });
