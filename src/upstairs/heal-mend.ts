import { invariant } from "../base/invariant.js";
import { PIECE_BYTES_MAX } from "../base/limits.js";
import { type DeviceClient, DeviceStatus } from "../ports/device.js";
import type { Cancel } from "../ports/stream.js";
import { Wrong } from "./check-blocks.js";
import type { Core, WriteWatcher } from "./core.js";
import { Asked, Copies } from "./heal-copies.js";
import { LOST, SAME, UNSURE } from "./heal-judge.js";
import { NONE } from "./job-table.js";
import { Bad, type Lane } from "./lane.js";
import type { Reads } from "./reads.js";
import type { Writes } from "./writes.js";

// One range of blocks: what every active replica has of it is read, compared, and made equal by writing the copy that `heal-judge`
// keeps to all of them, with an ordinary write.
//
//   idle ── begin ──► reading ── all answered ──► writing, one run of blocks after the other ──► idle, owner told
//                        └── a connection lost ───────────────────┴── the volume stops ───────────▲
//
// Why that never overwrites what a guest wrote: the reads are given their ids together, so each of them shows exactly the writes
// submitted before. Every write submitted afterwards marks its blocks as overtaken, in the same call. A run is submitted only by
// `writeNow`, in the call that has looked at the marks, and none of its blocks is marked; so between the reads and it there
// was no write to these blocks, and it writes what is there already. Guests never wait for it.

/** How long to wait for memory, or for writes that wait. */
const AGAIN_MS = 20;
/** After so many attempts a run is written though others wait: they keep coming. */
const ATTEMPTS_MAX = 50;
/** Tag of writes; those of reads are the replicas' numbers. */
const WRITE = 3;

// Verdicts beside those of the judge.
/** Lost, as far as can be told of a range that one replica could not read as a whole. */
const NARROW = 16;
/** To be decided when everybody is there. */
const POSTPONED = 32;

export type Outcome = "done" | "again" | "ended";

export interface MendOwner {
  /** A copy that is no good, marked already; `news`: blocks of which that was not known. Nothing may be asked in this call. */
  badCopy(lane: Lane, block: number, news: number, problem: string): void;
  /**
   * Nothing is asked any more. `again`: a connection was lost, or a replica that may know better is away. `ended`: the volume is
   * stopping. The counts tell what was done in any case. Never called within `begin`.
   */
  mended(mend: Mend, outcome: Outcome): void;
}

export class Mend implements DeviceClient, WriteWatcher {
  readonly #core: Core;
  readonly #reads: Reads;
  readonly #writes: Writes;
  readonly #owner: MendOwner;
  readonly #mayWrite: () => boolean;
  readonly #copies: Copies;
  #verdicts = new Int8Array(0);
  #overtaken = new Uint8Array(0);
  #state: "idle" | "reading" | "writing" = "idle";
  #outcome: Outcome = "done";
  #pending = 0;
  #isLost = false;
  /** Somebody is away, and will be back with what was missed, who may have the copy that decides. */
  #isPartial = false;
  #isHalted = false;
  /** Where to look for the next run; the run that is being written. */
  #next = 0;
  #runStart = 0;
  #runBlocks = 0;
  #attempts = 0;
  #timer: Cancel | null = null;

  start = 0;
  blocks = 0;
  /** A guest's read that is answered from what is found; −1: none, or not any more. */
  read = NONE;
  /** How many replicas were compared. */
  replicas = 0;
  /** Blocks that were not the same, and good, everywhere; and what became of them. */
  differing = 0;
  repaired = 0;
  undecided = 0;
  overwritten = 0;
  readonly lost: number[] = [];
  /** To be looked at one by one: lost, unless the replica that could not read the whole range has them. */
  readonly narrow: number[] = [];

  constructor(core: Core, reads: Reads, writes: Writes, owner: MendOwner, mayWrite: () => boolean) {
    this.#core = core;
    this.#reads = reads;
    this.#writes = writes;
    this.#owner = owner;
    this.#mayWrite = mayWrite;
    this.#copies = new Copies(core);
  }

  get isIdle(): boolean {
    return this.#state === "idle";
  }

  /** False: there is no memory now. `read`: the guest's read of exactly this range that is to be answered; −1: none. */
  begin(start: number, blocks: number, read: number): boolean {
    const { lanes, blockBytes, watchers } = this.#core;
    const { holds, asked } = this.#copies;
    invariant(this.isIdle, "one range at a time");
    invariant(blocks * blockBytes <= PIECE_BYTES_MAX, "a range is a piece at most");
    this.#copies.begin(blocks);
    this.#pending = 0;
    for (const { index, standing, bad } of lanes) {
      if (standing !== "active") continue;
      if (this.#isUnreadable(bad, start, blocks)) {
        asked[index] = Asked.unreadable;
        continue;
      }
      const slot = this.#reads.reserveGiven(start, blocks, this, index);
      if (slot === NONE) {
        this.#release();
        return false;
      }
      holds[index] = slot;
      asked[index] = Asked.yes;
      this.#pending += 1;
    }
    this.#reset(start, blocks, read);
    watchers.push(this);
    if (this.#pending === 0) this.#later(0);
    // Together, in one call: see above.
    for (const lane of lanes) {
      const slot = holds[lane.index]!;
      holds[lane.index] = NONE;
      if (slot !== NONE) this.#reads.sendGiven(slot, lane);
    }
    return true;
  }
  /** A range known to be unreadable would hang there, and hold up flushes; a single block is worth a try. */
  #isUnreadable(bad: ReadonlyMap<number, number>, start: number, blocks: number): boolean {
    if (blocks === 1 || bad.size === 0) return false;
    for (let block = start; block < start + blocks; block++)
      if (bad.get(block) === Bad.unreadable) return true;
    return false;
  }
  #reset(start: number, blocks: number, read: number): void {
    const max = PIECE_BYTES_MAX / this.#core.blockBytes;
    if (this.#overtaken.length < max) {
      this.#overtaken = new Uint8Array(max);
      this.#verdicts = new Int8Array(max);
    }
    this.#overtaken.fill(0, 0, blocks);
    this.#state = "reading";
    this.#outcome = "done";
    this.#isLost = false;
    this.#isPartial = this.#core.lanes.some(({ standing }) => standing === "offline");
    this.#next = 0;
    this.#attempts = 0;
    this.start = start;
    this.blocks = blocks;
    this.read = read;
    this.replicas = this.#pending;
    this.differing = 0;
    this.repaired = 0;
    this.undecided = 0;
    this.overwritten = 0;
    this.lost.length = 0;
    this.narrow.length = 0;
  }

  /** For good: no write is begun any more. What was asked is still waited for. */
  halt(): void {
    this.#isHalted = true;
    if (this.#timer === null) return;
    this.#timer.cancel();
    this.#timer = null;
    this.#end("ended");
  }

  overtaken(start: number, blocks: number): void {
    const from = Math.max(start, this.start);
    const to = Math.min(start + blocks, this.start + this.blocks);
    for (let block = from; block < to; block++) this.#overtaken[block - this.start] = 1;
  }

  deviceRoom(): void {}
  deviceDone(tag: number, status: DeviceStatus, at: number, hold: number): void {
    if (tag === WRITE) {
      this.#written(status);
      return;
    }
    if (status === DeviceStatus.ok) this.#copies.answered(tag, at, hold);
    else if (status === DeviceStatus.shutdown) this.#isLost = true;
    else this.#copies.asked[tag] = Asked.unreadable;
    this.#pending -= 1;
    if (this.#pending > 0) return;
    if (this.#isHalted) this.#end("ended");
    // Not here: whoever tells us may be in the middle of something.
    else this.#later(0);
  }

  #later(delayMs: number): void {
    this.#timer = this.#core.ports.clock.after(delayMs, this.#onTimer);
  }
  readonly #onTimer = (): void => {
    this.#timer = null;
    if (this.#state === "writing") this.#writeOn();
    else if (this.#isLost) this.#end("again");
    else this.#judge();
  };

  #judge(): void {
    if (this.#copies.isAllSame) this.#verdicts.fill(SAME, 0, this.blocks);
    else {
      this.#copies.index();
      for (let i = 0; i < this.blocks; i++) this.#judgeBlock(i);
    }
    this.#clearMarks();
    if (this.read !== NONE && this.#outcome === "done") this.#answer();
    this.#state = "writing";
    this.#writeOn();
  }
  #judgeBlock(i: number): void {
    const block = this.start + i;
    let verdict = this.#copies.judge(i, (replica, wrong) => this.#bad(replica, block, wrong));
    if (verdict !== SAME) this.differing += 1;
    if (this.#isPartial && verdict !== SAME && (verdict & UNSURE) !== 0) {
      verdict = POSTPONED;
      this.#outcome = "again";
      this.differing -= 1;
    } else if (
      verdict === LOST &&
      this.blocks > 1 &&
      this.#copies.asked.includes(Asked.unreadable)
    ) {
      verdict = NARROW;
      this.narrow.push(block);
    } else if (verdict === LOST) {
      if (this.#overtaken[i] === 1) this.overwritten += 1;
      else this.lost.push(block);
    }
    this.#verdicts[i] = verdict;
  }
  #bad(replica: number, block: number, wrong: number): void {
    // Written since: it is good, or will be by the time that anybody reads it.
    if (this.#overtaken[block - this.start] === 1) return;
    const lane = this.#core.lanes[replica]!;
    const isHash = wrong === Wrong.hash;
    const news = lane.markBad(block, 1, isHash ? Bad.damaged : Bad.unreadable);
    const problem = isHash ? "its data does not agree with its hash" : "it should be empty";
    this.#owner.badCopy(lane, block, news, problem);
  }
  /** What turned out to be good is not read around any more. */
  #clearMarks(): void {
    for (const { index, bad } of this.#core.lanes) {
      if (bad.size === 0 || this.#copies.holds[index] === NONE) continue;
      for (let i = 0; i < this.blocks; i++)
        if (this.#verdicts[i] === SAME) bad.delete(this.start + i);
    }
  }

  /** Whose copy is kept; −1: nobody's. */
  #kept(i: number): number {
    const verdict = this.#verdicts[i]!;
    if (verdict === SAME) return this.#copies.holds.findIndex((hold) => hold !== NONE);
    return verdict >= 0 && verdict < SAME ? verdict & ~UNSURE : NONE;
  }
  /** The guest's read is put together from the copies kept, in the buffer that it has. */
  #answer(): void {
    const { table, blockBytes } = this.#core;
    const slot = this.read;
    this.read = NONE;
    const to = table.own[slot]!;
    for (let i = 0; i < this.blocks; i++) {
      const kept = this.#kept(i);
      if (kept < 0) {
        this.#reads.fail(slot, DeviceStatus.io);
        return;
      }
      this.#copies.copyTo(to + i * blockBytes, kept, i);
    }
    this.#reads.finish(slot, to);
  }

  #writeOn(): void {
    if (this.differing > 0 && !this.#mayWrite()) {
      this.#end("ended");
      return;
    }
    while (this.#next < this.blocks && !this.#isToWrite(this.#next)) this.#next += 1;
    let end = this.#next;
    while (end < this.blocks && this.#isToWrite(end)) end += 1;
    if (end === this.#next) {
      this.#end(this.#outcome);
      return;
    }
    if (this.#write(this.#next, end - this.#next)) return;
    this.#attempts += 1;
    this.#later(AGAIN_MS);
  }
  #isToWrite(i: number): boolean {
    const verdict = this.#verdicts[i]!;
    if (verdict < 0 || verdict >= SAME) return false;
    if (this.#overtaken[i] === 0) return true;
    this.overwritten += 1;
    this.#verdicts[i] = SAME;
    return false;
  }

  /** Submits a run, or says that it has to wait. */
  #write(first: number, count: number): boolean {
    const { blockBytes } = this.#core;
    const at = this.#writes.placeNow(count * blockBytes);
    if (at < 0) return false;
    for (let i = 0; i < count; i++) {
      const kept = this.#verdicts[first + i]! & ~UNSURE;
      this.#copies.copyTo(at + i * blockBytes, kept, first + i);
      // A wrong hash makes a downstairs try for ever (wire reference 11, trap 1); this one would be damage by our memory.
      if (this.#copies.agrees(at + i * blockBytes, kept, first + i)) continue;
      this.#writes.unplace(at);
      this.#note("block.changed", first + i, 1, "changed in memory while it was to be rewritten");
      this.#end("again");
      return true;
    }
    this.#runStart = first;
    this.#runBlocks = count;
    const isForced = this.#attempts >= ATTEMPTS_MAX;
    if (this.#writes.writeNow(this.start + first, count, at, isForced, this, WRITE)) return true;
    this.#writes.unplace(at);
    return false;
  }
  #written(status: DeviceStatus): void {
    const from = this.#runStart;
    const to = from + this.#runBlocks;
    this.#next = to;
    this.#attempts = 0;
    if (status === DeviceStatus.ok) this.#count(from, to);
    if (status !== DeviceStatus.ok || this.#isHalted) this.#end("ended");
    else this.#later(0);
  }
  #count(from: number, to: number): void {
    let unsure = NONE;
    for (let i = from; i < to; i++) {
      if ((this.#verdicts[i]! & UNSURE) === 0) this.repaired += 1;
      else {
        this.undecided += 1;
        if (unsure === NONE) unsure = i;
      }
    }
    if (unsure === NONE) return;
    const kept = this.#verdicts[unsure]! & ~UNSURE;
    const whose = `${this.#copies.describe(unsure)}; that of replica ${kept} was kept`;
    this.#note("block.undecided", unsure, to - unsure, `had different good copies: ${whose}`);
  }

  #note(event: string, i: number, count: number, what: string): void {
    const first = this.start + i;
    const which = count === 1 ? `block ${first}` : `blocks ${first} to ${first + count - 1}`;
    this.#core.ports.notes("error", event, `${which} ${what}`, { start: first, blocks: count });
  }

  #end(outcome: Outcome): void {
    const { watchers } = this.#core;
    watchers.splice(watchers.indexOf(this), 1);
    this.#release();
    this.#state = "idle";
    this.#owner.mended(this, outcome);
  }
  #release(): void {
    const { holds } = this.#copies;
    for (let r = 0; r < holds.length; r++) {
      const hold = holds[r]!;
      holds[r] = NONE;
      if (hold !== NONE) this.#reads.release(hold);
    }
  }
}
