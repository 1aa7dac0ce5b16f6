import { PageAllocator } from "../../src/base/pages.js";
import type { Arena } from "../../src/ports/arena.js";

/** An arena over an ordinary buffer. Freed memory is filled with 0xdd, so that use after free shows. */
export class FakeArena implements Arena {
  readonly bytes: Buffer;
  readonly view: DataView;
  readonly #pages: PageAllocator;
  /** Behind the rest, as in the host: a full arena never stops an answer. */
  readonly #streamPages: PageAllocator | undefined;
  readonly #streamsAt: number;
  readonly #lengths = new Map<number, number>();
  #waiting: (() => void)[] = [];
  /** Fills what is given out: for memory that was used before. */
  poisons = false;
  #isRetired = false;

  /**
   * `streamBytes`: memory of streams besides; 0: they share the rest. `bytes`: what another arena held, for the successor of a
   * process that died.
   */
  constructor(
    sizeBytes = 16 * 1024 * 1024,
    streamBytes = 0,
    bytes: Buffer = Buffer.alloc(sizeBytes + streamBytes, 0xcc),
  ) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#pages = new PageAllocator(sizeBytes);
    this.#streamsAt = sizeBytes;
    this.#streamPages = streamBytes === 0 ? undefined : new PageAllocator(streamBytes);
  }
  get sizeBytes(): number {
    return this.#streamsAt;
  }
  get freeBytes(): number {
    return this.#pages.freeBytes;
  }
  get allocations(): number {
    return this.#lengths.size;
  }
  alloc(length: number): number {
    const at = this.#pages.alloc(length);
    if (at >= 0) this.#given(at, length);
    return at;
  }
  #given(at: number, length: number): void {
    this.#lengths.set(at, length);
    if (this.poisons) this.bytes.fill(0xcc, at, at + length);
  }
  /** The process is dead, and its memory may serve another one: nothing is written there from here any more. */
  retire(): void {
    this.#isRetired = true;
  }
  /** For inboxes and composed messages; `free` takes it back. */
  allocForStream(length: number): number {
    if (this.#streamPages === undefined) return this.alloc(length);
    const at = this.#streamPages.alloc(length);
    if (at < 0) return -1;
    this.#given(this.#streamsAt + at, length);
    return this.#streamsAt + at;
  }
  reserve(at: number, length: number): boolean {
    const done = this.#pages.reserve(at, length);
    if (done) this.#lengths.set(at, length);
    return done;
  }
  free(at: number): void {
    if (this.#isRetired) return;
    if (at < this.#streamsAt) this.#pages.free(at);
    else this.#streamPages!.free(at - this.#streamsAt);
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
