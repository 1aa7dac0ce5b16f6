import { existsSync } from "node:fs";
import { type FileHandle, open, rename } from "node:fs/promises";
import { join } from "node:path";
import { Fault } from "../../base/fault.js";
import { type RegionDefinition, regionBytes } from "../../crucible/region-definition.js";
import type { Arena } from "../../ports/arena.js";
import type { Hasher } from "../../ports/hasher.js";
import { setBit } from "../../region/bitmap.js";
import { extentLayout, extentPath, METADATA_BYTES, SLOT_BYTES } from "../../region/layout.js";
import { encodeMetadata, FRESH_METADATA } from "../../region/metadata.js";
import { PLAIN_CONTEXT_BYTES, writeSlot } from "../../region/slot.js";
import { syncDirectory, writeAll } from "../files.js";
import type { Progress } from "../progress.js";
import { configPath, IMPORTING_NAME } from "./directory.js";
import { blocksPerPiece, readAll } from "./extent-file.js";
import { readExtentStates } from "./info.js";
import type { Workspace } from "./workspace.js";

/** What an import leaves in every extent that it wrote to: as the original, one flush. */
const IMPORT_FLUSH_NUMBER = 1;

/**
 * Fills a fresh region from an image; blocks of zeros stay unwritten, so that sparse images stay
 * sparse. While it runs region.json has another name: what was cut short cannot be opened. Three
 * regions filled from one image are equal. Returns the blocks written.
 */
export async function importImage(
  directory: string,
  region: RegionDefinition,
  image: FileHandle,
  imageBytes: number,
  workspace: Workspace,
  progress: (totalBytes: number) => Progress,
): Promise<number> {
  await refuse(directory, region, imageBytes);
  const config = configPath(directory);
  const hidden = join(directory, IMPORTING_NAME);
  if (existsSync(config)) await rename(config, hidden);
  await syncDirectory(directory);
  const layout = extentLayout(region);
  const shown = progress(imageBytes);
  const importer = new Importer(directory, region, image, imageBytes, workspace, shown);
  let written = 0;
  try {
    for (let extent = 0; extent * layout.dataBytes < imageBytes; extent++) {
      written += await importer.extent(extent);
    }
  } finally {
    shown.done();
    importer.free();
  }
  await rename(hidden, config);
  await syncDirectory(directory);
  return written;
}

async function refuse(
  directory: string,
  region: RegionDefinition,
  imageBytes: number,
): Promise<void> {
  if (imageBytes > regionBytes(region)) {
    throw new Fault(
      "TRIVET_E_REGION_RESIZE",
      `${directory}: an image of ${imageBytes} bytes does not fit into a region of ${regionBytes(region)}; regions do not grow`,
    );
  }
  if (region.encrypted) {
    throw new Fault(
      "TRIVET_E_USAGE",
      `${directory} is a region of encrypted blocks, which only a client with the key can write`,
    );
  }
  const states = await readExtentStates(directory, region);
  const used = states.findIndex((s) => s.dirty || s.flushNumber !== 0 || s.generation !== 0n);
  if (used >= 0) {
    throw new Fault(
      "TRIVET_E_REGION_EXISTS",
      `${directory} was written to (extent ${used}); an import needs a fresh region`,
    );
  }
}

class Importer {
  readonly #directory: string;
  readonly #image: FileHandle;
  readonly #imageBytes: number;
  readonly #arena: Arena;
  readonly #hasher: Hasher;
  readonly #progress: Progress;
  readonly #layout;
  readonly #dataAt: number;
  readonly #slotsAt: number;
  readonly #contextsAt: number;
  readonly #step: number;

  constructor(
    directory: string,
    region: RegionDefinition,
    image: FileHandle,
    imageBytes: number,
    workspace: Workspace,
    progress: Progress,
  ) {
    const layout = extentLayout(region);
    this.#directory = directory;
    this.#image = image;
    this.#imageBytes = imageBytes;
    this.#arena = workspace.arena;
    this.#hasher = workspace.hasher;
    this.#progress = progress;
    this.#layout = layout;
    this.#step = blocksPerPiece(layout);
    this.#dataAt = take(this.#arena, this.#step * layout.blockBytes);
    this.#slotsAt = take(this.#arena, this.#step * SLOT_BYTES);
    this.#contextsAt = take(this.#arena, this.#step * PLAIN_CONTEXT_BYTES);
  }

  free(): void {
    for (const at of [this.#dataAt, this.#slotsAt, this.#contextsAt]) this.#arena.free(at);
  }

  async extent(number: number): Promise<number> {
    const layout = this.#layout;
    const file = await open(join(this.#directory, extentPath(number)), "r+");
    try {
      const tail = new Uint8Array(layout.bitmapBytes + METADATA_BYTES);
      let written = 0;
      for (let first = 0; first < layout.blocks; first += this.#step) {
        const position = number * layout.dataBytes + first * layout.blockBytes;
        if (position >= this.#imageBytes) break;
        const length = Math.min(this.#step * layout.blockBytes, this.#imageBytes - position);
        await this.#read(position, length);
        written += await this.#write(file, first, Math.ceil(length / layout.blockBytes), tail);
        this.#progress.advance(length);
      }
      if (written > 0) {
        encodeMetadata(new DataView(tail.buffer), layout.bitmapBytes, {
          ...FRESH_METADATA,
          flushNumber: IMPORT_FLUSH_NUMBER,
        });
        await writeAll(file, tail, layout.bitmapAt);
        await file.sync();
      }
      return written;
    } finally {
      await file.close();
    }
  }

  /** The last block of an image whose length is no multiple is filled up with zeros. */
  async #read(position: number, length: number): Promise<void> {
    const { bytes } = this.#arena;
    await readAll(this.#image, bytes, this.#dataAt, length, position, "the image");
    const odd = length % this.#layout.blockBytes;
    if (odd === 0) return;
    const end = this.#dataAt + length;
    bytes.fill(0, end, end - odd + this.#layout.blockBytes);
  }

  /** Blocks that are not all zeros, in runs; the first context of a fresh block lies in array B. */
  async #write(
    file: FileHandle,
    first: number,
    count: number,
    bitmap: Uint8Array,
  ): Promise<number> {
    const { blockBytes, slotsBAt } = this.#layout;
    const { bytes } = this.#arena;
    const isZero = (i: number): boolean =>
      this.#hasher.isZero(this.#dataAt + i * blockBytes, blockBytes);
    let written = 0;
    let i = 0;
    while (i < count) {
      if (isZero(i)) {
        i += 1;
        continue;
      }
      let end = i + 1;
      while (end < count && !isZero(end)) end += 1;
      const run = end - i;
      const data = this.#dataAt + i * blockBytes;
      this.#hasher.blocks(data, blockBytes, run, this.#contextsAt, PLAIN_CONTEXT_BYTES);
      for (let k = 0; k < run; k++) {
        const context = this.#contextsAt + k * PLAIN_CONTEXT_BYTES;
        bytes[context + PLAIN_CONTEXT_BYTES - 1] = 0;
        writeSlot(bytes, this.#slotsAt + k * SLOT_BYTES, context, false, 0);
        setBit(bitmap, 0, first + i + k, 1);
      }
      const slots = bytes.subarray(this.#slotsAt, this.#slotsAt + run * SLOT_BYTES);
      await writeAll(file, slots, slotsBAt + (first + i) * SLOT_BYTES);
      const blocks = bytes.subarray(data, data + run * blockBytes);
      await writeAll(file, blocks, (first + i) * blockBytes);
      written += run;
      i = end;
    }
    return written;
  }
}

function take(arena: Arena, length: number): number {
  const at = arena.alloc(length);
  if (at < 0) throw new Fault("TRIVET_E_MEMORY", `no room for ${length} bytes of working memory`);
  return at;
}
