import type { Uuid } from "../../src/base/ids.js";
import type { Clock } from "../../src/ports/clock.js";
import type { Random } from "../../src/ports/random.js";
import type { Cancel } from "../../src/ports/stream.js";

/** splitmix32: seeded, portable, and the only source of chance in a simulated run. */
export function prng(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let z = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return ((z ^ (z >>> 15)) >>> 0) / 2 ** 32;
  };
}

type Entry = { at: number; seq: number; run: (() => void) | null };

/** Virtual time: nothing sleeps; events run ordered by time, then by when they were posted. */
export class World implements Clock, Random {
  readonly #chance: () => number;
  readonly #heap: Entry[] = [];
  #nowMs = 0;
  #seq = 0;
  /** Called after each event, between two of the same moment too. */
  onEvent: (() => void) | null = null;

  constructor(seed = 1) {
    this.#chance = prng(seed);
  }

  nowMs(): number {
    return this.#nowMs;
  }
  wallSeconds(): number {
    return 1_700_000_000 + Math.floor(this.#nowMs / 1000);
  }
  chance(): number {
    return this.#chance();
  }
  uuid(): Uuid {
    const hex = Array.from({ length: 32 }, () => Math.floor(this.#chance() * 16).toString(16));
    hex[12] = "4";
    hex[16] = "89ab"[Math.floor(this.#chance() * 4)]!;
    return hex.join("").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5") as Uuid;
  }

  after(delayMs: number, run: () => void): Cancel {
    const entry: Entry = { at: this.#nowMs + Math.max(0, delayMs), seq: this.#seq++, run };
    this.#push(entry);
    return {
      cancel: () => {
        entry.run = null;
      },
    };
  }

  /** Next turn of the loop. */
  post(run: () => void): void {
    this.after(0, run);
  }

  /** Runs everything due within `ms`, and ends exactly that much later. */
  advance(ms: number): void {
    const until = this.#nowMs + ms;
    for (let next = this.#heap[0]; next !== undefined && next.at <= until; next = this.#heap[0]) {
      this.#pop();
      this.#nowMs = next.at;
      if (next.run === null) continue;
      next.run();
      this.onEvent?.();
    }
    this.#nowMs = until;
  }

  /** Everything that needs no waiting. */
  settle(): void {
    this.advance(0);
  }

  #less(a: Entry, b: Entry): boolean {
    return a.at < b.at || (a.at === b.at && a.seq < b.seq);
  }
  #push(entry: Entry): void {
    const heap = this.#heap;
    let i = heap.push(entry) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!this.#less(entry, heap[parent]!)) break;
      heap[i] = heap[parent]!;
      i = parent;
    }
    heap[i] = entry;
  }
  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && this.#less(heap[child + 1]!, heap[child]!)) child += 1;
      if (!this.#less(heap[child]!, last)) break;
      heap[i] = heap[child]!;
      i = child;
    }
    heap[i] = last;
  }
}
