import { Fault } from "../base/fault.js";
import { PIECE_BYTES_MAX } from "../base/limits.js";
import { PLAIN_CONTEXT_BYTES } from "../crucible/layout.js";
import { putPlainTail, writeTailBytes } from "../crucible/put.js";
import { type DeviceClient, DeviceStatus, FUA } from "../ports/device.js";
import type { Core } from "./core.js";
import type { Flushes } from "./flushes.js";
import { Flag, Kind, NONE, SHORT_TAIL_BYTES } from "./job-table.js";
import type { Writes } from "./writes.js";

// Zeros of any length, as pieces that all send the same memory; whole pieces share their contexts too. A few pieces of a request are on
// their way at a time, so that other requests come in between. FUA becomes one flush at the end.

const PIECES_IN_FLIGHT_MAX = 4;

interface Zeroing {
  client: DeviceClient;
  tag: number;
  next: number;
  end: number;
  inFlight: number;
  fua: boolean;
  status: DeviceStatus;
}

export class Zeroes implements DeviceClient {
  readonly #core: Core;
  readonly #writes: Writes;
  readonly #flushes: Flushes;
  readonly #takeTicket: () => number;
  /** By the tag that its pieces carry. */
  readonly #open = new Map<number, Zeroing>();
  /** Those that wait for memory for the contexts of an odd piece. */
  #waiting: Zeroing[] = [];
  #nextTag = 0;
  #zeroAt = NONE;
  #tailAt = NONE;

  constructor(core: Core, writes: Writes, flushes: Flushes, takeTicket: () => number) {
    this.#core = core;
    this.#writes = writes;
    this.#flushes = flushes;
    this.#takeTicket = takeTicket;
  }

  get openCount(): number {
    return this.#open.size;
  }
  get #pieceBlocks(): number {
    return PIECE_BYTES_MAX / this.#core.blockBytes;
  }

  /** Takes and prepares the memory that all pieces share; the block size is known by now. */
  open(): Fault | null {
    const { ports, blockBytes } = this.#core;
    const { arena } = ports;
    const blocks = this.#pieceBlocks;
    this.#zeroAt = arena.alloc(PIECE_BYTES_MAX);
    this.#tailAt = arena.alloc(writeTailBytes(blocks, false));
    if (this.#zeroAt < 0 || this.#tailAt < 0)
      return new Fault("TRIVET_E_MEMORY", "the arena has no room for a piece of zeros");
    arena.bytes.fill(0, this.#zeroAt, this.#zeroAt + PIECE_BYTES_MAX);
    putPlainTail(arena, this.#tailAt, blocks, PIECE_BYTES_MAX);
    ports.hasher.blocks(this.#zeroAt, blockBytes, blocks, this.#tailAt, PLAIN_CONTEXT_BYTES);
    return null;
  }
  dispose(): void {
    const { arena } = this.#core.ports;
    if (this.#zeroAt >= 0) arena.free(this.#zeroAt);
    if (this.#tailAt >= 0) arena.free(this.#tailAt);
    this.#zeroAt = NONE;
    this.#tailAt = NONE;
  }

  /** In blocks; the range is inside the volume. */
  ask(start: number, blocks: number, flags: number, client: DeviceClient, tag: number): void {
    const own = this.#nextTag++;
    const zeroing: Zeroing = {
      client,
      tag,
      next: start,
      end: start + blocks,
      inFlight: 0,
      fua: (flags & FUA) !== 0,
      status: DeviceStatus.ok,
    };
    this.#open.set(own, zeroing);
    this.#go(own, zeroing);
  }

  #go(own: number, zeroing: Zeroing): void {
    while (zeroing.inFlight < PIECES_IN_FLIGHT_MAX && zeroing.next < zeroing.end) {
      const blocks = Math.min(this.#pieceBlocks, zeroing.end - zeroing.next);
      if (!this.#sendPiece(own, zeroing, blocks)) return;
    }
  }

  #sendPiece(own: number, zeroing: Zeroing, blocks: number): boolean {
    const core = this.#core;
    const { table, blockBytes, writeShare, room } = core;
    const tailBytes = writeTailBytes(blocks, false);
    const isWhole = blocks === this.#pieceBlocks;
    let tailAt = isWhole ? this.#tailAt : NONE;
    if (!isWhole && tailBytes > SHORT_TAIL_BYTES) {
      tailAt = room.isBusy ? NONE : writeShare.alloc(tailBytes);
      if (tailAt < 0) {
        this.#waiting.push(zeroing);
        room.wait(this, tailBytes);
        return false;
      }
    }
    const slot = table.take(Kind.write);
    table.start[slot] = zeroing.next;
    table.blocks[slot] = blocks;
    table.bytes[slot] = blocks * blockBytes;
    table.at[slot] = this.#zeroAt;
    table.tailAt[slot] = tailAt;
    table.flags[slot] = isWhole ? Flag.zeroes | Flag.prepared : Flag.zeroes;
    if (!isWhole) table.own[slot] = tailAt;
    table.ticket[slot] = this.#takeTicket();
    table.client[slot] = this;
    table.tag[slot] = own;
    zeroing.next += blocks;
    zeroing.inFlight += 1;
    this.#writes.enqueue(slot);
    return true;
  }

  /** Gives a slot from the write log, which knows its blocks, the payload and contexts of zeros. False: no memory. */
  furnish(slot: number): boolean {
    const { table, writeShare, ports } = this.#core;
    const blocks = table.blocks[slot]!;
    const tailBytes = writeTailBytes(blocks, false);
    table.at[slot] = this.#zeroAt;
    table.flags[slot] = table.flags[slot]! | Flag.zeroes;
    if (blocks === this.#pieceBlocks) {
      table.tailAt[slot] = this.#tailAt;
      table.flags[slot] = table.flags[slot]! | Flag.prepared;
    } else if (tailBytes > SHORT_TAIL_BYTES) {
      // The predecessor had it in its share as well.
      const tailAt = ports.arena.alloc(tailBytes);
      if (tailAt < 0) return false;
      writeShare.adopt(tailAt, tailBytes);
      table.tailAt[slot] = tailAt;
      table.own[slot] = tailAt;
    }
    return true;
  }

  deviceDone(own: number, status: DeviceStatus): void {
    const zeroing = this.#open.get(own)!;
    zeroing.inFlight -= 1;
    if (status !== DeviceStatus.ok) {
      zeroing.status = status;
      zeroing.next = zeroing.end;
    }
    if (zeroing.next < zeroing.end) this.#go(own, zeroing);
    else if (zeroing.inFlight === 0) this.#end(own, zeroing);
  }
  #end(own: number, zeroing: Zeroing): void {
    if (!this.#open.delete(own)) return;
    const { client, tag, status, fua } = zeroing;
    if (status === DeviceStatus.ok && fua) this.#flushes.ask(client, tag);
    else client.deviceDone(tag, status, NONE, NONE);
  }

  deviceRoom(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const [own, zeroing] of this.#open) if (waiting.includes(zeroing)) this.#go(own, zeroing);
  }

  /** What has no piece on its way ends here; the rest ends with its pieces. */
  failAll(status: DeviceStatus): void {
    this.#waiting = [];
    for (const [own, zeroing] of [...this.#open]) {
      zeroing.status = status;
      zeroing.next = zeroing.end;
      if (zeroing.inFlight === 0) this.#end(own, zeroing);
    }
  }
}
