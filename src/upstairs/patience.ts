import { Fault } from "../base/fault.js";
import { PIECE_BYTES_MAX } from "../base/limits.js";
import type { Stream } from "../ports/stream.js";
import type { Core } from "./core.js";
import { Flag, Kind, NONE, Part } from "./job-table.js";
import type { Lane } from "./lane.js";
import { Strikes } from "./strikes.js";

// Patience with replicas that answer pings and do not get on with their jobs, or far more slowly than the others. One timer looks once
// a second; nothing is done per request. The README of this folder has the rules in words, and their reasons.
//
//   behind alone: the oldest job before it is done at both others. Everything else is a fault of more than one, and endured.
//     somebody waits for it, and nothing was done there for holdUpMs ───────────┐
//     somebody waits for it, and it is lagMs behind (catchUpMs during a replay) ┼──► given up; its pause before repair grows each time
//     stuck for stuckMs though nobody waits, on two connections in a row ───────┘
//     stuck for stuckMs, on the first ──────────────────────────────────────────┬──► its connection is tried anew
//   two take part: stuck for stuckMs, doubled each time ────────────────────────┘    (never given up: slow is better than one copy)
//   being repaired: a request waits, and nothing was done there for holdUpMs (copyHoldUpMs for an extent) ──► its repair is given up for now

/** What waits, as the engine knows it. */
export interface Waiting {
  readonly waitingWrites: number;
  /** An orderly stop waits for the last flush. */
  readonly isStopping: boolean;
}

/** What was seen of a replica; times in milliseconds. */
class Watch {
  stream: Stream | null = null;
  doneJobs = 0;
  queuedBytes = 0;
  /** Since when this connection carries jobs. */
  sinceMs = 0;
  /** When it last got on, or had nothing to do. */
  progressMs = 0;
  /** When it was last seen not to be behind alone. */
  notAloneMs = 0;
  /** The oldest job before it that is no read; NONE: there is none. */
  oldest = NONE;
  /** Connections in a row that were ended because nothing was done on them. */
  retries = 0;
}

const RETRIES_COUNTED_MAX = 4;
/** Less than this may have been a ping. */
const SENT_BYTES_MIN = 4096;

export class Patience {
  readonly strikes: Strikes;
  readonly #core: Core;
  readonly #waiting: Waiting;
  readonly #watches = [new Watch(), new Watch(), new Watch()];
  #timer: { cancel(): void } | null = null;

  constructor(core: Core, waiting: Waiting) {
    this.#core = core;
    this.#waiting = waiting;
    this.strikes = new Strikes(core);
  }

  start(): void {
    const { clock } = this.#core.ports;
    this.#timer = clock.after(this.#core.tuning.patienceMs, this.#onTimer);
  }
  dispose(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }
  readonly #onTimer = (): void => {
    this.start();
    this.look();
  };

  /** Judges every replica once. */
  look(): void {
    const { lanes, ports } = this.#core;
    const nowMs = ports.clock.nowMs();
    this.#findOldest();
    for (let r = 0; r < lanes.length; r++) this.#observe(lanes[r]!, this.#watches[r]!, nowMs);
    // Giving one up changes what may be done about the others: one at a time.
    for (let r = 0; r < lanes.length; r++)
      if (this.#judge(lanes[r]!, this.#watches[r]!, nowMs)) return;
  }

  #findOldest(): void {
    const { table, lanes, repair } = this.#core;
    let missing = 0;
    for (let r = 0; r < lanes.length; r++) {
      this.#watches[r]!.oldest = NONE;
      const lane = lanes[r]!;
      // Jobs of repair are not counted among those that were sent.
      if (lane.sentJobs > lane.readCount || (repair !== null && lane.stream !== null)) missing += 1;
    }
    for (let slot = table.head; slot !== NONE && missing > 0; slot = table.next[slot]!) {
      if (table.kind[slot] === Kind.read) continue;
      for (let r = 0; r < lanes.length; r++) {
        const watch = this.#watches[r]!;
        if (watch.oldest !== NONE || table.part[slot * 3 + r] !== Part.sent) continue;
        watch.oldest = slot;
        missing -= 1;
      }
    }
  }

  #observe(lane: Lane, watch: Watch, nowMs: number): void {
    if (lane.stream !== watch.stream) {
      // What was asked elsewhere when the connection was lost is no progress.
      watch.stream = lane.stream;
      watch.doneJobs = lane.doneJobs;
      watch.sinceMs = nowMs;
      watch.progressMs = nowMs;
      watch.notAloneMs = nowMs;
    }
    if (lane.standing === "active") this.strikes.seenActive(lane.index, nowMs);
    const queuedBytes = lane.stream?.queuedBytes ?? 0;
    const didJobs = lane.doneJobs !== watch.doneJobs;
    // A link that still takes bytes is slow, not stuck.
    const isIdle = lane.sentJobs === 0 && watch.oldest === NONE;
    const hasSent = watch.queuedBytes - queuedBytes >= SENT_BYTES_MIN;
    if (didJobs || hasSent || isIdle) watch.progressMs = nowMs;
    if (didJobs || (isIdle && lane.stream !== null)) watch.retries = 0;
    watch.doneJobs = lane.doneJobs;
    watch.queuedBytes = queuedBytes;
    if (!this.#isBehindAlone(lane, watch.oldest)) watch.notAloneMs = nowMs;
  }
  #isBehindAlone(lane: Lane, oldest: number): boolean {
    if (oldest === NONE) return false;
    const { table, lanes } = this.#core;
    for (let r = 0; r < lanes.length; r++) {
      const part = table.part[oldest * 3 + r];
      if (r !== lane.index && (part === Part.sent || part === Part.held)) return false;
    }
    return true;
  }

  /** True: something was done about it. */
  #judge(lane: Lane, watch: Watch, nowMs: number): boolean {
    if (lane.stream === null) return false;
    if (lane.standing === "repairing") return this.#judgeRepair(lane, watch, nowMs);
    if (lane.standing !== "active" || lane.sentJobs === 0) return false;
    const core = this.#core;
    const { holdUpMs, lagMs, catchUpMs, stuckMs } = core.tuning;
    const quietMs = nowMs - watch.progressMs;
    const aloneMs = nowMs - watch.notAloneMs;
    if (!core.canDoWithout(lane)) return this.#judgeNeeded(lane, quietMs, aloneMs > 0);
    const stuckForMs = Math.min(quietMs, aloneMs);
    if (this.#holdsUp(lane, watch.oldest)) {
      if (stuckForMs >= holdUpMs) {
        this.#giveUp(lane, `did nothing for ${seconds(stuckForMs)} while requests waited for it`);
        return true;
      }
      const sentMs = Math.max(core.table.since[watch.oldest]!, watch.sinceMs, watch.notAloneMs);
      const behindMs = aloneMs > 0 ? nowMs - sentMs : 0;
      if (behindMs >= (lane.isCatchingUp ? catchUpMs : lagMs)) {
        this.#giveUp(lane, `is ${seconds(behindMs)} behind the others while requests wait for it`);
        return true;
      }
    }
    const hasOnlyReads = watch.oldest === NONE;
    if ((hasOnlyReads ? quietMs : stuckForMs) < stuckMs) return false;
    if (watch.retries > 0 && !hasOnlyReads)
      this.#giveUp(lane, `did nothing for ${seconds(stuckForMs)}, after a new connection too`);
    else this.#tryAnew(lane, watch, quietMs);
    return true;
  }

  /** Only two take part: without it nothing would be left but to wait, so slowness is endured, and a new connection is all that may help. */
  #judgeNeeded(lane: Lane, quietMs: number, isAlone: boolean): boolean {
    const { lanes, tuning } = this.#core;
    // A copy of an extent holds up the others as long as it takes.
    if (lanes.some(({ standing }) => standing === "repairing")) return false;
    const watch = this.#watches[lane.index]!;
    // Two that hang at once may hang for one reason, which a new connection to either does not mend: those get twice the time.
    const patienceMs =
      tuning.stuckMs * 2 ** Math.min(watch.retries, RETRIES_COUNTED_MAX) * (isAlone ? 1 : 2);
    if (quietMs < patienceMs) return false;
    this.#tryAnew(lane, watch, quietMs);
    return true;
  }

  /** It counts for nothing yet, but flushes, and requests for the extent that is being copied to it, wait at the others, too. */
  #judgeRepair(lane: Lane, watch: Watch, nowMs: number): boolean {
    const { table, tuning } = this.#core;
    if (watch.oldest === NONE) return false;
    const isCopying = table.kind[watch.oldest] === Kind.copy;
    const patienceMs = isCopying ? tuning.copyHoldUpMs : tuning.holdUpMs;
    const stuckForMs = nowMs - Math.max(watch.progressMs, watch.notAloneMs);
    if (stuckForMs < patienceMs || this.#waitsSinceMs(nowMs) > nowMs - patienceMs) return false;
    this.#core.giveUp(
      lane,
      new Fault(
        "TRIVET_E_TIMEOUT",
        `replica ${lane.index} did nothing for ${seconds(stuckForMs)} of its repair while requests waited for it`,
      ),
    );
    return true;
  }
  /** When the request was sent that has waited longest for its answer; now: none does. */
  #waitsSinceMs(nowMs: number): number {
    const { table } = this.#core;
    for (let slot = table.head; slot !== NONE; slot = table.next[slot]!) {
      const kind = table.kind[slot]!;
      const isRequest = kind === Kind.read || kind === Kind.write || kind === Kind.flush;
      if (isRequest && (table.flags[slot]! & (Flag.answered | Flag.orphan)) === 0)
        return table.since[slot]!;
    }
    return nowMs;
  }

  /** Whether somebody waits, and would not if this replica had done what is before it. */
  #holdsUp(lane: Lane, oldest: number): boolean {
    const { room, tuning, table } = this.#core;
    const { waitingWrites, isStopping } = this.#waiting;
    if (oldest === NONE) return false;
    const { jobsMax, bytesMax } = tuning;
    if (waitingWrites > 0 && lane.isFull(PIECE_BYTES_MAX, jobsMax, bytesMax)) return true;
    if (room.length === 0 && !isStopping) return false;
    // Memory comes back in order: whoever has the oldest job that is not settled keeps it all.
    for (let slot = table.head; slot !== oldest; slot = table.next[slot]!)
      if (table.kind[slot] !== Kind.read && !table.isSettled(slot)) return false;
    return true;
  }

  #giveUp(lane: Lane, what: string): void {
    const pauseMs = this.strikes.add(lane.index);
    const text = `replica ${lane.index} ${what}; it is tried again in ${seconds(pauseMs)}`;
    this.#core.giveUp(lane, new Fault("TRIVET_E_TIMEOUT", text), pauseMs);
  }
  #tryAnew(lane: Lane, watch: Watch, quietMs: number): void {
    watch.retries += 1;
    this.#core.hooks.dropConnection(
      lane.index,
      new Fault(
        "TRIVET_E_TIMEOUT",
        `replica ${lane.index} answers pings and did nothing else for ${seconds(quietMs)}`,
      ),
    );
  }
}

const seconds = (ms: number): string => `${Math.round(ms / 1000)} s`;
