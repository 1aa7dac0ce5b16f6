import {
  READ_CONTEXT_BYTES,
  READ_EMPTY,
  READ_ENCRYPTED,
  READ_UNENCRYPTED,
} from "../crucible/layout.js";
import type { ReadResponseFrame } from "../crucible/replies.js";
import type { Arena } from "../ports/arena.js";
import type { Hasher } from "../ports/hasher.js";

/**
 * Checks every block of an answer in a region without encryption (wire reference 3.3): written blocks by their hash,
 * never-written ones must be zero. Index of the first that fails; −1: all are good.
 */
export function firstBadBlock(
  response: ReadResponseFrame,
  arena: Arena,
  hasher: Hasher,
  blockBytes: number,
): number {
  const { contextsAt, contextsCount, dataAt } = response;
  if (response.unencryptedCount === contextsCount)
    return hasher.verify(
      dataAt,
      blockBytes,
      contextsCount,
      contextsAt + 4,
      READ_CONTEXT_BYTES[READ_UNENCRYPTED]!,
    );
  const { view } = arena;
  for (let i = 0, at = contextsAt; i < contextsCount; i++) {
    const kind = view.getUint32(at, true);
    const block = dataAt + i * blockBytes;
    if (kind === READ_ENCRYPTED) return i;
    if (kind === READ_EMPTY && !hasher.isZero(block, blockBytes)) return i;
    if (kind === READ_UNENCRYPTED && hasher.verify(block, blockBytes, 1, at + 4, 12) >= 0) return i;
    at += READ_CONTEXT_BYTES[kind]!;
  }
  return -1;
}
