import type { Arena } from "../ports/arena.js";
import type { Hasher } from "../ports/hasher.js";
import { LogKind } from "../ports/journal.js";
import { CONTEXT_BYTES, tailBytes } from "./layout.js";
import type { LogRow } from "./reading.js";

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
