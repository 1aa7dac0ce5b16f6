import { Fault } from "../../base/fault.js";
import { invariant } from "../../base/invariant.js";
import type { Arena } from "../../ports/arena.js";
import { FILE_PIECES_MAX, type FileDone, type FileIo, type Then } from "../../ports/files.js";
import type { Hasher } from "../../ports/hasher.js";
import { flipBit } from "../../region/bitmap.js";
import { METADATA_BYTES, SLOT_BYTES, slotOffset } from "../../region/layout.js";
import { encodeMetadata } from "../../region/metadata.js";
import { ENCRYPTED_DISK_HASH_AT, writeSlot } from "../../region/slot.js";
import type { Extents } from "./extents.js";
import type { Held, Layer } from "./held.js";

/** What a flush stores in the metadata record. */
export interface FlushNumbers {
  readonly flushNumber: number;
  readonly generation: bigint;
}

const SLOTS_BYTES = 64 * 1024;
/** Writes under way at a time; more only fills queues. */
const WRITES_MAX = 64;
/** Longest single data write. */
const RUN_BYTES_MAX = 4 * 1024 * 1024;
/** `tag` of a sync; a write's tag is its length, which is what it must answer. */
const SYNC = 0;

/** What was being done, for messages. */
const WORDS = {
  idle: "nothing",
  first: "marking it dirty",
  firstSync: "syncing the dirty mark",
  mark: "writing contexts",
  markSync: "syncing contexts",
  data: "writing data",
  dataSync: "syncing data",
  rest: "writing numbers",
  restSync: "syncing numbers",
  record: "writing metadata",
  recordSync: "syncing metadata",
};
type Step = keyof typeof WORDS;

/**
 * Brings one layer of one extent to its file, and ends a flush of it. One at a time per extent.
 *
 *   first   only when a clean extent gets a block of zeros: dirty byte 1
 *   sync
 *   mark    dirty byte 1 (unless it is known to be durable), new slots into the inactive arrays
 *   sync
 *   data    the blocks; in a flush also the bitmap
 *   sync    ── the new slots become the active ones, the layer's memory goes
 *   numbers only in a flush: the metadata record alone (in two writes, with a sync between, where one could be torn)
 *   sync    ── numbers and dirty state change in memory
 *
 * A failure at any point leaves layer, active bits and numbers as they were; the next attempt writes
 * everything again, for after a failed sync the kernel may have dropped what it had not written. Nothing is taken to be on disk
 * that a sync has not confirmed. Never decides when to run, never retries.
 */
export class Commit implements FileDone {
  readonly #arena: Arena;
  readonly #io: FileIo;
  readonly #hasher: Hasher;
  readonly #extents: Extents;
  readonly #held: Held;
  /** Slots while marking, then the bitmap. */
  readonly #scratchAt: number;
  readonly #metadataAt: number;
  readonly #oneAt: number;
  readonly #pieces = new Float64Array(2 * FILE_PIECES_MAX);
  #step: Step = "idle";
  #extent = 0;
  #file = -1;
  #layer: Layer | null = null;
  #numbers: FlushNumbers | null = null;
  #then: Then | undefined;
  /** Next block to look at. */
  #cursor = 0;
  #pending = 0;
  #errno = 0;

  /** Bytes of arena that one needs, for good. */
  static scratchBytes(extents: Extents): number {
    return Math.max(SLOTS_BYTES, extents.layout.bitmapBytes) + METADATA_BYTES + 1;
  }

  constructor(
    arena: Arena,
    io: FileIo,
    hasher: Hasher,
    extents: Extents,
    held: Held,
    scratchAt: number,
  ) {
    this.#arena = arena;
    this.#io = io;
    this.#hasher = hasher;
    this.#extents = extents;
    this.#held = held;
    this.#scratchAt = scratchAt;
    this.#oneAt = scratchAt + Commit.scratchBytes(extents) - 1;
    this.#metadataAt = this.#oneAt - METADATA_BYTES;
    arena.bytes[this.#oneAt] = 1;
  }

  /** `layer`: the oldest of the extent, sealed; null when only the flush is left to do. */
  begin(extent: number, layer: Layer | null, numbers: FlushNumbers | null, then: Then): void {
    invariant(this.#step === "idle", "a commit does one extent at a time");
    invariant(layer !== null || numbers !== null, "a commit has something to do");
    this.#extent = extent;
    this.#file = this.#extents.files[extent]!;
    this.#layer = layer;
    this.#numbers = numbers;
    this.#then = then;
    this.#cursor = 0;
    this.#errno = 0;
    this.#extents.use(extent);
    if (layer === null) this.#beginData();
    else if (this.#extents.marked[extent] === 0 && this.#writesZeros(layer)) this.#beginFirst();
    else this.#beginMark();
  }

  fileDone(tag: number, result: number): void {
    this.#pending -= 1;
    if (result !== tag && this.#errno === 0) this.#errno = result < 0 ? result : -5;
    if (this.#errno !== 0) {
      if (this.#pending === 0) this.#end();
      return;
    }
    switch (this.#step) {
      case "first":
        this.#sync("firstSync");
        return;
      case "firstSync":
        this.#extents.marked[this.#extent] = 1;
        this.#beginMark();
        return;
      case "mark":
        if (this.#pending > 0) return;
        if (this.#cursor < this.#extents.layout.blocks) this.#writeSlots();
        else this.#sync("markSync");
        return;
      case "markSync":
        this.#extents.marked[this.#extent] = 1;
        this.#beginData();
        return;
      case "data":
        this.#writeData();
        return;
      case "dataSync":
        this.#settle();
        return;
      case "rest":
        this.#sync("restSync");
        return;
      case "restSync":
        this.#writeRecord();
        return;
      case "record":
        this.#sync("recordSync");
        return;
      case "recordSync":
        this.#flushed();
        return;
    }
  }

  #write(offset: number, at: number, length: number): void {
    this.#pending += 1;
    this.#io.write(this.#file, offset, at, length, this, length);
  }
  #sync(step: "firstSync" | "markSync" | "dataSync" | "restSync" | "recordSync"): void {
    this.#step = step;
    this.#pending += 1;
    this.#io.sync(this.#file, true, this, SYNC);
  }

  /**
   * A slot in the inactive array of a clean extent means nothing, so dirty byte and slots may share a sync: if only slots reach
   * the disk, they do not fit the data and never will. Except a slot for zeros, which fits a block
   * that was never written: some later recovery would take it for written. So then the mark goes first.
   */
  #beginFirst(): void {
    this.#step = "first";
    this.#write(this.#extents.layout.metadataAt, this.#oneAt, 1);
  }
  #writesZeros(layer: Layer): boolean {
    const held = this.#held;
    const { bytes } = this.#arena;
    const { blocks, blockBytes } = this.#extents.layout;
    for (let b = held.next(layer, 0); b < blocks; b = held.next(layer, b + 1)) {
      const record = held.at(layer, b);
      const at = held.dataOf(record, b);
      // Most blocks show at a glance that they are not.
      if (bytes[at] !== 0 || bytes[at + 1] !== 0 || bytes[at + blockBytes - 1] !== 0) continue;
      if (held.encrypted[record] === 0 && this.#hasher.isZero(at, blockBytes)) return true;
    }
    return false;
  }
  #beginMark(): void {
    this.#step = "mark";
    if (this.#extents.marked[this.#extent] === 0)
      this.#write(this.#extents.layout.metadataAt, this.#oneAt, 1);
    this.#writeSlots();
  }

  /** Fills the scratch memory with slots, from #cursor on, and writes each run that lies together in a file. */
  #writeSlots(): void {
    const { layout } = this.#extents;
    const held = this.#held;
    const layer = this.#layer!;
    const flushId = this.#extents.flushNumbers[this.#extent]! % 65_536;
    const end = this.#scratchAt + SLOTS_BYTES - SLOT_BYTES;
    let at = this.#scratchAt;
    /** The run being collected: where it began in memory and in the file, and where its next slot would go. */
    let runAt = at;
    let runOffset = -1;
    let expected = -1;
    let block = held.next(layer, this.#cursor);
    while (block < layout.blocks && at <= end) {
      const record = held.at(layer, block);
      const array = 1 - this.#extents.active(this.#extent, block);
      const offset = slotOffset(layout, array, block);
      if (offset !== expected) {
        if (runOffset >= 0) this.#write(runOffset, runAt, at - runAt);
        runOffset = -1;
        if (this.#pending >= WRITES_MAX) break;
        runAt = at;
        runOffset = offset;
      }
      const count = this.#slotsOf(
        record,
        block,
        array,
        Math.floor((end - at) / SLOT_BYTES) + 1,
        at,
        flushId,
      );
      at += count * SLOT_BYTES;
      expected = offset + count * SLOT_BYTES;
      block = held.next(layer, block + count);
    }
    if (runOffset >= 0) this.#write(runOffset, runAt, at - runAt);
    this.#cursor = block;
  }
  /** Slots of the blocks from `block` on that are of one record and go to one array; how many there were. */
  #slotsOf(
    record: number,
    block: number,
    array: number,
    most: number,
    at: number,
    flushId: number,
  ): number {
    const held = this.#held;
    const layer = this.#layer!;
    const encrypted = held.encrypted[record] === 1;
    const { bytes } = this.#arena;
    const { blocks, blockBytes } = this.#extents.layout;
    let count = 0;
    do {
      const contextAt = held.contextOf(record, block + count);
      writeSlot(bytes, at + count * SLOT_BYTES, contextAt, encrypted, flushId);
      count += 1;
    } while (
      count < most &&
      block + count < blocks &&
      held.at(layer, block + count) === record &&
      1 - this.#extents.active(this.#extent, block + count) === array
    );
    if (encrypted)
      this.#hasher.blocks(
        held.dataOf(record, block),
        blockBytes,
        count,
        at + ENCRYPTED_DISK_HASH_AT,
        SLOT_BYTES,
      );
    return count;
  }

  #beginData(): void {
    this.#step = "data";
    this.#cursor = 0;
    if (this.#numbers !== null) this.#writeBitmap();
    this.#writeData();
  }
  #writeBitmap(): void {
    const { layout } = this.#extents;
    const { bytes } = this.#arena;
    this.#extents.copyBitmap(this.#extent, bytes, this.#scratchAt);
    const layer = this.#layer;
    if (layer !== null)
      for (let b = this.#held.next(layer, 0); b < layout.blocks; b = this.#held.next(layer, b + 1))
        flipBit(bytes, this.#scratchAt, b);
    this.#write(layout.bitmapAt, this.#scratchAt, layout.bitmapBytes);
  }
  #writeData(): void {
    const layer = this.#layer;
    if (layer !== null)
      while (this.#pending < WRITES_MAX) {
        const block = this.#held.next(layer, this.#cursor);
        this.#cursor = block;
        if (block === this.#extents.layout.blocks) break;
        this.#writeRun(layer, block);
      }
    if (this.#pending === 0) this.#sync("dataSync");
  }
  /** Consecutive blocks in one write; memory that lies together makes one piece of it. */
  #writeRun(layer: Layer, first: number): void {
    const held = this.#held;
    const { blocks, blockBytes } = this.#extents.layout;
    const pieces = this.#pieces;
    const last = Math.min(blocks, first + RUN_BYTES_MAX / blockBytes);
    let count = 0;
    let next = -1;
    let block = first;
    for (; block < last; block++) {
      const record = held.at(layer, block);
      if (record < 0) break;
      const at = held.dataOf(record, block);
      if (at === next) pieces[2 * count - 1]! += blockBytes;
      else if (count === FILE_PIECES_MAX) break;
      else {
        pieces[2 * count] = at;
        pieces[2 * count + 1] = blockBytes;
        count += 1;
      }
      next = at + blockBytes;
    }
    this.#cursor = block;
    const offset = first * blockBytes;
    const length = (block - first) * blockBytes;
    if (count === 1) this.#write(offset, pieces[0]!, length);
    else {
      this.#pending += 1;
      this.#io.writeGather(this.#file, offset, pieces, count, this, length);
    }
  }

  /** Slots and data are durable: what was new is now what the file says. */
  #settle(): void {
    const layer = this.#layer;
    this.#layer = null;
    const { blocks } = this.#extents.layout;
    if (layer !== null)
      for (let b = this.#held.next(layer, 0); b < blocks; b = this.#held.next(layer, b + 1))
        this.#extents.flip(this.#extent, b);
    if (this.#numbers !== null) this.#writeNumbers(this.#numbers);
    if (layer !== null) this.#held.release(layer);
    if (this.#numbers === null) this.#end();
  }
  #writeNumbers(numbers: FlushNumbers): void {
    const { layout, bonusSyncs, defragmentations } = this.#extents;
    encodeMetadata(this.#arena.view, this.#metadataAt, {
      dirty: false,
      generation: numbers.generation,
      flushNumber: numbers.flushNumber,
      bonusSyncs: bonusSyncs[this.#extent]!,
      defragmentations: defragmentations[this.#extent]!,
    });
    if (layout.metadataTearable) {
      this.#step = "rest";
      this.#write(layout.metadataAt + 1, this.#metadataAt + 1, METADATA_BYTES - 1);
    } else this.#writeRecord();
  }
  #writeRecord(): void {
    const { layout, marked } = this.#extents;
    marked[this.#extent] = 0;
    this.#step = "record";
    this.#write(layout.metadataAt, this.#metadataAt, layout.metadataTearable ? 1 : METADATA_BYTES);
  }
  #flushed(): void {
    const extent = this.#extent;
    this.#extents.generations[extent] = this.#numbers!.generation;
    this.#extents.flushNumbers[extent] = this.#numbers!.flushNumber;
    if (this.#held.newest(extent) === undefined) this.#extents.dirty.delete(extent);
    this.#end();
  }

  #end(): void {
    const then = this.#then!;
    const what = { mark: "writing contexts", data: "writing data", rest: "writing metadata" };
    const step = this.#step.startsWith("mark")
      ? what.mark
      : this.#step.startsWith("data")
        ? what.data
        : what.rest;
    const fault = this.#errno === 0 ? null : this.#extents.ioFault(this.#extent, step, this.#errno);
    this.#step = "idle";
    this.#layer = null;
    this.#numbers = null;
    this.#then = undefined;
    this.#extents.unuse(this.#extent);
    then(fault);
  }
}

/** Arena memory that a store keeps for itself is found when it opens, or never. */
export function reserve(arena: Arena, length: number, what: string): number {
  const at = arena.alloc(length);
  if (at < 0)
    throw new Fault(
      "TRIVET_E_MEMORY",
      `no ${length} bytes left in an arena of ${arena.sizeBytes} for ${what}`,
    );
  return at;
}
