import { SLOT_BYTES } from "./layout.js";

// A context slot: 48 bytes that say what was written to a block, or that nothing was.
//
//   plain      01 | hash 8 | 00 | disk hash 8 | flush id 2 | 00 ...
//   encrypted  01 | hash 8 | 01 | nonce 12 | tag 16 | disk hash 8 | flush id 2
//   empty      00 ...
//
// Bytes 1.. are a BlockContext exactly as it comes in a Write (9 or 37 bytes), so a slot is built by
// copying. `hash` is what the upstairs sent, `disk hash` XXH64 of the block as stored.

export const SlotKind = { empty: 0, plain: 1, encrypted: 2, undecodable: 3 } as const;
export type SlotKind = (typeof SlotKind)[keyof typeof SlotKind];

/** Bytes of a BlockContext in a Write message. */
export const PLAIN_CONTEXT_BYTES = 9;
export const ENCRYPTED_CONTEXT_BYTES = 37;
/** Where a BlockContext begins in a slot, and where its parts lie in it. */
export const SLOT_CONTEXT_AT = 1;
export const CONTEXT_KIND_AT = 8;
export const CONTEXT_SEAL_AT = 9;
/** Nonce and tag together. */
export const SEAL_BYTES = 28;
/** Where the disk hash lies in a slot. */
export const PLAIN_DISK_HASH_AT = 10;
export const ENCRYPTED_DISK_HASH_AT = 38;

/**
 * Builds a slot from a BlockContext that lies in the same memory. The disk hash of a plain block is
 * its context hash; that of an encrypted one is left for the caller to put at ENCRYPTED_DISK_HASH_AT.
 */
export function writeSlot(
  bytes: Uint8Array,
  at: number,
  contextAt: number,
  encrypted: boolean,
  flushId: number,
): void {
  bytes[at] = 1;
  if (encrypted) {
    bytes.copyWithin(at + 1, contextAt, contextAt + ENCRYPTED_CONTEXT_BYTES);
    bytes[at + 46] = flushId & 0xff;
    bytes[at + 47] = (flushId >>> 8) & 0xff;
    return;
  }
  for (let i = 0; i < 8; i++) {
    const byte = bytes[contextAt + i]!;
    bytes[at + 1 + i] = byte;
    bytes[at + PLAIN_DISK_HASH_AT + i] = byte;
  }
  bytes[at + 9] = 0;
  bytes[at + 18] = flushId & 0xff;
  bytes[at + 19] = (flushId >>> 8) & 0xff;
  bytes.fill(0, at + 20, at + SLOT_BYTES);
}

export function slotKind(bytes: Uint8Array, at: number): SlotKind {
  const present = bytes[at];
  if (present === 0) return SlotKind.empty;
  if (present !== 1) return SlotKind.undecodable;
  const encrypted = bytes[at + 9];
  if (encrypted === 0) return SlotKind.plain;
  return encrypted === 1 ? SlotKind.encrypted : SlotKind.undecodable;
}

/** Where a slot of this kind keeps the hash of the block as stored. */
export const diskHashAt = (kind: SlotKind): number =>
  kind === SlotKind.encrypted ? ENCRYPTED_DISK_HASH_AT : PLAIN_DISK_HASH_AT;

/** Low 16 bits of the extent's flush number when the slot was written. */
export const slotFlushId = (view: DataView, at: number, kind: SlotKind): number =>
  view.getUint16(at + diskHashAt(kind) + 8, true);

/** Eight bytes each, compared without making numbers of them. */
export function sameHash(
  left: Uint8Array,
  leftAt: number,
  right: Uint8Array,
  rightAt: number,
): boolean {
  for (let i = 0; i < 8; i++) if (left[leftAt + i] !== right[rightAt + i]) return false;
  return true;
}

/** Bytes of a ReadBlockContext in a ReadResponse (wire reference: u32 variant, then its fields). */
const READ_EMPTY_BYTES = 4;
const READ_PLAIN_BYTES = 12;
export const READ_CONTEXT_BYTES_MAX = 32;

/**
 * Translates a slot to the ReadBlockContext that answers a read, written at `out`. Same memory.
 * Returns its length; 0 when the slot cannot be decoded.
 */
export function slotToReadContext(bytes: Uint8Array, at: number, out: number): number {
  const kind = slotKind(bytes, at);
  bytes[out + 1] = 0;
  bytes[out + 2] = 0;
  bytes[out + 3] = 0;
  switch (kind) {
    case SlotKind.empty:
      bytes[out] = 0;
      return READ_EMPTY_BYTES;
    case SlotKind.plain:
      bytes[out] = 2;
      for (let i = 0; i < 8; i++) bytes[out + 4 + i] = bytes[at + 1 + i]!;
      return READ_PLAIN_BYTES;
    case SlotKind.encrypted:
      bytes[out] = 1;
      bytes.copyWithin(out + 4, at + 10, at + 10 + SEAL_BYTES);
      return READ_CONTEXT_BYTES_MAX;
    default:
      return 0;
  }
}
