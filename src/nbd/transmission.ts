import { Fault } from "../base/fault.js";
import { BACKLOG_BYTES_MAX, NBD_REFUSED_BYTES_MAX } from "../base/limits.js";
import type { Arena } from "../ports/arena.js";
import { type BlockDevice, type DeviceClient, DeviceStatus, FUA } from "../ports/device.js";
import type { Detached, Stream } from "../ports/stream.js";
import { Command, checkRequest, FLAG } from "./commands.js";
import type { Agreement } from "./handshake.js";
import { PieceTable, pieceLength } from "./pieces.js";
import { NbdError, REQUEST_BYTES, REQUEST_MAGIC } from "./protocol.js";
import type { ReadBudget } from "./read-budget.js";
import { PIECE_TAG, type ReadOwner, Reads } from "./reads.js";
import { errorOf, Replies } from "./replies.js";
import { RequestTable } from "./requests.js";
import { joined, unansweredBytes } from "./session.js";
import { Count, type Statistics } from "./statistics.js";

// Transmission phase of one connection: requests in, answers out, in any order.
//
//   header ──► served or refused at once, or given to the device
//     ▲  └───► payload: piece by piece to where the device wants it ─┐
//     │  └───► refused payload: read and dropped ────────────────────┤
//     └──────────────────────────────────────────────────────────────┘
//   DISC, stop: nothing more is taken; when the last request is answered the stream ends
//   client gone: muted; what the device still does is waited for, and its memory released
//   succeeding another connection of the same client: the first request waits until nothing is left of that
//   parked: no more headers are taken, what is under way goes on; left: muted, and the stream with all that is unanswered goes elsewhere
//
// Requests that find no slot, no room for payload, or a client that does not read its answers stop the
// reading of the socket. Nothing is allocated per request.

const TWO_32 = 2 ** 32;

/** Why the socket is not read: bits. */
const HELD = { room: 1, slots: 2, backlog: 4, parked: 8, predecessors: 16 } as const;
/** Device tags from here on are pieces of writes; below them are those of reads. */
const WRITE_TAG = 2 ** 24;
/** In the table's command column: a request that gets no answer. */
const ABANDONED = 255;

export interface TransmissionOwner {
  /** The first request of a client with an attachment is here. False: it waits for `begin`. */
  mayBegin(): boolean;
  /** The client broke the protocol, or the device is going away. */
  fail(fault: Fault): void;
  /** Last of all: the stream is closed and the device has nothing of this connection any more. */
  retired(): void;
}

export interface TransmissionSetting {
  readonly payloadBytesMax: number;
  readonly budget: ReadBudget;
  readonly statistics: Statistics;
}

export class Transmission implements DeviceClient, ReadOwner {
  readonly #arena: Arena;
  readonly #stream: Stream;
  readonly #owner: TransmissionOwner;
  readonly #device: BlockDevice;
  readonly #replies: Replies;
  readonly #reads: Reads;
  readonly #table = new RequestTable();
  /** What the device has of WRITEs: where it lies. */
  readonly #writes = new PieceTable();
  readonly #counts: Float64Array;
  readonly #payloadBytesMax: number;
  readonly #offers: number;
  readonly #allocation: boolean;

  #held = 0;
  /** The WRITE whose payload is coming; −1: none. */
  #payloadSlot = -1;
  #payloadOffset = 0;
  #payloadLeft = 0;
  /** Where its current piece goes, and how long that is; −1: not placed. */
  #placedAt = -1;
  #placedLength = 0;
  /** Refused payload still to be dropped. */
  #dropLeft = 0;
  /** No request has come yet that others of the same attachment would have to make way for. */
  #isUnused: boolean;
  /** Takes no more requests, for somebody else will. */
  #parked = false;
  /** Takes no more requests. */
  #ending = false;
  /** Answers nothing any more. */
  #muted = false;
  #streamClosed = false;
  #retired = false;

  constructor(
    arena: Arena,
    stream: Stream,
    agreement: Agreement,
    setting: TransmissionSetting,
    owner: TransmissionOwner,
  ) {
    this.#arena = arena;
    this.#stream = stream;
    this.#owner = owner;
    this.#device = agreement.target.device;
    this.#offers = agreement.target.offers(agreement.structured);
    this.#allocation = agreement.allocation;
    this.#isUnused = agreement.attachment !== null && !agreement.target.readOnly;
    this.#payloadBytesMax = setting.payloadBytesMax;
    this.#counts = setting.statistics.counts;
    this.#replies = new Replies(arena, stream, agreement.structured);
    this.#reads = new Reads(this.#device, stream, this.#table, this.#replies, setting.budget, this);
  }

  get requestsInFlight(): number {
    return this.#table.inFlight;
  }

  /** Answers the bytes consumed of [at, end). */
  received(at: number, end: number): number {
    const { view } = this.#arena;
    let from = at;
    for (;;) {
      if (this.#dropLeft > 0) {
        const count = Math.min(this.#dropLeft, end - from);
        from += count;
        this.#dropLeft -= count;
        if (this.#dropLeft > 0) return from - at;
        this.#payloadDone();
      }
      if (this.#ending) return end - at;
      if (this.#held !== 0 || this.#payloadSlot >= 0 || end - from < REQUEST_BYTES)
        return from - at;
      if (this.#parked) this.#hold(HELD.parked);
      if (this.#table.isFull) this.#hold(HELD.slots);
      if (this.#stream.queuedBytes > BACKLOG_BYTES_MAX) this.#hold(HELD.backlog);
      if (this.#held !== 0) return from - at;
      if (view.getUint32(from) !== REQUEST_MAGIC) {
        const hex = this.#arena.bytes.toString("hex", from, Math.min(end, from + 16));
        this.#owner.fail(
          new Fault(
            "TRIVET_E_NBD_PROTOCOL",
            `${this.#stream.peer} sent ${hex} where a request begins`,
          ),
        );
        return end - at;
      }
      if (this.#isUnused && view.getUint16(from + 6) !== Command.disconnect && !this.#isLetIn())
        return from - at;
      this.#begin(from);
      from += REQUEST_BYTES;
    }
  }

  /** The current piece of a payload is complete. */
  filled(): void {
    const at = this.#placedAt;
    const length = this.#placedLength;
    const slot = this.#payloadSlot;
    this.#placedAt = -1;
    if (this.#ending) {
      this.#device.unplace(at);
      return;
    }
    const offset = this.#payloadOffset;
    this.#payloadOffset = offset + length;
    this.#payloadLeft -= length;
    const table = this.#table;
    const isLast = this.#payloadLeft === 0;
    // The last piece takes over the count that stood for "payload to come".
    if (isLast) this.#payloadSlot = -1;
    else table.outstanding[slot] = table.outstanding[slot]! + 1;
    const piece = this.#writes.take(slot, offset, length);
    this.#writes.at[piece] = at;
    this.#device.write(offset, length, at, table.flags[slot]!, this, WRITE_TAG + piece);
    if (isLast) return;
    if (table.error[slot] !== NbdError.none) this.#dropLeft = this.#payloadLeft;
    else this.#placeNext();
  }

  sent(tag: number): void {
    this.#reads.sent(tag);
    this.#checkRetired();
  }
  drained(): void {
    this.#unhold(HELD.backlog);
  }

  deviceDone(tag: number, status: DeviceStatus, at: number, hold: number): void {
    if (status === DeviceStatus.shutdown && !this.#muted)
      this.#owner.fail(
        new Fault("TRIVET_E_CONNECTION", `${this.#stream.peer} is let go: the device is stopping`),
      );
    if (tag >= WRITE_TAG) {
      const piece = tag - WRITE_TAG;
      const slot = this.#writes.slot[piece]!;
      this.#writes.put(piece);
      this.#partDone(slot, status);
    } else if (tag >= PIECE_TAG) this.#reads.deviceDone(tag - PIECE_TAG, errorOf(status), at, hold);
    else this.#partDone(tag, status);
  }
  #partDone(slot: number, status: DeviceStatus): void {
    const table = this.#table;
    if (status !== DeviceStatus.ok) table.fail(slot, errorOf(status));
    const left = table.outstanding[slot]! - 1;
    table.outstanding[slot] = left;
    if (left === 0) this.#finish(slot);
  }
  deviceRoom(): void {
    if ((this.#held & HELD.room) === 0 || this.#payloadSlot < 0) return;
    if (this.#placeNext()) this.#unhold(HELD.room);
  }

  readDone(slot: number): void {
    if (this.#table.error[slot] !== NbdError.none) this.#add(Count.errors, 1);
    this.#free(slot);
  }
  readsStalled(): void {
    this.#owner.fail(
      new Fault(
        "TRIVET_E_NBD_STALLED",
        `${this.#stream.peer} took no answer for a long time while others waited for the memory`,
      ),
    );
  }

  /** Takes no more requests, answers what is under way, then ends the stream. */
  finishUp(): void {
    if (this.#ending) return;
    this.#ending = true;
    if (this.#payloadSlot >= 0) this.#abandonPayload();
    this.#endIfDone();
  }
  /** Takes no more requests, and answers what is under way, so that somebody else can go on. A payload is still received. */
  park(): void {
    this.#parked = true;
  }
  /** Nothing is with the device or on its way to the client; at most the payload of a WRITE is still to come. */
  get isQuiet(): boolean {
    const slot = this.#payloadSlot;
    const table = this.#table;
    const isComing =
      slot >= 0 && table.outstanding[slot] === 1 && table.error[slot] === NbdError.none;
    return (
      table.inFlight === (isComing ? 1 : 0) && this.#reads.isIdle && this.#stream.queuedBytes === 0
    );
  }
  /**
   * Lets go of the client, in whatever state its requests are; answers nothing from now on. Null: nobody can go on with it, and it has
   * to be cut off. Never to be called from within a call of the stream or the device.
   */
  leave(): Detached | null {
    if (this.#ending || this.#muted) return null;
    const again = unansweredBytes({
      arena: this.#arena,
      structured: this.#replies.structured,
      table: this.#table,
      writes: this.#writes,
      payloadSlot: this.#payloadSlot,
      payloadOffset: this.#payloadOffset,
    });
    if (again === null) return null;
    const table = this.#table;
    for (const slot of table.inOrder()) {
      const error = table.error[slot] as NbdError;
      if (error !== NbdError.none)
        this.#replies.outcome(error, table.cookieHigh[slot]!, table.cookieLow[slot]!);
    }
    const detached = this.#stream.detach();
    this.mute();
    if (detached === null) return null;
    return { ...detached, received: joined([...again, detached.received]) };
  }
  /** Answers nothing from now on; the stream is being destroyed. */
  mute(): void {
    this.#ending = true;
    this.#muted = true;
    this.#reads.mute();
  }
  /** The stream is closed. */
  closed(): void {
    this.#streamClosed = true;
    this.mute();
    if (this.#placedAt >= 0) this.#device.unplace(this.#placedAt);
    this.#placedAt = -1;
    if (this.#payloadSlot >= 0) this.#abandonPayload();
    this.#checkRetired();
  }

  #isLetIn(): boolean {
    this.#isUnused = false;
    if (this.#owner.mayBegin()) return true;
    this.#hold(HELD.predecessors);
    return false;
  }
  /** Nothing is left of those that the first request waited for. */
  begin(): void {
    this.#unhold(HELD.predecessors);
  }

  /** The header of a request lies at `at`. */
  #begin(at: number): void {
    const { view } = this.#arena;
    const flags = view.getUint16(at + 4);
    const command = view.getUint16(at + 6);
    const high = view.getUint32(at + 8);
    const low = view.getUint32(at + 12);
    const offset = view.getUint32(at + 16) * TWO_32 + view.getUint32(at + 20);
    const length = view.getUint32(at + 24);
    if (command === Command.disconnect) {
      this.finishUp();
      return;
    }
    const device = this.#device;
    let error = checkRequest(
      command,
      flags,
      offset,
      length,
      device.sizeBytes,
      this.#offers,
      device.blockBytes,
    );
    if (command === Command.write) {
      this.#beginWrite(error, flags, high, low, offset, length);
      return;
    }
    if (error === NbdError.none) error = this.#checkMore(command, flags, length);
    if (error !== NbdError.none || command === Command.cache) {
      this.#add(error === NbdError.none ? Count.otherRequests : Count.errors, 1);
      this.#replies.outcome(error, high, low);
      return;
    }
    if (command === Command.blockStatus) {
      this.#add(Count.otherRequests, 1);
      this.#replies.allocation(high, low, length);
      return;
    }
    const slot = this.#take(command, flags, high, low, offset, length);
    const deviceFlags = this.#table.flags[slot]!;
    switch (command) {
      case Command.read:
        this.#add(Count.reads, 1);
        this.#add(Count.readBytes, length);
        this.#reads.start(slot, !this.#replies.structured || (flags & FLAG.df) !== 0);
        return;
      case Command.flush:
        this.#add(Count.flushes, 1);
        device.flush(this, slot);
        return;
      case Command.trim:
        this.#add(Count.trims, 1);
        device.trim(offset, length, deviceFlags, this, slot);
        return;
      case Command.writeZeroes:
        this.#add(Count.zeroes, 1);
        device.writeZeroes(offset, length, deviceFlags, this, slot);
        return;
    }
  }

  /** Rules that depend on more than the request's own fields. */
  #checkMore(command: number, flags: number, length: number): NbdError {
    if (command === Command.blockStatus && !this.#allocation) return NbdError.invalid;
    if (command !== Command.read || length <= this.#payloadBytesMax) return NbdError.none;
    // In chunks it may be as long as it likes.
    if (!this.#replies.structured) return NbdError.invalid;
    return (flags & FLAG.df) !== 0 ? NbdError.overflow : NbdError.none;
  }

  #beginWrite(
    error: NbdError,
    flags: number,
    high: number,
    low: number,
    offset: number,
    length: number,
  ): void {
    if (length === 0) {
      this.#add(Count.errors, 1);
      this.#replies.outcome(error, high, low);
      return;
    }
    if (length > Math.max(this.#payloadBytesMax, NBD_REFUSED_BYTES_MAX)) {
      this.#owner.fail(
        new Fault(
          "TRIVET_E_NBD_PROTOCOL",
          `${this.#stream.peer} sent a WRITE of ${length} bytes, expected at most ${this.#payloadBytesMax}`,
        ),
      );
      return;
    }
    const slot = this.#take(Command.write, flags, high, low, offset, length);
    this.#payloadSlot = slot;
    if (error === NbdError.none && length > this.#payloadBytesMax) error = NbdError.invalid;
    if (error !== NbdError.none) {
      this.#table.error[slot] = error;
      this.#dropLeft = length;
      return;
    }
    this.#add(Count.writes, 1);
    this.#add(Count.writeBytes, length);
    this.#payloadOffset = offset;
    this.#payloadLeft = length;
    this.#placeNext();
  }

  /** Finds room for the next piece of the payload and has it received there; false: wait for room. */
  #placeNext(): boolean {
    const length = pieceLength(this.#payloadOffset, this.#payloadLeft);
    const at = this.#device.place(this.#payloadOffset, length, this);
    if (at < 0) {
      this.#hold(HELD.room);
      return false;
    }
    this.#placedAt = at;
    this.#placedLength = length;
    this.#stream.receiveInto(at, length);
    return true;
  }

  /** A dropped payload is over. */
  #payloadDone(): void {
    const slot = this.#payloadSlot;
    this.#payloadSlot = -1;
    const left = this.#table.outstanding[slot]! - 1;
    this.#table.outstanding[slot] = left;
    if (left === 0) this.#finish(slot);
  }

  /** The rest of a payload will not come: the request is never answered; its pieces at the device end by themselves. */
  #abandonPayload(): void {
    const slot = this.#payloadSlot;
    const table = this.#table;
    this.#payloadSlot = -1;
    this.#dropLeft = 0;
    table.command[slot] = ABANDONED;
    const left = table.outstanding[slot]! - 1;
    table.outstanding[slot] = left;
    if (left === 0) this.#finish(slot);
  }

  #take(
    command: number,
    flags: number,
    high: number,
    low: number,
    offset: number,
    length: number,
  ): number {
    const table = this.#table;
    const slot = table.take();
    table.command[slot] = command;
    table.flags[slot] = (flags & FLAG.fua) !== 0 ? FUA : 0;
    table.cookieHigh[slot] = high;
    table.cookieLow[slot] = low;
    table.offset[slot] = offset;
    table.length[slot] = length;
    table.outstanding[slot] = 1;
    return slot;
  }

  /** Everything of a request but a READ is over. */
  #finish(slot: number): void {
    const table = this.#table;
    const error = table.error[slot] as NbdError;
    if (error !== NbdError.none) this.#add(Count.errors, 1);
    if (!this.#muted && table.command[slot] !== ABANDONED)
      this.#replies.outcome(error, table.cookieHigh[slot]!, table.cookieLow[slot]!);
    this.#free(slot);
  }

  #free(slot: number): void {
    this.#table.put(slot);
    if ((this.#held & HELD.slots) !== 0) this.#unhold(HELD.slots);
    if (this.#ending) this.#endIfDone();
  }
  #endIfDone(): void {
    if (this.#table.inFlight > 0) return;
    if (this.#streamClosed) this.#checkRetired();
    else if (!this.#muted) this.#stream.end();
  }
  #checkRetired(): void {
    if (!this.#streamClosed || this.#retired) return;
    if (this.#table.inFlight > 0 || !this.#reads.isIdle) return;
    this.#retired = true;
    this.#owner.retired();
  }

  #hold(reason: number): void {
    if (this.#held === 0) this.#stream.pause();
    this.#held |= reason;
  }
  #unhold(reason: number): void {
    if ((this.#held & reason) === 0) return;
    this.#held &= ~reason;
    if (this.#held === 0 && !this.#muted) this.#stream.resume();
  }
  #add(count: number, by: number): void {
    this.#counts[count] = this.#counts[count]! + by;
  }
}
