import { invariant } from "../base/invariant.js";
import { PIECE_BYTES_MAX } from "../base/limits.js";
import { wider } from "../base/wider.js";

/** `offset & PIECE_MASK` is the remainder, also of offsets beyond 32 bits, and much cheaper than `%`. */
const PIECE_MASK = PIECE_BYTES_MAX - 1;
invariant((PIECE_BYTES_MAX & PIECE_MASK) === 0, "the piece size is a power of two");

/**
 * Length of the first piece of [offset, offset + length). Pieces end at multiples of PIECE_BYTES_MAX, so
 * that a piece widened to whole blocks is never longer than that.
 */
export function pieceLength(offset: number, length: number): number {
  return Math.min(length, PIECE_BYTES_MAX - (offset & PIECE_MASK));
}

/**
 * Pieces of one connection: of reads, from being asked of the device until their data was sent; of writes, while the device has them. Grows by
 * doubling.
 */
export class PieceTable {
  /** Whose it is; −1: the piece is free. */
  slot = new Int32Array(0);
  at = new Float64Array(0);
  hold = new Float64Array(0);
  offset = new Float64Array(0);
  length = new Uint32Array(0);
  /** Next piece of the same request; −1 is the end. In free pieces: next free one. */
  next = new Int32Array(0);
  #free = -1;
  #used = 0;

  get used(): number {
    return this.#used;
  }

  take(slot: number, offset: number, length: number): number {
    if (this.#free < 0) this.#grow();
    const piece = this.#free;
    this.#free = this.next[piece]!;
    this.#used += 1;
    this.slot[piece] = slot;
    this.offset[piece] = offset;
    this.length[piece] = length;
    this.at[piece] = -1;
    this.hold[piece] = -1;
    this.next[piece] = -1;
    return piece;
  }
  put(piece: number): void {
    this.slot[piece] = -1;
    this.next[piece] = this.#free;
    this.#free = piece;
    this.#used -= 1;
  }

  #grow(): void {
    const before = this.slot.length;
    const after = Math.max(64, 2 * before);
    this.slot = wider(this.slot, new Int32Array(after));
    this.next = wider(this.next, new Int32Array(after));
    this.at = wider(this.at, new Float64Array(after));
    this.hold = wider(this.hold, new Float64Array(after));
    this.offset = wider(this.offset, new Float64Array(after));
    this.length = wider(this.length, new Uint32Array(after));
    for (let piece = after - 1; piece >= before; piece--) {
      this.slot[piece] = -1;
      this.next[piece] = this.#free;
      this.#free = piece;
    }
  }
}
