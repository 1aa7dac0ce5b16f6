import t, { type Test } from "tap";
import { Fault } from "../../../src/base/fault.js";
import { TAG } from "../../../src/crucible/messages.js";
import type { RegionStore } from "../../../src/downstairs/region-store.js";
import { DiskPeer, DownstairsStage } from "../../kit/downstairs-stage.js";
import { type Line, rawLines, rawNames } from "../../kit/recordings.js";
import { regionOf } from "../../kit/store.js";
import type { ScriptedUpstairs } from "../../peer/upstairs.js";
import { freshDisk } from "../store/rig.js";

// Unusual and wrong input, and what the original answered: ours must answer the same, byte for byte, except
// for texts inside errors and for the two cases in which the original loops without an answer.

type AnyStage = DownstairsStage<RegionStore>;
const REFUSED = new Fault("TRIVET_E_REPAIR", "connection refused");
const LOOPS = ["wrong-hash", "flush-limit-beyond"];

async function memoryStage(): Promise<DownstairsStage> {
  const stage = await DownstairsStage.open();
  stage.store.trouble = (operation) => (operation === "replaceExtent 127.0.0.1:9" ? REFUSED : null);
  return stage;
}
function diskStage(): Promise<AnyStage> {
  const disk = freshDisk(regionOf());
  const peer = new DiskPeer(new Map(), disk, REFUSED);
  return DownstairsStage.onDisk(disk, { peer, arenaBytes: 32 * 1024 * 1024 });
}

for (const [name, segmentBytes, open] of rawNames().flatMap((name) => [
  [name, Number.POSITIVE_INFINITY, memoryStage] as const,
  [name, 1, memoryStage] as const,
  [name, 61, diskStage] as const,
]))
  t.test(`${name}, ${segmentBytes} bytes at a time, ${open.name}`, async (t) => {
    const stage: AnyStage = await open();
    const peers = new Map<number, ScriptedUpstairs>();
    const peerOf = (conn: number): ScriptedUpstairs => {
      const peer = peers.get(conn) ?? stage.connect({ segmentBytes });
      peers.set(conn, peer);
      return peer;
    };
    for (const line of rawLines(name)) {
      if (line.conn === undefined) continue;
      const peer = peerOf(line.conn);
      if (line.dir === "u2d") {
        peer.send(Buffer.from(line.hex!, "hex"));
        continue;
      }
      stage.world.settle();
      judge(t, name, stage, peer, line);
    }
    stage.world.settle();
    if (LOOPS.includes(name)) judgeReports(t, name, peerOf(1));
    // Nobody listened on the first connection of flush-limit when the second took over.
    const allowed = name === "flush-limit" ? ["YouAreNoLongerActive"] : [];
    if (LOOPS.includes(name)) allowed.push("Imok");
    stage.world.settle();
    const left = [...peers.values()].flatMap((peer) => peer.kinds());
    t.same(
      left.filter((kind) => !allowed.includes(kind)),
      [],
      "nothing more",
    );
    for (const peer of peers.values()) peer.cut();
    stage.world.advance(60_000);
    const closed: (Fault | null)[] = [];
    stage.server.close((fault) => closed.push(fault));
    stage.world.advance(60_000);
    t.same(closed, [null], "closed in order");
    t.equal(stage.arena.allocations, 0, "all memory is given back");
  });

function judge(t: Test, name: string, stage: AnyStage, peer: ScriptedUpstairs, line: Line): void {
  if (line.event === "close") {
    t.equal(peer.isClosed, true, "closed");
    t.same(peer.kinds(), [], "closed without another word");
    return;
  }
  if (line.event === "nothing") {
    stage.world.advance(line.after_s! * 1000);
    t.equal(peer.isClosed, false);
    if (!LOOPS.includes(name)) t.same(peer.kinds(), [], `nothing for ${line.after_s} s`);
    return;
  }
  const want = Buffer.from(line.hex!, "hex");
  const got = peer.frames.shift();
  if (got === undefined) {
    t.fail(`${line.msg} is missing`);
    return;
  }
  if (want.readUInt32LE(4) !== TAG.ErrorReport) {
    t.equal(got.toString("hex"), want.toString("hex"), line.msg ?? "");
    return;
  }
  // Tag, ids, job and kind of error.
  t.equal(got.toString("hex", 4, 68), want.toString("hex", 4, 68), line.msg ?? "");
}

/** Reports come at once and then 100, 200, 400 … ms apart: six in the six seconds that were recorded. */
function judgeReports(t: Test, name: string, peer: ScriptedUpstairs): void {
  const error = name === "wrong-hash" ? "HashMismatch" : "InvalidExtent";
  const kinds = peer.heard().map((m) => (m.kind === "ErrorReport" ? m.error.kind : m.kind));
  t.same(kinds, new Array(6).fill(error));
  peer.say({ kind: "Ruok" });
}
