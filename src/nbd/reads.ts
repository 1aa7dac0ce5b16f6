import { NBD_REQUESTS_PER_CONNECTION_MAX } from "../base/limits.js";
import type { BlockDevice, DeviceClient } from "../ports/device.js";
import type { Stream } from "../ports/stream.js";
import { PieceTable, pieceLength } from "./pieces.js";
import { NbdError } from "./protocol.js";
import { type ReadBudget, type Reader, Turn } from "./read-budget.js";
import type { Replies } from "./replies.js";
import type { RequestTable } from "./requests.js";

// The READs of one connection: admission, pieces, and their way out.
//
//   waiting ──admitted──► asked ──device──► here ──queued──► on its way ──sent──► released
//
// A whole answer (simple reply, or DF) is queued when all its pieces are here; a chunked one piece by piece, in
// whatever order they come. Memory of a piece is released exactly once, whatever happens to the client.

const SLOTS = NBD_REQUESTS_PER_CONNECTION_MAX;
/** Device tags from here on are pieces; below, request slots. */
export const PIECE_TAG = SLOTS;

export interface ReadOwner {
  /** The request was answered (or the client is gone): its slot is free to be reused. */
  readDone(slot: number): void;
  readsStalled(): void;
}

export class Reads implements Reader {
  readonly #device: BlockDevice;
  readonly #stream: Stream;
  readonly #table: RequestTable;
  readonly #replies: Replies;
  readonly #budget: ReadBudget;
  readonly #owner: ReadOwner & DeviceClient;
  readonly #pieces = new PieceTable();
  /** Slots not fully asked yet, oldest first: a ring. */
  readonly #waiting = new Uint16Array(SLOTS);
  #waitingFrom = 0;
  #waitingCount = 0;
  #inQueue = false;
  #keptBytes = 0;
  #muted = false;
  unsentBytes = 0;
  sentCount = 0;

  constructor(
    device: BlockDevice,
    stream: Stream,
    table: RequestTable,
    replies: Replies,
    budget: ReadBudget,
    owner: ReadOwner & DeviceClient,
  ) {
    this.#device = device;
    this.#stream = stream;
    this.#table = table;
    this.#replies = replies;
    this.#budget = budget;
    this.#owner = owner;
    budget.enroll(this);
  }

  /** Nothing is with the device or on its way to the client. */
  get isIdle(): boolean {
    return this.#pieces.used === 0 && this.#waitingCount === 0;
  }

  /** Takes over a request whose range was checked; `whole`: it is answered at one go. */
  start(slot: number, whole: boolean): void {
    const table = this.#table;
    table.whole[slot] = whole ? 1 : 0;
    table.unasked[slot] = table.length[slot]!;
    table.outstanding[slot] = 1;
    table.firstPiece[slot] = -1;
    table.lastPiece[slot] = -1;
    if (this.#waitingCount === 0 && this.#budget.isIdle && this.#admit(slot) === Turn.idle) return;
    this.#waiting[(this.#waitingFrom + this.#waitingCount) % SLOTS] = slot;
    this.#waitingCount += 1;
    this.#join();
  }

  proceed(): Turn {
    if (this.#waitingCount === 0) {
      this.#inQueue = false;
      return Turn.idle;
    }
    const slot = this.#waiting[this.#waitingFrom]!;
    const before = this.#table.unasked[slot]!;
    const turn = this.#admit(slot);
    if (turn === Turn.idle) {
      this.#waitingFrom = (this.#waitingFrom + 1) % SLOTS;
      this.#waitingCount -= 1;
      if (this.#waitingCount > 0) return Turn.admitted;
      this.#inQueue = false;
      return Turn.idle;
    }
    if (turn === Turn.capped) {
      this.#inQueue = false;
      return turn;
    }
    return this.#table.unasked[slot] === before ? Turn.starved : Turn.admitted;
  }

  /** Data of a piece has come, or has not. */
  deviceDone(piece: number, error: NbdError, at: number, hold: number): void {
    const { slot: slots, at: ats, hold: holds } = this.#pieces;
    const table = this.#table;
    const slot = slots[piece]!;
    const left = table.outstanding[slot]! - 1;
    table.outstanding[slot] = left;
    if (error !== NbdError.none) table.fail(slot, error);
    if (table.whole[slot] === 1) {
      ats[piece] = at;
      holds[piece] = hold;
      if (left === 0) this.#answerWhole(slot);
      return;
    }
    if (error !== NbdError.none || this.#muted) {
      if (hold >= 0) this.#device.release(hold);
      this.#retire(piece);
    } else {
      table.begun[slot] = 1;
      this.#replies.dataChunk(
        left === 0 && table.error[slot] === NbdError.none,
        table.cookieHigh[slot]!,
        table.cookieLow[slot]!,
        this.#pieces.offset[piece]!,
        this.#pieces.length[piece]!,
      );
      this.#send(piece, at, hold);
    }
    if (left === 0) this.#finish(slot);
  }

  /** The stream is done with the memory of a piece. */
  sent(piece: number): void {
    this.#device.release(this.#pieces.hold[piece]!);
    this.unsentBytes -= this.#pieces.length[piece]!;
    this.sentCount += 1;
    this.#retire(piece);
  }

  /** The client is gone: what waits is forgotten, what is with the device comes back and is released. */
  mute(): void {
    if (this.#muted) return;
    this.#muted = true;
    while (this.#waitingCount > 0) {
      const slot = this.#waiting[this.#waitingFrom]!;
      this.#waitingFrom = (this.#waitingFrom + 1) % SLOTS;
      this.#waitingCount -= 1;
      this.#askNoMore(slot);
    }
    this.#inQueue = false;
    this.#budget.leave(this);
  }

  stalled(): void {
    this.#owner.readsStalled();
  }

  /** Asks for what the budget admits. Turn.idle: all was asked, and the slot may already be free again. */
  #admit(slot: number): Turn {
    const table = this.#table;
    const whole = table.whole[slot] === 1;
    if (whole) {
      const turn = this.#keep(table.length[slot]!);
      if (turn !== Turn.admitted) return turn;
    }
    for (;;) {
      const left = table.unasked[slot]!;
      const offset = table.offset[slot]! + (table.length[slot]! - left);
      const length = pieceLength(offset, left);
      if (table.error[slot] !== NbdError.none) {
        if (whole) this.#giveBack(left);
        this.#askNoMore(slot);
        return Turn.idle;
      }
      if (!whole) {
        const turn = this.#keep(length);
        if (turn !== Turn.admitted) return turn;
      }
      const piece = this.#pieces.take(slot, offset, length);
      if (whole) this.#chain(slot, piece);
      table.unasked[slot] = left - length;
      // The last piece takes over the count that stood for "more to ask".
      const isLast = left === length;
      if (!isLast) table.outstanding[slot] = table.outstanding[slot]! + 1;
      this.#device.read(offset, length, this.#owner, PIECE_TAG + piece);
      if (isLast) return Turn.idle;
    }
  }

  /** Gives up the rest of a request that is not fully asked. */
  #askNoMore(slot: number): void {
    const table = this.#table;
    table.unasked[slot] = 0;
    const left = table.outstanding[slot]! - 1;
    table.outstanding[slot] = left;
    if (left > 0) return;
    if (table.whole[slot] === 1) this.#answerWhole(slot);
    else this.#finish(slot);
  }

  #chain(slot: number, piece: number): void {
    const table = this.#table;
    const last = table.lastPiece[slot]!;
    if (last < 0) table.firstPiece[slot] = piece;
    else this.#pieces.next[last] = piece;
    table.lastPiece[slot] = piece;
  }

  #answerWhole(slot: number): void {
    const table = this.#table;
    const drop = this.#muted || table.error[slot] !== NbdError.none;
    if (!drop) {
      const high = table.cookieHigh[slot]!;
      const low = table.cookieLow[slot]!;
      if (this.#replies.structured)
        this.#replies.dataChunk(true, high, low, table.offset[slot]!, table.length[slot]!);
      else this.#replies.simple(NbdError.none, high, low);
    }
    let piece = table.firstPiece[slot]!;
    while (piece >= 0) {
      const next = this.#pieces.next[piece]!;
      const hold = this.#pieces.hold[piece]!;
      if (drop) {
        if (hold >= 0) this.#device.release(hold);
        this.#retire(piece);
      } else this.#send(piece, this.#pieces.at[piece]!, hold);
      piece = next;
    }
    this.#finish(slot);
  }

  /** Everything asked has come; data, if any, is queued. */
  #finish(slot: number): void {
    const table = this.#table;
    const error = table.error[slot] as NbdError;
    if (error !== NbdError.none && !this.#muted)
      this.#replies.outcome(error, table.cookieHigh[slot]!, table.cookieLow[slot]!);
    this.#owner.readDone(slot);
  }

  #send(piece: number, at: number, hold: number): void {
    const length = this.#pieces.length[piece]!;
    if (hold < 0) {
      this.#stream.attach(at, length, -1);
      this.#retire(piece);
      return;
    }
    this.#pieces.hold[piece] = hold;
    this.unsentBytes += length;
    this.#stream.attach(at, length, piece);
  }

  #retire(piece: number): void {
    const length = this.#pieces.length[piece]!;
    this.#pieces.put(piece);
    this.#giveBack(length);
  }

  #keep(bytes: number): Turn {
    const kept = this.#keptBytes;
    if (kept > 0 && kept + bytes > this.#budget.shareBytes) return Turn.capped;
    if (!this.#budget.take(bytes)) return Turn.starved;
    this.#keptBytes = kept + bytes;
    return Turn.admitted;
  }
  #giveBack(bytes: number): void {
    this.#keptBytes -= bytes;
    this.#budget.give(bytes);
    if (this.#waitingCount > 0) this.#join();
  }
  #join(): void {
    if (this.#inQueue || this.#muted) return;
    this.#inQueue = true;
    this.#budget.join(this);
  }
}
