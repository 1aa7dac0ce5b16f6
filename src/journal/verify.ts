import type { Arena } from "../ports/arena.js";
import type { Hasher } from "../ports/hasher.js";
import { LogKind } from "../ports/journal.js";
import { CONTEXT_BYTES, tailBytes } from "./layout.js";
import type { LogReading, LogRow } from "./reading.js";

/**
 * Whether the payload of `row` is what its contexts say; null: it is. `scratchAt`: room for the contexts of the largest row. The payload
 * lies at `payloadAt`, its contexts in the row or behind it.
 */
export function payloadProblem(
  row: LogRow,
  blockBytes: number,
  payloadAt: number,
  arena: Arena,
  hasher: Hasher,
  scratchAt: number,
): string | null {
  if (row.kind === LogKind.zeroes) return null;
  const { blocks } = row;
  const behind = payloadAt + row.payloadBytes;
  const contexts = row.tail ?? arena.bytes.subarray(behind, behind + tailBytes(blocks));
  hasher.blocks(payloadAt, blockBytes, blocks, scratchAt, CONTEXT_BYTES);
  const found = arena.bytes.subarray(scratchAt, scratchAt + blocks * CONTEXT_BYTES);
  for (let i = 0; i < blocks; i++) {
    const at = i * CONTEXT_BYTES;
    for (let b = 0; b < 8; b++)
      if (found[at + b] !== contexts[at + b])
        return `row ${row.row}, block ${row.start + i}: the payload does not have the hash that was kept of it`;
    if (contexts[at + 8] !== 0) return `row ${row.row}: its contexts are damaged`;
  }
  const length = Buffer.from(contexts.buffer, contexts.byteOffset + blocks * CONTEXT_BYTES, 8);
  if (length.readBigUInt64LE() !== BigInt(row.payloadBytes))
    return `row ${row.row}: its contexts are damaged`;
  return null;
}

/** What a row has of the arena: its payload, and its contexts when they do not fit into the row. */
export const payloadBytes = (row: LogRow): number =>
  row.tailAt < 0 ? row.payloadBytes : row.payloadBytes + tailBytes(row.blocks);

/** Reserves the payload of every row, before anything else is allocated, and checks it. Null, or what is wrong. */
export function takePayload(reading: LogReading, arena: Arena, hasher: Hasher): string | null {
  const rows = reading.rows.filter(({ at }) => at >= 0).sort((a, b) => a.at - b.at);
  for (const row of rows)
    if (!arena.reserve(row.at, payloadBytes(row)))
      return `the payload of row ${row.row} overlaps that of another`;
  const largest = rows.reduce((most, { blocks }) => Math.max(most, blocks), 1);
  const scratchAt = arena.alloc(tailBytes(largest));
  if (scratchAt < 0) return "no room is left in its arena";
  const { blockBytes } = reading.session!;
  let problem: string | null = null;
  for (const row of rows)
    problem ??= payloadProblem(row, blockBytes, row.at, arena, hasher, scratchAt);
  arena.free(scratchAt);
  return problem;
}
