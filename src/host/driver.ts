import { invariant } from "../base/invariant.js";
import {
  COMPLETION_COLUMNS,
  COMPLETION_ROWS,
  Completion,
  FILES_IN_FLIGHT,
  type NativeCore,
  REQUEST_COLUMNS,
  REQUEST_ROWS,
  VECTOR_ROWS,
} from "./native.js";

/** Whatever owns a slot of the native socket table. Results are those of native.ts. */
export interface SlotOwner {
  slotReceived(result: number): void;
  slotSent(result: number): void;
  slotConnected(result: number): void;
  slotAccepted(result: number): void;
  /** Nothing refers to the owner's memory any more. */
  slotClosed(): void;
}

/** Something that has rows to stage or calls to make before the turn ends. */
export interface TurnClient {
  /** May call handlers. Runs after `wantTurn`. */
  turn(): void;
  /** Stages rows and calls nobody; false when the tables were full (it is asked again after the exchange). */
  stage(): boolean;
}

/** Rounds of exchange in one turn of the event loop: then timers and other sockets get their chance. */
const ROUNDS_MAX = 64;
/** Clients brought in by others during one round; the rest wait for the next. */
const TURNS_MAX = 4096;

/**
 * Owns the rows: stages requests, exchanges them with native code, hands completions out. It must never be
 * entered from within itself: an exchange invalidates the rows being read, so everything that
 * is staged while completions are handed out leaves with the next round.
 *
 *   idle ──(native callback | microtask | continuation)──▶ pumping: hand out ▸ turns ▸ stage ▸ exchange ─┐
 *     ▲                                                       └──────────◀── rows, or anything staged ──┘
 */
export class Driver {
  readonly native: NativeCore;
  readonly #requests: Float64Array;
  readonly #vectors: Float64Array;
  readonly #completions: Float64Array;
  readonly #owners: (SlotOwner | undefined)[] = [];
  #fileDone: (tag: number, result: number) => void = () => {};
  #cipherDone: (tag: number, bad: number) => void = () => {};
  #rows = 0;
  #vectorRows = 0;
  #filesInFlight = 0;
  #clients: TurnClient[] = [];
  #spare: TurnClient[] = [];
  #pumping = false;
  #flushPosted = false;
  #poked = false;
  #closed = false;
  readonly #flush = () => {
    this.#flushPosted = false;
    this.#pump(0);
  };

  constructor(native: NativeCore) {
    this.native = native;
    this.#requests = native.requests;
    this.#vectors = native.vectors;
    this.#completions = native.completions;
    native.start((rows) => this.#pump(rows));
  }

  own(slot: number, owner: SlotOwner): void {
    invariant(this.#owners[slot] === undefined, "a slot has one owner at a time");
    this.#owners[slot] = owner;
  }
  /** The slot is about to get another owner. */
  disown(slot: number): void {
    this.#owners[slot] = undefined;
  }
  onFileDone(done: (tag: number, result: number) => void): void {
    this.#fileDone = done;
  }
  onCipherDone(done: (tag: number, bad: number) => void): void {
    this.#cipherDone = done;
  }
  /** True when every operation asked for has been answered. */
  get filesIdle(): boolean {
    return this.#filesInFlight === 0;
  }

  /** `client.turn` and `client.stage` are called before this turn of the loop ends. Once per `turn`. */
  wantTurn(client: TurnClient): void {
    this.#clients.push(client);
    this.poke();
  }
  /** Makes sure that an exchange happens before this turn of the loop ends. */
  poke(): void {
    this.#poked = true;
    if (this.#pumping || this.#flushPosted || this.#closed) return;
    this.#flushPosted = true;
    queueMicrotask(this.#flush);
  }

  get roomForRow(): boolean {
    return this.#rows < REQUEST_ROWS;
  }
  roomForVectors(count: number): boolean {
    return this.#rows < REQUEST_ROWS && this.#vectorRows + count <= VECTOR_ROWS;
  }
  get roomForFile(): boolean {
    return this.#filesInFlight < FILES_IN_FLIGHT && this.#rows < REQUEST_ROWS;
  }
  /** Index of the first vector of a request about to be staged; follow with `vector`s, then `row`. */
  get nextVector(): number {
    return this.#vectorRows;
  }
  vector(at: number, length: number): void {
    const i = 2 * this.#vectorRows++;
    this.#vectors[i] = at;
    this.#vectors[i + 1] = length;
  }
  row(request: number, index: number, at: number, length: number): void {
    const requests = this.#requests;
    const i = REQUEST_COLUMNS * this.#rows++;
    requests[i] = request;
    requests[i + 1] = index;
    requests[i + 2] = at;
    requests[i + 3] = length;
  }
  fileRow(
    request: number,
    file: number,
    at: number,
    length: number,
    offset: number,
    tag: number,
  ): void {
    const i = REQUEST_COLUMNS * this.#rows;
    this.row(request, file, at, length);
    this.#requests[i + 4] = offset;
    this.#requests[i + 5] = tag;
    this.#filesInFlight += 1;
  }

  /** After this no callback comes any more. Not to be called from within one. */
  close(): void {
    if (this.#closed) return;
    invariant(!this.#pumping, "the native part is not closed from within its own callback");
    this.#closed = true;
    this.native.close();
  }

  #pump(rows: number): void {
    if (this.#closed) return;
    invariant(!this.#pumping, "rows are handed out by one pump at a time");
    this.#pumping = true;
    let left = rows;
    for (let round = 0; ; round++) {
      this.#handOut(left);
      const unstaged = this.#turns();
      if (this.#rows === 0 && !unstaged && !this.#poked && !this.#more) break;
      this.#poked = false;
      if (round >= ROUNDS_MAX) {
        setImmediate(() => this.#pump(0));
        break;
      }
      const staged = this.#rows;
      this.#rows = 0;
      this.#vectorRows = 0;
      left = this.native.exchange(staged);
    }
    this.#pumping = false;
  }

  get #more(): boolean {
    return this.#completions[COMPLETION_COLUMNS * COMPLETION_ROWS] !== 0;
  }

  /** Clients first make their calls, which may bring in other clients; then all stage, and leave together. */
  #turns(): boolean {
    const clients = this.#clients;
    if (clients.length === 0) return false;
    const most = TURNS_MAX + clients.length;
    for (let i = 0; i < clients.length && i < most; i++) clients[i]!.turn();
    this.#clients = this.#spare;
    let unstaged = false;
    for (let i = 0; i < clients.length; i++) {
      const client = clients[i]!;
      if (client.stage() && i < most) continue;
      unstaged = true;
      this.#clients.push(client);
    }
    clients.length = 0;
    this.#spare = clients;
    return unstaged;
  }

  #handOut(rows: number): void {
    const completions = this.#completions;
    for (let i = 0; i < rows; i++) {
      const at = COMPLETION_COLUMNS * i;
      const index = completions[at + 1]!;
      const result = completions[at + 2]!;
      switch (completions[at]) {
        case Completion.received:
          this.#owners[index]?.slotReceived(result);
          break;
        case Completion.sent:
          this.#owners[index]?.slotSent(result);
          break;
        case Completion.file:
          this.#filesInFlight -= 1;
          this.#fileDone(index, result);
          break;
        case Completion.sealed:
          this.#cipherDone(index, result);
          break;
        case Completion.connected:
          this.#owners[index]?.slotConnected(result);
          break;
        case Completion.accepted:
          this.#owners[index]?.slotAccepted(result);
          break;
        case Completion.closed: {
          const owner = this.#owners[index];
          this.#owners[index] = undefined;
          owner?.slotClosed();
          break;
        }
        default:
          invariant(false, "native code fills rows of known kinds");
      }
    }
  }
}
