import { wider } from "../base/wider.js";
import type { DeviceClient } from "../ports/device.js";

export const Kind = { read: 0, write: 1, zeroes: 2, trim: 3 } as const;
export type Kind = (typeof Kind)[keyof typeof Kind];

/** Operations of an unaligned device that cannot go straight through: parallel arrays that grow by doubling. */
export class OperationTable {
  kind = new Uint8Array(0);
  flags = new Uint8Array(0);
  tag = new Float64Array(0);
  offset = new Float64Array(0);
  length = new Float64Array(0);
  client: (DeviceClient | undefined)[] = [];
  /** One for the operation itself, one while it is in the range queue. */
  references = new Uint8Array(0);
  /** Block buffers: of a write the whole widened payload (head only), of a zeroing its first and last block. */
  headAt = new Float64Array(0);
  tailAt = new Float64Array(0);
  /** Parts whose outcome is to come. */
  outstanding = new Uint8Array(0);
  /** Zeroing: edges not submitted yet. */
  edges = new Uint8Array(0);
  /** Zeroing: bits of parts that are being written. */
  writing = new Uint8Array(0);
  /** First failure. */
  status = new Uint8Array(0);
  #next = new Int32Array(0);
  #free = -1;
  #used = 0;

  get size(): number {
    return this.kind.length;
  }
  get used(): number {
    return this.#used;
  }
  get isFull(): boolean {
    return this.#free < 0;
  }

  take(): number {
    const slot = this.#free;
    this.#free = this.#next[slot]!;
    this.#used += 1;
    this.references[slot] = 1;
    this.outstanding[slot] = 0;
    this.writing[slot] = 0;
    this.status[slot] = 0;
    return slot;
  }
  /** The slot is free when nothing refers to it. */
  unrefer(slot: number): void {
    const references = this.references[slot]! - 1;
    this.references[slot] = references;
    if (references > 0) return;
    this.client[slot] = undefined;
    this.#next[slot] = this.#free;
    this.#free = slot;
    this.#used -= 1;
  }

  grow(): void {
    const before = this.size;
    const after = Math.max(64, 2 * before);
    this.kind = wider(this.kind, new Uint8Array(after));
    this.flags = wider(this.flags, new Uint8Array(after));
    this.references = wider(this.references, new Uint8Array(after));
    this.outstanding = wider(this.outstanding, new Uint8Array(after));
    this.edges = wider(this.edges, new Uint8Array(after));
    this.writing = wider(this.writing, new Uint8Array(after));
    this.status = wider(this.status, new Uint8Array(after));
    this.tag = wider(this.tag, new Float64Array(after));
    this.offset = wider(this.offset, new Float64Array(after));
    this.length = wider(this.length, new Float64Array(after));
    this.headAt = wider(this.headAt, new Float64Array(after));
    this.tailAt = wider(this.tailAt, new Float64Array(after));
    const next = new Int32Array(after);
    next.set(this.#next);
    this.#next = next;
    for (let slot = after - 1; slot >= before; slot--) {
      this.#next[slot] = this.#free;
      this.#free = slot;
      this.client[slot] = undefined;
    }
  }
}
