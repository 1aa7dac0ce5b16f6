import { invariant } from "../base/invariant.js";

// Where everything lies in a write log, in bytes and in words of 32 bits. The table in the README says the same for readers of
// bytes. Numbers are little-endian, which is the order of every machine that we run on: the log never leaves its machine.
//
//   head: page with header, session records, covered marks ─ rows        body: the payload arena

/** "TRIVETWL". The second word is stored last of all when a log is made. */
export const MAGIC = [0x56495254, 0x4c575445] as const;
/** Of everything in these tables. Another number is another layout. */
export const LOG_VERSION = 2;

export const HEADER_BYTES = 4096;
export const ROW_BYTES = 128;
export const ROW_WORDS = ROW_BYTES / 4;
/** Above the number of jobs that make the upstairs flush by itself (10,000), with room for those that come meanwhile. */
export const ROWS_DEFAULT = 16_384;
/** What a file may claim; 2 GiB of rows. */
export const ROWS_MAX = 2 ** 24;

/** Header: words that never change while a file lives. */
export const Header = {
  magic: 0,
  version: 2,
  headerBytes: 3,
  rowBytes: 4,
  rows: 5,
  /** Offset of the body in the file; whole pages. */
  bodyAt: 6,
  /** Low word, high word. */
  bodyBytes: 8,
  /** 16 bytes each. */
  bootId: 10,
  volumeId: 14,
  /** Bytes of the name, then the name in UTF-8. */
  nameBytes: 18,
  name: 19,
  /** Of words 2 to 126. */
  checksum: 127,
} as const;
export const NAME_BYTES_MAX = 400;
invariant(Header.name + NAME_BYTES_MAX / 4 <= Header.checksum, "the name fits into the header");

/** Two records that are written in turn, so that one of them is whole at any time. The one with the higher count is valid. */
export const SESSION_AT = [128, 192] as const;
export const SESSION_WORDS = 64;
export const Session = {
  count: 0,
  state: 1,
  /** Low word, high word, here and below. What the process promoted itself with last. */
  generation: 2,
  /** Highest generation that any extent carried when the volume became active. */
  highestSeen: 4,
  blockBytes: 6,
  pid: 7,
  /** Milliseconds of the monotonic clock of this boot, a double: when the generation was claimed. */
  claimedMs: 8,
  /** Three region ids, 16 bytes each; nil: that replica took no part. */
  regions: 10,
  /** Sessions that may have changed regions, the oldest first; generation 0: none. */
  lives: 22,
  /** Of words 0 to 62. */
  checksum: 63,
} as const;
/** One of the sessions in a record. */
export const Life = {
  /** u64: generations from this one to that one; what reconciliation wrote, 0: nothing. */
  from: 0,
  generation: 2,
  reconciled: 4,
  /** Doubles: flush numbers from this one to that one. */
  first: 6,
  last: 8,
} as const;
export const LIFE_WORDS = 10;
export const LIVES_MAX = 4;
invariant(Session.lives + LIVES_MAX * LIFE_WORDS <= Session.checksum, "the sessions fit");

export const SessionState = {
  /** There is nothing to finish. */
  clean: 1,
  /** Requests may have been served. */
  open: 2,
  /** Somebody else wrote since: the rows are put aside and must not be written. */
  void: 3,
} as const;
export type SessionState = (typeof SessionState)[keyof typeof SessionState];

/** The newest row covered, twice, each in a cache line of its own; the first is stored first. */
export const COVERED_AT = [256, 272] as const;

/** A double, in a cache line of its own: the number of the flush sent last, in the newest session; 0: none. */
export const FLUSHED_AT = 288;

/** A row; its place is its number modulo the number of rows. */
export const Row = {
  state: 0,
  /** 1: the requester was told. Not part of the checksum. */
  answered: 1,
  /** Of words 3 to 13, then of the words in use from `tail` on. */
  checksum: 2,
  number: 3,
  /** LogKind. */
  kind: 4,
  blocks: 5,
  /** Doubles, two words each: job id, first block, payload and contexts as offsets in the body (−1: none). */
  id: 6,
  start: 8,
  at: 10,
  tailAt: 12,
  /** 64 bytes: contexts of up to six blocks. */
  tail: 16,
} as const;
export const ROW_BODY_END = 14;

export const RowState = { never: 0, beingWritten: 1, complete: 2 } as const;

/** Per block: XXH64 of its bytes, and a zero. Then the length of the payload as u64. */
export const CONTEXT_BYTES = 9;
export const tailBytes = (blocks: number): number => blocks * CONTEXT_BYTES + 8;
export const SHORT_TAIL_BYTES = 64;

export const headBytes = (rows: number): number => HEADER_BYTES + rows * ROW_BYTES;

const SEED = 0x54524c47;

/** One more word. Any change of one word changes the result: every step can be undone. */
export const mix = (sum: number, word: number): number => {
  const x = sum ^ word;
  return Math.imul((x << 13) | (x >>> 19), 0x9e3779b1);
};
export const mixFirst = (word: number): number => mix(SEED, word);

/** Of `words` from `from` to before `to`. */
export function checksum(words: Int32Array, from: number, to: number): number {
  let sum = SEED;
  for (let i = from; i < to; i++) sum = mix(sum, words[i]!);
  return sum;
}

export function rowChecksum(words: Int32Array, base: number, tailWords: number): number {
  let sum = SEED;
  for (let i = base + Row.number; i < base + ROW_BODY_END; i++) sum = mix(sum, words[i]!);
  const end = base + Row.tail + tailWords;
  for (let i = base + Row.tail; i < end; i++) sum = mix(sum, words[i]!);
  return sum;
}

/** Words of a row that hold contexts: none when they lie behind the payload, or for zeros. */
export const inlineWords = (blocks: number): number => Math.ceil(tailBytes(blocks) / 4);
