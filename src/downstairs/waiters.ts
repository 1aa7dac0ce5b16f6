import { DEPENDENCIES_WAITING_MAX } from "../base/limits.js";

/**
 * Which jobs wait for which ids, in order of arrival: the reverse of the dependency lists, so that a
 * completed job finds those that it releases without looking at any other. A job may wait for an id
 * that has not arrived yet, and for the same id twice.
 */
export class Waiters {
  #shift = 32 - 8;
  #mask = 255;
  #count = 0;
  #ids = new Float64Array(256);
  /** First and last edge of the id's list; head −1: the entry is free. */
  #heads = new Int32Array(256).fill(-1);
  #tails = new Int32Array(256);
  #edgeJob = new Int32Array(1024);
  #edgeNext = new Int32Array(1024);
  #edgesUsed = 0;
  #freeEdge = -1;
  #edges = 0;

  /** Edges held: unmet dependencies of all jobs. */
  get edges(): number {
    return this.#edges;
  }

  /** False when there are too many. */
  add(id: number, job: number): boolean {
    if (this.#edges >= DEPENDENCIES_WAITING_MAX) return false;
    const edge = this.#newEdge();
    this.#edgeJob[edge] = job;
    this.#edgeNext[edge] = -1;
    this.#edges += 1;
    const at = this.#find(id);
    if (this.#heads[at] === -1) {
      this.#ids[at] = id;
      this.#heads[at] = edge;
      this.#tails[at] = edge;
      this.#count += 1;
      if (this.#count * 2 > this.#mask) this.#grow();
    } else {
      this.#edgeNext[this.#tails[at]!] = edge;
      this.#tails[at] = edge;
    }
    return true;
  }

  /** Removes the list of `id` and returns its first edge; −1 when nobody waits. Walk it with `job` and `next`. */
  take(id: number): number {
    if (this.#count === 0) return -1;
    const at = this.#find(id);
    const head = this.#heads[at]!;
    if (head !== -1) this.#remove(at);
    return head;
  }
  job(edge: number): number {
    return this.#edgeJob[edge]!;
  }
  /** The edge after this one; frees this one. */
  next(edge: number): number {
    const next = this.#edgeNext[edge]!;
    this.#edgeNext[edge] = this.#freeEdge;
    this.#freeEdge = edge;
    this.#edges -= 1;
    return next;
  }

  #newEdge(): number {
    const free = this.#freeEdge;
    if (free !== -1) {
      this.#freeEdge = this.#edgeNext[free]!;
      return free;
    }
    if (this.#edgesUsed === this.#edgeJob.length) {
      this.#edgeJob = doubled(this.#edgeJob);
      this.#edgeNext = doubled(this.#edgeNext);
    }
    return this.#edgesUsed++;
  }

  #home(id: number): number {
    return Math.imul(id ^ (id / 0x1_0000_0000), 0x9e3779b1) >>> this.#shift;
  }
  #find(id: number): number {
    let at = this.#home(id);
    while (this.#heads[at] !== -1 && this.#ids[at] !== id) at = (at + 1) & this.#mask;
    return at;
  }

  /** Closes the gap, so that probing never crosses a free entry that was not free before. */
  #remove(at: number): void {
    const mask = this.#mask;
    this.#count -= 1;
    let gap = at;
    for (let i = (gap + 1) & mask; this.#heads[i] !== -1; i = (i + 1) & mask) {
      const home = this.#home(this.#ids[i]!);
      if (((i - home) & mask) < ((i - gap) & mask)) continue;
      this.#ids[gap] = this.#ids[i]!;
      this.#heads[gap] = this.#heads[i]!;
      this.#tails[gap] = this.#tails[i]!;
      gap = i;
    }
    this.#heads[gap] = -1;
  }

  #grow(): void {
    const ids = this.#ids;
    const heads = this.#heads;
    const tails = this.#tails;
    this.#shift -= 1;
    this.#mask = this.#mask * 2 + 1;
    const size = this.#mask + 1;
    this.#ids = new Float64Array(size);
    this.#heads = new Int32Array(size).fill(-1);
    this.#tails = new Int32Array(size);
    for (let i = 0; i < ids.length; i++) {
      if (heads[i] === -1) continue;
      const at = this.#find(ids[i]!);
      this.#ids[at] = ids[i]!;
      this.#heads[at] = heads[i]!;
      this.#tails[at] = tails[i]!;
    }
  }
}

function doubled(array: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> {
  const next = new Int32Array(array.length * 2);
  next.set(array);
  return next;
}
