import { invariant } from "../base/invariant.js";
import type { Arena } from "../ports/arena.js";
import type { DeviceClient } from "../ports/device.js";

// The two shares of the arena: payloads of writes, answers of reads. Each has its own bound, so that reads never wait
// for writes to retire nor the reverse. Owns the count of bytes and the queue of writers that wait for room;
// who frees what, and when, is decided elsewhere.

const PAGE_BYTES = 4096;
const pages = (bytes: number): number => Math.ceil(bytes / PAGE_BYTES);

export class Share {
  readonly sizeBytes: number;
  readonly #arena: Arena;
  /** Bytes charged, by page number of the allocation. */
  readonly #charged: Uint32Array;
  #usedBytes = 0;

  constructor(arena: Arena, sizeBytes: number) {
    this.#arena = arena;
    this.sizeBytes = sizeBytes;
    this.#charged = new Uint32Array(pages(arena.sizeBytes));
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }
  /** Whether the share allows it; the arena may still have no such run. */
  allows(bytes: number): boolean {
    return this.#usedBytes + pages(bytes) * PAGE_BYTES <= this.sizeBytes;
  }

  alloc(bytes: number): number {
    if (!this.allows(bytes)) return -1;
    const at = this.#arena.alloc(bytes);
    if (at < 0) return -1;
    const charge = pages(bytes) * PAGE_BYTES;
    this.#charged[at / PAGE_BYTES] = charge;
    this.#usedBytes += charge;
    return at;
  }

  /** Memory that is the caller's already, and is to be freed as this share's. */
  adopt(at: number, bytes: number): void {
    const charge = pages(bytes) * PAGE_BYTES;
    this.#charged[at / PAGE_BYTES] = charge;
    this.#usedBytes += charge;
  }

  free(at: number): void {
    const charge = this.#charged[at / PAGE_BYTES]!;
    invariant(charge > 0, `arena address ${at} belongs to this share`);
    this.#charged[at / PAGE_BYTES] = 0;
    this.#usedBytes -= charge;
    this.#arena.free(at);
  }
}

/** Writers that found no room, in order. Each is told once; a place asked for out of turn has to wait. */
export class RoomQueue {
  readonly #share: Share;
  readonly #waiting: { readonly client: DeviceClient; readonly bytes: number }[] = [];
  #serving = false;

  constructor(share: Share) {
    this.#share = share;
  }

  /** Whether others were refused before, and it is not the turn of the one who asks now. */
  get isBusy(): boolean {
    return !this.#serving && this.#waiting.length > 0;
  }
  get length(): number {
    return this.#waiting.length;
  }

  wait(client: DeviceClient, bytes: number): void {
    // Refused again in its own turn: it stays first.
    if (this.#serving) this.#waiting.unshift({ client, bytes });
    else this.#waiting.push({ client, bytes });
  }

  /** Tells the first ones, while the share has room for what they asked. */
  serve(): void {
    if (this.#serving) return;
    for (let first = this.#waiting[0]; first !== undefined; first = this.#waiting[0]) {
      if (!this.#share.allows(first.bytes)) return;
      this.#waiting.shift();
      const before = this.#waiting.length;
      this.#serving = true;
      try {
        first.client.deviceRoom();
      } finally {
        this.#serving = false;
      }
      if (this.#waiting.length > before) return;
    }
  }

  /** Everybody may ask again: the answers will be refusals of another kind. */
  release(): void {
    for (const { client } of this.#waiting.splice(0)) client.deviceRoom();
  }
}
