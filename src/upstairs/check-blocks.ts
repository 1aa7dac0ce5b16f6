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

/** What is wrong with a block of an answer that is not to be used. */
export const Wrong = {
  /** Data that its context does not agree with. */
  hash: 1,
  /** Data, though nothing was written. */
  unwritten: 2,
  /** A context of an encrypted region. */
  encrypted: 3,
} as const;

/** Calls `found` for every block that is not good, by its index in the answer. For answers of which one is known to be bad. */
export function eachBadBlock(
  response: ReadResponseFrame,
  arena: Arena,
  hasher: Hasher,
  blockBytes: number,
  found: (index: number, wrong: number) => void,
): void {
  const { contextsAt, contextsCount, dataAt } = response;
  for (let i = 0, at = contextsAt; i < contextsCount; i++) {
    const kind = arena.view.getUint32(at, true);
    const wrong = wrongAt(kind, at, dataAt + i * blockBytes, hasher, blockBytes);
    if (wrong !== 0) found(i, wrong);
    at += READ_CONTEXT_BYTES[kind]!;
  }
}

/** What is wrong with the data at `block` under the context at `at`; 0: nothing. */
export function wrongAt(
  kind: number,
  at: number,
  block: number,
  hasher: Hasher,
  blockBytes: number,
): number {
  switch (kind) {
    case READ_EMPTY:
      return hasher.isZero(block, blockBytes) ? 0 : Wrong.unwritten;
    case READ_UNENCRYPTED:
      return hasher.verify(block, blockBytes, 1, at + 4, 12) < 0 ? 0 : Wrong.hash;
    default:
      return Wrong.encrypted;
  }
}
