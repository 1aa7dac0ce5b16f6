import { PIECE_BYTES_MAX } from "../base/limits.js";
import { READ_CONTEXT_BYTES, READ_EMPTY } from "../crucible/layout.js";
import { ReadResponseFrame } from "../crucible/replies.js";
import { firstBadBlock, Wrong, wrongAt } from "./check-blocks.js";
import type { Core } from "./core.js";
import { Copy, judgeCopies } from "./heal-judge.js";
import { NONE } from "./job-table.js";

// What three replicas answered for one range, side by side. Looks into the answers and judges; asks nobody and writes nothing. The
// buffers belong to the reads whose slots are in `holds`.

/** What a replica has to do with a range. */
export const Asked = { no: 0, yes: 1, unreadable: 2 } as const;

export class Copies {
  readonly #core: Core;
  readonly #views = [new ReadResponseFrame(), new ReadResponseFrame(), new ReadResponseFrame()];
  /** Where each block's context lies, by replica. */
  #contexts: readonly Int32Array[] = [];
  readonly #copies = new Uint8Array(3);
  readonly #same = (a: number, b: number): boolean => this.#isSame(a, b, this.#at);
  #at = 0;
  #blocks = 0;
  /** Slot of the read that was answered, by replica; −1: none. */
  readonly holds = [NONE, NONE, NONE];
  /** One of Asked, by replica. */
  readonly asked = new Uint8Array(3);

  constructor(core: Core) {
    this.#core = core;
  }

  begin(blocks: number): void {
    const max = PIECE_BYTES_MAX / this.#core.blockBytes;
    if (this.#contexts.length === 0) this.#contexts = [0, 1, 2].map(() => new Int32Array(max));
    this.#blocks = blocks;
    this.holds.fill(NONE);
    this.asked.fill(Asked.no);
  }
  /** A whole answer lies at `at`, as long as `hold` is not released. */
  answered(replica: number, at: number, hold: number): void {
    const { arena } = this.#core.ports;
    this.holds[replica] = hold;
    this.#views[replica]!.read(arena, at, arena.view.getUint32(at, true));
  }

  /** All answers are the same, and good: the usual case, without a look at single blocks. */
  get isAllSame(): boolean {
    const { ports, blockBytes } = this.#core;
    const { bytes } = ports.arena;
    let first: ReadResponseFrame | null = null;
    for (let r = 0; r < 3; r++) {
      if (this.asked[r] === Asked.no) continue;
      if (this.asked[r] === Asked.unreadable) return false;
      const view = this.#views[r]!;
      if (firstBadBlock(view, ports.arena, ports.hasher, blockBytes) >= 0) return false;
      first ??= view;
      const end = view.contextsAt + view.contextsBytes;
      const firstEnd = first.contextsAt + first.contextsBytes;
      if (bytes.compare(bytes, view.contextsAt, end, first.contextsAt, firstEnd) !== 0)
        return false;
    }
    return first !== null;
  }

  /** Before single blocks are looked at. */
  index(): void {
    const { view } = this.#core.ports.arena;
    for (let r = 0; r < 3; r++) {
      if (this.holds[r] === NONE) continue;
      const contexts = this.#contexts[r]!;
      let at = this.#views[r]!.contextsAt;
      for (let i = 0; i < this.#blocks; i++) {
        contexts[i] = at;
        at += READ_CONTEXT_BYTES[view.getUint32(at, true)]!;
      }
    }
  }

  /** The verdict on a block (heal-judge). `bad` is told of copies that are no good, but not of those that were not read. */
  judge(i: number, bad: (replica: number, wrong: number) => void): number {
    const { ports, blockBytes } = this.#core;
    for (let r = 0; r < 3; r++) {
      this.#copies[r] = this.asked[r] === Asked.no ? Copy.none : Copy.unreadable;
      if (this.holds[r] === NONE) continue;
      const at = this.#contexts[r]![i]!;
      const kind = ports.arena.view.getUint32(at, true);
      const wrong = wrongAt(kind, at, this.#dataAt(r, i), ports.hasher, blockBytes);
      if (wrong === 0) this.#copies[r] = kind === READ_EMPTY ? Copy.empty : Copy.good;
      else {
        if (wrong === Wrong.hash) this.#copies[r] = Copy.damaged;
        bad(r, wrong);
      }
    }
    this.#at = i;
    return judgeCopies(this.#copies, this.#same);
  }
  #isSame(a: number, b: number, i: number): boolean {
    const { view } = this.#core.ports.arena;
    const mine = this.#contexts[a]![i]! + 4;
    const theirs = this.#contexts[b]![i]! + 4;
    return (
      view.getUint32(mine, true) === view.getUint32(theirs, true) &&
      view.getUint32(mine + 4, true) === view.getUint32(theirs + 4, true)
    );
  }
  #dataAt(replica: number, i: number): number {
    return this.#views[replica]!.dataAt + i * this.#core.blockBytes;
  }

  /** Copies a replica's data of a block to `to`. */
  copyTo(to: number, replica: number, i: number): void {
    const from = this.#dataAt(replica, i);
    this.#core.ports.arena.bytes.copyWithin(to, from, from + this.#core.blockBytes);
  }
  /** Whether the data at `at` agrees with the context that the replica gave for the block. */
  agrees(at: number, replica: number, i: number): boolean {
    const { ports, blockBytes } = this.#core;
    const contextAt = this.#contexts[replica]![i]!;
    const kind = ports.arena.view.getUint32(contextAt, true);
    return wrongAt(kind, contextAt, at, ports.hasher, blockBytes) === 0;
  }

  /** For people: who has which hash. */
  describe(i: number): string {
    const { view } = this.#core.ports.arena;
    return this.holds
      .flatMap((hold, r) => {
        if (hold === NONE) return [];
        const at = this.#contexts[r]![i]!;
        if (view.getUint32(at, true) === READ_EMPTY) return [`never written on replica ${r}`];
        const hash = view
          .getBigUint64(at + 4, true)
          .toString(16)
          .padStart(16, "0");
        return [`hash ${hash} on replica ${r}`];
      })
      .join(", ");
  }
}
