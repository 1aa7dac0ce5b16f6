import { METADATA_BYTES } from "./layout.js";

/** Extent format that we read and write. */
export const EXTENT_VERSION = 2;

/** The last 32 bytes of an extent file. */
export interface ExtentMetadata {
  readonly dirty: boolean;
  readonly generation: bigint;
  /** At most 2^53; larger ones are refused when decoded. */
  readonly flushNumber: number;
  /** Two counters of the original, kept as they are; u32. */
  readonly bonusSyncs: number;
  readonly defragmentations: number;
}

export const FRESH_METADATA: ExtentMetadata = {
  dirty: false,
  generation: 0n,
  flushNumber: 0,
  bonusSyncs: 0,
  defragmentations: 0,
};

export function encodeMetadata(view: DataView, at: number, metadata: ExtentMetadata): void {
  view.setUint8(at, metadata.dirty ? 1 : 0);
  view.setBigUint64(at + 1, metadata.generation, true);
  view.setBigUint64(at + 9, BigInt(metadata.flushNumber), true);
  view.setUint32(at + 17, EXTENT_VERSION, true);
  view.setUint32(at + 21, metadata.bonusSyncs, true);
  view.setUint32(at + 25, metadata.defragmentations, true);
  view.setUint16(at + 29, 0, true);
  view.setUint8(at + 31, 0);
}

/** The record, or what is wrong with it in words. */
export function decodeMetadata(view: DataView, at: number): ExtentMetadata | string {
  const version = view.getUint32(at + 17, true);
  if (version !== EXTENT_VERSION)
    return `extent format version is ${version}, expected ${EXTENT_VERSION}`;
  const dirty = view.getUint8(at);
  if (dirty > 1) return `dirty byte is ${dirty}, expected 0 or 1`;
  const flushNumber = view.getBigUint64(at + 9, true);
  if (flushNumber > BigInt(Number.MAX_SAFE_INTEGER))
    return `flush number is ${flushNumber}, expected less than 2^53`;
  return {
    dirty: dirty === 1,
    generation: view.getBigUint64(at + 1, true),
    flushNumber: Number(flushNumber),
    bonusSyncs: view.getUint32(at + 21, true),
    defragmentations: view.getUint32(at + 25, true),
  };
}

/** The end of a new extent file, bitmap and metadata; everything before it is a hole. */
export function freshTail(bitmapBytes: number): Uint8Array {
  const tail = new Uint8Array(bitmapBytes + METADATA_BYTES);
  encodeMetadata(new DataView(tail.buffer), bitmapBytes, FRESH_METADATA);
  return tail;
}
