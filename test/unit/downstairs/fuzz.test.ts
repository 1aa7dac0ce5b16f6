import t from "tap";
import { KINDS, TAG } from "../../../src/crucible/messages.js";
import { DownstairsStage } from "../../kit/downstairs-stage.js";
import { rawLines, rawNames, wireLines } from "../../kit/recordings.js";
import { prng } from "../../kit/world.js";
import { Talk } from "../../peer/upstairs.js";

// Whatever a peer sends, in whatever state: the process goes on, memory comes back, and another connection is
// served as if nothing had happened. A broken invariant throws out of the world and fails the test.

/** Every frame that an upstairs was recorded to send, of a size worth mutating. */
const FRAMES: readonly Buffer[] = [
  ...rawNames().flatMap((name) => rawLines(name)),
  ...["activate-io-512", "live-repair-quiet", "reconcile", "encrypted"].flatMap(wireLines),
]
  .filter((line) => line.dir === "u2d" && line.hex !== undefined && line.cut === undefined)
  .map((line) => Buffer.from(line.hex!, "hex"))
  .filter((frame) => frame.length <= 20_000);
const byTag = new Map<number, Buffer[]>();
for (const frame of FRAMES) {
  const tag = frame.length >= 8 ? frame.readUInt32LE(4) : -1;
  byTag.set(tag, [...(byTag.get(tag) ?? []), frame]);
}

type Chance = () => number;
const pick = <T>(chance: Chance, from: readonly T[]): T =>
  from[Math.floor(chance() * from.length)]!;

/** A frame of any kind, half of them damaged; ids are mostly right, so that jobs get through. */
function frame(chance: Chance): Buffer {
  if (chance() < 0.02) {
    const noise = Buffer.alloc(8 + Math.floor(chance() * 200));
    for (let i = 0; i < noise.length; i++) noise[i] = Math.floor(chance() * 256);
    if (chance() < 0.8) noise.writeUInt32LE(noise.length, 0);
    if (chance() < 0.8) noise.writeUInt32LE(Math.floor(chance() * 44), 4);
    return noise;
  }
  // Negotiation ends a connection that runs; most of the time something else is said.
  const tags = [...byTag.keys()].filter((tag) => chance() < 0.1 || tag > TAG.LastFlush);
  const kind = pick(chance, tags.length > 0 ? tags : [TAG.Ruok]);
  const free = byTag.get(kind)!.filter(dependsOnNothing);
  const bytes = Buffer.from(
    pick(chance, chance() < 0.7 && free.length > 0 ? free : byTag.get(kind)!),
  );
  const tag = bytes.length >= 8 ? bytes.readUInt32LE(4) : 0;
  const isJob = (tag >= TAG.ExtentLiveClose && tag <= TAG.ExtentLiveNoOp) || tag >= TAG.Write;
  if (isJob && bytes.length >= 72 && chance() < 0.95) IDS.copy(bytes, 8);
  // Values that sit at limits, where lengths, counts, ids and positions are.
  const damage = chance() < 0.7 ? 0 : 1 + Math.floor(chance() * 3);
  for (let i = 0; i < damage; i++) {
    const at = chance() < 0.7 ? Math.floor(chance() * 140) : Math.floor(chance() * bytes.length);
    if (at + 8 > bytes.length) continue;
    if (chance() < 0.4) bytes[at] = Math.floor(chance() * 256);
    else bytes.writeBigUInt64LE(pick(chance, EDGES), at);
  }
  if (chance() < 0.1) {
    const cut = bytes.subarray(0, 8 + Math.floor(chance() * (bytes.length - 8)));
    if (chance() < 0.8) cut.writeUInt32LE(cut.length, 0);
    return cut;
  }
  return bytes;
}
const dependsOnNothing = (bytes: Buffer): boolean =>
  bytes.length >= 72 && bytes.readUInt32LE(64) === 0;
const EDGES: readonly bigint[] = [
  0n,
  1n,
  7n,
  8n,
  159n,
  160n,
  161n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 32n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 63n,
  2n ** 64n - 1n,
];
/** Both ids with their lengths, as a promotion carries them. */
const IDS = rawLines("barrier")
  .filter((line) => line.msg === "PromoteToActive")
  .map((line) => Buffer.from(line.hex!, "hex").subarray(8, 56))[0]!;

const STEPS = ["HereIAm", "PromoteToActive", "RegionInfoPlease", "ExtentVersionsPlease"];
const opening = STEPS.map((kind) =>
  Buffer.from(rawLines("barrier").find((line) => line.msg === kind)!.hex!, "hex"),
);

for (const readOnly of [false, true])
  t.test(`any bytes in any state, ${readOnly ? "read-only" : "read-write"}`, async (t) => {
    const spoken = new Set<string>();
    for (let seed = 1; seed <= 40; seed++) {
      const chance = prng(seed);
      const stage = await DownstairsStage.open({ readOnly, arenaBytes: 8 * 1024 * 1024, seed });
      const slow = chance() < 0.5;
      stage.store.delayMs = () => (slow ? Math.floor(chance() * 300) : 0);
      for (let connection = 0; connection < 12; connection++) {
        const segmentBytes = pick(chance, [1, 7, 1000, Number.POSITIVE_INFINITY]);
        const peer = stage.connect({ segmentBytes });
        const steps = Math.floor(chance() * 6);
        for (const step of opening.slice(0, steps)) {
          const bytes = Buffer.from(step);
          // HereIAm: the mode; a generation that beats the connection before.
          if (step === opening[0]) bytes[68] = readOnly ? 1 : 0;
          if (step === opening[0] || step === opening[1])
            bytes.writeUInt32LE(1 + connection, step === opening[0] ? 60 : 56);
          peer.send(bytes);
        }
        if (chance() < 0.7) stage.world.advance(chance() < 0.5 ? 0 : 2000);
        const count = Math.floor(chance() * 40);
        for (let i = 0; i < count; i++) {
          peer.send(frame(chance));
          if (chance() < 0.3) stage.world.advance(Math.floor(chance() * 30));
        }
        if (chance() < 0.3) peer.cut();
        for (const bytes of peer.frames) spoken.add(KINDS[bytes.readUInt32LE(4)]!);
        stage.world.advance(Math.floor(chance() * 500));
      }
      // Somebody decent is served as ever.
      const talk = new Talk(stage.connect(), 1_000_000n);
      talk.activate(readOnly);
      if (!readOnly) talk.write(1, 3, 2, 9);
      talk.read(2, 3, 2);
      stage.world.advance(30_000);
      const kinds = talk.peer.kinds();
      t.same(kinds.slice(-1), ["ReadResponse"], `seed ${seed}`);
      const closed: unknown[] = [];
      stage.server.close((fault) => closed.push(fault));
      stage.world.advance(120_000);
      t.same(closed, [null]);
      t.equal(stage.arena.allocations, 0, "no memory is lost");
    }
    const some = readOnly
      ? ["ReadResponse", "FlushAck"]
      : ["WriteAck", "ReadResponse", "ExtentLiveCloseAck"];
    for (const kind of [...some, "Imok", "UuidMismatch"])
      t.ok(spoken.has(kind), `${kind} was said`);
  });
