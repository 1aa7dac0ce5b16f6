import { invariant } from "../base/invariant.js";
import { NBD_REQUESTS_PER_CONNECTION_MAX } from "../base/limits.js";
import { NbdError } from "./protocol.js";

const SLOTS = NBD_REQUESTS_PER_CONNECTION_MAX;

/** The requests of one connection that are not answered yet: parallel arrays, made once. */
export class RequestTable {
  readonly cookieHigh = new Uint32Array(SLOTS);
  readonly cookieLow = new Uint32Array(SLOTS);
  readonly command = new Uint8Array(SLOTS);
  /** Device flags: FUA or 0. */
  readonly flags = new Uint8Array(SLOTS);
  readonly error = new Uint8Array(SLOTS);
  readonly offset = new Float64Array(SLOTS);
  readonly length = new Uint32Array(SLOTS);
  /** What must still happen before the answer: device requests, and one while payload or pieces are to come. */
  readonly outstanding = new Uint32Array(SLOTS);
  /** Counts up with every request; 0: the slot is free. */
  readonly order = new Float64Array(SLOTS);

  /** READ only: bytes not yet asked of the device, from `offset + length - unasked`. */
  readonly unasked = new Uint32Array(SLOTS);
  /** READ only: the answer needs all data before it may start. */
  readonly whole = new Uint8Array(SLOTS);
  /** READ only: a part of the answer is queued or sent. */
  readonly begun = new Uint8Array(SLOTS);
  /** READ only: chain of pieces, ascending; −1 is the end. */
  readonly firstPiece = new Int32Array(SLOTS);
  readonly lastPiece = new Int32Array(SLOTS);

  readonly #free = new Uint16Array(SLOTS);
  #freeCount = SLOTS;
  #count = 0;

  constructor() {
    for (let i = 0; i < SLOTS; i++) this.#free[i] = SLOTS - 1 - i;
  }

  get inFlight(): number {
    return SLOTS - this.#freeCount;
  }
  get isFull(): boolean {
    return this.#freeCount === 0;
  }

  take(): number {
    invariant(this.#freeCount > 0, "a request slot is free");
    this.#freeCount -= 1;
    const slot = this.#free[this.#freeCount]!;
    this.error[slot] = NbdError.none;
    this.begun[slot] = 0;
    this.#count += 1;
    this.order[slot] = this.#count;
    return slot;
  }
  put(slot: number): void {
    this.order[slot] = 0;
    this.#free[this.#freeCount] = slot;
    this.#freeCount += 1;
  }
  /** Those in use, the oldest first. */
  inOrder(): number[] {
    const { order } = this;
    return Array.from(order.keys())
      .filter((slot) => order[slot]! > 0)
      .sort((a, b) => order[a]! - order[b]!);
  }
  /** The first error is the one that is answered. */
  fail(slot: number, error: NbdError): void {
    if (this.error[slot] === NbdError.none) this.error[slot] = error;
  }
}
