import { invariant } from "./invariant.js";

/** Free runs of 1 to 7 pages have a class each; above, each power of two has four classes. */
const EXACT = 8;
const CLASSES = EXACT + 4 * 28;
/** Entries of the class that fits only roughly are tried before a larger class is cut. */
const TRIES = 8;
const NONE = -1;

function classOf(pages: number): number {
  if (pages < EXACT) return pages;
  const log = 31 - Math.clz32(pages);
  return EXACT + 4 * (log - 3) + ((pages >>> (log - 2)) & 3);
}

/**
 * Allocator of runs of pages: the bookkeeping behind every Arena. Pure numbers; it never touches the memory.
 *
 * Free runs stand in lists by size class and are joined with free neighbours at once, which their first
 * and last page tell about. Both calls take constant time in practice, however many runs there are, and
 * the run freed last is used first: its memory is still in the processor's cache.
 */
export class PageAllocator {
  readonly pageBytes: number;
  readonly #pages: number;
  #freePages: number;
  /** By first page: length of an allocated run; minus the length of a free one. By any other page: 0. */
  readonly #run: Int32Array;
  /** By last page: length of the free run that ends there; otherwise 0. */
  readonly #tail: Int32Array;
  /** Lists of free runs, by first page. */
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  readonly #heads = new Int32Array(CLASSES).fill(NONE);
  /** Bit per class: its list is not empty. */
  readonly #filled = new Int32Array(Math.ceil(CLASSES / 32));

  constructor(sizeBytes: number, pageBytes = 4096) {
    invariant(sizeBytes % pageBytes === 0, "an arena is a whole number of pages");
    this.pageBytes = pageBytes;
    this.#pages = sizeBytes / pageBytes;
    invariant(this.#pages > 0 && this.#pages < 2 ** 30, "an arena has 1 to 2^30 pages");
    this.#freePages = this.#pages;
    this.#run = new Int32Array(this.#pages);
    this.#tail = new Int32Array(this.#pages);
    this.#next = new Int32Array(this.#pages);
    this.#previous = new Int32Array(this.#pages);
    this.#insert(0, this.#pages);
  }

  get freeBytes(): number {
    return this.#freePages * this.pageBytes;
  }

  alloc(length: number): number {
    invariant(length > 0, "an allocation has a length");
    const pages = Math.ceil(length / this.pageBytes);
    if (pages > this.#freePages) return NONE;
    const start = this.#find(pages);
    if (start === NONE) return NONE;
    const found = -this.#run[start]!;
    this.#remove(start, found);
    if (found > pages) this.#insert(start + pages, found - pages);
    this.#run[start] = pages;
    this.#freePages -= pages;
    return start * this.pageBytes;
  }

  /**
   * Takes exactly the pages of [at, at + length). False: `at` is inside a page, or some of them are taken or outside. Asked
   * for in ascending order of addresses, all calls together walk over the pages once.
   */
  reserve(at: number, length: number): boolean {
    invariant(length > 0, "an allocation has a length");
    const first = at / this.pageBytes;
    const pages = Math.ceil(length / this.pageBytes);
    if (!Number.isInteger(first) || first < 0 || first + pages > this.#pages) return false;
    let start = first;
    while (this.#run[start] === 0) start -= 1;
    const free = -this.#run[start]!;
    if (start + free < first + pages) return false;
    this.#remove(start, free);
    if (first > start) this.#insert(start, first - start);
    const after = start + free - first - pages;
    if (after > 0) this.#insert(first + pages, after);
    this.#run[first] = pages;
    this.#freePages -= pages;
    return true;
  }

  free(at: number): void {
    let start = at / this.pageBytes;
    let pages = this.#run[start] ?? 0;
    invariant(pages > 0, `arena address ${at} is allocated`);
    this.#freePages += pages;
    this.#run[start] = 0;
    const after = start + pages;
    const next = after < this.#pages ? -this.#run[after]! : 0;
    if (next > 0) {
      this.#remove(after, next);
      pages += next;
    }
    const before = start > 0 ? this.#tail[start - 1]! : 0;
    if (before > 0) {
      start -= before;
      this.#remove(start, before);
      pages += before;
    }
    this.#insert(start, pages);
  }

  /** First page of a free run of at least `pages`; NONE when there is none. */
  #find(pages: number): number {
    const rough = classOf(pages);
    let run = this.#heads[rough]!;
    for (let i = 0; run !== NONE && i < TRIES; i++) {
      if (-this.#run[run]! >= pages) return run;
      run = this.#next[run]!;
    }
    const larger = this.#filledFrom(rough + 1);
    if (larger !== NONE) return this.#heads[larger]!;
    while (run !== NONE && -this.#run[run]! < pages) run = this.#next[run]!;
    return run;
  }
  #filledFrom(first: number): number {
    const filled = this.#filled;
    let word = first >>> 5;
    let bits = word < filled.length ? filled[word]! & (-1 << (first & 31)) : 0;
    while (bits === 0) {
      word += 1;
      if (word >= filled.length) return NONE;
      bits = filled[word]!;
    }
    return 32 * word + 31 - Math.clz32(bits & -bits);
  }

  #insert(start: number, pages: number): void {
    const list = classOf(pages);
    const head = this.#heads[list]!;
    this.#run[start] = -pages;
    this.#tail[start + pages - 1] = pages;
    this.#next[start] = head;
    this.#previous[start] = NONE;
    if (head !== NONE) this.#previous[head] = start;
    this.#heads[list] = start;
    this.#filled[list >>> 5]! |= 1 << (list & 31);
  }
  #remove(start: number, pages: number): void {
    const list = classOf(pages);
    const next = this.#next[start]!;
    const previous = this.#previous[start]!;
    if (next !== NONE) this.#previous[next] = previous;
    if (previous !== NONE) this.#next[previous] = next;
    else {
      this.#heads[list] = next;
      if (next === NONE) this.#filled[list >>> 5]! &= ~(1 << (list & 31));
    }
    this.#run[start] = 0;
    this.#tail[start + pages - 1] = 0;
  }
}
