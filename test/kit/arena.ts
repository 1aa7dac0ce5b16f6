import { PageAllocator } from "../../src/base/pages.js";
import type { Arena } from "../../src/ports/arena.js";

/** An arena over an ordinary buffer. Freed memory is filled with 0xdd, so that use after free shows. */
export class FakeArena implements Arena {
  readonly bytes: Buffer;
  readonly view: DataView;
  readonly #pages: PageAllocator;
  readonly #lengths = new Map<number, number>();
  #waiting: (() => void)[] = [];

  constructor(sizeBytes = 16 * 1024 * 1024) {
    this.bytes = Buffer.alloc(sizeBytes, 0xcc);
    this.view = new DataView(this.bytes.buffer, this.bytes.byteOffset, sizeBytes);
    this.#pages = new PageAllocator(sizeBytes);
  }
  get sizeBytes(): number {
    return this.bytes.length;
  }
  get freeBytes(): number {
    return this.#pages.freeBytes;
  }
  get allocations(): number {
    return this.#lengths.size;
  }
  alloc(length: number): number {
    const at = this.#pages.alloc(length);
    if (at >= 0) this.#lengths.set(at, length);
    return at;
  }
  free(at: number): void {
    this.#pages.free(at);
    this.bytes.fill(0xdd, at, at + this.#lengths.get(at)!);
    this.#lengths.delete(at);
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const then of waiting) then();
  }
  whenFreed(then: () => void): void {
    this.#waiting.push(then);
  }
}
