import type { Arena } from "../ports/arena.js";
import { FUA } from "../ports/device.js";
import { Command, FLAG } from "./commands.js";
import type { PieceTable } from "./pieces.js";
import { REQUEST_BYTES, REQUEST_MAGIC } from "./protocol.js";
import type { RequestTable } from "./requests.js";

// What one process has to know to go on with a client of another. A request that is not answered yet is nothing but bytes that
// the client sent: they are made again from the tables, and whoever goes on parses them as if they came now. That is right because
// a request without an answer may be carried out again, by anybody, in any order.

/** A connection in its transmission phase, without the socket. */
export interface SessionState {
  /** As it is called by the server; clients may know it by the empty name. */
  readonly exportName: string;
  /** What the client was told, and relies on. */
  readonly sizeBytes: number;
  readonly minimumBytes: number;
  readonly payloadBytesMax: number;
  /** Transmission flags. */
  readonly offers: number;
  readonly structured: boolean;
  /** base:allocation was selected. */
  readonly allocation: boolean;
  /** Which client it is a connection of; null: nobody said. */
  readonly attachment: string | null;
  /** Received and not answered: whole requests, then the beginning of the next one, if any. */
  readonly received: Uint8Array;
  /** Answers that have to be sent before any other. */
  readonly unsent: Uint8Array;
}

const TWO_32 = 2 ** 32;

export interface Underway {
  readonly arena: Arena;
  readonly structured: boolean;
  readonly table: RequestTable;
  /** Pieces of WRITEs that the device has not answered. */
  readonly writes: PieceTable;
  /** The WRITE whose payload is coming: the rest of it is not here; −1: none. */
  readonly payloadSlot: number;
  /** Where the piece that is being received begins. */
  readonly payloadOffset: number;
}

/**
 * The requests under way as bytes, in the order in which they came; the last one may lack the end of its payload, which follows from the stream.
 * Requests with an error are left out: they have been answered. Null: one of them is half done, in a way that bytes cannot say.
 */
export function unansweredBytes(underway: Underway): Uint8Array[] | null {
  const { table } = underway;
  const found: Uint8Array[] = [];
  for (const slot of table.inOrder()) {
    const isIncoming = slot === underway.payloadSlot;
    if (table.error[slot] !== 0) {
      if (isIncoming) return null;
      continue;
    }
    if (table.begun[slot] === 1) return null;
    const offset = table.offset[slot]!;
    const end = offset + table.length[slot]!;
    if (table.command[slot] !== Command.write) {
      found.push(header(underway, slot, offset, end));
      continue;
    }
    const pieces = piecesOf(underway, slot, isIncoming ? underway.payloadOffset : end);
    if (pieces === null) return null;
    found.push(header(underway, slot, pieces.from, end), ...pieces.payload);
  }
  return found;
}

/** Payload up to `end`, from wherever the device has done everything before. Null: it has done a part in the middle. */
function piecesOf(
  { arena, writes }: Underway,
  slot: number,
  end: number,
): { readonly from: number; readonly payload: readonly Uint8Array[] } | null {
  const { slot: slots, offset, length, at } = writes;
  const pieces = Array.from(slots.keys())
    .filter((piece) => slots[piece] === slot)
    .sort((a, b) => offset[a]! - offset[b]!);
  let from = end;
  const payload: Uint8Array[] = [];
  for (const piece of pieces.reverse()) {
    if (offset[piece]! + length[piece]! !== from) return null;
    from = offset[piece]!;
    payload.unshift(Uint8Array.from(arena.bytes.subarray(at[piece]!, at[piece]! + length[piece]!)));
  }
  return { from, payload };
}

function header(
  { table, structured }: Underway,
  slot: number,
  from: number,
  end: number,
): Uint8Array {
  const bytes = new Uint8Array(REQUEST_BYTES);
  const view = new DataView(bytes.buffer);
  const command = table.command[slot]!;
  const isFragile = command === Command.read && structured && table.whole[slot] === 1;
  view.setUint32(0, REQUEST_MAGIC);
  view.setUint16(4, ((table.flags[slot]! & FUA) !== 0 ? FLAG.fua : 0) | (isFragile ? FLAG.df : 0));
  view.setUint16(6, command);
  view.setUint32(8, table.cookieHigh[slot]!);
  view.setUint32(12, table.cookieLow[slot]!);
  view.setUint32(16, Math.floor(from / TWO_32));
  view.setUint32(20, from % TWO_32);
  view.setUint32(24, end - from);
  return bytes;
}

/** Bytes that follow each other. */
export function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
