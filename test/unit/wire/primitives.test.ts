import t, { type Test } from "tap";
import type { AnyCodec, Codec } from "../../../src/wire/codec.js";
import { Sink, Source } from "../../../src/wire/cursor.js";
import * as p from "../../../src/wire/primitives.js";

function encoded<T>(codec: Codec<T>, value: T): string {
  const bytes = Buffer.alloc(codec.size(value));
  const to = new Sink(bytes);
  codec.write(value, to);
  if (to.at !== bytes.length) throw new Error("measured more than was written");
  return bytes.toString("hex");
}
const decoded = (codec: AnyCodec, hex: string): unknown =>
  codec.read(new Source(Buffer.from(hex, "hex")));

function both<T>(t: Test, codec: Codec<T>, value: T, hex: string): void {
  t.equal(encoded(codec, value), hex, `${String(value)} is ${hex}`);
  t.same(decoded(codec, hex), value, `${hex} is ${String(value)}`);
  t.equal(hex.length / 2 >= codec.min, true, "not below the minimum");
}
const refused = (t: Test, codec: AnyCodec, hex: string): void => {
  t.throws(() => decoded(codec, hex), { code: "TRIVET_E_FRAME" }, `${hex} is refused`);
};
function bug<T>(t: Test, codec: Codec<T>, value: T): void {
  const room = new Sink(Buffer.alloc(64));
  t.throws(() => codec.write(value, room), { name: "InvariantError" }, `${String(value)} is a bug`);
}

t.test("integers are little-endian and refuse what does not fit", async (t) => {
  both(t, p.u8, 255, "ff");
  both(t, p.u16, 0x1e82, "821e");
  both(t, p.u32, 0xdeadbeef, "efbeadde");
  both(t, p.u64, 2 ** 32 + 5, "0500000001000000");
  both(t, p.u64, Number.MAX_SAFE_INTEGER, "ffffffffffff1f00");
  both(t, p.u64Big, 2n ** 64n - 1n, "ffffffffffffffff");
  for (const hex of ["0000000000002000", "ffffffffffffffff"]) refused(t, p.u64, hex);
  for (const codec of [p.u8, p.u16, p.u32, p.u64, p.u64Big]) refused(t, codec, "");
  refused(t, p.u64, "00000000000000");
  for (const value of [-1, 0.5, Number.NaN, 2 ** 53]) bug(t, p.u64, value);
  for (const value of [-1, 2 ** 32, 1.5]) bug(t, p.u32, value);
  for (const value of [-1, 65_536]) bug(t, p.u16, value);
  bug(t, p.u8, 256);
  bug(t, p.u64Big, 2n ** 64n);
  bug(t, p.u64Big, -1n);
});

t.test("a bool is 0 or 1", async (t) => {
  both(t, p.bool, false, "00");
  both(t, p.bool, true, "01");
  for (const hex of ["02", "ff", ""]) refused(t, p.bool, hex);
});

t.test("texts are UTF-8 with a length in bytes", async (t) => {
  both(t, p.string, "", "0000000000000000");
  both(t, p.string, "é€😀", `0900000000000000${Buffer.from("é€😀").toString("hex")}`);
  both(t, p.string, "\ufeffx", "0400000000000000efbbbf78");
  refused(t, p.string, "0100000000000000ff");
  refused(t, p.string, "0300000000000000eda080");
  refused(t, p.string, "020000000000000078");
  refused(t, p.string, "ffffffffffffff7f78");
});

t.test("bytes are views of the frame", async (t) => {
  both(t, p.bytes, Buffer.from("xyz"), "030000000000000078797a");
  refused(t, p.bytes, "030000000000000078");
  const frame = Buffer.from("0100000000000000aa", "hex");
  const view = p.bytes.read(new Source(frame));
  frame[8] = 0xbb;
  t.equal(view[0], 0xbb, "no copy");
  t.same(
    p.tailBytes.read(new Source(Buffer.from("02000000000000006162636465", "hex"))),
    Buffer.from("de"),
    "tail bytes are the last ones",
  );
  refused(t, p.tailBytes, "0300000000000000aabb");
});

t.test("arrays of a fixed length have none", async (t) => {
  both(t, p.fixedBytes(3), Buffer.from("xyz"), "78797a");
  refused(t, p.fixedBytes(3), "7879");
  bug(t, p.fixedBytes(3), Buffer.from("xy"));
});

t.test("a uuid is 16 bytes in the order of its text, behind their number", async (t) => {
  const text = "01234567-89ab-cdef-0123-456789abcdef" as never;
  both(t, p.uuid, text, "10000000000000000123456789abcdef0123456789abcdef");
  refused(t, p.uuid, "0f000000000000000123456789abcdef0123456789abcdef");
  refused(t, p.uuid, "10000000000000000123456789abcdef0123456789abcd");
  bug(t, p.uuid, "01234567-89AB-CDEF-0123-456789ABCDEF" as never);
  bug(t, p.uuid, "x" as never);
});

t.test("a cursor never leaves its range", async (t) => {
  const bytes = Buffer.from("0011223344556677", "hex");
  const from = new Source(bytes, 2, 4);
  t.equal(p.u16.read(from), 0x3322, "begins where it was told to");
  t.throws(() => p.u8.read(from), { code: "TRIVET_E_FRAME" }, "ends where it was told to");
  t.throws(() => new Source(bytes, 4, 9), { name: "InvariantError" }, "lies in its buffer");
  t.throws(() => new Sink(bytes, 5, 4), { name: "InvariantError" }, "ends after it began");
  const to = new Sink(bytes, 2, 4);
  p.u16.write(0xffff, to);
  t.throws(() => p.u8.write(1, to), { name: "InvariantError" }, "writing further is a bug");
  t.equal(bytes.toString("hex"), "0011ffff44556677", "nothing else is touched");
});
