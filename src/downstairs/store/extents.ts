import { Fault } from "../../base/fault.js";
import type { RegionDefinition } from "../../crucible/region-definition.js";
import { bitAt, flipBit } from "../../region/bitmap.js";
import { type ExtentLayout, extentLayout, extentPath } from "../../region/layout.js";
import type { ExtentMetadata } from "../../region/metadata.js";

const ENOSPC = -28;
const EDQUOT = -122;
const WORDS: Readonly<Record<number, string>> = {
  [-5]: "input/output error",
  [-27]: "file too large",
  [ENOSPC]: "no space left on the device",
  [-30]: "read-only file system",
  [EDQUOT]: "disk quota exceeded",
};

/**
 * What is known of every extent of a region. Owns the numbers and the active-slot bits; never does I/O.
 *
 *   closed ── reopened ──▶ open ── close asked ──▶ closing ── written out, file closed ──▶ closed
 *     │ ▲                    ▲                        │
 *     ▼ │                    └──── could not write ───┘
 *   changing: being reopened or replaced
 */
export const ExtentState = {
  closed: 0,
  open: 1,
  closing: 2,
  /** Closed, and being opened or replaced. */
  changing: 3,
} as const;

export class Extents {
  readonly region: RegionDefinition;
  readonly directory: string;
  readonly layout: ExtentLayout;
  readonly count: number;
  readonly states: Uint8Array;
  /** Descriptors; −1 when closed. */
  readonly files: Int32Array;
  readonly generations: BigUint64Array;
  readonly flushNumbers: Float64Array;
  readonly bonusSyncs: Uint32Array;
  readonly defragmentations: Uint32Array;
  /** Extents that are dirty in memory: what a flush has to look at. Kept for closed extents too. */
  readonly dirty = new Set<number>();
  /** 1: that the dirty byte on disk is 1 is certain, also after a power cut (invariant I1). */
  readonly marked: Uint8Array;
  /** Operations that use the file now. */
  readonly users: Int32Array;
  /** Who waits for `users` to become 0. */
  readonly #idle = new Map<number, () => void>();
  /** Active-slot bits; absent while all are 0 (array A). */
  readonly #active: (Uint8Array | undefined)[];

  constructor(region: RegionDefinition, directory: string) {
    const count = region.extentCount;
    this.region = region;
    this.directory = directory;
    this.layout = extentLayout(region);
    this.count = count;
    this.states = new Uint8Array(count);
    this.files = new Int32Array(count).fill(-1);
    this.generations = new BigUint64Array(count);
    this.flushNumbers = new Float64Array(count);
    this.bonusSyncs = new Uint32Array(count);
    this.defragmentations = new Uint32Array(count);
    this.marked = new Uint8Array(count);
    this.users = new Int32Array(count);
    this.#active = new Array(count);
  }

  path(extent: number): string {
    return `${this.directory}/${extentPath(extent)}`;
  }

  /** An extent was opened and found to be this. `bitmap` is taken over. */
  opened(extent: number, file: number, metadata: ExtentMetadata, bitmap: Uint8Array): void {
    this.files[extent] = file;
    this.generations[extent] = metadata.generation;
    this.flushNumbers[extent] = metadata.flushNumber;
    this.bonusSyncs[extent] = metadata.bonusSyncs;
    this.defragmentations[extent] = metadata.defragmentations;
    if (metadata.dirty) this.dirty.add(extent);
    else this.dirty.delete(extent);
    this.marked[extent] = metadata.dirty ? 1 : 0;
    this.#active[extent] = bitmap.every((byte) => byte === 0) ? undefined : bitmap;
    this.states[extent] = ExtentState.open;
  }

  active(extent: number, block: number): 0 | 1 {
    const bits = this.#active[extent];
    return bits === undefined ? 0 : bitAt(bits, 0, block);
  }
  flip(extent: number, block: number): void {
    let bits = this.#active[extent];
    if (bits === undefined) {
      bits = new Uint8Array(this.layout.bitmapBytes);
      this.#active[extent] = bits;
    }
    flipBit(bits, 0, block);
  }
  copyBitmap(extent: number, bytes: Uint8Array, at: number): void {
    const bits = this.#active[extent];
    if (bits === undefined) bytes.fill(0, at, at + this.layout.bitmapBytes);
    else bytes.set(bits, at);
  }

  /** Why these blocks cannot be worked on; null: they can. */
  problem(start: number, count: number): Fault | null {
    const { blocks } = this.layout;
    const end = start + count;
    if (count < 0 || start < 0 || end > blocks * this.count)
      return new Fault(
        "TRIVET_E_RANGE",
        `blocks ${start} to ${end - 1} of a region of ${blocks * this.count}`,
      );
    for (let extent = Math.floor(start / blocks); extent * blocks < end; extent++)
      if (this.states[extent] !== ExtentState.open) return this.closedFault(extent);
    return null;
  }
  /** Why this extent cannot be named; null: it can. */
  unknown(extent: number): Fault | null {
    return extent >= 0 && extent < this.count
      ? null
      : new Fault("TRIVET_E_RANGE", `extent ${extent} of a region of ${this.count}`);
  }
  closedFault(extent: number): Fault {
    return new Fault("TRIVET_E_EXTENT_CLOSED", `extent ${extent} of ${this.directory} is closed`);
  }
  /** `errno`: −errno of a call, or a short count. */
  ioFault(extent: number, what: string, errno: number): Fault {
    const why = errno < 0 ? (WORDS[errno] ?? `error ${-errno}`) : "it ends too early";
    const code = errno === ENOSPC || errno === EDQUOT ? "TRIVET_E_NO_SPACE" : "TRIVET_E_IO";
    return new Fault(code, `${this.path(extent)}: ${what}: ${why}`, { errno: Math.min(0, errno) });
  }

  use(extent: number): void {
    this.users[extent]! += 1;
  }
  unuse(extent: number): void {
    this.users[extent]! -= 1;
    if (this.users[extent] !== 0 || this.#idle.size === 0) return;
    const then = this.#idle.get(extent);
    this.#idle.delete(extent);
    then?.();
  }
  /** Calls `then` when nothing uses the file, perhaps at once. One waits at a time. */
  whenIdle(extent: number, then: () => void): void {
    if (this.users[extent] === 0) then();
    else this.#idle.set(extent, then);
  }
}
