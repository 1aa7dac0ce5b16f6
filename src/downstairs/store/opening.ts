import { Fault } from "../../base/fault.js";
import type { Arena } from "../../ports/arena.js";
import type { FileIo, FileTree, Then } from "../../ports/files.js";
import type { Hasher } from "../../ports/hasher.js";
import { setBit } from "../../region/bitmap.js";
import { METADATA_BYTES, SLOT_BYTES, slotOffset } from "../../region/layout.js";
import { decodeMetadata } from "../../region/metadata.js";
import { LOST, recoverBlock, SlotFit, slotFit } from "../../region/recovery.js";
import {
  CONTEXT_SEAL_AT,
  diskHashAt,
  SEAL_BYTES,
  SLOT_CONTEXT_AT,
  SlotKind,
  sameHash,
  slotKind,
} from "../../region/slot.js";
import type { Extents } from "./extents.js";
import { inOrder } from "./flow.js";

const ENOENT = -2;
const ENFILE = -23;
const EMFILE = -24;
/** Data that recovery reads and hashes at a time. */
const RECOVERY_BYTES = 256 * 1024;

export interface OpenParts {
  readonly arena: Arena;
  readonly io: FileIo;
  readonly tree: FileTree;
  readonly hasher: Hasher;
  readonly extents: Extents;
  readonly readOnly: boolean;
}

/**
 * Opens one extent file after the other in a piece of arena memory of its own: checks size and metadata, makes
 * what a dead process left in the page cache durable, loads the bitmap, or finds the active slots of a dirty extent
 * by hashing (crucible-downstairs: open of one extent, and recovery). Changes nothing on disk.
 */
export class Opening {
  readonly #parts: OpenParts;
  readonly #at: number;
  readonly #blocks: number;
  #extent = 0;
  #file = -1;

  static #recoveryBlocks(extents: Extents): number {
    const { blocks, blockBytes } = extents.layout;
    return Math.min(blocks, RECOVERY_BYTES / blockBytes);
  }
  static scratchBytes(extents: Extents): number {
    const { bitmapBytes, blockBytes } = extents.layout;
    const tail = bitmapBytes + METADATA_BYTES + 1;
    return Math.max(tail, Opening.#recoveryBlocks(extents) * (blockBytes + 2 * SLOT_BYTES + 8));
  }

  constructor(parts: OpenParts, scratchAt: number) {
    this.#parts = parts;
    this.#at = scratchAt;
    this.#blocks = Opening.#recoveryBlocks(parts.extents);
  }

  open(extent: number, then: Then): void {
    const { tree, extents, readOnly } = this.#parts;
    const path = extents.path(extent);
    this.#extent = extent;
    tree.open(path, readOnly ? "read" : "readWrite", (fault, file) => {
      if (fault !== null) return then(openFault(fault, path));
      this.#file = file;
      this.#checkTail((found) => {
        if (found !== null) tree.close(file);
        then(found);
      });
    });
  }

  /** Bitmap and metadata are the end of the file; one byte more is asked for, so that a longer file shows. */
  #checkTail(then: Then): void {
    const { arena, extents, readOnly } = this.#parts;
    const { bitmapAt, bitmapBytes } = extents.layout;
    const wanted = bitmapBytes + METADATA_BYTES;
    this.#read(bitmapAt, this.#at, wanted + 1, (got) => {
      if (got < 0) return then(extents.ioFault(this.#extent, "reading metadata", got));
      if (got !== wanted) return this.#wrongSize(then);
      const metadata = decodeMetadata(arena.view, this.#at + bitmapBytes);
      const path = extents.path(this.#extent);
      if (typeof metadata === "string")
        return then(new Fault("TRIVET_E_EXTENT_METADATA", `${path}: ${metadata}`));
      const bitmap = Uint8Array.from(arena.bytes.subarray(this.#at, this.#at + bitmapBytes));
      const steps: ((next: Then) => void)[] = [];
      if (!readOnly) steps.push((next) => this.#sync(next));
      if (metadata.dirty) steps.push((next) => this.#recover(bitmap.fill(0), next));
      inOrder(steps, (fault) => {
        if (fault === null) extents.opened(this.#extent, this.#file, metadata, bitmap);
        then(fault);
      });
    });
  }
  #wrongSize(then: Then): void {
    const { tree, extents } = this.#parts;
    const path = extents.path(this.#extent);
    tree.sizeOf(path, (fault, size) => {
      const text = `${path}: file size ${size} does not match expected ${extents.layout.fileBytes}`;
      then(fault ?? new Fault("TRIVET_E_EXTENT_SIZE", text));
    });
  }
  #sync(next: Then): void {
    const { io, extents } = this.#parts;
    const done = (_: number, result: number): void =>
      next(result < 0 ? extents.ioFault(this.#extent, "syncing", result) : null);
    io.sync(this.#file, false, { fileDone: done }, 0);
  }
  #read(offset: number, at: number, length: number, then: (got: number) => void): void {
    this.#parts.io.read(this.#file, offset, at, length, { fileDone: (_, got) => then(got) }, 0);
  }

  #recover(bitmap: Uint8Array, then: Then): void {
    const { layout } = this.#parts.extents;
    const steps: ((next: Then) => void)[] = [];
    for (let first = 0; first < layout.blocks; first += this.#blocks) {
      const count = Math.min(this.#blocks, layout.blocks - first);
      steps.push((next) => this.#recoverSome(bitmap, first, count, next));
    }
    inOrder(steps, then);
  }
  #recoverSome(bitmap: Uint8Array, first: number, count: number, then: Then): void {
    const { arena, hasher, extents } = this.#parts;
    const { layout } = extents;
    const length = count * SLOT_BYTES;
    const slotsA = this.#at;
    const slotsB = slotsA + length;
    const hashes = slotsB + length;
    const data = hashes + 8 * count;
    const all = (offset: number, at: number, bytes: number, next: Then): void =>
      this.#read(offset, at, bytes, (got) =>
        next(got === bytes ? null : extents.ioFault(this.#extent, "reading for recovery", got)),
      );
    const decide = (): Fault | null => {
      hasher.blocks(data, layout.blockBytes, count, hashes, 8);
      for (let i = 0; i < count; i++) {
        const at = i * SLOT_BYTES;
        const blockAt = data + i * layout.blockBytes;
        const slot = this.#choose(slotsA + at, slotsB + at, hashes + 8 * i, blockAt);
        if (slot === LOST)
          return new Fault(
            "TRIVET_E_EXTENT_CONTEXT",
            `${extents.path(this.#extent)}: no context slot fits block ${first + i} of extent ${this.#extent}`,
          );
        setBit(bitmap, 0, first + i, slot);
      }
      return null;
    };
    inOrder(
      [
        (next) => all(slotOffset(layout, 0, first), slotsA, length, next),
        (next) => all(slotOffset(layout, 1, first), slotsB, length, next),
      ],
      (fault) => {
        const { bytes } = arena;
        let empty = true;
        for (let i = 0; i < 2 * count && empty; i++)
          empty = slotKind(bytes, slotsA + i * SLOT_BYTES) === SlotKind.empty;
        if (fault !== null || empty) return then(fault);
        all(first * layout.blockBytes, data, count * layout.blockBytes, (failed) =>
          then(failed ?? decide()),
        );
      },
    );
  }

  #choose(a: number, b: number, hashAt: number, blockAt: number): 0 | 1 | typeof LOST {
    const { bytes } = this.#parts.arena;
    const kindA = slotKind(bytes, a);
    const kindB = slotKind(bytes, b);
    const diskA = sameHash(bytes, a + diskHashAt(kindA), bytes, hashAt);
    const diskB = sameHash(bytes, b + diskHashAt(kindB), bytes, hashAt);
    let fitA = slotFit(kindA, diskA, true);
    let fitB = slotFit(kindB, diskB, true);
    if (fitA === SlotFit.fits && fitB === SlotFit.fits) {
      fitA = slotFit(kindA, diskA, this.#contextFits(kindA, a, hashAt, blockAt));
      fitB = slotFit(kindB, diskB, this.#contextFits(kindB, b, hashAt, blockAt));
    }
    return recoverBlock(fitA, fitB);
  }
  #contextFits(kind: SlotKind, slotAt: number, hashAt: number, blockAt: number): boolean {
    const { arena, hasher, extents } = this.#parts;
    const contextAt = slotAt + SLOT_CONTEXT_AT;
    if (kind === SlotKind.plain) return sameHash(arena.bytes, contextAt, arena.bytes, hashAt);
    const { blockBytes } = extents.layout;
    const sealAt = contextAt + CONTEXT_SEAL_AT;
    return hasher.verifyPrefixed(blockAt, blockBytes, 1, contextAt, 0, sealAt, 0, SEAL_BYTES) < 0;
  }
}

function openFault(fault: Fault, path: string): Fault {
  if (fault.errno === ENOENT)
    return new Fault("TRIVET_E_EXTENT_MISSING", `${path}: no such file`, { errno: fault.errno });
  if (fault.errno === EMFILE || fault.errno === ENFILE)
    return new Fault("TRIVET_E_OPEN_FILES", `${path}: too many open files; each extent needs one`, {
      errno: fault.errno,
    });
  return fault;
}
