import { readFileSync } from "node:fs";
import t from "tap";
import { decode } from "../../../src/crucible/messages.js";
import { KEY_BYTES } from "../../../src/ports/cipher.js";
import { FakeArena } from "../../kit/arena.js";
import { StageCipher } from "../../kit/cipher.js";
import { GOLDEN, wireLines } from "../../kit/recordings.js";
import { World } from "../../kit/world.js";
import { diskOf, Rig, untar } from "../store/rig.js";

// What the original encrypted, opened with the key that the recording names. 4096-byte blocks; pattern 131 in blocks 0 to 19, then
// pattern 132 in block 3 (README of golden).

const BLOCK = 4096;
const ROW = 64 * 1024;
const [first, ...lines] = wireLines("encrypted");
const KEY = Buffer.from(/key (\S+=)/.exec(first!.about!)![1]!, "base64");
const arena = new FakeArena(1024 * 1024);
const cipher = new StageCipher(arena, new World(1), KEY);
const other = new StageCipher(arena, new World(1), Buffer.alloc(KEY_BYTES, 7));

/** The block of a write: 512-byte pieces numbered from the beginning of the write. */
function pattern(seed: number, block: number): Buffer {
  const bytes = Buffer.alloc(BLOCK);
  for (let at = 0; at < BLOCK; at += 8) {
    bytes.writeUInt32LE(seed, at);
    bytes.writeUInt32LE(block * (BLOCK / 512) + Math.floor(at / 512), at + 4);
  }
  return bytes;
}

type Seal = { readonly nonce: Uint8Array; readonly tag: Uint8Array };
/** The plaintext; null: it does not open. */
function opened(data: Uint8Array, seal: Seal, by = cipher): Buffer | null {
  arena.bytes.set(data, 0);
  arena.bytes.set(seal.nonce, ROW);
  arena.bytes.set(seal.tag, ROW + 12);
  return by.open(0, 0, BLOCK, 1, ROW, 28) === -1
    ? Buffer.from(arena.bytes.subarray(0, BLOCK))
    : null;
}
const isPattern = (plain: Buffer | null, number: number): boolean =>
  plain !== null &&
  (plain.equals(pattern(131, number)) || (number === 3 && plain.equals(pattern(132, 0))));

t.test("recorded writes and answers", async (t) => {
  const jobs = new Map<number, number>();
  let written = 0;
  let read = 0;
  for (const line of lines) {
    if (line.hex === undefined || line.cut !== undefined) continue;
    const message = decode(Buffer.from(line.hex, "hex"));
    if (message.kind === "ReadRequest") jobs.set(message.jobId, message.start);
    const isAnswer = message.kind === "ReadResponse" && message.result.ok;
    const seals: (Seal | null)[] =
      message.kind === "Write"
        ? message.contexts.map(({ encryption }) => encryption)
        : isAnswer && message.result.ok
          ? message.result.contexts.map((one) => (one.kind === "Encrypted" ? one : null))
          : [];
    if (message.kind !== "Write" && message.kind !== "ReadResponse") continue;
    const start = message.kind === "Write" ? message.start : jobs.get(message.jobId)!;
    seals.forEach((seal, i) => {
      if (seal === null) return;
      const data = message.data.subarray(i * BLOCK, (i + 1) * BLOCK);
      if (message.kind === "Write") written += 1;
      else read += 1;
      if (!isPattern(opened(data, seal), start + i))
        t.ok(false, `block ${start + i} does not open`);
      if (opened(data, seal, other) !== null) t.ok(false, "another key opens it");
    });
  }
  t.ok(written >= 60 && read >= 20, `${written} written, ${read} read`);
});

for (let replica = 0; replica < 3; replica++)
  t.test(`replica ${replica} at rest`, async (t) => {
    const archive = readFileSync(new URL(`regions/encrypted/region${replica}.tar.gz`, GOLDEN));
    const rig = Rig.open(diskOf(untar(archive)));
    let found = 0;
    rig.read(0, 64).forEach(({ data, context }, number) => {
      if (context[0] !== 1) return;
      const seal = { nonce: context.subarray(4, 16), tag: context.subarray(16, 32) };
      if (isPattern(opened(data, seal), number)) found += 1;
      else t.ok(false, `block ${number} does not open`);
    });
    t.equal(found, 20);
    rig.close();
  });
