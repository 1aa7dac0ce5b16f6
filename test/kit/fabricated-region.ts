import { createHash } from "node:crypto";
import { lstatSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import xxhash, { type XXHashAPI } from "xxhash-wasm";
import type { RegionDefinition } from "../../src/crucible/region-definition.js";
import { flipBit, setBit } from "../../src/region/bitmap.js";
import { renderRegionConfig } from "../../src/region/config.js";
import {
  type ExtentLayout,
  extentLayout,
  extentPath,
  SLOT_BYTES,
  slotOffset,
} from "../../src/region/layout.js";
import { decodeMetadata, encodeMetadata, freshTail } from "../../src/region/metadata.js";
import { LOST, recoverBlock, SlotFit } from "../../src/region/recovery.js";

/** One extent file in memory, written by the rules of the format, with no regard to disks. */
export class FabricatedExtent {
  readonly layout: ExtentLayout;
  readonly #xxhash: XXHashAPI;
  bytes: Buffer;
  /** Active slots: on disk they are true only while the extent is clean. */
  #bitmap: Buffer;

  constructor(layout: ExtentLayout, api: XXHashAPI) {
    this.layout = layout;
    this.#xxhash = api;
    this.bytes = Buffer.alloc(layout.fileBytes);
    Buffer.from(freshTail(layout.bitmapBytes)).copy(this.bytes, layout.bitmapAt);
    this.#bitmap = Buffer.alloc(layout.bitmapBytes);
  }

  get view(): DataView {
    return new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.length);
  }
  get metadata() {
    const found = decodeMetadata(this.view, this.layout.metadataAt);
    if (typeof found === "string") throw new Error(found);
    return found;
  }

  /** `only`: what of it reached the disk. */
  write(block: number, data: Buffer, only: "all" | "slot" | "nothing" = "all"): void {
    const { bytes, layout, metadata } = this;
    bytes[layout.metadataAt] = 1;
    if (only === "nothing") return;
    const inactive = ((this.#bitmap[block >>> 3]! >>> (block & 7)) & 1) === 1 ? 0 : 1;
    const at = slotOffset(layout, inactive, block);
    const hash = this.#xxhash.h64Raw(data);
    bytes.fill(0, at, at + SLOT_BYTES);
    bytes[at] = 1;
    bytes.writeBigUInt64LE(hash, at + 1);
    bytes.writeBigUInt64LE(hash, at + 10);
    bytes.writeUInt16LE(metadata.flushNumber & 0xffff, at + 18);
    if (only === "slot") return;
    data.copy(bytes, block * layout.blockBytes);
    flipBit(this.#bitmap, 0, block);
  }

  flush(generation: bigint, flushNumber: number): void {
    if (!this.metadata.dirty) return;
    this.#bitmap.copy(this.bytes, this.layout.bitmapAt);
    const metadata = { ...this.metadata, dirty: false, generation, flushNumber };
    encodeMetadata(this.view, this.layout.metadataAt, metadata);
  }

  /** What opening a dirty extent does: finds out which slots are true. */
  recover(): void {
    const { blocks, blockBytes } = this.layout;
    if (!this.metadata.dirty) return;
    for (let block = 0; block < blocks; block++) {
      const hash = this.#xxhash.h64Raw(this.block(block));
      const [a, b] = [0, 1].map((array) => {
        const at = slotOffset(this.layout, array, block);
        if (this.bytes[at] === 0) return SlotFit.empty;
        return this.bytes.readBigUInt64LE(at + 10) === hash ? SlotFit.fits : SlotFit.other;
      }) as [SlotFit, SlotFit];
      const choice = recoverBlock(a, b);
      if (choice === LOST) throw new Error(`block ${block} of ${blockBytes} bytes is lost`);
      setBit(this.#bitmap, 0, block, choice);
    }
  }
  copyFrom(other: FabricatedExtent): void {
    other.bytes.copy(this.bytes);
    other.#bitmap.copy(this.#bitmap);
  }
  block(index: number): Buffer {
    const { blockBytes } = this.layout;
    return this.bytes.subarray(index * blockBytes, (index + 1) * blockBytes);
  }
}

export class FabricatedRegion {
  readonly definition: RegionDefinition;
  readonly extents: readonly FabricatedExtent[];

  constructor(definition: RegionDefinition, api: XXHashAPI) {
    this.definition = definition;
    const layout = extentLayout(definition);
    this.extents = Array.from(
      { length: definition.extentCount },
      () => new FabricatedExtent(layout, api),
    );
  }
  static async of(definition: RegionDefinition): Promise<FabricatedRegion> {
    return new FabricatedRegion(definition, await xxhash());
  }

  write(block: number, data: Buffer, only: "all" | "slot" | "nothing" = "all"): void {
    const { extentSize } = this.definition;
    this.extents[Math.floor(block / extentSize)]!.write(block % extentSize, data, only);
  }
  flush(generation: bigint, flushNumber: number): void {
    for (const extent of this.extents) extent.flush(generation, flushNumber);
  }
  save(directory: string): void {
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, "region.json"), renderRegionConfig(this.definition));
    for (const [number, { bytes }] of this.extents.entries()) {
      const path = join(directory, extentPath(number));
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, bytes);
    }
  }
}

/** Names, kinds, modes, times of change and contents of everything below a directory. */
export function snapshot(directory: string): string[] {
  const found: string[] = [];
  const walk = (path: string): void => {
    const stat = lstatSync(path, { bigint: true });
    const content = stat.isFile()
      ? createHash("sha256").update(readFileSync(path)).digest("hex")
      : "";
    found.push(
      [path, stat.mode, stat.ino, stat.size, stat.mtimeNs, stat.ctimeNs, content].join(" "),
    );
    if (stat.isDirectory()) for (const name of readdirSync(path).sort()) walk(join(path, name));
  };
  walk(directory);
  return found;
}
