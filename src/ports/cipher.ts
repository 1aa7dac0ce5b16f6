/** Nonce, and right behind it the tag, of a sealed block (wire reference: encryption context). */
export const NONCE_BYTES = 12;
export const TAG_BYTES = 16;
/** Of a key. */
export const KEY_BYTES = 32;

/**
 * AES-256-GCM-SIV (RFC 8452) over blocks in the arena, under one key that it never shows. Each of `count` consecutive blocks of `blockBytes`
 * is a message of its own, under a nonce of its own, without additional data.
 *
 * Blocks lie at `from` and go to `to`: the same address (in place), or ranges that do not overlap. Nonce and tag of the i-th block, 28
 * bytes, stand at `rowAt + i·stride`, which is where a frame has them. Memory outside the arena throws a RangeError: our own bug.
 */
export interface Cipher {
  /** More bytes than this are for `sealLater` and `openLater`: they would hold up the loop. At least one block of any size. */
  readonly atOnceBytesMax: number;

  /**
   * Seals, and fills the rows: random nonces, tags. With `hashAt` ≥ 0 also the integrity hashes, XXH64 of nonce, tag and sealed block, u64
   * little-endian at `hashAt + i·stride`. Sealing the same block again gives another result, so what is sent more than once is sealed once.
   */
  seal(
    from: number,
    to: number,
    blockBytes: number,
    count: number,
    rowAt: number,
    stride: number,
    hashAt: number,
  ): void;

  /**
   * Opens all blocks or none: −1, or the index of a block that is not what was sealed under this key and the nonce and tag of its row (the
   * first such). Then what lies at `from` is as it was before, to be looked at again or counted as damage; `to`, where
   * it is another place, is zero. Nothing of the plaintext is left. Integrity hashes are not looked at.
   */
  open(
    from: number,
    to: number,
    blockBytes: number,
    count: number,
    rowAt: number,
    stride: number,
  ): number;

  /**
   * The same in other threads, for one block or more. All memory that is named stays as it is, and untouched by others, until `done.cipherDone`, which comes exactly
   * once. Answers come in any order.
   */
  sealLater(
    from: number,
    to: number,
    blockBytes: number,
    count: number,
    rowAt: number,
    stride: number,
    hashAt: number,
    done: CipherDone,
    tag: number,
  ): void;
  openLater(
    from: number,
    to: number,
    blockBytes: number,
    count: number,
    rowAt: number,
    stride: number,
    done: CipherDone,
    tag: number,
  ): void;

  /** Wipes the key, as soon as the last `…Later` is done. Afterwards nothing may be asked. */
  close(): void;
}

export interface CipherDone {
  /** Never called before the request returned. `bad`: −1, or the index of a bad block; of several any one. */
  cipherDone(tag: number, bad: number): void;
}
