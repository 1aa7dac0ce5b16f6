import { decode, encode } from "@msgpack/msgpack";
import fc from "fast-check";
import t from "tap";
import { Fault } from "../../../src/base/fault.js";
import { cutFrame, makeFrame } from "../../../src/control/frames.js";

const LIMITS = { bodyBytes: 1024, arrayLength: 16 };
const codeOf = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    return error instanceof Fault ? error.code : `${error}`;
  }
  return "nothing";
};
const framed = (length: number, body: Uint8Array): Uint8Array => {
  const frame = Buffer.alloc(4 + body.length);
  frame.writeUInt32BE(length);
  frame.set(body, 4);
  return frame;
};

t.test("four bytes of length, big-endian, then MessagePack", async (t) => {
  const frame = makeFrame({ id: 7 }, LIMITS);
  t.same([...frame], [0, 0, 0, 5, 0x81, 0xa2, 0x69, 0x64, 7]);
  t.same(decode(frame.subarray(4)), { id: 7 });
});

t.test("what was made is cut again, whatever follows; less is not enough", async (t) => {
  const value = fc.dictionary(
    fc.string({ minLength: 1, maxLength: 8 }),
    fc.jsonValue({ maxDepth: 2 }),
    {
      maxKeys: 4,
    },
  );
  fc.assert(
    fc.property(value, fc.uint8Array({ maxLength: 40 }), (value, after) => {
      if (encode(value).length > LIMITS.bodyBytes) return;
      const wide = { ...LIMITS, arrayLength: 1024 };
      const frame = makeFrame(value, wide);
      const cut = cutFrame(Buffer.concat([frame, after]), wide);
      if (cut.usedBytes !== frame.length) throw new Error(`used ${cut.usedBytes}`);
      if (Buffer.compare(encode(cut.value), encode(value)) !== 0) throw new Error("another value");
      for (let end = 0; end < frame.length; end++)
        if (cutFrame(frame.subarray(0, end), wide).usedBytes !== 0) throw new Error("too early");
    }),
    { seed: 4, numRuns: 200 },
  );
  t.pass("200 values");
});

t.test("lengths are refused before anything is allocated for them", async (t) => {
  t.equal(
    codeOf(() => cutFrame(framed(0, Buffer.alloc(0)), LIMITS)),
    "TRIVET_E_CONTROL",
  );
  t.equal(
    codeOf(() => cutFrame(framed(1025, Buffer.alloc(0)), LIMITS)),
    "TRIVET_E_CONTROL",
  );
  t.equal(
    codeOf(() => cutFrame(framed(0xffff_ffff, Buffer.alloc(3)), LIMITS)),
    "TRIVET_E_CONTROL",
  );
  // array32, str32, bin32, map32 and ext32 that claim four thousand million elements.
  for (const type of [0xdd, 0xdb, 0xc6, 0xdf, 0xc9])
    t.equal(
      codeOf(() => cutFrame(framed(5, Buffer.from([type, 255, 255, 255, 255])), LIMITS)),
      "TRIVET_E_CONTROL",
      `type ${type.toString(16)}`,
    );
  // Arrays within arrays, each claiming the most that is allowed.
  const nested = Buffer.alloc(1000, 0xdc);
  const before = process.memoryUsage().heapUsed;
  t.equal(
    codeOf(() => cutFrame(framed(1000, nested), LIMITS)),
    "TRIVET_E_CONTROL",
  );
  t.ok(process.memoryUsage().heapUsed - before < 8 * 2 ** 20);
});

t.test("any bytes are a message, not enough, or a Fault", async (t) => {
  const some = fc.tuple(fc.nat({ max: 40 }), fc.uint8Array({ maxLength: 48 }));
  const outcomes = new Set<string>();
  fc.assert(
    fc.property(some, ([length, body]) => {
      const outcome = codeOf(() => cutFrame(framed(length, body), LIMITS));
      outcomes.add(outcome);
      if (outcome !== "nothing" && outcome !== "TRIVET_E_CONTROL") throw new Error(outcome);
    }),
    { seed: 5, numRuns: 3000 },
  );
  t.same([...outcomes].sort(), ["TRIVET_E_CONTROL", "nothing"]);
});
