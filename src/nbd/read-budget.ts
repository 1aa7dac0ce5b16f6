import { invariant } from "../base/invariant.js";
import { NBD_STALL_MS_MAX } from "../base/limits.js";
import type { Clock } from "../ports/clock.js";

// Memory that READs of all connections keep: from being asked of the device until the data was sent. A
// simple reply needs all its data before its first byte, so two large reads that each got half of the
// memory would wait for each other for ever; hence a request is admitted whole, in turn.
//
// Turns go round the waiting connections. One connection may keep at most `shareBytes`, so that a
// client that does not take its answers cannot keep everything; if several do so together, the
// watch cuts off those that took nothing for NBD_STALL_MS_MAX while others waited.

/** Answers of `proceed`. */
export const Turn = {
  /** Something was admitted; more may wait. */
  admitted: 0,
  /** The budget is used up: nobody behind is asked either. */
  starved: 1,
  /** Its own share is used up: it joins again when bytes of its own come back. */
  capped: 2,
  /** Nothing waits any more. */
  idle: 3,
} as const;
export type Turn = (typeof Turn)[keyof typeof Turn];

export interface Reader {
  /** Admits the request at the head of its queue, as far as possible. */
  proceed(): Turn;
  /** Bytes whose data is queued to be sent. */
  readonly unsentBytes: number;
  /** Grows whenever the client took something. */
  readonly sentCount: number;
  /** Took nothing for too long while others waited. */
  stalled(): void;
}

export class ReadBudget {
  readonly bytesMax: number;
  readonly shareBytes: number;
  readonly #clock: Clock;
  readonly #members = new Map<Reader, number>();
  readonly #queue: Reader[] = [];
  #used = 0;
  #pumping = false;
  #watching = false;

  constructor(clock: Clock, bytesMax: number, shareBytes: number) {
    invariant(shareBytes <= bytesMax, "a share is part of the budget");
    this.bytesMax = bytesMax;
    this.shareBytes = shareBytes;
    this.#clock = clock;
  }

  get usedBytes(): number {
    return this.#used;
  }
  /** Nobody waits: newcomers may be admitted at once. */
  get isIdle(): boolean {
    return this.#queue.length === 0;
  }

  enroll(reader: Reader): void {
    this.#members.set(reader, 0);
  }
  leave(reader: Reader): void {
    this.#members.delete(reader);
    const place = this.#queue.indexOf(reader);
    if (place >= 0) this.#queue.splice(place, 1);
    this.#pump();
  }

  take(bytes: number): boolean {
    if (this.#used + bytes > this.bytesMax) return false;
    this.#used += bytes;
    return true;
  }
  give(bytes: number): void {
    this.#used -= bytes;
    invariant(this.#used >= 0, "no more read memory comes back than was taken");
    if (this.#queue.length > 0) this.#pump();
  }
  /** Once per reader, until `proceed` answered capped or idle. */
  join(reader: Reader): void {
    this.#queue.push(reader);
    this.#pump();
  }

  #pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    for (let reader = this.#queue[0]; reader !== undefined; reader = this.#queue[0]) {
      const turn = reader.proceed();
      if (turn === Turn.starved) {
        this.#watch();
        break;
      }
      // The reader may have left while it proceeded.
      if (this.#queue[0] !== reader) continue;
      this.#queue.shift();
      if (turn === Turn.admitted) this.#queue.push(reader);
    }
    this.#pumping = false;
  }

  #watch(): void {
    if (this.#watching) return;
    this.#watching = true;
    for (const reader of this.#members.keys()) this.#members.set(reader, reader.sentCount);
    this.#clock.after(NBD_STALL_MS_MAX, () => {
      this.#watching = false;
      if (this.#queue.length === 0) return;
      const stalled = [...this.#members].filter(
        ([reader, mark]) => reader.unsentBytes > 0 && reader.sentCount === mark,
      );
      for (const [reader] of stalled) reader.stalled();
      if (this.#queue.length > 0) this.#watch();
    });
  }
}
