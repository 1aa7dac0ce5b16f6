import fc from "fast-check";
import t from "tap";
import {
  decode,
  encode,
  encodedBytes,
  encodeInto,
  FRAME_BYTES_MIN_BY_TAG,
  KINDS,
  TAG,
} from "../../src/crucible/messages.js";
import { arbitraryOf } from "./messages.js";

for (const kind of KINDS)
  t.test(`any ${kind} comes back as it was`, async (t) => {
    let shortest = Number.POSITIVE_INFINITY;
    fc.assert(
      fc.property(arbitraryOf(kind), fc.nat(64), (message, at) => {
        const frame = encode(message);
        shortest = Math.min(shortest, frame.length);
        const around = Buffer.alloc(at + frame.length + 64, 0xcc);
        const written = encodeInto(message, around, at);
        const outside = Buffer.concat([around.subarray(0, at), around.subarray(at + written)]);
        const back = decode(around, at, written);
        return (
          written === frame.length &&
          encodedBytes(message) === frame.length &&
          frame.readUInt32LE(0) === frame.length &&
          frame.readUInt32LE(4) === TAG[kind] &&
          outside.every((byte) => byte === 0xcc) &&
          show(back) === show(message) &&
          encode(back).equals(frame)
        );
      }),
      { seed: 13, numRuns: 150 },
    );
    t.equal(shortest >= FRAME_BYTES_MIN_BY_TAG[TAG[kind]]!, true, "never below the minimum");
  });

/** One text per value, whatever kind of array holds its bytes. */
function show(value: unknown): string {
  return JSON.stringify(value, (_, v) => {
    if (typeof v === "bigint") return `${v}n`;
    if (v?.type === "Buffer") return [...v.data];
    if (v instanceof Uint8Array) return [...v];
    return v;
  });
}
