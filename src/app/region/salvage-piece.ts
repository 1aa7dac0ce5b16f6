import type { Arena } from "../../ports/arena.js";
import type { Hasher } from "../../ports/hasher.js";
import { bitAt } from "../../region/bitmap.js";
import type { BlockEvidence, SlotEvidence } from "../../region/choose-block.js";
import {
  type Judgement,
  judgeClean,
  judgeDirty,
  judgeUnmapped,
  UNREADABLE,
} from "../../region/judge-block.js";
import { type ExtentLayout, SLOT_BYTES } from "../../region/layout.js";
import { SlotFit, slotFit } from "../../region/recovery.js";
import {
  CONTEXT_SEAL_AT,
  diskHashAt,
  SEAL_BYTES,
  SLOT_CONTEXT_AT,
  SlotKind,
  sameHash,
  slotFlushId,
  slotKind,
} from "../../region/slot.js";
import { blocksPerPiece, take } from "./extent-file.js";
import { type Copy, readUnits } from "./salvage-copy.js";

/** Never a legal first byte of a slot, so that what could not be read cannot be decoded either. */
const ILLEGIBLE = 0xff;

/** Working memory for a piece of one copy: blocks, both slot arrays and the hashes of the blocks, in the arena. */
export class CopyPiece {
  readonly dataAt: number;
  readonly #layout: ExtentLayout;
  readonly #arena: Arena;
  readonly #hasher: Hasher;
  readonly #slotsAt: number;
  readonly #hashesAt: number;
  readonly #badData: Uint8Array;
  readonly #badSlots: Uint8Array;
  #bitmap: Uint8Array | undefined;
  #isDirty = false;
  #first = 0;
  count = 0;
  /** Data, slots and bits are all zero: never written, and nothing is wrong. */
  isBlank = false;
  /** Blocks that could not be read, in all loads. */
  unreadable = 0;

  constructor(layout: ExtentLayout, arena: Arena, hasher: Hasher) {
    const blocks = blocksPerPiece(layout);
    this.#layout = layout;
    this.#arena = arena;
    this.#hasher = hasher;
    this.#badData = new Uint8Array(blocks);
    this.#badSlots = new Uint8Array(2 * blocks);
    this.dataAt = take(arena, blocks * layout.blockBytes);
    this.#slotsAt = take(arena, 2 * blocks * SLOT_BYTES);
    this.#hashesAt = take(arena, blocks * 8);
  }

  free(): void {
    for (const at of [this.dataAt, this.#slotsAt, this.#hashesAt]) this.#arena.free(at);
  }

  blockAt(i: number): number {
    return this.dataAt + i * this.#layout.blockBytes;
  }
  slotAt(array: number, i: number): number {
    return this.#slotsAt + SLOT_BYTES * (array * this.count + i);
  }
  isReadable(i: number): boolean {
    return this.#badData[i] === 0;
  }

  async load(copy: Copy, first: number, count: number): Promise<void> {
    const { bytes } = this.#arena;
    const layout = this.#layout;
    this.#first = first;
    this.#bitmap = copy.bitmap;
    this.#isDirty = copy.known && copy.dirty;
    this.count = count;
    const from = first * layout.blockBytes;
    await readUnits(
      copy.file,
      bytes,
      this.dataAt,
      count,
      layout.blockBytes,
      from,
      this.#badData,
      0,
    );
    for (const array of [0, 1] as const) {
      const at = (array === 0 ? layout.slotsAAt : layout.slotsBAt) + first * SLOT_BYTES;
      const badAt = array * count;
      await readUnits(
        copy.file,
        bytes,
        this.slotAt(array, 0),
        count,
        SLOT_BYTES,
        at,
        this.#badSlots,
        badAt,
      );
    }
    let bad = 0;
    for (let i = 0; i < 2 * count; i++) {
      if (this.#badSlots[i] === 1) {
        bad += 1;
        const at = this.#slotsAt + i * SLOT_BYTES;
        bytes.fill(ILLEGIBLE, at, at + SLOT_BYTES);
      }
    }
    for (let i = 0; i < count; i++) {
      if (this.#badData[i] === 1) {
        bad += 1;
        this.unreadable += 1;
        bytes.fill(0, this.blockAt(i), this.blockAt(i + 1));
      }
    }
    this.isBlank =
      bad === 0 &&
      this.#hasher.isZero(this.dataAt, count * layout.blockBytes) &&
      this.#hasher.isZero(this.#slotsAt, 2 * count * SLOT_BYTES) &&
      this.#hasNoBits();
  }

  /** To be called before anything is asked about single blocks. */
  hashBlocks(): void {
    const { blockBytes } = this.#layout;
    this.#hasher.blocks(this.dataAt, blockBytes, this.count, this.#hashesAt, 8);
  }

  #hasNoBits(): boolean {
    const bitmap = this.#bitmap;
    if (bitmap === undefined) return true;
    for (let i = 0; i < this.count; i++) if (bitAt(bitmap, 0, this.#first + i) === 1) return false;
    return true;
  }

  judge(i: number): Judgement {
    if (this.#badData[i] === 1) return UNREADABLE;
    const a = this.#fit(0, i);
    const b = this.#fit(1, i);
    const zero = this.#hasher.isZero(this.blockAt(i), this.#layout.blockBytes);
    const bit = this.activeSlot(i);
    if (bit !== undefined) return judgeClean(bit, a, b, zero);
    return this.#isDirty ? judgeDirty(a, b, zero) : judgeUnmapped(a, b, zero, this.#lead(i));
  }

  /** By how many flushes slot A was written after slot B; 0: unknown. */
  #lead(i: number): number {
    const [a, b] = [this.#slot(0, i), this.#slot(1, i)];
    if (a === undefined || b === undefined) return 0;
    return ((a.flushId - b.flushId) << 16) >> 16;
  }

  activeSlot(i: number): 0 | 1 | undefined {
    return this.#bitmap === undefined ? undefined : bitAt(this.#bitmap, 0, this.#first + i);
  }
  kind(array: number, i: number): SlotKind {
    return slotKind(this.#arena.bytes, this.slotAt(array, i));
  }
  hasSameData(i: number, other: CopyPiece): boolean {
    const { bytes } = this.#arena;
    return sameHash(bytes, this.#hashesAt + 8 * i, bytes, other.#hashesAt + 8 * i);
  }

  /** All that this copy says about the i-th block. */
  evidence(i: number): BlockEvidence {
    return {
      judged: this.judge(i),
      hash: this.isReadable(i) ? this.#arena.view.getBigUint64(this.#hashesAt + 8 * i, true) : -1n,
      slots: [this.#slot(0, i), this.#slot(1, i)],
      active: this.activeSlot(i),
      legible: [this.kind(0, i) !== SlotKind.undecodable, this.kind(1, i) !== SlotKind.undecodable],
    };
  }
  #slot(array: number, i: number): SlotEvidence | undefined {
    const kind = this.kind(array, i);
    if (kind === SlotKind.empty || kind === SlotKind.undecodable) return undefined;
    const { view } = this.#arena;
    const at = this.slotAt(array, i);
    const hash = view.getBigUint64(at + diskHashAt(kind), true);
    return { hash, flushId: slotFlushId(view, at, kind) };
  }

  /** The i-th block agrees with everything that a slot of some copy says. */
  fits(i: number, slots: CopyPiece, array: number): boolean {
    return this.#fitOf(slots.slotAt(array, i), i) === SlotFit.fits;
  }
  #fit(array: number, i: number): SlotFit {
    return this.#fitOf(this.slotAt(array, i), i);
  }
  #fitOf(slot: number, i: number): SlotFit {
    const { bytes } = this.#arena;
    const kind = slotKind(bytes, slot);
    if (kind === SlotKind.empty || kind === SlotKind.undecodable) {
      return slotFit(kind, false, false);
    }
    const hash = this.#hashesAt + 8 * i;
    if (!sameHash(bytes, slot + diskHashAt(kind), bytes, hash)) return slotFit(kind, false, false);
    return slotFit(kind, true, this.#agreesWithContext(kind, slot + SLOT_CONTEXT_AT, i));
  }
  #agreesWithContext(kind: SlotKind, context: number, i: number): boolean {
    const { bytes } = this.#arena;
    if (kind === SlotKind.plain) return sameHash(bytes, context, bytes, this.#hashesAt + 8 * i);
    const { blockBytes } = this.#layout;
    const seal = context + CONTEXT_SEAL_AT;
    const at = this.blockAt(i);
    const bad = this.#hasher.verifyPrefixed(
      at,
      blockBytes,
      1,
      context,
      8,
      seal,
      SEAL_BYTES,
      SEAL_BYTES,
    );
    return bad < 0;
  }
}
