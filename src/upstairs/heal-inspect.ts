import { errorText } from "../crucible/error.js";
import { READ_CONTEXT_BYTES, READ_EMPTY } from "../crucible/layout.js";
import type { ReadResponseFrame } from "../crucible/replies.js";
import { eachBadBlock, firstBadBlock, Wrong } from "./check-blocks.js";
import type { Core } from "./core.js";
import { Bad, type Lane } from "./lane.js";

// Whether an answer may be given to a guest. What is wrong with it is marked in the replica's list of bad blocks, and told.

/** Who is told of bad blocks. Nobody asks or writes anything in these calls. */
export interface BadBlocks {
  /** `lane` could not give good data for `blocks` blocks from `start`, of which `news` were not known; they are marked already. */
  found(lane: Lane, start: number, blocks: number, news: number, problem: string): void;
  /** No replica has the blocks of this read all good. True: it is answered by `finish`, `fail` or `restart` later. */
  takeOver(slot: number): boolean;
}

/** An answer that is not as long as was asked for. */
const SHORT = { kind: "GenericError", text: "an answer of another length" } as const;

export class Inspector {
  readonly #core: Core;
  readonly #badBlocks: BadBlocks;

  constructor(core: Core, badBlocks: BadBlocks) {
    this.#core = core;
    this.#badBlocks = badBlocks;
  }

  /** Whether it is an answer to the read in `slot` at all; which blocks are good is another question. */
  isAnswer(response: ReadResponseFrame, slot: number, lane: Lane): boolean {
    const { table, blockBytes } = this.#core;
    const { error, contextsCount, dataLength } = response;
    const blocks = table.blocks[slot]!;
    if (error === null && contextsCount === blocks && dataLength === blocks * blockBytes)
      return true;
    this.unreadable(slot, lane, errorText(error ?? SHORT));
    return false;
  }
  /** The replica cannot give what the read in `slot` asks for. */
  unreadable(slot: number, lane: Lane, problem: string): void {
    const { table } = this.#core;
    const start = table.start[slot]!;
    const blocks = table.blocks[slot]!;
    const news = lane.markBad(start, blocks, Bad.unreadable);
    this.#badBlocks.found(lane, start, blocks, news, problem);
  }

  /** Whether the answer may be given to a guest; if not, what is wrong is marked and told. */
  isGood(response: ReadResponseFrame, slot: number, lane: Lane): boolean {
    const { table, ports, blockBytes } = this.#core;
    if (!this.isAnswer(response, slot, lane)) return false;
    const start = table.start[slot]!;
    const first = firstBadBlock(response, ports.arena, ports.hasher, blockBytes);
    const isClean = first < 0;
    if (!isClean) this.#markBad(response, start, lane);
    if (response.emptyCount > 0 && this.#othersHaveBad(lane))
      return this.#isTrulyEmpty(response, start, lane) && isClean;
    if (isClean && lane.bad.size > 0) lane.written(start, response.contextsCount);
    return isClean;
  }
  #markBad(response: ReadResponseFrame, start: number, lane: Lane): void {
    const { ports, blockBytes } = this.#core;
    eachBadBlock(response, ports.arena, ports.hasher, blockBytes, (index, wrong) => {
      const isHash = wrong === Wrong.hash;
      const news = lane.markBad(start + index, 1, isHash ? Bad.damaged : Bad.unreadable);
      const problem = isHash ? "its data does not agree with its hash" : "it should be empty";
      this.#badBlocks.found(lane, start + index, 1, news, problem);
    });
  }
  #othersHaveBad(lane: Lane): boolean {
    const { lanes } = this.#core;
    for (let r = 0; r < lanes.length; r++)
      if (lanes[r] !== lane && lanes[r]!.bad.size > 0) return true;
    return false;
  }
  /**
   * "Never written" is no answer for a block that another replica has, damaged: this one may have lost it. When two
   * say so it is believed.
   */
  #isTrulyEmpty(response: ReadResponseFrame, start: number, lane: Lane): boolean {
    const { lanes, ports } = this.#core;
    const { view } = ports.arena;
    let isTrue = true;
    for (let i = 0, at = response.contextsAt; i < response.contextsCount; i++) {
      const kind = view.getUint32(at, true);
      at += READ_CONTEXT_BYTES[kind]!;
      const block = start + i;
      const others = (why: number): boolean =>
        lanes.some((other) => other !== lane && other.bad.get(block) === why);
      if (kind !== READ_EMPTY || !others(Bad.damaged) || others(Bad.doubtful)) continue;
      isTrue = false;
      const news = lane.markBad(block, 1, Bad.doubtful);
      this.#badBlocks.found(lane, block, 1, news, "it is empty, and not on another replica");
    }
    return isTrue;
  }
}
