import { Fault } from "../base/fault.js";
import { PIECE_BYTES_MAX } from "../base/limits.js";
import { DeviceStatus } from "../ports/device.js";
import type { Cancel } from "../ports/stream.js";
import type { Core, WriteWatcher } from "./core.js";
import type { BadBlocks } from "./heal-inspect.js";
import { Mend, type MendOwner, type Outcome } from "./heal-mend.js";
import { NONE } from "./job-table.js";
import type { Lane } from "./lane.js";
import type { Reads } from "./reads.js";
import type { Writes } from "./writes.js";

// Bad blocks: counted, noted once each, and rewritten from good copies. Owns the queue of ranges to be mended, the reads of guests that
// no replica can answer alone, the patience with a replica that has too many bad blocks, and the list of blocks that are lost.
//
// One range at a time is mended, and one read at a time put together, so that guests hardly notice. What is forgotten here (the queue
// is short, a connection may be lost) is found again in the replicas' own lists, which are gone through once in a while.

const QUEUE_MAX = 4096;
const LOST_MAX = 65_536;
/** Pause between two ranges; what has to wait is looked at as often. */
const PAUSE_MS = 10;
const SWEEP_MS = 10_000;
/** A replica given up for bad blocks once more within a day after it was repaired has to rest: this long, doubled each time up to a day. */
const REST_MS = 3_600_000;
const DAY_MS = 24 * REST_MS;

export interface HealStatus {
  /** Blocks rewritten since the volume is active; those chosen though nothing spoke for them are `undecided`. */
  readonly healed: number;
  readonly undecided: number;
  /** Blocks of which no good copy is left. They read as an I/O error until they are written. */
  readonly lost: number;
  /** Ranges that wait to be mended. */
  readonly waiting: number;
  /** Reads of guests put together from several replicas. */
  readonly assembled: number;
}

interface Range {
  readonly start: number;
  blocks: number;
}
interface Failing {
  events: number;
  sinceMs: number;
  givenUp: number;
  givenUpMs: number;
}

export class Heal implements BadBlocks, MendOwner, WriteWatcher {
  readonly #core: Core;
  readonly #isWritable: () => boolean;
  #reads!: Reads;
  /** For what is found by the way, and for guests' reads. */
  #ofRanges!: Mend;
  #ofReads!: Mend;
  readonly #queue: Range[] = [];
  readonly #guests: number[] = [];
  readonly #lost = new Set<number>();
  readonly #failing: readonly Failing[] = [0, 1, 2].map(() => ({
    events: 0,
    sinceMs: 0,
    givenUp: 0,
    givenUpMs: 0,
  }));
  #timer: Cancel | null = null;
  #timerIsSweep = false;
  #isHalted = false;
  healed = 0;
  undecided = 0;
  assembled = 0;

  constructor(core: Core, isWritable: () => boolean) {
    this.#core = core;
    this.#isWritable = isWritable;
  }
  /** Before anything else. */
  connect(reads: Reads, writes: Writes): void {
    this.#reads = reads;
    this.#ofRanges = new Mend(this.#core, reads, writes, this, this.#isWritable);
    this.#ofReads = new Mend(this.#core, reads, writes, this, this.#isWritable);
  }

  get status(): HealStatus {
    return {
      healed: this.healed,
      undecided: this.undecided,
      lost: this.#lost.size,
      waiting: this.#queue.length + (this.#ofRanges.isIdle ? 0 : 1),
      assembled: this.assembled,
    };
  }

  // BadBlocks

  found(lane: Lane, start: number, blocks: number, news: number, problem: string): void {
    if (news === 0) return;
    this.#count(lane, start, blocks, news, problem);
    this.want(start, blocks);
  }
  takeOver(slot: number): boolean {
    // A single block that nobody has cannot be put together.
    if (this.#isHalted || this.#core.table.blocks[slot] === 1) return false;
    this.#guests.push(slot);
    this.#later();
    return true;
  }

  badCopy(lane: Lane, block: number, news: number, problem: string): void {
    if (news > 0) this.#count(lane, block, 1, news, problem);
  }

  #count(lane: Lane, start: number, blocks: number, news: number, problem: string): void {
    const { notes, clock } = this.#core.ports;
    lane.badBlocks += news;
    const which = blocks === 1 ? `block ${start}` : `blocks ${start} to ${start + blocks - 1}`;
    notes(
      "error",
      "replica.badBlock",
      `replica ${lane.index} cannot give ${which}: ${problem}. It is read from another replica, and written anew`,
      { replica: lane.index, start, blocks },
    );
    const failing = this.#failing[lane.index]!;
    const nowMs = clock.nowMs();
    if (nowMs - failing.sinceMs >= this.#core.tuning.badBlocksMs) {
      failing.sinceMs = nowMs;
      failing.events = 0;
    }
    failing.events += 1;
    this.#later();
  }

  /** These blocks are not as they should be somewhere: mends them soon. */
  want(start: number, blocks: number): void {
    if (!this.#isWritable()) return;
    const max = PIECE_BYTES_MAX / this.#core.blockBytes;
    const last = this.#queue.at(-1);
    if (last !== undefined && last.start + last.blocks === start && last.blocks + blocks <= max)
      last.blocks += blocks;
    else if (this.#queue.length < QUEUE_MAX) this.#queue.push({ start, blocks });
    this.#later();
  }

  // One thing after the other

  #later(): void {
    if (this.#isHalted) return;
    if (this.#timer !== null && !this.#timerIsSweep) return;
    this.#timer?.cancel();
    this.#timerIsSweep = false;
    this.#timer = this.#core.ports.clock.after(PAUSE_MS, this.#onTimer);
  }
  readonly #onTimer = (): void => {
    const wasSweep = this.#timerIsSweep;
    this.#timer = null;
    this.#timerIsSweep = false;
    for (const lane of this.#core.lanes) this.#checkPatience(lane);
    if (this.#isHalted) return;
    if (wasSweep) this.#sweep();
    this.#nextGuest();
    this.#nextRange();
    const isWaiting =
      (this.#ofReads.isIdle && this.#guests.length > 0) ||
      (this.#ofRanges.isIdle && this.#queue.length > 0);
    if (isWaiting) this.#later();
    else if (this.#timer === null && this.#core.lanes.some((lane) => lane.bad.size > 0)) {
      this.#timerIsSweep = true;
      this.#timer = this.#core.ports.clock.after(SWEEP_MS, this.#onTimer);
    }
  };

  #nextGuest(): void {
    const slot = this.#guests[0];
    if (slot === undefined || !this.#ofReads.isIdle || !this.#reads.provide(slot)) return;
    const { table } = this.#core;
    if (!this.#ofReads.begin(table.start[slot]!, table.blocks[slot]!, slot)) return;
    this.#guests.shift();
  }

  #nextRange(): void {
    const core = this.#core;
    if (!this.#ofRanges.isIdle || !this.#isWritable() || core.acceptingCount < 2) return;
    // A replica in trouble or stuck would keep it; later then.
    if (
      core.lanes.some((lane) => lane.standing === "active" && (lane.isTroubled || lane.isStalled))
    )
      return;
    for (let range = this.#queue[0]; range !== undefined; range = this.#queue[0]) {
      const { start, blocks } = range;
      // Written meanwhile, perhaps. Whoever is away is seen to by the sweep.
      if (core.lanes.some((lane) => lane.standing === "active" && lane.hasBad(start, blocks))) {
        if (this.#ofRanges.begin(start, blocks, NONE)) this.#queue.shift();
        return;
      }
      this.#queue.shift();
    }
  }

  mended(mend: Mend, outcome: Outcome): void {
    this.healed += mend.repaired;
    this.undecided += mend.undecided;
    for (const block of mend.lost) this.lose(block);
    if (!this.#isHalted) for (const block of mend.narrow) this.want(block, 1);
    if (mend === this.#ofReads) this.#guestServed(mend);
    if (outcome !== "ended") this.#later();
  }
  #guestServed(mend: Mend): void {
    if (mend.read === NONE) this.assembled += 1;
    else if (this.#isHalted) this.#reads.fail(mend.read, DeviceStatus.shutdown);
    else this.#reads.restart(mend.read);
  }

  /** All copies of a block are bad. */
  lose(block: number): void {
    if (this.#lost.has(block) || this.#lost.size >= LOST_MAX) return;
    if (this.#lost.size === 0) this.#core.watchers.push(this);
    this.#lost.add(block);
    this.#core.ports.notes(
      "error",
      "block.lost",
      `block ${block} is good on no replica: it reads as an I/O error until it is written`,
      { start: block, blocks: 1 },
    );
  }
  overtaken(start: number, blocks: number): void {
    for (let block = start; block < start + blocks && this.#lost.size > 0; block++)
      this.#lost.delete(block);
  }

  /** What is marked as bad and not known as lost is mended once more. */
  #sweep(): void {
    if (!this.#isWritable()) return;
    for (const lane of this.#core.lanes) {
      if (lane.standing !== "active") continue;
      const blocks = [...lane.bad.keys()].filter((block) => !this.#lost.has(block));
      for (const block of blocks.sort((a, b) => a - b)) this.want(block, 1);
    }
  }

  // Patience

  #checkPatience(lane: Lane): void {
    const core = this.#core;
    const { badBlocksMax } = core.tuning;
    const failing = this.#failing[lane.index]!;
    if (failing.events <= badBlocksMax || lane.standing !== "active") return;
    if (!core.canDoWithout(lane)) return;
    const { events } = failing;
    const nowMs = core.ports.clock.nowMs();
    failing.events = 0;
    failing.givenUp = nowMs - failing.givenUpMs < DAY_MS ? failing.givenUp + 1 : 1;
    const restMs =
      failing.givenUp === 1 ? 0 : Math.min(REST_MS * 2 ** (failing.givenUp - 2), DAY_MS);
    failing.givenUpMs = nowMs + restMs;
    const again = restMs === 0 ? "" : ", again after it was repaired: only another disk helps";
    core.giveUp(
      lane,
      new Fault(
        "TRIVET_E_IO",
        `replica ${lane.index} failed to give ${events} ranges of blocks${again}`,
      ),
      restMs,
    );
  }

  // The end

  /** Nothing new is begun, and nothing rewritten. Reads of guests that wait are still answered. */
  drain(): void {
    this.#queue.length = 0;
  }
  /** Reads that wait end with `status`; those that are being put together end when their connections do. */
  failAll(status: DeviceStatus): void {
    for (const slot of this.#guests.splice(0)) this.#reads.fail(slot, status);
    this.dispose();
  }
  dispose(): void {
    if (this.#isHalted) return;
    this.#isHalted = true;
    this.#timer?.cancel();
    this.#timer = null;
    this.#ofRanges.halt();
    this.#ofReads.halt();
    const { watchers } = this.#core;
    const own = watchers.indexOf(this);
    if (own >= 0) watchers.splice(own, 1);
  }
}
