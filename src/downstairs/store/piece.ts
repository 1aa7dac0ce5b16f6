import type { Fault } from "../../base/fault.js";
import type { Arena } from "../../ports/arena.js";
import type { FileDone, FileIo } from "../../ports/files.js";
import { SLOT_BYTES, slotOffset } from "../../region/layout.js";
import type { Extents } from "./extents.js";
import type { Held } from "./held.js";

/** Memory for the slots of a few, or of many blocks: two slots and a mark byte for each. */
export const SCRATCH_BLOCKS_SMALL = 40;
export const SCRATCH_BLOCKS_LARGE = 1024;
const BYTES_PER_BLOCK = 2 * SLOT_BYTES + 1;
export const scratchBytes = (blocks: number): number => blocks * BYTES_PER_BLOCK;

/** Finds the contexts of a range of blocks, piece by piece, and their data if that is wanted. */
export interface PieceDone {
  pieceDone(fault: Fault | null): void;
}

/**
 * One piece: blocks of one extent, at most as many as the scratch memory has room for. What is held in memory is copied at
 * once; for the rest, runs of blocks are read. Blocks that are read do not change meanwhile, because no job that
 * overlaps runs, and a commit only touches blocks that are held. Never calls back before `begin` returned: returns
 * true instead when nothing had to be read.
 *
 * A run with slots in both arrays reads the whole range of both, two calls however they alternate.
 */
export class Piece implements FileDone {
  readonly #arena: Arena;
  readonly #io: FileIo;
  readonly #extents: Extents;
  readonly #held: Held;
  readonly #done: PieceDone;
  #extent = 0;
  #count = 0;
  #slotsAt = 0;
  #marksAt = 0;
  #pending = 0;
  #errno = 0;

  constructor(arena: Arena, io: FileIo, extents: Extents, held: Held, done: PieceDone) {
    this.#arena = arena;
    this.#io = io;
    this.#extents = extents;
    this.#held = held;
    this.#done = done;
  }

  /** `dataAt` −1: only contexts. `scratchAt` has room for `capacity` ≥ count blocks. */
  begin(
    extent: number,
    first: number,
    count: number,
    dataAt: number,
    scratchAt: number,
    capacity: number,
  ): boolean {
    this.#extent = extent;
    this.#count = count;
    this.#slotsAt = scratchAt;
    this.#marksAt = scratchAt + 2 * SLOT_BYTES * capacity;
    this.#pending = 0;
    this.#errno = 0;
    this.#extents.use(extent);
    const held = this.#held;
    if (held.newest(extent) === undefined) this.#readRun(first, 0, count, dataAt);
    else {
      let from = 0;
      for (let i = 0; i < count; i++) {
        const record = held.find(extent, first + i);
        if (record < 0) continue;
        if (i > from) this.#readRun(first, from, i, dataAt);
        from = i + 1;
        this.#copyHeld(record, first, i, dataAt);
      }
      if (count > from) this.#readRun(first, from, count, dataAt);
    }
    if (this.#pending > 0) return false;
    this.#extents.unuse(extent);
    return true;
  }

  /** Where the i-th block's slot is, once the piece is done. */
  slotAt(i: number): number {
    const second = this.#arena.bytes[this.#marksAt + i]!;
    return this.#slotsAt + (second * this.#count + i) * SLOT_BYTES;
  }

  fileDone(tag: number, result: number): void {
    this.#pending -= 1;
    if (result !== tag && this.#errno === 0) this.#errno = result < 0 ? result : -5;
    if (this.#pending > 0) return;
    this.#extents.unuse(this.#extent);
    const fault =
      this.#errno === 0 ? null : this.#extents.ioFault(this.#extent, "reading", this.#errno);
    this.#done.pieceDone(fault);
  }

  /** A slot without its last fields, which no reader looks at. */
  #copyHeld(record: number, first: number, i: number, dataAt: number): void {
    const { bytes } = this.#arena;
    const { blockBytes } = this.#extents.layout;
    const slotAt = this.#slotsAt + i * SLOT_BYTES;
    const contextAt = this.#held.contextOf(record, first + i);
    bytes[this.#marksAt + i] = 0;
    bytes[slotAt] = 1;
    bytes.copyWithin(
      slotAt + 1,
      contextAt,
      contextAt + (this.#held.encrypted[record] === 1 ? 37 : 9),
    );
    if (dataAt < 0) return;
    const at = this.#held.dataOf(record, first + i);
    bytes.copyWithin(dataAt + i * blockBytes, at, at + blockBytes);
  }
  #readRun(first: number, from: number, to: number, dataAt: number): void {
    const { layout } = this.#extents;
    const { bytes } = this.#arena;
    let inB = 0;
    for (let i = from; i < to; i++) {
      const active = this.#extents.active(this.#extent, first + i);
      bytes[this.#marksAt + i] = active;
      inB += active;
    }
    const count = to - from;
    if (inB < count) this.#readSlots(0, first, from, count, 0);
    if (inB > 0) this.#readSlots(1, first, from, count, 1);
    if (dataAt < 0) return;
    const { blockBytes } = layout;
    this.#read((first + from) * blockBytes, dataAt + from * blockBytes, count * blockBytes);
  }
  #readSlots(array: number, first: number, from: number, count: number, area: number): void {
    const at = this.#slotsAt + (area * this.#count + from) * SLOT_BYTES;
    this.#read(slotOffset(this.#extents.layout, array, first + from), at, count * SLOT_BYTES);
  }
  #read(offset: number, at: number, length: number): void {
    this.#pending += 1;
    this.#io.read(this.#extents.files[this.#extent]!, offset, at, length, this, length);
  }
}
