import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { ControlClient } from "../../src/app/control/client.js";
import { extentLayout, extentPath, slotOffset } from "../../src/region/layout.js";
import { prng } from "../kit/world.js";
import { NbdClient } from "./client.js";
import { Rig, trivet } from "./rig.js";

const BLOCK = 4096;
const EXTENT_BLOCKS = 256;
const EXTENTS = 8;
const BLOCKS = EXTENTS * EXTENT_BLOCKS;
const LAYOUT = extentLayout({ blockSize: BLOCK, extentSize: EXTENT_BLOCKS });

// Extent files are damaged below running downstairs, while the server serves: clients must read right data throughout, and afterwards the
// regions must be whole again.

/** Changes bytes of a region's extent file in place. */
function poke(rig: Rig, region: number, block: number, what: "data" | "lose" | "slot"): void {
  const extent = Math.floor(block / EXTENT_BLOCKS);
  const within = block % EXTENT_BLOCKS;
  const file = openSync(join(rig.region(region), extentPath(extent)), "r+");
  const slots = ["a", "b"].map((_, array) => slotOffset(LAYOUT, array, within));
  if (what === "data") writeSync(file, Buffer.from("rotten"), 0, 6, within * BLOCK + 1000);
  if (what === "lose") {
    writeSync(file, Buffer.alloc(BLOCK), 0, BLOCK, within * BLOCK);
    for (const at of slots) writeSync(file, Buffer.alloc(48), 0, 48, at);
  }
  if (what === "slot") for (const at of slots) writeSync(file, Buffer.alloc(48, 0xee), 0, 48, at);
  closeSync(file);
}

t.test("extent files rot below a running volume", async (t) => {
  const rig = new Rig();
  t.teardown(() => rig.remove());
  await rig.create({ blockSize: BLOCK, extentSize: EXTENT_BLOCKS, extentCount: EXTENTS });
  await rig.startAll();
  const control = join(rig.dir, "control.sock");
  const server = await rig.serve(["--control", control, "--scrub-rate", "0"]);
  const client = await NbdClient.connect({ port: rig.nbdPort });
  const chance = prng(7);
  const wanted = Buffer.alloc(BLOCKS * BLOCK);
  for (let at = 0; at < wanted.length; at += 4) wanted.writeUInt32LE(chance() * 2 ** 32, at);
  // The last extent is left as it was created.
  const written = wanted.length - EXTENT_BLOCKS * BLOCK;
  wanted.fill(0, written);
  const MIB = 1024 * 1024;
  for (let at = 0; at < written; at += MIB) await client.write(at, wanted.subarray(at, at + MIB));
  await client.flush();

  const readAll = async (piece: number): Promise<number> => {
    let wrong = 0;
    let next = 0;
    const worker = async (): Promise<void> => {
      for (let at = next; at < wanted.length; at = next) {
        next += piece;
        if (!(await client.read(at, piece)).equals(wanted.subarray(at, at + piece))) wrong += 1;
      }
    };
    await Promise.all(Array.from({ length: 8 }, worker));
    return wrong;
  };
  t.equal(await readAll(MIB), 0);

  for (let i = 0; i < 40; i++) {
    const block = Math.floor(chance() * (BLOCKS - EXTENT_BLOCKS));
    poke(rig, i % 3, block, "data");
  }
  poke(rig, 1, 300, "slot");
  for (const piece of [BLOCK, 16 * BLOCK, MIB, BLOCK, BLOCK])
    t.equal(await readAll(piece), 0, `right data in pieces of ${piece}`);
  t.match(server.output, /replica\.badBlock/, "the damage was met");
  await sleep(3000);
  t.equal(await readAll(MIB), 0);

  // What was lost without a trace no read notices, so a scrub has to.
  poke(rig, 2, 700, "lose");
  poke(rig, 0, 701, "lose");
  poke(rig, 0, BLOCKS - 5, "data");
  const asked = await ControlClient.connect(control);
  await asked.ask({ do: "scrubStart", rate: 0 });
  await server.prints("scrub.done");
  asked.close();
  t.equal(await readAll(BLOCK), 0);
  client.close();
  await rig.stopAll();
  for (const region of [0, 1, 2]) trivet(["region", "verify", rig.region(region)]);
  const images = rig.exports().map((image) => readFileSync(image));
  for (const image of images) t.ok(image.equals(wanted), "each region holds what was written");
});
