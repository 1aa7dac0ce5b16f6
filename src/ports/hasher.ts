/** XXH64, seed 0, over arena memory (wire reference: integrity hash). Results are u64 little-endian in the arena. */
export interface Hasher {
  /** Hashes `count` consecutive blocks at `at`; the i-th result is written at `outAt + i·outStride`. */
  blocks(at: number, blockBytes: number, count: number, outAt: number, outStride: number): void;
  /** Index of the first block whose hash differs from the u64 at `wantAt + i·wantStride`; −1: all agree. */
  verify(at: number, blockBytes: number, count: number, wantAt: number, wantStride: number): number;
  /**
   * The same for encrypted blocks: the i-th hash covers the `prefixBytes` bytes at
   * `prefixAt + i·prefixStride` (nonce and tag), then the block.
   */
  verifyPrefixed(
    at: number,
    blockBytes: number,
    count: number,
    wantAt: number,
    wantStride: number,
    prefixAt: number,
    prefixStride: number,
    prefixBytes: number,
  ): number;
  /** True when all `length` bytes are zero. */
  isZero(at: number, length: number): boolean;
}
