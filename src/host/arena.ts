import { Fault } from "../base/fault.js";
import { COMPOSE_BYTES_MAX, INBOX_BYTES } from "../base/limits.js";
import { PageAllocator } from "../base/pages.js";
import type { Arena } from "../ports/arena.js";
import type { NativeCore } from "./native.js";

/**
 * The native mapping with two allocators: payload from 0 up to `payloadBytes`, and behind it (and behind `headBytes` that are
 * somebody else's) the memory of streams (inboxes, composed messages), so that a full arena stops payload but never a reply.
 */
export class HostArena implements Arena {
  readonly bytes: Buffer;
  readonly view: DataView;
  /** COMPOSE_BYTES_MAX bytes to write what nobody will read. */
  readonly scratchAt: number;
  readonly #payload: PageAllocator;
  readonly #streams: PageAllocator;
  readonly #payloadBytes: number;
  readonly #streamsAt: number;
  #waiting: (() => void)[] = [];

  constructor(native: NativeCore, payloadBytes: number, headBytes = 0) {
    const memory = native.arena;
    this.bytes = Buffer.from(memory);
    this.view = new DataView(memory);
    this.#payloadBytes = payloadBytes;
    this.#payload = new PageAllocator(payloadBytes);
    this.#streamsAt = payloadBytes + headBytes;
    this.#streams = new PageAllocator(memory.byteLength - this.#streamsAt);
    this.scratchAt = this.allocForStream(COMPOSE_BYTES_MAX);
  }
  /** What `alloc` has to give; the memory of streams does not count. */
  get sizeBytes(): number {
    return this.#payloadBytes;
  }
  get freeBytes(): number {
    return this.#payload.freeBytes;
  }
  alloc(length: number): number {
    return this.#payload.alloc(length);
  }
  reserve(at: number, length: number): boolean {
    return this.#payload.reserve(at, length);
  }
  free(at: number): void {
    this.#payload.free(at);
    if (this.#waiting.length === 0) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const then of waiting) then();
  }
  whenFreed(then: () => void): void {
    this.#waiting.push(then);
  }

  /** Memory for a stream's own use; −1 when there is none. */
  allocForStream(length: number): number {
    const at = this.#streams.alloc(length);
    return at < 0 ? -1 : at + this.#streamsAt;
  }
  freeOfStream(at: number): void {
    this.#streams.free(at - this.#streamsAt);
  }
  get streamBytesFree(): number {
    return this.#streams.freeBytes;
  }
}

/** No room for another stream's inbox. */
export function noInbox(): Fault {
  return new Fault(
    "TRIVET_E_MEMORY",
    `no room for another connection's buffer of ${INBOX_BYTES} bytes`,
  );
}
