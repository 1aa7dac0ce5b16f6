import t, { type Test } from "tap";
import { formatIp, parseIp, socketAddress } from "../../../src/wire/address.js";
import type { AnyCodec, Codec } from "../../../src/wire/codec.js";
import { Sink, Source } from "../../../src/wire/cursor.js";
import { bool, string, u8, u16, u32, u64 } from "../../../src/wire/primitives.js";
import * as s from "../../../src/wire/shapes.js";

function both<T>(t: Test, codec: Codec<T>, value: T, hex: string): void {
  const bytes = Buffer.alloc(codec.size(value));
  codec.write(value, new Sink(bytes));
  t.equal(bytes.toString("hex"), hex.replaceAll(" ", ""), `encodes to ${hex}`);
  t.same(codec.read(new Source(bytes)), value, "and back");
  t.equal(bytes.length >= codec.min, true, "not below the minimum");
}
const refused = (t: Test, codec: AnyCodec, hex: string): void => {
  const from = new Source(Buffer.from(hex.replaceAll(" ", ""), "hex"));
  t.throws(() => codec.read(from), { code: "TRIVET_E_FRAME" }, `${hex} is refused`);
};

t.test("a struct is its fields in order", async (t) => {
  both(
    t,
    s.struct({ a: u16, b: u8, c: s.struct({ d: bool }) }),
    { a: 1, b: 2, c: { d: true } },
    "0100 02 01",
  );
  both(t, s.struct({}), {}, "");
});

t.test("an option has one byte before its value", async (t) => {
  both(t, s.option(u16), null, "00");
  both(t, s.option(u16), 7, "01 0700");
  both(t, s.option(s.option(u8)), null, "00");
  refused(t, s.option(u16), "02 0700");
  refused(t, s.option(u16), "01 07");
});

t.test("a list has a count of 8 bytes, bounded before anything is read", async (t) => {
  both(t, s.vec(u16), [1, 2], "0200000000000000 0100 0200");
  both(t, s.vec(string), ["a", ""], "0200000000000000 010000000000000061 0000000000000000");
  refused(t, s.vec(u16), "0300000000000000 0100 0200");
  refused(t, s.vec(u8, 2), "0300000000000000 01 02 03");
  let reads = 0;
  const counting: Codec<number> = {
    ...u16,
    read(from) {
      reads += 1;
      return u16.read(from);
    },
  };
  for (const count of ["0300000000000000", "ffffffffffffff0f", "ffffffffffffffff"])
    refused(t, s.vec(counting), `${count} 0100 0200`);
  t.equal(reads, 0, "no element was read");
  t.throws(() => s.vec(s.struct({})), { name: "InvariantError" }, "elements occupy bytes");
});

t.test("packed lists have the same bytes", async (t) => {
  both(
    t,
    s.u64Array,
    BigUint64Array.of(1n, 2n ** 64n - 1n),
    "0200000000000000 0100000000000000 ffffffffffffffff",
  );
  both(
    t,
    s.countArray,
    Float64Array.of(1, 2 ** 40),
    "0200000000000000 0100000000000000 0000000000010000",
  );
  both(t, s.boolArray, Uint8Array.of(1, 0, 1), "0300000000000000 01 00 01");
  refused(t, s.boolArray, "0200000000000000 01 02");
  refused(t, s.countArray, "0100000000000000 0000000000002000");
  for (const codec of [s.u64Array, s.countArray, s.boolArray])
    for (const count of ["0200000000000000", "ffffffffffffff1f"]) refused(t, codec, `${count} 01`);
  const bytes = Buffer.from("010000000000000001", "hex");
  const copy = s.boolArray.read(new Source(bytes));
  bytes[8] = 0;
  t.equal(copy[0], 1, "a copy, not a view");
});

t.test("an enum has an index of 4 bytes", async (t) => {
  const shape = s.variants({ Point: {}, Circle: { radius: u8 }, Name: { text: string } });
  both(t, shape, { kind: "Point" }, "00000000");
  both(t, shape, { kind: "Circle", radius: 9 }, "01000000 09");
  both(t, shape, { kind: "Name", text: "x" }, "02000000 0100000000000000 78");
  refused(t, shape, "03000000");
  refused(t, shape, "01000000");
  t.throws(() => shape.size({ kind: "Square" } as never), { name: "InvariantError" });
});

t.test("a result has a tag of 4 bytes, a unit nothing", async (t) => {
  const shape = s.result({ dirty: bool }, u32);
  both(t, shape, { ok: true, dirty: true }, "00000000 01");
  both(t, shape, { ok: false, error: 5 }, "01000000 05000000");
  both(t, s.result({}, u64), { ok: true }, "00000000");
  refused(t, shape, "02000000 01");
});

t.test("socket addresses", async (t) => {
  both(t, socketAddress, { host: "127.0.0.1", port: 7810 }, "00000000 7f000001 821e");
  both(
    t,
    socketAddress,
    { host: "fd00:1122:3344:105::c", port: 23_000 },
    "01000000 fd00112233440105000000000000000c d859",
  );
  refused(t, socketAddress, "02000000 7f000001 821e");
  refused(t, socketAddress, "01000000 7f000001 821e");
  refused(t, socketAddress, "00000000 7f000001 82");
  const sink = new Sink(Buffer.alloc(64));
  for (const host of ["localhost", "", "1.2.3", "fe80::1%eth0"])
    t.throws(() => socketAddress.write({ host, port: 1 }, sink), { name: "InvariantError" }, host);
});

t.test("IP addresses as text", async (t) => {
  for (const [text, canonical] of [
    ["0.0.0.0", "0.0.0.0"],
    ["255.255.255.255", "255.255.255.255"],
    ["::", "::"],
    ["::1", "::1"],
    ["1::", "1::"],
    ["2001:DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["0:0:0:1:0:0:0:0", "0:0:0:1::"],
    ["::ffff:192.0.2.33", "::ffff:192.0.2.33"],
    ["::ffff:c000:221", "::ffff:192.0.2.33"],
    ["64:ff9b::192.0.2.33", "64:ff9b::c000:221"],
    ["1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"],
  ] as const) {
    const ip = parseIp(text);
    t.equal(ip && formatIp(ip), canonical, text);
    t.same(parseIp(canonical), ip, `${canonical} is the same address`);
  }
  for (const text of [
    "256.0.0.1",
    "1.2.3.4.5",
    "01.2.3.4",
    "1.2.3.",
    "1::2::3",
    ":",
    ":1",
    "1:",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "1:2:3:4:5:6:7::8",
    "12345::",
    "g::",
    "1.2.3.4::",
    "::1.2.3.4:5",
  ])
    t.equal(parseIp(text), undefined, `${text} is none`);
});
