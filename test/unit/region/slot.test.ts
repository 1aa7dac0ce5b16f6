import t from "tap";
import { bitAt, flipBit, setBit } from "../../../src/region/bitmap.js";
import { decodeMetadata, encodeMetadata, freshTail } from "../../../src/region/metadata.js";
import { LOST, recoverBlock, SlotFit, slotFit } from "../../../src/region/recovery.js";
import {
  diskHashAt,
  SlotKind,
  slotFlushId,
  slotKind,
  slotToReadContext,
  writeSlot,
} from "../../../src/region/slot.js";

const HASH = "bf9baf9e7d2dfc78";
const SEAL = "0102030405060708090a0b0c0405060708090a0b0c0d0e0f10111213";

t.test("slots, byte for byte", async (t) => {
  const bytes = Buffer.alloc(512, 0xee);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  bytes.write(`${HASH}00`, 0, "hex");
  writeSlot(bytes, 100, 0, false, 7);
  t.equal(bytes.toString("hex", 100, 148), `01${HASH}00${HASH}0700${"00".repeat(28)}`);
  t.equal(slotKind(bytes, 100), SlotKind.plain);
  t.equal(slotFlushId(view, 100, SlotKind.plain), 7);
  t.equal(slotToReadContext(bytes, 100, 200), 12);
  t.equal(bytes.toString("hex", 200, 212), `02000000${HASH}`);

  bytes.write(`fa4a520050a62a7f01${SEAL}`, 0, "hex");
  writeSlot(bytes, 100, 0, true, 0xabcd);
  bytes.write(HASH, 100 + diskHashAt(SlotKind.encrypted), "hex");
  t.equal(bytes.toString("hex", 100, 148), `01fa4a520050a62a7f01${SEAL}${HASH}cdab`);
  t.equal(slotKind(bytes, 100), SlotKind.encrypted);
  t.equal(slotFlushId(view, 100, SlotKind.encrypted), 0xabcd);
  t.equal(slotToReadContext(bytes, 100, 200), 32);
  t.equal(bytes.toString("hex", 200, 232), `01000000${SEAL}`);

  bytes.fill(0, 100, 148);
  t.equal(slotKind(bytes, 100), SlotKind.empty);
  t.equal(slotToReadContext(bytes, 100, 200), 4);
  t.equal(bytes.toString("hex", 200, 204), "00000000");
  bytes[100] = 2;
  t.equal(slotKind(bytes, 100), SlotKind.undecodable);
  bytes[100] = 1;
  bytes[109] = 9;
  t.equal(slotKind(bytes, 100), SlotKind.undecodable);
  t.equal(slotToReadContext(bytes, 100, 200), 0);
});

t.test("a context may be translated where it lies", async (t) => {
  const bytes = Buffer.alloc(64);
  bytes.write(`01fa4a520050a62a7f01${SEAL}${HASH}cdab`, 0, "hex");
  slotToReadContext(bytes, 0, 0);
  t.equal(bytes.toString("hex", 0, 32), `01000000${SEAL}`);
});

t.test("metadata records", async (t) => {
  const bytes = Buffer.alloc(40, 0xee);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const metadata = {
    dirty: false,
    generation: 5n,
    flushNumber: 9,
    bonusSyncs: 0,
    defragmentations: 0,
  };
  encodeMetadata(view, 3, metadata);
  t.equal(
    bytes.toString("hex", 3, 35),
    `0005000000000000000900000000000000${"02000000"}${"00".repeat(11)}`,
  );
  const odd = {
    dirty: true,
    generation: 0xffff_ffff_ffff_fffen,
    flushNumber: 2 ** 53 - 1,
    bonusSyncs: 0xffff_ffff,
    defragmentations: 3,
  };
  encodeMetadata(view, 3, odd);
  t.same(decodeMetadata(view, 3), odd);
  view.setUint8(3, 2);
  t.ok(/dirty byte is 2/.test(String(decodeMetadata(view, 3))));
  view.setUint8(3, 1);
  view.setUint8(3 + 15, 0x20);
  t.ok(/flush number/.test(String(decodeMetadata(view, 3))));
  view.setUint32(3 + 17, 3, true);
  t.ok(/format version is 3, expected 2/.test(String(decodeMetadata(view, 3))));
  const tail = freshTail(13);
  t.equal(tail.length, 45);
  t.same(
    [...tail].flatMap((byte, i) => (byte === 0 ? [] : [[i, byte]])),
    [[13 + 17, 2]],
  );
});

t.test("bits", async (t) => {
  const bytes = new Uint8Array(6);
  setBit(bytes, 2, 11, 1);
  t.same([...bytes], [0, 0, 0, 8, 0, 0]);
  t.equal(bitAt(bytes, 2, 11), 1);
  t.equal(bitAt(bytes, 2, 10), 0);
  flipBit(bytes, 2, 11);
  flipBit(bytes, 2, 0);
  t.same([...bytes], [0, 0, 1, 0, 0, 0]);
  setBit(bytes, 2, 0, 0);
  t.same([...bytes], [0, 0, 0, 0, 0, 0]);
});

t.test("recovery, every case", async (t) => {
  const { empty, other, damaged, fits } = SlotFit;
  const table: [SlotFit, SlotFit, number][] = [
    [empty, empty, 0],
    [empty, other, 0],
    [empty, damaged, 1],
    [empty, fits, 1],
    [other, empty, 1],
    [other, other, LOST],
    [other, damaged, 1],
    [other, fits, 1],
    [damaged, empty, 0],
    [damaged, other, 0],
    [damaged, damaged, 1],
    [damaged, fits, 1],
    [fits, empty, 0],
    [fits, other, 0],
    [fits, damaged, 0],
    [fits, fits, 1],
  ];
  for (const [a, b, want] of table) t.equal(recoverBlock(a, b), want, `A ${a}, B ${b}`);
  t.equal(slotFit(SlotKind.empty, true, true), empty);
  t.equal(slotFit(SlotKind.undecodable, true, true), other);
  t.equal(slotFit(SlotKind.plain, false, true), other);
  t.equal(slotFit(SlotKind.plain, true, false), damaged);
  t.equal(slotFit(SlotKind.encrypted, true, true), fits);
});
