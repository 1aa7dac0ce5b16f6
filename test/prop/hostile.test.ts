import fc, { type Arbitrary } from "fast-check";
import t from "tap";
import { Fault } from "../../src/base/fault.js";
import type { Memory } from "../../src/crucible/layout.js";
import { decode, encode, KINDS, type Message, TAG } from "../../src/crucible/messages.js";
import { AckFrame, ReadResponseFrame } from "../../src/crucible/replies.js";
import {
  FlushFrame,
  ReadRequestFrame,
  RequestFrame,
  WriteFrame,
} from "../../src/crucible/requests.js";
import { handFrame, handFrameNames } from "../kit/recordings.js";
import { anyMessage, arbitraryOf } from "./messages.js";

// Frames as an enemy would send them. Each is decoded twice in the middle of an arena, with different bytes around it: had
// anything outside the frame been looked at, the outcomes would differ sooner or later.

const AT = 512;
const arena = Buffer.alloc(8192);
const memory: Memory = { bytes: arena, view: new DataView(arena.buffer, arena.byteOffset, 8192) };

const writeFrame = new WriteFrame();
const responseFrame = new ReadResponseFrame();
const RECORDS = new Map<number, RequestFrame | AckFrame | ReadResponseFrame>([
  [TAG.Write, writeFrame],
  [TAG.WriteUnwritten, writeFrame],
  [TAG.ReadResponse, responseFrame],
  [TAG.ReadRequest, new ReadRequestFrame()],
  [TAG.Flush, new FlushFrame()],
  [TAG.Barrier, new RequestFrame()],
  [TAG.ExtentLiveNoOp, new RequestFrame()],
]);
const ackFrame = new AckFrame();
for (const tag of [
  TAG.WriteAck,
  TAG.WriteUnwrittenAck,
  TAG.FlushAck,
  TAG.BarrierAck,
  TAG.ExtentLiveAckId,
  TAG.ExtentLiveRepairAckId,
  TAG.ErrorReport,
])
  RECORDS.set(tag, ackFrame);

/** A Fault of the codec becomes its text; anything else is a failure of the test. */
function outcome<T>(run: () => T): T | string {
  try {
    return run();
  } catch (error) {
    if (error instanceof Fault && error.code === "TRIVET_E_FRAME") return error.message;
    throw error;
  }
}

/** Bytes of the frame that a decoded value stands for, at least: elements of lists, bytes of texts and views. */
function weight(value: unknown): number {
  if (typeof value === "string") return Buffer.byteLength(value);
  if (ArrayBuffer.isView(value)) return value.byteLength;
  if (Array.isArray(value)) return value.reduce((sum, item) => sum + 1 + weight(item), 0);
  if (typeof value === "object" && value !== null)
    return Object.entries(value).reduce(
      (sum, [name, item]) => sum + (isCopied(name) ? 0 : weight(item)),
      0,
    );
  return 0;
}
/** Names, and texts that are longer than their bytes (uuids, addresses), but of fixed number and length. */
const isCopied = (name: string): boolean =>
  name === "kind" || name === "host" || /(Id|^uuid|expected|actual)$/.test(name);

const show = (value: unknown): string =>
  JSON.stringify(value, (_, v) => (typeof v === "bigint" ? `${v}n` : v));

function inside(frame: Buffer, value: unknown): boolean {
  if (ArrayBuffer.isView(value)) {
    if (value.buffer !== arena.buffer) return true;
    const at = value.byteOffset - arena.byteOffset;
    return at >= AT && at + value.byteLength <= AT + frame.length;
  }
  if (typeof value !== "object" || value === null) return true;
  return Object.values(value).every((item) => inside(frame, item));
}

function recordInside(frame: Buffer, record: RequestFrame | AckFrame | ReadResponseFrame): boolean {
  const within = (at: number, length: number): boolean =>
    length >= 0 && at >= AT && at + length <= AT + frame.length;
  if (record instanceof RequestFrame && !within(record.depsAt, 8 * record.depsCount)) return false;
  if (record === writeFrame || record === responseFrame) {
    const { contextsAt, contextsBytes, dataAt, dataLength } = record as WriteFrame;
    return within(contextsAt, contextsBytes) && within(dataAt, dataLength);
  }
  return true;
}

/** Everything that must hold for any bytes whatsoever. */
function holds(frame: Buffer): boolean {
  const seen: string[] = [];
  for (const poison of [0x00, 0xff]) {
    arena.fill(poison);
    frame.copy(arena, AT);
    const message = outcome(() => decode(arena, AT, frame.length));
    if (typeof message === "object") {
      if (weight(message) > frame.length || !inside(frame, message)) return false;
    }
    let told = show(message);
    const record = RECORDS.get(frame.length >= 8 ? frame.readUInt32LE(4) : -1);
    if (record !== undefined) {
      const fault = outcome(() => record.read(memory, AT, frame.length));
      // Table and record agree on what is a frame.
      if ((fault === undefined) !== (typeof message === "object")) return false;
      if (fault === undefined && !recordInside(frame, record)) return false;
      if (fault === undefined && !agrees(record, message as Message)) return false;
      told += show(fault ?? record);
    }
    seen.push(told);
  }
  return seen[0] === seen[1];
}

function agrees(record: RequestFrame | AckFrame | ReadResponseFrame, message: Message): boolean {
  if (!("jobId" in message) || message.jobId !== record.jobId) return false;
  if ("dependencies" in message && record instanceof RequestFrame) {
    const deps = message.dependencies.map((_, i) => record.dependency(memory, i));
    if (deps.join() !== message.dependencies.join()) return false;
  }
  if ("data" in message) {
    const { dataAt, dataLength } = record as WriteFrame;
    if (!arena.subarray(dataAt, dataAt + dataLength).equals(message.data)) return false;
  }
  if ("contexts" in message)
    return (record as WriteFrame).contextsCount === message.contexts.length;
  return true;
}

const withHead = (tag: number, body: Uint8Array): Buffer => {
  const frame = Buffer.concat([Buffer.alloc(8), body]);
  frame.writeUInt32LE(frame.length, 0);
  frame.writeUInt32LE(tag, 4);
  return frame;
};

const realFrame: Arbitrary<Buffer> = fc.oneof(
  { weight: 3, arbitrary: anyMessage.map(encode) },
  { weight: 1, arbitrary: fc.constantFrom(...handFrameNames().map(handFrame)) },
);
/** What lengths, tags and counts are replaced by. */
const nasty = fc.constantFrom(
  0n,
  1n,
  2n,
  0xffn,
  0xffffn,
  0x7fffffffn,
  0xffffffffn,
  0x100000000n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 61n,
  2n ** 63n,
  2n ** 64n - 1n,
);
type Change = (frame: Buffer) => Buffer;
const change: Arbitrary<Change> = fc.oneof(
  fc.tuple(fc.nat(), fc.nat(255)).map(
    ([at, byte]): Change =>
      (frame) => {
        frame[8 + (at % Math.max(1, frame.length - 8))] = byte;
        return frame;
      },
  ),
  fc.tuple(fc.nat(), nasty, fc.boolean()).map(
    ([at, value, aligned]): Change =>
      (frame) => {
        if (frame.length < 16) return frame;
        const place = at % (frame.length - 15);
        frame.writeBigUInt64LE(value, 8 + (aligned ? place - (place % 8) : place));
        return frame;
      },
  ),
  fc.nat().map(
    (cut): Change =>
      (frame) => {
        const kept = frame.subarray(0, 8 + (cut % Math.max(1, frame.length - 8)));
        kept.writeUInt32LE(kept.length, 0);
        return kept;
      },
  ),
  fc.uint8Array({ minLength: 1, maxLength: 40 }).map(
    (tail): Change =>
      (frame) => {
        const longer = Buffer.concat([frame, tail]);
        longer.writeUInt32LE(longer.length, 0);
        return longer;
      },
  ),
  fc.nat(KINDS.length).map(
    (tag): Change =>
      (frame) => {
        frame.writeUInt32LE(tag, 4);
        return frame;
      },
  ),
);

t.test("random bytes behind a right head", async (t) => {
  const bytes = fc.uint8Array({ maxLength: 300 });
  const sparse = fc.array(fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, fc.nat(255)), {
    maxLength: 300,
  });
  const body = fc.oneof(
    bytes,
    sparse.map((values) => Uint8Array.from(values)),
  );
  const property = fc.property(fc.nat(KINDS.length + 1), body, (tag, rest) =>
    holds(withHead(tag, rest)),
  );
  fc.assert(property, { seed: 17, numRuns: 6000 });
  t.pass("6000 frames");
});

t.test("random bytes altogether", async (t) => {
  const property = fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) =>
    holds(Buffer.from(bytes)),
  );
  fc.assert(property, { seed: 19, numRuns: 1000 });
  t.pass("1000 frames");
});

t.test("real frames, changed", async (t) => {
  let legal = 0;
  let illegal = 0;
  const property = fc.property(
    realFrame,
    fc.array(change, { minLength: 1, maxLength: 4 }),
    (real, changes) => {
      const frame = changes.reduce<Buffer>((bytes, apply) => apply(bytes), Buffer.from(real));
      if (typeof outcome(() => decode(frame)) === "string") illegal += 1;
      else legal += 1;
      return holds(frame);
    },
  );
  fc.assert(property, { seed: 23, numRuns: 12_000 });
  t.equal(legal > 1000 && illegal > 1000, true, `${legal} still legal, ${illegal} not`);
});

t.test("frames of the data path: every cut, every byte one more or less", async (t) => {
  const samples = [...RECORDS.keys()].flatMap((tag) =>
    fc.sample(arbitraryOf(KINDS[tag]!).map(encode), { seed: 29 + tag, numRuns: 12 }),
  );
  let wrong = 0;
  for (const frame of samples) {
    for (let length = 8; length < frame.length; length++) {
      const cut = Buffer.from(frame.subarray(0, length));
      cut.writeUInt32LE(length, 0);
      if (!holds(cut)) wrong += 1;
    }
    for (let at = 8; at < frame.length; at++)
      for (const step of [1, 255]) {
        const changed = Buffer.from(frame);
        changed[at] = changed[at]! + step;
        if (!holds(changed)) wrong += 1;
      }
  }
  t.equal(wrong, 0, `${samples.length} frames`);
});
