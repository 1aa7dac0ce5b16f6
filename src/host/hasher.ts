import type { Hasher } from "../ports/hasher.js";
import type { NativeCore } from "./native.js";

/** XXH64 where the data lies. Memory outside the arena throws a RangeError, as our own bugs do. */
export class NativeHasher implements Hasher {
  readonly #native: NativeCore;

  constructor(native: NativeCore) {
    this.#native = native;
  }
  blocks(at: number, blockBytes: number, count: number, outAt: number, outStride: number): void {
    if (count > 0) this.#native.hashBlocks(at, blockBytes, count, outAt, outStride);
  }
  verify(at: number, blockBytes: number, count: number, wantAt: number, stride: number): number {
    return count > 0 ? this.#native.hashVerify(at, blockBytes, count, wantAt, stride) : -1;
  }
  verifyPrefixed(
    at: number,
    blockBytes: number,
    count: number,
    wantAt: number,
    wantStride: number,
    prefixAt: number,
    prefixStride: number,
    prefixBytes: number,
  ): number {
    if (count === 0) return -1;
    return this.#native.hashVerifyPrefixed(
      at,
      blockBytes,
      count,
      wantAt,
      wantStride,
      prefixAt,
      prefixStride,
      prefixBytes,
    );
  }
  isZero(at: number, length: number): boolean {
    return this.#native.isZero(at, length);
  }
}
