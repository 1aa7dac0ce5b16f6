import t, { type Test } from "tap";
import { decode, KINDS, type Message } from "../../../src/crucible/messages.js";
import { DownstairsStage } from "../../kit/downstairs-stage.js";
import { type Line, wireLines } from "../../kit/recordings.js";
import { regionOf } from "../../kit/store.js";
import { World } from "../../kit/world.js";
import type { ScriptedUpstairs } from "../../peer/upstairs.js";

// Every downstairs' side of what was recorded between the original programs: the upstairs' frames are sent in the
// recorded order, and each connection must hear what the original answered, byte for byte and in that order.

/** The frame; payload that was cut out is left as zeros. */
function frameOf(line: Line): Buffer {
  const head = Buffer.from(line.hex!, "hex");
  if (line.cut === undefined || line.dir === "d2u") return head;
  return Buffer.concat([head], line.cut);
}

const REPAIR_PORT = 7810;

class Replay {
  readonly world = new World();
  readonly stages: DownstairsStage[] = [];
  readonly #peers = new Map<string, ScriptedUpstairs>();
  readonly #want = new Map<string, Buffer[]>();

  static async of(definition: Definition, readOnly = false): Promise<Replay> {
    const replay = new Replay();
    for (let link = 0; link < 3; link++) {
      const uuid = `12345678-1111-2222-3333-00000000000${link}`;
      const { blockSize, extentSize, extentCount, encrypted = false } = definition;
      replay.stages.push(
        await DownstairsStage.open({
          world: replay.world,
          definition: regionOf(blockSize, extentSize, extentCount, uuid, encrypted),
          readOnly,
          repairPort: REPAIR_PORT + 10 * link,
          arenaBytes: 32 * 1024 * 1024,
        }),
      );
    }
    for (const stage of replay.stages)
      for (const [link, other] of replay.stages.entries())
        stage.store.sources.set(REPAIR_PORT + 10 * link, other.store);
    return replay;
  }

  /** `name` tells recordings apart that are played in one world. */
  play(name: string, lines: readonly Line[]): void {
    for (const line of lines) {
      if (line.conn === undefined || line.event === "refused") continue;
      const key = `${name} connection ${line.conn} to ${line.link}`;
      if (line.event === "open") this.#peers.set(key, this.stages[line.link!]!.connect());
      const peer = this.#peers.get(key)!;
      if (line.event === "close") peer.leave();
      if (line.event !== undefined) continue;
      const frame = frameOf(line);
      if (line.dir === "u2d") peer.send(frame);
      else this.#want.set(key, [...(this.#want.get(key) ?? []), frame]);
      this.world.settle();
    }
    this.world.settle();
  }

  wanted(key: string): readonly Buffer[] {
    return this.#want.get(key) ?? [];
  }
  /** What was heard on each connection. */
  answers(): (readonly [string, Buffer[]])[] {
    return [...this.#peers].map(([key, peer]) => [key, peer.frames.splice(0)]);
  }

  judge(t: Test, whole = true): void {
    for (const [key, got] of this.answers()) {
      const want = this.wanted(key);
      if (got.length !== want.length)
        t.same(
          got.map((frame) => nameOf(frame)),
          want.map((frame) => nameOf(frame)),
          key,
        );
      const wrong = got.findIndex(
        (frame, i) => want[i] === undefined || !agree(want[i], frame, whole),
      );
      if (wrong < 0) t.pass(`${key}: ${got.length} answers`);
      else t.equal(got[wrong]!.toString("hex"), want[wrong]?.toString("hex"), `${key}, ${wrong}`);
    }
  }
}

const nameOf = (frame: Buffer): string => KINDS[frame.readUInt32LE(4)]!;

/** Where data was cut out of the recording, everything before it counts; blocks have 4096 bytes there. */
function agree(want: Buffer, got: Buffer, whole: boolean): boolean {
  const length = want.readUInt32LE(0);
  if (whole || length < 4096) return want.equals(got);
  const dataAt = length % 4096;
  return got.length === length && want.subarray(0, dataAt).equals(got.subarray(0, dataAt));
}

type Definition = {
  blockSize: number;
  extentSize: number;
  extentCount: number;
  encrypted?: boolean;
};

/** Geometry as RegionInfo in the recording says; where there is none it does not matter. */
function geometry(lines: readonly Line[]): Definition {
  const line = lines.find((line) => line.msg === "RegionInfo");
  if (line === undefined) return { blockSize: 512, extentSize: 20, extentCount: 8 };
  const message = decode(Buffer.from(line.hex!, "hex")) as Extract<Message, { kind: "RegionInfo" }>;
  return message.region;
}

const FRESH = [
  "activate-io-512",
  "activate-io-4096",
  "barrier-without-flush",
  "encrypted",
  "idle-pings",
  "killed-dirty",
  "live-repair",
  "live-repair-quiet",
  "replay-after-reconnect",
];

for (const name of FRESH)
  t.test(name, async (t) => {
    const lines = wireLines(name);
    const replay = await Replay.of(geometry(lines));
    // With part of their payload cut out, blocks do not have their hashes.
    const whole = lines.every((line) => line.cut === undefined);
    for (const stage of replay.stages) stage.store.checksHashes = whole;
    replay.play(name, lines);
    replay.judge(t, whole);
  });

t.test("takeover, both sides of it", async (t) => {
  const lines = wireLines("takeover");
  const replay = await Replay.of(geometry(lines));
  // The first upstairs leaves only after it was told.
  const stays = lines.filter((line) => line.event !== "close");
  replay.play("takeover", stays);
  replay.play("takeover-second", wireLines("takeover-second"));
  replay.judge(t);
});

// In these recordings the refusal was lost to the closing of some connections.
for (const [name, kind] of [
  ["encrypted-mismatch", "EncryptedMismatch"],
  ["readonly-mismatch", "ReadOnlyMismatch"],
] as const)
  t.test(name, async (t) => {
    const lines = wireLines(name);
    const replay = await Replay.of(geometry(lines), kind === "ReadOnlyMismatch");
    replay.play(name, lines);
    for (const [key, frames] of replay.answers()) {
      t.same(
        frames.map((frame) => nameOf(frame)),
        [kind],
        key,
      );
      for (const frame of replay.wanted(key)) t.ok(frame.equals(frames[0]!), key);
    }
  });
