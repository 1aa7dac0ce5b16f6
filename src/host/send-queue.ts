import { invariant } from "../base/invariant.js";
import { COMPOSE_BYTES_MAX } from "../base/limits.js";
import type { HostArena } from "./arena.js";
import type { Driver } from "./driver.js";
import { Request, SEND_VECTORS } from "./native.js";

/** Composed messages are packed into chunks of this size; a busy stream keeps using one and the same. */
const CHUNK_BYTES = 2 * COMPOSE_BYTES_MAX;
const NONE = -1;

/**
 * What a stream has still to send: pieces of arena memory in order, first in, first out, in a ring of numbers.
 * Owns the chunks that composed messages lie in. It calls nobody but `sent`.
 */
export class SendQueue {
  readonly #arena: HostArena;
  #mask = 15;
  #at = new Float64Array(16);
  #length = new Float64Array(16);
  /** Tag of an attached piece, or NONE. */
  #tag = new Float64Array(16);
  /** Chunk that ends with this piece and is freed with it, or NONE. */
  #chunk = new Float64Array(16);
  /** Pieces [first, next), counted since the beginning. */
  #first = 0;
  #next = 0;
  #bytes = 0;

  #chunkAt = NONE;
  #chunkUsed = 0;
  /** The last piece that lies in the current chunk, if it is still queued. */
  #lastComposed = NONE;

  constructor(arena: HostArena) {
    this.#arena = arena;
  }
  get bytes(): number {
    return this.#bytes;
  }

  /** −1 when there is no memory. */
  compose(length: number): number {
    if (this.#lastComposed < this.#first) this.#chunkUsed = 0;
    if (this.#chunkAt === NONE || this.#chunkUsed + length > CHUNK_BYTES) {
      const fresh = this.#arena.allocForStream(CHUNK_BYTES);
      if (fresh < 0) return -1;
      if (this.#chunkAt !== NONE) this.#chunk[this.#lastComposed & this.#mask] = this.#chunkAt;
      this.#chunkAt = fresh;
      this.#chunkUsed = 0;
      this.#lastComposed = NONE;
    }
    const at = this.#chunkAt + this.#chunkUsed;
    this.#chunkUsed += length;
    const last = this.#next - 1;
    if (last >= this.#first && last === this.#lastComposed) {
      // Right behind the piece before it: one piece.
      const i = last & this.#mask;
      this.#length[i] = this.#length[i]! + length;
      this.#bytes += length;
    } else {
      this.#lastComposed = this.#next;
      this.#push(at, length, NONE);
    }
    return at;
  }
  attach(at: number, length: number, tag: number): void {
    this.#push(at, length, tag < 0 ? NONE : tag);
  }
  #push(at: number, length: number, tag: number): void {
    if (this.#next - this.#first > this.#mask) this.#grow();
    const i = this.#next++ & this.#mask;
    this.#at[i] = at;
    this.#length[i] = length;
    this.#tag[i] = tag;
    this.#chunk[i] = NONE;
    this.#bytes += length;
  }
  #grow(): void {
    const size = 2 * (this.#mask + 1);
    const move = (old: Float64Array): Float64Array<ArrayBuffer> => {
      const fresh = new Float64Array(size);
      for (let n = this.#first; n < this.#next; n++) fresh[n & (size - 1)] = old[n & this.#mask]!;
      return fresh;
    };
    this.#at = move(this.#at);
    this.#length = move(this.#length);
    this.#tag = move(this.#tag);
    this.#chunk = move(this.#chunk);
    this.#mask = size - 1;
  }

  /** Stages one gathered send of the first pieces; false when the tables are full. */
  stage(driver: Driver, slot: number): boolean {
    const count = Math.min(this.#next - this.#first, SEND_VECTORS);
    if (!driver.roomForVectors(count)) return false;
    const from = driver.nextVector;
    for (let n = this.#first; n < this.#first + count; n++) {
      const i = n & this.#mask;
      driver.vector(this.#at[i]!, this.#length[i]!);
    }
    driver.row(Request.send, slot, from, count);
    return true;
  }

  /** `count` bytes have left. */
  advance(count: number, handler: { sent(tag: number): void } | undefined): void {
    invariant(count <= this.#bytes, "no more is sent than was queued");
    this.#bytes -= count;
    let left = count;
    while (left > 0) {
      const i = this.#first & this.#mask;
      const length = this.#length[i]!;
      if (left < length) {
        this.#at[i] = this.#at[i]! + left;
        this.#length[i] = length - left;
        return;
      }
      left -= length;
      this.#shift(handler);
    }
  }
  #shift(handler: { sent(tag: number): void } | undefined): void {
    const i = this.#first++ & this.#mask;
    const tag = this.#tag[i]!;
    const chunk = this.#chunk[i]!;
    if (chunk !== NONE) this.#arena.freeOfStream(chunk);
    if (tag !== NONE) handler?.sent(tag);
  }

  /** A copy of everything queued. */
  copy(): Uint8Array {
    const whole = new Uint8Array(this.#bytes);
    let to = 0;
    for (let n = this.#first; n < this.#next; n++) {
      const i = n & this.#mask;
      const at = this.#at[i]!;
      whole.set(this.#arena.bytes.subarray(at, at + this.#length[i]!), to);
      to += this.#length[i]!;
    }
    return whole;
  }

  /** Somewhere to write what nobody will read. */
  scratch(): number {
    return this.#arena.scratchAt;
  }
  /** Everything queued counts as sent, and all memory goes back. Nothing may be queued after this. */
  close(handler: { sent(tag: number): void } | undefined): void {
    this.#bytes = 0;
    while (this.#first < this.#next) this.#shift(handler);
    if (this.#chunkAt !== NONE) this.#arena.freeOfStream(this.#chunkAt);
    this.#chunkAt = NONE;
  }
}
