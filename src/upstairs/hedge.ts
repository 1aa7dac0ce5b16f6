import type { Cancel } from "../ports/stream.js";
import type { Core } from "./core.js";
import { Flag, NONE } from "./job-table.js";
import type { Lane } from "./lane.js";

// Which reads are late, and whether they may be asked at a second replica. Owns the time at which that is looked at, and the count of
// what may be asked twice; asking is done by reads.
//
//   late: not answered after `hedgeMs`, and after HEDGE_FACTOR times what was to be expected of its replica.
//         A late read costs one of a few permits, and a permit is earned by each twenty answers: so in the long run not more
//         than one read in twenty is asked twice, and an overload that makes all of them late is not made worse.
//   stalled: a replica that has reads and has answered none for `stallMs`, and as long after the oldest of them as above.
//         It does no work for us that could be doubled, so all its reads are asked elsewhere without permits,
//         and it gets no more until it answers one or comes on a new connection.

const HEDGE_FACTOR = 4;
/** How often it is said of a replica that it is stalled. */
const NOTE_MS = 60_000;
/** Permits that one answer earns, and how many may be saved up. */
const EARNED = 1 / 20;
const SAVED_MAX = 16;

export interface Asker {
  /** Asks the read in `slot` at another replica, too. False: nobody can take it now. */
  askTwice(slot: number, lane: Lane): boolean;
}

export class Hedges {
  readonly #core: Core;
  readonly #asker: Asker;
  #permits = SAVED_MAX;
  #timer: Cancel | null = null;
  readonly #notedMs = [-NOTE_MS, -NOTE_MS, -NOTE_MS];
  /** Reads asked twice, and how often the second answer was first. */
  asked = 0;
  won = 0;

  constructor(core: Core, asker: Asker) {
    this.#core = core;
    this.#asker = asker;
  }

  /** A read was sent: from now on it is watched. */
  watch(): void {
    this.#timer ??= this.#core.ports.clock.after(this.#core.tuning.hedgeMs / 2, this.#onTick);
  }
  /** A read was answered. */
  earn(): void {
    if (this.#permits < SAVED_MAX) this.#permits += EARNED;
  }
  dispose(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  readonly #onTick = (): void => {
    this.#timer = null;
    const { lanes, ports } = this.#core;
    const nowMs = ports.clock.nowMs();
    let isReading = false;
    for (let r = 0; r < lanes.length; r++) {
      const lane = lanes[r]!;
      if (lane.standing !== "active" || lane.readCount === 0) continue;
      isReading = true;
      this.#look(lane, nowMs);
    }
    if (isReading) this.watch();
  };

  #look(lane: Lane, nowMs: number): void {
    const { table, tuning, activeCount } = this.#core;
    const patienceMs = HEDGE_FACTOR * lane.expectedMs(0);
    let oldestMs = nowMs;
    for (let i = 0; i < lane.readCount; i++) {
      const sinceMs = table.since[lane.reads[i]!]!;
      if (sinceMs < oldestMs) oldestMs = sinceMs;
    }
    const idleMs = nowMs - Math.max(oldestMs, lane.lastReadMs);
    if (idleMs >= Math.max(tuning.stallMs, patienceMs)) this.#stall(lane, idleMs, nowMs);
    if (activeCount < 2) return;
    const lateMs = Math.max(tuning.hedgeMs, patienceMs);
    if (nowMs - oldestMs < lateMs) return;
    // Asking adds to the lists of others only.
    for (let i = 0; i < lane.readCount; i++) {
      const slot = lane.reads[i]!;
      if (nowMs - table.since[slot]! < lateMs) continue;
      if (table.chain[slot] !== NONE || (table.flags[slot]! & (Flag.orphan | Flag.given)) !== 0)
        continue;
      if (!lane.isStalled && this.#permits < 1) return;
      if (!this.#asker.askTwice(slot, lane)) continue;
      this.asked += 1;
      if (!lane.isStalled) this.#permits -= 1;
    }
  }

  #stall(lane: Lane, idleMs: number, nowMs: number): void {
    if (lane.isStalled) return;
    lane.isStalled = true;
    lane.stalls += 1;
    if (nowMs - this.#notedMs[lane.index]! < NOTE_MS) return;
    this.#notedMs[lane.index] = nowMs;
    this.#core.ports.notes(
      "warn",
      "replica.stalled",
      `replica ${lane.index} has answered no read for ${Math.round(idleMs)} ms: reads go to the others until it does`,
      { replica: lane.index },
    );
  }
}
