import { COMPLETED_JOBS_MAX } from "../base/limits.js";

/**
 * The ids that jobs of one connection may depend on: exact membership, nothing is implied by order
 * (downstairs reference 5.6). A completed Flush or Barrier replaces the whole set by its own id, which
 * costs nothing here: entries carry the epoch they were added in. Open addressing; ids come nearly in
 * sequence, so the multiplicative hash spreads them without collisions.
 */
export class CompletedJobs {
  #shift = 32 - 8;
  #mask = 255;
  #ids = new Float64Array(256);
  #epochs = new Uint32Array(256);
  #epoch = 1;
  #count = 0;

  get count(): number {
    return this.#count;
  }

  has(id: number): boolean {
    return this.#epochs[this.#find(id)] === this.#epoch;
  }

  /** False when the set is full: the peer completes jobs for ever without a flush or barrier. */
  add(id: number): boolean {
    const at = this.#find(id);
    if (this.#epochs[at] === this.#epoch) return true;
    if (this.#count >= COMPLETED_JOBS_MAX) return false;
    this.#ids[at] = id;
    this.#epochs[at] = this.#epoch;
    this.#count += 1;
    if (this.#count * 2 > this.#mask) this.#grow();
    return true;
  }

  /** Forgets everything but `id`. */
  replaceBy(id: number): void {
    this.clear();
    this.add(id);
  }

  clear(): void {
    this.#count = 0;
    this.#epoch = (this.#epoch + 1) >>> 0;
    if (this.#epoch !== 0) return;
    // 2^32 flushes later an old stamp could look like a new one.
    this.#epochs.fill(0);
    this.#epoch = 1;
  }

  #find(id: number): number {
    const mask = this.#mask;
    let at = Math.imul(id ^ (id / 0x1_0000_0000), 0x9e3779b1) >>> this.#shift;
    while (this.#epochs[at] === this.#epoch && this.#ids[at] !== id) at = (at + 1) & mask;
    return at;
  }

  #grow(): void {
    const ids = this.#ids;
    const epochs = this.#epochs;
    const epoch = this.#epoch;
    this.#shift -= 1;
    this.#mask = this.#mask * 2 + 1;
    this.#ids = new Float64Array(this.#mask + 1);
    this.#epochs = new Uint32Array(this.#mask + 1);
    for (let i = 0; i < ids.length; i++) {
      if (epochs[i] !== epoch) continue;
      const at = this.#find(ids[i]!);
      this.#ids[at] = ids[i]!;
      this.#epochs[at] = epoch;
    }
  }
}
