import type { IdList } from "./id-list.js";

// Who wrote each block last (wire reference 6.3, "blocking jobs"). The reference keeps ranges with a blocking job and a
// set of readers; here every block has a cell with the id of its last writer, in pages of sixteen blocks found by
// hash. A 4 KiB write touches one cell, nothing is split or joined, and nothing moves however many ranges there are.
//
// A flush or barrier is the last writer of every block. It is not entered anywhere: it becomes the
// `floor`, which stands behind all cells, and the pages are emptied. So no id below the floor is ever
// named again, which is what a downstairs needs: completing a flush makes it forget all older ids.
//
// Readers are not kept here: they go to one replica only, so they are that replica's own (see reads).

const PAGE_SHIFT = 4;
const PAGE_BLOCKS = 1 << PAGE_SHIFT;
const PAGE_MASK = PAGE_BLOCKS - 1;
const NOBODY = -1;

export class WriterMap {
  /** The newest flush or barrier; −1 before the first. */
  floor = NOBODY;
  /** Position in the pages by hash of the page number; −1: free. At most half full. */
  #places = new Int32Array(256).fill(-1);
  #pageNumbers = new Float64Array(128);
  #hashSpots = new Int32Array(128);
  #cells = new Float64Array(128 * PAGE_BLOCKS);
  #used = 0;

  /** A flush or barrier was submitted: from now on everything depends on it. */
  raise(id: number): void {
    for (let page = 0; page < this.#used; page++) this.#places[this.#hashSpots[page]!] = -1;
    this.#used = 0;
    this.floor = id;
  }

  /** Adds the last writers of the range to `to`; the floor stands for blocks not written since. */
  collect(start: number, count: number, to: IdList): void {
    const end = start + count;
    for (let block = start; block < end; ) {
      const pageNumber = Math.floor(block / PAGE_BLOCKS);
      const stop = Math.min(end, (pageNumber + 1) * PAGE_BLOCKS);
      const page = this.#find(pageNumber);
      if (page < 0) {
        if (this.floor >= 0) to.push(this.floor);
      } else {
        const base = page * PAGE_BLOCKS;
        for (let b = block; b < stop; b++) this.#add(this.#cells[base + (b & PAGE_MASK)]!, to);
      }
      block = stop;
    }
  }

  /** The same, and makes `id` the last writer. */
  replace(start: number, count: number, id: number, to: IdList): void {
    const end = start + count;
    for (let block = start; block < end; ) {
      const pageNumber = Math.floor(block / PAGE_BLOCKS);
      const stop = Math.min(end, (pageNumber + 1) * PAGE_BLOCKS);
      const base = this.#findOrAdd(pageNumber) * PAGE_BLOCKS;
      for (let b = block; b < stop; b++) {
        const cell = base + (b & PAGE_MASK);
        this.#add(this.#cells[cell]!, to);
        this.#cells[cell] = id;
      }
      block = stop;
    }
  }

  #add(writer: number, to: IdList): void {
    if (writer >= 0) to.push(writer);
    else if (this.floor >= 0) to.push(this.floor);
  }

  #spot(pageNumber: number): number {
    const mask = this.#places.length - 1;
    let spot = Math.imul(pageNumber, 0x9e3779b1) >>> 8;
    for (;;) {
      spot &= mask;
      const page = this.#places[spot]!;
      if (page < 0 || this.#pageNumbers[page] === pageNumber) return spot;
      spot += 1;
    }
  }
  #find(pageNumber: number): number {
    return this.#used === 0 ? -1 : this.#places[this.#spot(pageNumber)]!;
  }
  #findOrAdd(pageNumber: number): number {
    let spot = this.#spot(pageNumber);
    const found = this.#places[spot]!;
    if (found >= 0) return found;
    if (this.#used === this.#pageNumbers.length) {
      this.#grow();
      spot = this.#spot(pageNumber);
    }
    const page = this.#used++;
    this.#places[spot] = page;
    this.#hashSpots[page] = spot;
    this.#pageNumbers[page] = pageNumber;
    this.#cells.fill(NOBODY, page * PAGE_BLOCKS, (page + 1) * PAGE_BLOCKS);
    return page;
  }
  #grow(): void {
    const pages = this.#pageNumbers.length * 2;
    const numbers = new Float64Array(pages);
    numbers.set(this.#pageNumbers);
    this.#pageNumbers = numbers;
    const cells = new Float64Array(pages * PAGE_BLOCKS);
    cells.set(this.#cells);
    this.#cells = cells;
    this.#hashSpots = new Int32Array(pages);
    this.#places = new Int32Array(pages * 2).fill(-1);
    for (let page = 0; page < this.#used; page++) {
      const spot = this.#spot(numbers[page]!);
      this.#places[spot] = page;
      this.#hashSpots[page] = spot;
    }
  }
}
