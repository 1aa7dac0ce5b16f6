import type { Arena } from "../../ports/arena.js";

// Writes that were acknowledged and are not in their files yet. Owns their arena memory; never does I/O.
//
//   frame    the arena allocation of one Write message; freed when no block of it is the newest of its layer
//   record   a run of blocks of one frame, in one extent, with contexts of one kind
//   layer    the newest record of each block that was written to an extent in one period
//
// An extent has a chain of layers, newest first. The first one takes writes until it is sealed (a flush or a
// commit begins); a sealed layer never changes, is written out oldest first, and then released.

const NONE = -1;
/** Blocks per page of a layer's table. */
const PAGE_SHIFT = 6;
const PAGE_BLOCKS = 1 << PAGE_SHIFT;
const PAGE_MASK = PAGE_BLOCKS - 1;
const ARENA_PAGE = 4096;
const LAYERS_KEPT = 256;

export class Layer {
  extent = 0;
  /** Ascending over all layers. */
  serial = 0;
  sealed = false;
  /** Blocks held. */
  blocks = 0;
  /** Estimate of the memory that its release gives back. */
  bytes = 0;
  older: Layer | null = null;
  /** Per 64 blocks: a page of record numbers, or NONE. */
  readonly table: Int32Array;
  constructor(blocks: number) {
    this.table = new Int32Array(Math.ceil(blocks / PAGE_BLOCKS)).fill(NONE);
  }
}

export class Held {
  readonly #arena: Arena;
  readonly #blocks: number;
  readonly #blockBytes: number;
  readonly #newest: (Layer | undefined)[];
  readonly #spare: Layer[] = [];
  #serial = 0;
  #bytes = 0;

  #pages = new Int32Array(64 * PAGE_BLOCKS).fill(NONE);
  #freePages: number[] = [];
  #pageCount = 0;

  /** Records. */
  dataAt = new Float64Array(256);
  contextAt = new Float64Array(256);
  encrypted = new Uint8Array(256);
  first = new Int32Array(256);
  #frame = new Int32Array(256);
  #live = new Int32Array(256);
  #freeRecords: number[] = [];
  #recordCount = 0;

  #frameAt = new Float64Array(256);
  #frameBytes = new Float64Array(256);
  #frameRefs = new Int32Array(256);
  #freeFrames: number[] = [];
  #frameCount = 0;
  /** Memory to give back once everything here is consistent: freeing may call back into the store. */
  #doomed: number[] = [];

  constructor(arena: Arena, extents: number, blocks: number, blockBytes: number) {
    this.#arena = arena;
    this.#blocks = blocks;
    this.#blockBytes = blockBytes;
    this.#newest = new Array(extents);
  }

  /** Arena memory that is held, in whole pages. */
  get bytes(): number {
    return this.#bytes;
  }

  // Taking writes

  /** Announces a frame; its records follow, then `endFrame`. */
  beginFrame(at: number, length: number): number {
    const frame = this.#freeFrames.pop() ?? this.#frameCount++;
    if (frame >= this.#frameAt.length) {
      this.#frameAt = grown(this.#frameAt, new Float64Array(2 * frame));
      this.#frameBytes = grown(this.#frameBytes, new Float64Array(2 * frame));
      this.#frameRefs = grown(this.#frameRefs, new Int32Array(2 * frame));
    }
    const bytes = Math.ceil(length / ARENA_PAGE) * ARENA_PAGE;
    this.#frameAt[frame] = at;
    this.#frameBytes[frame] = bytes;
    this.#frameRefs[frame] = 1;
    this.#bytes += bytes;
    return frame;
  }
  endFrame(frame: number): void {
    this.#unref(frame);
    this.#sweep();
  }

  /** Blocks [first, first+count) of an extent; contexts 9 or 37 bytes apart. Nothing is called back. */
  hold(
    extent: number,
    first: number,
    count: number,
    frame: number,
    dataAt: number,
    contextAt: number,
    encrypted: boolean,
  ): void {
    let layer = this.#newest[extent];
    if (layer === undefined || layer.sealed) layer = this.#addLayer(extent, layer ?? null);
    const record = this.#freeRecords.pop() ?? this.#recordCount++;
    if (record >= this.dataAt.length) this.#growRecords(2 * record);
    this.dataAt[record] = dataAt;
    this.contextAt[record] = contextAt;
    this.encrypted[record] = encrypted ? 1 : 0;
    this.first[record] = first;
    this.#frame[record] = frame;
    this.#live[record] = count;
    this.#frameRefs[frame]! += 1;
    layer.bytes += Math.max(count * this.#blockBytes, ARENA_PAGE);
    const { table } = layer;
    const end = first + count;
    for (let block = first; block < end; ) {
      let page = table[block >>> PAGE_SHIFT]!;
      if (page === NONE) {
        page = this.#takePage();
        table[block >>> PAGE_SHIFT] = page;
      }
      const base = page << PAGE_SHIFT;
      const pages = this.#pages;
      const stop = Math.min(end, (block | PAGE_MASK) + 1);
      for (; block < stop; block++) {
        const slot = base + (block & PAGE_MASK);
        const old = pages[slot]!;
        pages[slot] = record;
        if (old === NONE) layer.blocks += 1;
        else this.#drop(old);
      }
    }
  }

  // Looking up

  /** The newest layer of an extent, undefined when nothing of it is held. */
  newest(extent: number): Layer | undefined {
    return this.#newest[extent];
  }
  oldest(extent: number): Layer | undefined {
    let layer = this.#newest[extent];
    while (layer?.older != null) layer = layer.older;
    return layer;
  }
  /** Record with the newest data of a block, −1 when the file has it. */
  find(extent: number, block: number): number {
    for (
      let layer: Layer | null | undefined = this.#newest[extent];
      layer != null;
      layer = layer.older
    ) {
      const record = this.at(layer, block);
      if (record !== NONE) return record;
    }
    return NONE;
  }
  at(layer: Layer, block: number): number {
    const page = layer.table[block >>> PAGE_SHIFT]!;
    return page === NONE ? NONE : this.#pages[(page << PAGE_SHIFT) + (block & PAGE_MASK)]!;
  }
  /** First block ≥ `block` that the layer holds; the number of blocks per extent when there is none. */
  next(layer: Layer, block: number): number {
    const { table } = layer;
    while (block < this.#blocks) {
      const page = table[block >>> PAGE_SHIFT]!;
      if (page === NONE) {
        block = (block | PAGE_MASK) + 1;
        continue;
      }
      if (this.#pages[(page << PAGE_SHIFT) + (block & PAGE_MASK)] !== NONE) return block;
      block += 1;
    }
    return this.#blocks;
  }
  dataOf(record: number, block: number): number {
    return this.dataAt[record]! + (block - this.first[record]!) * this.#blockBytes;
  }
  contextOf(record: number, block: number): number {
    const stride = this.encrypted[record] === 1 ? 37 : 9;
    return this.contextAt[record]! + (block - this.first[record]!) * stride;
  }

  // Writing out

  /** No further write goes to the newest layer. Its serial number; −1 when nothing is held. */
  seal(extent: number): number {
    const layer = this.#newest[extent];
    if (layer === undefined) return -1;
    layer.sealed = true;
    return layer.serial;
  }
  /** The oldest layer is in its file, durably, or is given up: its memory goes. May call back through the arena, last. */
  release(layer: Layer): void {
    const newest = this.#newest[layer.extent]!;
    if (newest === layer) this.#newest[layer.extent] = undefined;
    else {
      let above = newest;
      while (above.older !== layer) above = above.older!;
      above.older = null;
    }
    const { table } = layer;
    for (let i = 0; i < table.length; i++) {
      const page = table[i]!;
      if (page === NONE) continue;
      const base = page << PAGE_SHIFT;
      for (let slot = base; slot < base + PAGE_BLOCKS; slot++) {
        const record = this.#pages[slot]!;
        if (record === NONE) continue;
        this.#pages[slot] = NONE;
        this.#drop(record);
      }
      table[i] = NONE;
      this.#freePages.push(page);
    }
    if (this.#spare.length < LAYERS_KEPT) this.#spare.push(layer);
    this.#sweep();
  }

  #addLayer(extent: number, older: Layer | null): Layer {
    const layer = this.#spare.pop() ?? new Layer(this.#blocks);
    layer.extent = extent;
    layer.serial = ++this.#serial;
    layer.sealed = false;
    layer.blocks = 0;
    layer.bytes = 0;
    layer.older = older;
    this.#newest[extent] = layer;
    return layer;
  }
  #takePage(): number {
    const page = this.#freePages.pop() ?? this.#pageCount++;
    const end = (page + 1) << PAGE_SHIFT;
    if (end > this.#pages.length)
      this.#pages = grown(this.#pages, new Int32Array(2 * this.#pages.length).fill(NONE));
    return page;
  }
  #drop(record: number): void {
    const live = this.#live[record]! - 1;
    this.#live[record] = live;
    if (live > 0) return;
    this.#freeRecords.push(record);
    this.#unref(this.#frame[record]!);
  }
  #unref(frame: number): void {
    const refs = this.#frameRefs[frame]! - 1;
    this.#frameRefs[frame] = refs;
    if (refs > 0) return;
    this.#freeFrames.push(frame);
    this.#bytes -= this.#frameBytes[frame]!;
    this.#doomed.push(this.#frameAt[frame]!);
  }
  #sweep(): void {
    for (let at = this.#doomed.pop(); at !== undefined; at = this.#doomed.pop())
      this.#arena.free(at);
  }
  #growRecords(length: number): void {
    this.dataAt = grown(this.dataAt, new Float64Array(length));
    this.contextAt = grown(this.contextAt, new Float64Array(length));
    this.encrypted = grown(this.encrypted, new Uint8Array(length));
    this.first = grown(this.first, new Int32Array(length));
    this.#frame = grown(this.#frame, new Int32Array(length));
    this.#live = grown(this.#live, new Int32Array(length));
  }
}

function grown<T extends Float64Array | Int32Array | Uint8Array>(from: T, to: T): T {
  to.set(from);
  return to;
}
