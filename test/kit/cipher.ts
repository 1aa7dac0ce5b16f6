import { addon, type NativeKey } from "../../src/host/native.js";
import type { Arena } from "../../src/ports/arena.js";
import { type Cipher, type CipherDone, NONCE_BYTES } from "../../src/ports/cipher.js";
import type { World } from "./world.js";

/** Longest that other threads take. */
const LATER_MS_MAX = 3;

/**
 * The native cipher over any memory, in virtual time: what is done later is done at a moment, and in an order, that chance chooses, and nonces
 * come from the same chance, so that a run can be repeated to the byte.
 */
export class StageCipher implements Cipher {
  readonly atOnceBytesMax: number;
  readonly #arena: Arena;
  readonly #world: World;
  readonly #key: NativeKey;

  constructor(arena: Arena, world: World, key: Uint8Array, atOnceBytesMax = 16 * 1024) {
    this.atOnceBytesMax = atOnceBytesMax;
    this.#arena = arena;
    this.#world = world;
    this.#key = new (addon().Key)(key, "auto");
  }
  seal(
    from: number,
    to: number,
    blockBytes: number,
    count: number,
    rowAt: number,
    stride: number,
    hashAt: number,
  ): void {
    const { bytes } = this.#arena;
    for (let i = 0; i < count; i++)
      for (let k = 0; k < NONCE_BYTES; k++)
        bytes[rowAt + i * stride + k] = this.#world.chance() * 256;
    if (count > 0) this.#key.seal(bytes, from, to, blockBytes, count, rowAt, stride, hashAt, 0);
  }
  open(
    from: number,
    to: number,
    blockBytes: number,
    count: number,
    rowAt: number,
    stride: number,
  ): number {
    if (count === 0) return -1;
    return this.#key.open(this.#arena.bytes, from, to, blockBytes, count, rowAt, stride);
  }
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
  ): void {
    this.#world.after(this.#world.chance() * LATER_MS_MAX, () => {
      this.seal(from, to, blockBytes, count, rowAt, stride, hashAt);
      done.cipherDone(tag, -1);
    });
  }
  openLater(
    from: number,
    to: number,
    blockBytes: number,
    count: number,
    rowAt: number,
    stride: number,
    done: CipherDone,
    tag: number,
  ): void {
    this.#world.after(this.#world.chance() * LATER_MS_MAX, () => {
      done.cipherDone(tag, this.open(from, to, blockBytes, count, rowAt, stride));
    });
  }
  close(): void {
    this.#key.wipe();
  }
}
