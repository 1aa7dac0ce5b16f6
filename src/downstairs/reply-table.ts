import type { Arena } from "../ports/arena.js";

/**
 * Read responses on their way out: which arena memory to free when the stream says that one was
 * sent. Tags are positions here.
 */
export class ReplyTable {
  readonly #arena: Arena;
  #at = new Float64Array(64);
  #bytes = new Float64Array(64);
  #next = new Int32Array(64);
  #free = -1;
  #used = 0;
  #total = 0;

  constructor(arena: Arena) {
    this.#arena = arena;
  }

  /** Bytes of all replies that were not sent yet. */
  get bytes(): number {
    return this.#total;
  }

  /** Takes the memory over; returns the tag. */
  add(at: number, bytes: number): number {
    let tag = this.#free;
    if (tag !== -1) this.#free = this.#next[tag]!;
    else {
      if (this.#used === this.#at.length) this.#grow();
      tag = this.#used++;
    }
    this.#at[tag] = at;
    this.#bytes[tag] = bytes;
    this.#total += bytes;
    return tag;
  }

  sent(tag: number): void {
    this.#arena.free(this.#at[tag]!);
    this.#total -= this.#bytes[tag]!;
    this.#next[tag] = this.#free;
    this.#free = tag;
  }

  #grow(): void {
    const size = this.#used * 2;
    const at = new Float64Array(size);
    const bytes = new Float64Array(size);
    const next = new Int32Array(size);
    at.set(this.#at);
    bytes.set(this.#bytes);
    next.set(this.#next);
    this.#at = at;
    this.#bytes = bytes;
    this.#next = next;
  }
}
