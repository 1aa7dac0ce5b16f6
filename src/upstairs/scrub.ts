import { Fault } from "../base/fault.js";
import { PIECE_BYTES_MAX } from "../base/limits.js";
import type { Cancel } from "../ports/stream.js";
import type { Core } from "./core.js";
import type { Heal } from "./heal.js";
import { Mend, type MendOwner, type Outcome } from "./heal-mend.js";
import { NONE } from "./job-table.js";
import type { Lane } from "./lane.js";
import type { Reads } from "./reads.js";
import type { ScrubOptions, ScrubState, ScrubStatus } from "./scrub-status.js";
import type { Writes } from "./writes.js";

// The walk over all blocks of a volume, a piece at a time; comparing and mending a piece is `heal-mend`'s business. Owns the position,
// the pace, and the reasons to wait.
//
//   idle ── begin ──► piece ──► pause (limit, guests) ──► piece … ──► done
//                       ▲  └──► waiting (somebody away, repair) ──┘     or stopped
//
// Pace. With guests at work it rests three times as long after a piece as the piece took, so it has a quarter of the time at
// most, and less when replicas get slow because of it. Nothing is begun while requests wait for memory or for
// their turn. The limit in bytes per second comes on top.

const WAIT_MS = 500;
const REST_FACTOR = 3;
const REST_MS_MAX = 10_000;
/** The rate that is shown is that of about so long. */
const RATE_MS = 10_000;

export type ScrubDone = (fault: Fault | null) => void;

/** What the walk needs to know of the engine. */
export interface ScrubHost {
  /** Null: it may rewrite blocks. */
  problem(): Fault | null;
  /** Goes up with every request of a guest. */
  requests(): number;
  /** Requests that wait for their turn. */
  waiting(): number;
}

export class Scrub implements MendOwner {
  readonly #core: Core;
  readonly #heal: Heal;
  readonly #host: ScrubHost;
  readonly #mend: Mend;
  /** Blocks to be looked at alone, after the piece that they are of. */
  #single: number[] = [];
  #then: ScrubDone | null = null;
  #timer: Cancel | null = null;
  #isStopping = false;
  #state: ScrubState | null = null;
  #waitsFor: string | null = null;
  #bytesPerSecondMax = 0;
  #fromBlock = 0;
  #block = 0;
  #replicas = 0;
  #comparedOnTwo = 0;
  #repaired = 0;
  #undecided = 0;
  #lost = 0;
  #overwritten = 0;
  #startedMs = 0;
  #endedMs = 0;
  /** When the limit allows the next piece. */
  #dueMs = 0;
  #pieceMs = 0;
  #requestsBefore = 0;
  /** Of the window that the rate is shown of, and of the one before. */
  #windowMs = 0;
  #windowBytes = 0;
  #rate = 0;

  constructor(core: Core, reads: Reads, writes: Writes, heal: Heal, host: ScrubHost) {
    this.#core = core;
    this.#heal = heal;
    this.#host = host;
    this.#mend = new Mend(core, reads, writes, this, () => host.problem() === null);
  }

  begin({ bytesPerSecond, fromBlock = 0 }: ScrubOptions, then: ScrubDone): void {
    const { clock } = this.#core.ports;
    const fault = this.#refusal(bytesPerSecond, fromBlock);
    if (fault !== null) {
      clock.after(0, () => then(fault));
      return;
    }
    this.#then = then;
    this.#state = "running";
    this.#waitsFor = null;
    this.#isStopping = false;
    this.#bytesPerSecondMax = bytesPerSecond;
    this.#fromBlock = fromBlock;
    this.#block = fromBlock;
    this.#single = [];
    this.#replicas = 0;
    this.#comparedOnTwo = 0;
    this.#repaired = 0;
    this.#undecided = 0;
    this.#lost = 0;
    this.#overwritten = 0;
    this.#startedMs = clock.nowMs();
    this.#dueMs = this.#startedMs;
    this.#windowMs = this.#startedMs;
    this.#windowBytes = 0;
    this.#rate = 0;
    this.#note(
      "info",
      "scrub.started",
      `comparing all blocks of the replicas, from block ${fromBlock} of ${this.#core.blocks}`,
    );
    this.#later(0);
  }
  #refusal(bytesPerSecond: number, fromBlock: number): Fault | null {
    if (this.#then !== null) return new Fault("TRIVET_E_SCRUB_RUNNING", "a scrub runs already");
    const fault = this.#host.problem();
    if (fault !== null) return fault;
    if (!(bytesPerSecond >= 0))
      return new Fault("TRIVET_E_USAGE", `${bytesPerSecond} bytes per second is no rate`);
    if (!Number.isSafeInteger(fromBlock) || fromBlock < 0 || fromBlock > this.#core.blocks)
      return new Fault(
        "TRIVET_E_USAGE",
        `block ${fromBlock} is not one of the ${this.#core.blocks} of the volume`,
      );
    return null;
  }

  get isRunning(): boolean {
    return this.#then !== null;
  }
  stop(): boolean {
    if (this.#then === null) return false;
    this.#isStopping = true;
    if (this.#timer !== null) {
      this.#timer.cancel();
      this.#later(0);
    }
    return true;
  }
  setRate(bytesPerSecond: number): boolean {
    if (this.#then === null) return false;
    this.#bytesPerSecondMax = bytesPerSecond;
    this.#dueMs = this.#core.ports.clock.nowMs();
    if (this.#timer !== null) {
      this.#timer.cancel();
      this.#later(0);
    }
    return true;
  }

  get status(): ScrubStatus | null {
    if (this.#state === null) return null;
    const core = this.#core;
    const nowMs = this.#then === null ? this.#endedMs : core.ports.clock.nowMs();
    const rate = this.#rateNow(nowMs);
    const left = (core.blocks - this.#block) * core.blockBytes;
    return {
      state: this.#state,
      waitsFor: this.#waitsFor,
      fromBlock: this.#fromBlock,
      block: this.#block,
      blocks: core.blocks,
      blockBytes: core.blockBytes,
      replicas: this.#replicas,
      comparedOnTwo: this.#comparedOnTwo,
      differing: this.#repaired + this.#undecided + this.#lost + this.#overwritten,
      repaired: this.#repaired,
      undecided: this.#undecided,
      lost: this.#lost,
      overwritten: this.#overwritten,
      bytesPerSecond: Math.round(rate),
      bytesPerSecondMax: this.#bytesPerSecondMax,
      elapsedMs: nowMs - this.#startedMs,
      remainingMs: this.#state === "running" && rate > 0 ? Math.round((left / rate) * 1000) : null,
    };
  }
  #rateNow(nowMs: number): number {
    const tookMs = nowMs - this.#windowMs;
    if (this.#rate > 0 && tookMs < RATE_MS / 2) return this.#rate;
    return tookMs > 0 ? (this.#windowBytes * 1000) / tookMs : 0;
  }

  #later(delayMs: number): void {
    this.#timer = this.#core.ports.clock.after(delayMs, this.#onTimer);
  }
  readonly #onTimer = (): void => {
    this.#timer = null;
    if (this.#isStopping) {
      this.#end("stopped", null);
      return;
    }
    const fault = this.#host.problem();
    if (fault !== null) {
      this.#end("stopped", fault);
      return;
    }
    const single = this.#single[0];
    if (single === undefined && this.#block >= this.#core.blocks) {
      this.#end("done", null);
      return;
    }
    const { clock } = this.#core.ports;
    const nowMs = clock.nowMs();
    if (nowMs < this.#dueMs) {
      this.#later(this.#dueMs - nowMs);
      return;
    }
    const reason = this.#reasonToWait() ?? this.#beginPiece(single);
    this.#waitsFor = reason;
    this.#state = reason === null ? "running" : "waiting";
    if (reason !== null) this.#later(WAIT_MS);
  };

  #reasonToWait(): string | null {
    const core = this.#core;
    for (const { index, standing, isTroubled, isStalled } of core.lanes) {
      if (standing === "offline")
        return `replica ${index} is away, and may be back with what it missed`;
      if (standing === "repairing") return `replica ${index} is being repaired`;
      if (standing === "active" && (isTroubled || isStalled))
        return `replica ${index} does not answer as it should`;
    }
    if (core.activeCount < 2) return "only one replica is there, and there is nothing to compare";
    if (this.#host.waiting() > 0) return "requests wait for their turn";
    return null;
  }

  #beginPiece(single: number | undefined): string | null {
    const core = this.#core;
    const max = PIECE_BYTES_MAX / core.blockBytes;
    const start = single ?? this.#block;
    // Pieces begin at multiples of their size, wherever the walk began.
    const blocks = single === undefined ? Math.min(max - (start % max), core.blocks - start) : 1;
    this.#requestsBefore = this.#host.requests();
    this.#pieceMs = core.ports.clock.nowMs();
    return this.#mend.begin(start, blocks, NONE) ? null : "requests use the memory";
  }

  badCopy(lane: Lane, block: number, news: number, problem: string): void {
    this.#heal.badCopy(lane, block, news, problem);
  }
  mended(mend: Mend, outcome: Outcome): void {
    this.#repaired += mend.repaired;
    this.#undecided += mend.undecided;
    this.#overwritten += mend.overwritten;
    if (outcome === "done") this.#advance(mend);
    if (outcome === "ended" && this.#host.problem() !== null) {
      if (this.#then !== null) this.#end("stopped", this.#host.problem());
      return;
    }
    if (outcome === "done") this.#later(this.#restMs());
    else {
      this.#state = "waiting";
      this.#waitsFor = "a replica was lost while it was asked";
      this.#later(WAIT_MS);
    }
  }
  #advance(mend: Mend): void {
    const core = this.#core;
    this.#replicas = mend.replicas;
    this.#lost += mend.lost.length;
    for (const block of mend.lost) this.#heal.lose(block);
    if (this.#single.length > 0) {
      this.#single.shift();
      return;
    }
    this.#single.push(...mend.narrow);
    this.#block = mend.start + mend.blocks;
    if (mend.replicas === 2) this.#comparedOnTwo += mend.blocks;
    const bytes = mend.blocks * core.blockBytes;
    const nowMs = core.ports.clock.nowMs();
    if (this.#bytesPerSecondMax > 0) {
      // What was not used while it waited is not made up for.
      const costMs = (bytes * 1000) / this.#bytesPerSecondMax;
      this.#dueMs = Math.max(this.#dueMs, this.#pieceMs) + costMs;
    }
    this.#windowBytes += bytes;
    if (nowMs - this.#windowMs < RATE_MS) return;
    this.#rate = (this.#windowBytes * 1000) / (nowMs - this.#windowMs);
    this.#windowMs = nowMs;
    this.#windowBytes = 0;
  }
  #restMs(): number {
    if (this.#host.requests() === this.#requestsBefore) return 0;
    const tookMs = this.#core.ports.clock.nowMs() - this.#pieceMs;
    return Math.min(REST_FACTOR * tookMs, REST_MS_MAX);
  }

  #end(state: "done" | "stopped", fault: Fault | null): void {
    const then = this.#then!;
    this.#then = null;
    this.#state = state;
    this.#waitsFor = null;
    this.#endedMs = this.#core.ports.clock.nowMs();
    const { differing, repaired, undecided, lost, overwritten, comparedOnTwo } = this.status!;
    const found =
      differing === 0
        ? "nothing differs"
        : `${differing} blocks differed: ${repaired} repaired, ${undecided} undecided, ${lost} lost, ${overwritten} written by guests meanwhile`;
    const on =
      comparedOnTwo > 0 ? `; ${comparedOnTwo} blocks were compared on two replicas only` : "";
    this.#note(
      differing === 0 ? "info" : "warn",
      `scrub.${state}`,
      `the scrub ${state === "done" ? "reached the end" : `stopped at block ${this.#block} of ${this.#core.blocks}`}: ${found}${on}`,
    );
    then(fault);
  }
  #note(level: "info" | "warn", event: string, text: string): void {
    this.#core.ports.notes(level, event, text);
  }

  /** The volume has ended. */
  dispose(): void {
    this.#timer?.cancel();
    this.#timer = null;
    this.#mend.halt();
    if (this.#then === null) return;
    this.#end("stopped", new Fault("TRIVET_E_CONNECTION", "the volume was stopped"));
  }
}
