import { existsSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { Fault } from "../../base/fault.js";
import type { Arena } from "../../ports/arena.js";
import type { Hasher } from "../../ports/hasher.js";
import { bitAt } from "../../region/bitmap.js";
import {
  type ExtentLayout,
  extentPath,
  METADATA_BYTES,
  SLOT_BYTES,
  SQLITE_SUFFIX,
} from "../../region/layout.js";
import { decodeMetadata, type ExtentMetadata } from "../../region/metadata.js";
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
import { sqliteFault } from "../../region/sqlite.js";

/** One extent file at rest, read by the offline commands. Nothing here writes. */
export interface ExtentFile {
  readonly number: number;
  readonly path: string;
  readonly file: FileHandle;
  readonly metadata: ExtentMetadata;
  /** Valid only when the extent is clean. */
  readonly bitmap: Uint8Array;
}

/** Opens an extent and checks what can be checked without reading its blocks. */
export async function openExtent(
  directory: string,
  layout: ExtentLayout,
  number: number,
): Promise<ExtentFile> {
  const path = join(directory, extentPath(number));
  if (existsSync(`${path}${SQLITE_SUFFIX}`)) throw sqliteFault(directory, number);
  const file = await open(path, "r").catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
    throw new Fault("TRIVET_E_EXTENT_MISSING", `${path}: the file of extent ${number} is missing`);
  });
  try {
    const { size } = await file.stat();
    if (size !== layout.fileBytes) {
      throw new Fault(
        "TRIVET_E_EXTENT_SIZE",
        `${path}: extent ${number} has ${size} bytes, expected ${layout.fileBytes}`,
      );
    }
    const tail = new Uint8Array(layout.bitmapBytes + METADATA_BYTES);
    await readAll(file, tail, 0, tail.length, layout.bitmapAt, path);
    const metadata = decodeMetadata(new DataView(tail.buffer), layout.bitmapBytes);
    if (typeof metadata === "string") {
      throw new Fault("TRIVET_E_EXTENT_METADATA", `${path}: extent ${number}: ${metadata}`);
    }
    return { number, path, file, metadata, bitmap: tail.subarray(0, layout.bitmapBytes) };
  } catch (error) {
    await file.close();
    throw error;
  }
}

export async function readAll(
  file: FileHandle,
  into: Uint8Array,
  at: number,
  length: number,
  position: number,
  path: string,
): Promise<void> {
  let done = 0;
  while (done < length) {
    const { bytesRead } = await file.read(into, at + done, length - done, position + done);
    if (bytesRead === 0)
      throw new Fault("TRIVET_E_IO", `${path}: it became shorter while it was read`);
    done += bytesRead;
  }
}

const PIECE_BYTES = 1 << 20;

export const blocksPerPiece = (layout: ExtentLayout): number =>
  Math.min(layout.blocks, Math.max(1, Math.floor(PIECE_BYTES / layout.blockBytes)));

/**
 * Working memory for one extent at a time: a piece of blocks with both slot arrays, in the arena because
 * that is where hashes are made. `active[i]` tells which array (0 or 1) holds the i-th block's context.
 */
export class Piece {
  readonly dataAt: number;
  readonly active: Uint8Array;
  readonly #layout: ExtentLayout;
  readonly #arena: Arena;
  readonly #hasher: Hasher;
  readonly #slotsAt: number;
  readonly #hashesAt: number;
  first = 0;
  count = 0;

  constructor(layout: ExtentLayout, arena: Arena, hasher: Hasher) {
    const blocks = blocksPerPiece(layout);
    this.#layout = layout;
    this.#arena = arena;
    this.#hasher = hasher;
    this.active = new Uint8Array(blocks);
    this.dataAt = take(arena, blocks * layout.blockBytes);
    this.#slotsAt = take(arena, 2 * blocks * SLOT_BYTES);
    this.#hashesAt = take(arena, blocks * 8);
  }

  free(): void {
    for (const at of [this.dataAt, this.#slotsAt, this.#hashesAt]) this.#arena.free(at);
  }

  /** Where the i-th block's slot lies that counts. */
  slotAt(i: number): number {
    return this.slotOf(this.active[i]!, i);
  }
  slotOf(array: number, i: number): number {
    return this.#slotsAt + SLOT_BYTES * (array * this.count + i);
  }
  blockAt(i: number): number {
    return this.dataAt + i * this.#layout.blockBytes;
  }

  /** Loads blocks [first, first+count) and decides which slots count. Throws TRIVET_E_EXTENT_CONTEXT for a lost block. */
  async load(extent: ExtentFile, first: number, count: number): Promise<void> {
    const { bytes } = this.#arena;
    const layout = this.#layout;
    const { file, path } = extent;
    this.first = first;
    this.count = count;
    const slotBytes = count * SLOT_BYTES;
    const slotsFrom = SLOT_BYTES * first;
    const dataBytes = count * layout.blockBytes;
    await readAll(file, bytes, this.dataAt, dataBytes, first * layout.blockBytes, path);
    await readAll(file, bytes, this.slotOf(0, 0), slotBytes, layout.slotsAAt + slotsFrom, path);
    await readAll(file, bytes, this.slotOf(1, 0), slotBytes, layout.slotsBAt + slotsFrom, path);
    if (extent.metadata.dirty) this.#recover(extent);
    else for (let i = 0; i < count; i++) this.active[i] = bitAt(extent.bitmap, 0, first + i);
  }

  #recover(extent: ExtentFile): void {
    this.#hasher.blocks(this.dataAt, this.#layout.blockBytes, this.count, this.#hashesAt, 8);
    for (let i = 0; i < this.count; i++) {
      const choice = recoverBlock(this.#fit(0, i), this.#fit(1, i));
      if (choice === LOST) {
        throw new Fault(
          "TRIVET_E_EXTENT_CONTEXT",
          `${extent.path}: block ${this.first + i} of extent ${extent.number} fits neither of its contexts`,
        );
      }
      this.active[i] = choice;
    }
  }

  #fit(array: number, i: number): SlotFit {
    const { bytes } = this.#arena;
    const slot = this.slotOf(array, i);
    const kind = slotKind(bytes, slot);
    if (kind === SlotKind.empty || kind === SlotKind.undecodable)
      return slotFit(kind, false, false);
    const hash = this.#hashesAt + 8 * i;
    if (!sameHash(bytes, slot + diskHashAt(kind), bytes, hash)) return SlotFit.other;
    const context = slot + SLOT_CONTEXT_AT;
    const { blockBytes } = this.#layout;
    const whole =
      kind === SlotKind.plain
        ? sameHash(bytes, context, bytes, hash)
        : this.#hasher.verifyPrefixed(
            this.blockAt(i),
            blockBytes,
            1,
            context,
            8,
            context + CONTEXT_SEAL_AT,
            SEAL_BYTES,
            SEAL_BYTES,
          ) < 0;
    return slotFit(kind, true, whole);
  }

  /** Index of the first block of the piece that does not fit its context, or has data without one; −1: all well. */
  firstBad(): number {
    const { bytes } = this.#arena;
    const { blockBytes } = this.#layout;
    let i = 0;
    while (i < this.count) {
      const slot = this.slotAt(i);
      const kind = slotKind(bytes, slot);
      let end = i + 1;
      // A run of blocks whose contexts lie side by side and are of one kind is judged by one call.
      while (
        end < this.count &&
        this.active[end] === this.active[i] &&
        slotKind(bytes, this.slotAt(end)) === kind
      ) {
        end += 1;
      }
      const bad = this.#badInRun(kind, i, end - i, slot, blockBytes);
      if (bad >= 0) return i + bad;
      i = end;
    }
    return -1;
  }

  #badInRun(kind: SlotKind, i: number, count: number, slot: number, blockBytes: number): number {
    if (kind === SlotKind.undecodable) return 0;
    if (kind !== SlotKind.empty) {
      const want = slot + diskHashAt(kind);
      return this.#hasher.verify(this.blockAt(i), blockBytes, count, want, SLOT_BYTES);
    }
    if (this.#hasher.isZero(this.blockAt(i), count * blockBytes)) return -1;
    for (let k = 0; k < count; k++) {
      if (!this.#hasher.isZero(this.blockAt(i + k), blockBytes)) return k;
    }
    return -1;
  }
}

/** Working memory, or TRIVET_E_MEMORY. */
export function take(arena: Arena, length: number): number {
  const at = arena.alloc(length);
  if (at < 0) throw new Fault("TRIVET_E_MEMORY", `no room for ${length} bytes of working memory`);
  return at;
}
