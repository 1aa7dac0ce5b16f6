import { invariant } from "./invariant.js";

/**
 * First-fit allocator of runs of pages with coalescing: the bookkeeping behind every Arena. Pure
 * numbers; it never touches the memory. Runs are kept as an address-ordered list of free gaps, which
 * stays short because payload comes in two sizes, mostly.
 */
export class PageAllocator {
  readonly pageBytes: number;
  readonly #lengths = new Map<number, number>();
  /** Free runs, ascending: start page and page count. */
  #starts: number[];
  #counts: number[];
  #freePages: number;

  constructor(sizeBytes: number, pageBytes = 4096) {
    invariant(sizeBytes % pageBytes === 0, "an arena is a whole number of pages");
    this.pageBytes = pageBytes;
    this.#freePages = sizeBytes / pageBytes;
    this.#starts = [0];
    this.#counts = [this.#freePages];
  }

  get freeBytes(): number {
    return this.#freePages * this.pageBytes;
  }

  alloc(length: number): number {
    invariant(length > 0, "an allocation has a length");
    const pages = Math.ceil(length / this.pageBytes);
    const counts = this.#counts;
    for (let i = 0; i < counts.length; i++) {
      const count = counts[i]!;
      if (count < pages) continue;
      const start = this.#starts[i]!;
      if (count === pages) {
        this.#starts.splice(i, 1);
        counts.splice(i, 1);
      } else {
        this.#starts[i] = start + pages;
        counts[i] = count - pages;
      }
      this.#freePages -= pages;
      this.#lengths.set(start, pages);
      return start * this.pageBytes;
    }
    return -1;
  }

  free(at: number): void {
    const start = at / this.pageBytes;
    const pages = this.#lengths.get(start);
    invariant(pages !== undefined, `arena address ${at} is allocated`);
    this.#lengths.delete(start);
    this.#freePages += pages;
    const starts = this.#starts;
    const counts = this.#counts;
    let low = 0;
    let high = starts.length;
    while (low < high) {
      const mid = (low + high) >>> 1;
      if (starts[mid]! < start) low = mid + 1;
      else high = mid;
    }
    const joinsNext = low < starts.length && starts[low] === start + pages;
    const joinsPrevious = low > 0 && starts[low - 1]! + counts[low - 1]! === start;
    if (joinsPrevious && joinsNext) {
      counts[low - 1] = counts[low - 1]! + pages + counts[low]!;
      starts.splice(low, 1);
      counts.splice(low, 1);
    } else if (joinsPrevious) {
      counts[low - 1] = counts[low - 1]! + pages;
    } else if (joinsNext) {
      starts[low] = start;
      counts[low] = counts[low]! + pages;
    } else {
      starts.splice(low, 0, start);
      counts.splice(low, 0, pages);
    }
  }
}
