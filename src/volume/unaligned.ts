import { invariant } from "../base/invariant.js";
import { PIECE_BYTES_MAX } from "../base/limits.js";
import type { Arena } from "../ports/arena.js";
import { type BlockDevice, type DeviceClient, DeviceStatus } from "../ports/device.js";
import { RangeQueue, type RangeQueueOwner } from "./range-queue.js";
import { Kind, OperationTable } from "./unaligned-table.js";

// A device that takes any offset and length, over one that takes whole blocks.
//
//   aligned, nothing pending   straight through, with the caller's own tag: nothing is remembered
//   aligned, pending overlap   waits its turn in the range queue, then straight through
//   read                       widened to whole blocks; the answer points into them
//   write                      place: widened; then read the blocks at its edges, complete the payload, write
//   zeroes                     the same for each edge block; whole blocks in between by the device itself
//   trim                       rounded inward
//
// What changes part of a block keeps its range from reading the edges until its write is *submitted*:
// from then on the device below keeps the order. Whatever overlaps waits, in order of arrival, whichever connection
// it came from, so two neighbouring sub-block writes never lose one another.
//
// Memory: payload is always placed before its range is taken, and edges are read afterwards. Reads never wait for
// placed memory (ports/device), so a full arena delays but cannot lock. For the same reason a zeroing is put
// in order only once its edge blocks are placed.

const HEAD = 0;
const TAIL = 1;
const MIDDLE = 2;
const WIDENED = 3;
const NONE = -1;

export class UnalignedDevice implements BlockDevice, DeviceClient, RangeQueueOwner {
  readonly sizeBytes: number;
  readonly blockBytes = 1;
  readonly readOnly: boolean;
  readonly volatile: boolean;
  readonly #arena: Arena;
  readonly #below: BlockDevice;
  readonly #block: number;
  /** `offset & #mask` is the remainder by the block size, also of offsets beyond 32 bits, and much cheaper than `%`. */
  readonly #mask: number;
  readonly #table = new OperationTable();
  readonly #ranges = new RangeQueue(this);
  /** Zeroings that wait for room, in order. */
  readonly #roomless: number[] = [];
  #asksForRoom = false;
  /** Payload placed at a skew: the address given out, and the one given by the device below. */
  readonly #placedAt: number[] = [];
  readonly #placedBase: number[] = [];

  constructor(arena: Arena, below: BlockDevice) {
    invariant(below.blockBytes <= PIECE_BYTES_MAX, "a piece is at least a block");
    this.#arena = arena;
    this.#below = below;
    this.#block = below.blockBytes;
    this.#mask = this.#block - 1;
    invariant((this.#block & this.#mask) === 0, "a block size is a power of two");
    this.sizeBytes = below.sizeBytes;
    this.readOnly = below.readOnly;
    this.volatile = below.volatile;
  }

  /** Widened to whole blocks it must not be longer than PIECE_BYTES_MAX: cut at multiples of that. */
  place(offset: number, length: number, client: DeviceClient): number {
    const from = this.#down(offset);
    const to = this.#up(offset + length);
    invariant(to - from <= PIECE_BYTES_MAX, "a piece does not cross a multiple of the piece size");
    const base = this.#below.place(from, to - from, client);
    if (base < 0 || from === offset) return base;
    this.#placedAt.push(base + (offset - from));
    this.#placedBase.push(base);
    return base + (offset - from);
  }
  unplace(at: number): void {
    const base = this.#forgetPlaced(at);
    this.#below.unplace(base < 0 ? at : base);
  }

  read(offset: number, length: number, client: DeviceClient, tag: number): void {
    const from = this.#down(offset);
    const to = this.#up(offset + length);
    const free = this.#ranges.isEmpty || !this.#ranges.conflicts(from, to, true);
    if (free && to - from === length) {
      this.#below.read(offset, length, client, tag);
      return;
    }
    const slot = this.#take(Kind.read, offset, length, 0, client, tag);
    if (free) this.#below.read(from, to - from, this, slot * 4 + WIDENED);
    else this.#enter(slot, from, to, true);
  }

  write(
    offset: number,
    length: number,
    at: number,
    flags: number,
    client: DeviceClient,
    tag: number,
  ): void {
    const from = this.#down(offset);
    const to = this.#up(offset + length);
    const aligned = to - from === length;
    if (aligned && (this.#ranges.isEmpty || !this.#ranges.conflicts(from, to, false))) {
      this.#below.write(offset, length, at, flags, client, tag);
      return;
    }
    if (offset !== from) this.#forgetPlaced(at);
    const slot = this.#take(Kind.write, offset, length, flags, client, tag);
    this.#table.headAt[slot] = at - (offset - from);
    this.#enter(slot, from, to, false);
  }

  writeZeroes(
    offset: number,
    length: number,
    flags: number,
    client: DeviceClient,
    tag: number,
  ): void {
    const from = this.#down(offset);
    const to = this.#up(offset + length);
    const aligned = to - from === length;
    if (aligned && (this.#ranges.isEmpty || !this.#ranges.conflicts(from, to, false))) {
      this.#below.writeZeroes(offset, length, flags, client, tag);
      return;
    }
    const slot = this.#take(Kind.zeroes, offset, length, flags, client, tag);
    if (aligned) {
      this.#enter(slot, from, to, false);
      return;
    }
    this.#roomless.push(slot);
    this.#placeEdges();
  }

  trim(offset: number, length: number, flags: number, client: DeviceClient, tag: number): void {
    const from = this.#up(offset);
    const to = this.#down(offset + length);
    if (to <= from) {
      client.deviceDone(tag, DeviceStatus.ok, NONE, NONE);
      return;
    }
    if (this.#ranges.isEmpty || !this.#ranges.conflicts(from, to, false)) {
      this.#below.trim(from, to - from, flags, client, tag);
      return;
    }
    this.#enter(this.#take(Kind.trim, from, to - from, flags, client, tag), from, to, false);
  }

  /** Covers what was answered; what is still in the range queue was not. */
  flush(client: DeviceClient, tag: number): void {
    this.#below.flush(client, tag);
  }
  release(hold: number): void {
    this.#below.release(hold);
  }

  rangeFree(slot: number): void {
    this.#start(slot);
  }
  deviceRoom(): void {
    this.#asksForRoom = false;
    this.#placeEdges();
  }
  deviceDone(tag: number, status: DeviceStatus, at: number, hold: number): void {
    const slot = tag >>> 2;
    const part = tag & 3;
    const table = this.#table;
    if (part === WIDENED) {
      const skew = table.offset[slot]! & this.#mask;
      const client = table.client[slot]!;
      const theirs = table.tag[slot]!;
      table.unrefer(slot);
      client.deviceDone(theirs, status, at < 0 ? at : at + skew, hold);
    } else if (table.kind[slot] === Kind.write) this.#writeEdgeRead(slot, part, status, at, hold);
    else if (part === MIDDLE || (table.writing[slot]! & (1 << part)) !== 0)
      this.#zeroPartDone(slot, status);
    else this.#zeroEdgeRead(slot, part, status, at, hold);
  }

  #take(
    kind: Kind,
    offset: number,
    length: number,
    flags: number,
    client: DeviceClient,
    tag: number,
  ): number {
    const table = this.#table;
    if (table.isFull) {
      table.grow();
      this.#ranges.grow(table.size);
    }
    const slot = table.take();
    table.kind[slot] = kind;
    table.offset[slot] = offset;
    table.length[slot] = length;
    table.flags[slot] = flags;
    table.client[slot] = client;
    table.tag[slot] = tag;
    return slot;
  }

  #enter(slot: number, from: number, to: number, shared: boolean): void {
    this.#table.references[slot] = 2;
    if (this.#ranges.enter(slot, from, to, shared)) this.#start(slot);
  }
  /** Everything is submitted: those behind may go on. */
  #leave(slot: number): void {
    this.#ranges.leave(slot);
    this.#table.unrefer(slot);
  }

  /** Its turn in the range queue has come. */
  #start(slot: number): void {
    const table = this.#table;
    const offset = table.offset[slot]!;
    const length = table.length[slot]!;
    const from = this.#down(offset);
    const span = this.#up(offset + length) - from;
    const kind = table.kind[slot] as Kind;
    if (span !== length && kind !== Kind.read) {
      if (kind === Kind.write) this.#startWrite(slot, from, span);
      else this.#startZeroes(slot, from, span);
      return;
    }
    const client = table.client[slot]!;
    const tag = table.tag[slot]!;
    const flags = table.flags[slot]!;
    switch (kind) {
      case Kind.read:
        if (span !== length) {
          this.#below.read(from, span, this, slot * 4 + WIDENED);
          this.#leave(slot);
          return;
        }
        this.#below.read(offset, length, client, tag);
        break;
      case Kind.write:
        this.#below.write(offset, length, table.headAt[slot]!, flags, client, tag);
        break;
      case Kind.zeroes:
        this.#below.writeZeroes(offset, length, flags, client, tag);
        break;
      case Kind.trim:
        this.#below.trim(offset, length, flags, client, tag);
        break;
    }
    this.#leave(slot);
    table.unrefer(slot);
  }

  /** Reads the blocks that the payload covers in part. */
  #startWrite(slot: number, from: number, span: number): void {
    const table = this.#table;
    const block = this.#block;
    const end = table.offset[slot]! + table.length[slot]!;
    const head = table.offset[slot]! !== from;
    const tail = (end & this.#mask) !== 0 && !(head && span === block);
    table.outstanding[slot] = (head ? 1 : 0) + (tail ? 1 : 0);
    if (head) this.#below.read(from, block, this, slot * 4 + HEAD);
    if (tail) this.#below.read(from + span - block, block, this, slot * 4 + TAIL);
  }

  #writeEdgeRead(slot: number, part: number, status: DeviceStatus, at: number, hold: number): void {
    const table = this.#table;
    const block = this.#block;
    const { bytes } = this.#arena;
    const offset = table.offset[slot]!;
    const end = offset + table.length[slot]!;
    const from = this.#down(offset);
    const span = this.#up(end) - from;
    const base = table.headAt[slot]!;
    if (status === DeviceStatus.ok) {
      const edge = part === HEAD ? 0 : span - block;
      if (part === HEAD) bytes.copyWithin(base, at, at + (offset - from));
      const tailFrom = Math.max(end - from, edge);
      if (tailFrom < edge + block)
        bytes.copyWithin(base + tailFrom, at + (tailFrom - edge), at + block);
      if (hold >= 0) this.#below.release(hold);
    } else table.status[slot] = table.status[slot]! || status;
    table.outstanding[slot] = table.outstanding[slot]! - 1;
    if (table.outstanding[slot]! > 0) return;

    const client = table.client[slot]!;
    const tag = table.tag[slot]!;
    const failed = table.status[slot] as DeviceStatus;
    if (failed === DeviceStatus.ok)
      this.#below.write(from, span, base, table.flags[slot]!, client, tag);
    else this.#below.unplace(base);
    this.#leave(slot);
    table.unrefer(slot);
    if (failed !== DeviceStatus.ok) client.deviceDone(tag, failed, NONE, NONE);
  }

  /** Zeroings get blocks for their edges, the oldest first, and then their place in the range queue. */
  #placeEdges(): void {
    const table = this.#table;
    while (!this.#asksForRoom && this.#roomless.length > 0) {
      const slot = this.#roomless[0]!;
      const offset = table.offset[slot]!;
      const end = offset + table.length[slot]!;
      const from = this.#down(offset);
      const to = this.#up(end);
      const block = this.#block;
      const head = offset !== from;
      const tail = end !== to && !(head && to - from === block);
      const headAt = head ? this.#below.place(from, block, this) : NONE;
      const tailAt =
        tail && !(head && headAt < 0) ? this.#below.place(to - block, block, this) : NONE;
      if ((head && headAt < 0) || (tail && tailAt < 0)) {
        this.#asksForRoom = true;
        if (headAt >= 0) this.#below.unplace(headAt);
        return;
      }
      this.#roomless.shift();
      table.headAt[slot] = headAt;
      table.tailAt[slot] = tailAt;
      this.#enter(slot, from, to, false);
    }
  }

  #startZeroes(slot: number, from: number, span: number): void {
    const table = this.#table;
    const block = this.#block;
    const head = table.headAt[slot]! >= 0;
    const tail = table.tailAt[slot]! >= 0;
    const middleFrom = head ? from + block : from;
    const middleTo = tail ? from + span - block : from + span;
    const middle = middleTo > middleFrom;
    table.edges[slot] = (head ? 1 : 0) + (tail ? 1 : 0);
    table.outstanding[slot] = table.edges[slot]! + (middle ? 1 : 0);
    if (middle)
      this.#below.writeZeroes(
        middleFrom,
        middleTo - middleFrom,
        table.flags[slot]!,
        this,
        slot * 4 + MIDDLE,
      );
    // The last edge read may finish everything, so nothing of the slot is looked at after it.
    if (head) this.#below.read(from, block, this, slot * 4 + HEAD);
    if (tail) this.#below.read(from + span - block, block, this, slot * 4 + TAIL);
  }

  #zeroEdgeRead(slot: number, part: number, status: DeviceStatus, at: number, hold: number): void {
    const table = this.#table;
    const block = this.#block;
    const { bytes } = this.#arena;
    const offset = table.offset[slot]!;
    const end = offset + table.length[slot]!;
    const edge = part === HEAD ? this.#down(offset) : this.#up(end) - block;
    const buffer = part === HEAD ? table.headAt[slot]! : table.tailAt[slot]!;
    const isLast = table.edges[slot] === 1;
    table.edges[slot] = table.edges[slot]! - 1;
    if (status === DeviceStatus.ok) {
      bytes.copyWithin(buffer, at, at + block);
      if (hold >= 0) this.#below.release(hold);
      bytes.fill(0, buffer + Math.max(0, offset - edge), buffer + Math.min(block, end - edge));
      table.writing[slot] = table.writing[slot]! | (1 << part);
      this.#below.write(edge, block, buffer, table.flags[slot]!, this, slot * 4 + part);
    } else {
      this.#below.unplace(buffer);
      this.#zeroPartDone(slot, status);
    }
    // Still in the range queue until here, so the slot is still ours.
    if (isLast) this.#leave(slot);
  }

  #zeroPartDone(slot: number, status: DeviceStatus): void {
    const table = this.#table;
    if (status !== DeviceStatus.ok) table.status[slot] = table.status[slot]! || status;
    table.outstanding[slot] = table.outstanding[slot]! - 1;
    if (table.outstanding[slot]! > 0) return;
    const client = table.client[slot]!;
    const tag = table.tag[slot]!;
    const outcome = table.status[slot] as DeviceStatus;
    table.unrefer(slot);
    client.deviceDone(tag, outcome, NONE, NONE);
  }

  /** The base of a skewed placement, which is forgotten; −1: it was not skewed. */
  #forgetPlaced(at: number): number {
    const place = this.#placedAt.lastIndexOf(at);
    if (place < 0) return NONE;
    const base = this.#placedBase[place]!;
    const lastAt = this.#placedAt.pop()!;
    const lastBase = this.#placedBase.pop()!;
    if (place < this.#placedAt.length) {
      this.#placedAt[place] = lastAt;
      this.#placedBase[place] = lastBase;
    }
    return base;
  }

  #down(offset: number): number {
    return offset - (offset & this.#mask);
  }
  #up(offset: number): number {
    return this.#down(offset + this.#block - 1);
  }
}
