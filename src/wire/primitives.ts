import { parseUuid, type Uuid } from "../base/ids.js";
import { invariant } from "../base/invariant.js";
import type { Codec } from "./codec.js";
import { bad } from "./cursor.js";

// The scalars of bincode 1.3: little-endian, fixed width, no padding.

const TWO_32 = 2 ** 32;
/** High half of 2^53: a u64 whose high half reaches it is no safe JavaScript number. */
const HIGH_MAX = 2 ** 21;

const isUint = (value: number, limit: number): boolean =>
  Number.isInteger(value) && value >= 0 && value < limit;

export const u8: Codec<number> = {
  min: 1,
  size: () => 1,
  write(value, to) {
    invariant(isUint(value, 256), "a u8 is in range");
    to.bytes.writeUInt8(value, to.take(1));
  },
  read: (from) => from.bytes.readUInt8(from.take(1)),
};

export const u16: Codec<number> = {
  min: 2,
  size: () => 2,
  write(value, to) {
    invariant(isUint(value, 65_536), "a u16 is in range");
    to.bytes.writeUInt16LE(value, to.take(2));
  },
  read: (from) => from.bytes.readUInt16LE(from.take(2)),
};

export const u32: Codec<number> = {
  min: 4,
  size: () => 4,
  write(value, to) {
    invariant(isUint(value, TWO_32), "a u32 is in range");
    to.bytes.writeUInt32LE(value, to.take(4));
  },
  read: (from) => from.bytes.readUInt32LE(from.take(4)),
};

/** A u64 that we count with: ids, positions, lengths. Refused from 2^53 on, never rounded. */
export const u64: Codec<number> = {
  min: 8,
  size: () => 8,
  write(value, to) {
    invariant(Number.isSafeInteger(value) && value >= 0, "a u64 number is in range");
    const at = to.take(8);
    to.bytes.writeUInt32LE(value % TWO_32, at);
    to.bytes.writeUInt32LE(Math.floor(value / TWO_32), at + 4);
  },
  read(from) {
    const at = from.take(8);
    const high = from.bytes.readUInt32LE(at + 4);
    if (high >= HIGH_MAX) bad("a number is 2^53 or more");
    return high * TWO_32 + from.bytes.readUInt32LE(at);
  },
};

/** A u64 whose value the other side chooses freely: generations, hashes. */
export const u64Big: Codec<bigint> = {
  min: 8,
  size: () => 8,
  write(value, to) {
    invariant(BigInt.asUintN(64, value) === value, "a u64 bigint is in range");
    to.bytes.writeBigUInt64LE(value, to.take(8));
  },
  read: (from) => from.bytes.readBigUInt64LE(from.take(8)),
};

export const bool: Codec<boolean> = {
  min: 1,
  size: () => 1,
  write(value, to) {
    to.bytes[to.take(1)] = value ? 1 : 0;
  },
  read(from) {
    const value = from.bytes[from.take(1)]!;
    if (value > 1) bad(`a bool is ${value}`);
    return value === 1;
  },
};

/** u64 length, then as many bytes. What is read is a view of the frame, valid as long as the frame is. */
export const bytes: Codec<Uint8Array> = {
  min: 8,
  size: (value) => 8 + value.length,
  write(value, to) {
    u64.write(value.length, to);
    to.bytes.set(value, to.take(value.length));
  },
  read(from) {
    const length = u64.read(from);
    const at = from.take(length);
    return from.bytes.subarray(at, at + length);
  },
};

/**
 * Bytes that end the frame: the length, then data taken from the very end, as the reference does for
 * its bulk messages. Differs from `bytes` only when something lies between the two.
 */
export const tailBytes: Codec<Uint8Array> = {
  ...bytes,
  read(from) {
    const length = u64.read(from);
    from.take(length);
    from.at = from.end;
    return from.bytes.subarray(from.end - length, from.end);
  },
};

/** Exactly `count` bytes without a length. A view of the frame. */
export const fixedBytes = (count: number): Codec<Uint8Array> => ({
  min: count,
  size: () => count,
  write(value, to) {
    invariant(value.length === count, `an array has ${count} bytes`);
    to.bytes.set(value, to.take(count));
  },
  read(from) {
    const at = from.take(count);
    return from.bytes.subarray(at, at + count);
  },
});

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export const string: Codec<string> = {
  min: 8,
  size: (value) => 8 + Buffer.byteLength(value),
  write(value, to) {
    const length = Buffer.byteLength(value);
    u64.write(length, to);
    to.bytes.write(value, to.take(length), "utf8");
  },
  read(from) {
    const view = bytes.read(from);
    try {
      return utf8.decode(view);
    } catch {
      bad("a text is not UTF-8");
    }
  },
};

const UUID_BYTES = 16;

/** Length 16, then the bytes in the order of the text form. */
export const uuid: Codec<Uuid> = {
  min: 8 + UUID_BYTES,
  size: () => 8 + UUID_BYTES,
  write(value, to) {
    invariant(parseUuid(value) === value, "a uuid is in lower-case text form");
    u64.write(UUID_BYTES, to);
    to.bytes.write(value.replaceAll("-", ""), to.take(UUID_BYTES), "hex");
  },
  read(from) {
    const length = u64.read(from);
    if (length !== UUID_BYTES) bad(`a uuid has ${length} bytes`);
    const at = from.take(UUID_BYTES);
    const hex = from.bytes.toString("hex", at, at + UUID_BYTES);
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5") as Uuid;
  },
};
