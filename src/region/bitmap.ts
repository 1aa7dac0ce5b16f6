// The active-slot bitmap: bit (block mod 8), least significant first, of byte (block div 8); 0 says that
// array A holds the block's context, 1 that B does. Functions take the offset of the bitmap in `bytes`.

export const bitAt = (bytes: Uint8Array, at: number, block: number): 0 | 1 =>
  ((bytes[at + (block >>> 3)]! >>> (block & 7)) & 1) as 0 | 1;

export function setBit(bytes: Uint8Array, at: number, block: number, value: 0 | 1): void {
  const index = at + (block >>> 3);
  const mask = 1 << (block & 7);
  bytes[index] = value === 1 ? bytes[index]! | mask : bytes[index]! & ~mask;
}

export function flipBit(bytes: Uint8Array, at: number, block: number): void {
  const index = at + (block >>> 3);
  bytes[index] = bytes[index]! ^ (1 << (block & 7));
}
