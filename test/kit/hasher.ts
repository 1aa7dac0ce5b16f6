import xxhash, { type XXHashAPI } from "xxhash-wasm";
import type { Arena } from "../../src/ports/arena.js";
import type { Hasher } from "../../src/ports/hasher.js";

/** XXH64 by a library of somebody else's: the second opinion, and the hasher of simulated runs. */
export class FakeHasher implements Hasher {
  readonly #arena: Arena;
  readonly #api: XXHashAPI;

  constructor(arena: Arena, api: XXHashAPI) {
    this.#arena = arena;
    this.#api = api;
  }
  static async over(arena: Arena): Promise<FakeHasher> {
    return new FakeHasher(arena, await xxhash());
  }

  blocks(at: number, blockBytes: number, count: number, outAt: number, outStride: number): void {
    for (let i = 0; i < count; i++)
      this.#arena.view.setBigUint64(
        outAt + i * outStride,
        this.#hash(at + i * blockBytes, blockBytes),
        true,
      );
  }
  verify(
    at: number,
    blockBytes: number,
    count: number,
    wantAt: number,
    wantStride: number,
  ): number {
    for (let i = 0; i < count; i++) {
      const want = this.#arena.view.getBigUint64(wantAt + i * wantStride, true);
      if (this.#hash(at + i * blockBytes, blockBytes) !== want) return i;
    }
    return -1;
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
    const { bytes, view } = this.#arena;
    for (let i = 0; i < count; i++) {
      const prefix = prefixAt + i * prefixStride;
      const block = at + i * blockBytes;
      const got = this.#api
        .create64()
        .update(bytes.subarray(prefix, prefix + prefixBytes))
        .update(bytes.subarray(block, block + blockBytes))
        .digest();
      if (got !== view.getBigUint64(wantAt + i * wantStride, true)) return i;
    }
    return -1;
  }
  isZero(at: number, length: number): boolean {
    // A byte is zero, and each is equal to the one before it.
    const { bytes } = this.#arena;
    return (
      length === 0 ||
      (bytes[at] === 0 && bytes.compare(bytes, at, at + length - 1, at + 1, at + length) === 0)
    );
  }
  #hash(at: number, length: number): bigint {
    return this.#api.h64Raw(this.#arena.bytes.subarray(at, at + length));
  }
}
