import { Fault } from "../base/fault.js";
import { errorText } from "../crucible/error.js";
import type { AckFrame } from "../crucible/replies.js";
import type { SessionIds } from "../crucible/session-ids.js";
import type { Cancel, Stream } from "../ports/stream.js";
import type { Core, Repairing } from "./core.js";
import type { Flushes } from "./flushes.js";
import type { IdList } from "./id-list.js";
import { Kind, NONE, Part } from "./job-table.js";
import type { Lane } from "./lane.js";
import type { Numbers } from "./numbers.js";
import { RepairPace } from "./repair-pace.js";
import { RepairRetries } from "./repair-retries.js";
import { type RepairParts, RepairRound } from "./repair-round.js";
import { RepairSender } from "./repair-sender.js";
import { progressText, type RepairOutcome, type RepairStatus, timeText } from "./repair-status.js";
import { TargetLoad } from "./target-load.js";

// Live repair: replicas that missed too much are made equal to the others while the volume is in use (wire reference 8). Owns who waits
// for it, when a round begins, who becomes active by it, and what a loss means. Its steps are repair-round's.
//
//   ready ──► target of a round ──► final flush acknowledged by it ──► active
//     ▲                │
//     └── back, later ─┴─ it failed, left, or was too slow; or the source left
//
// A replica that becomes ready while a round runs waits for the next. One that is offline then has no part in the round: what it missed is
// held for it as ever, and what it is sent again never names a job of repair.

/** What live repair needs of the engine. */
export interface RepairOwner {
  /** Requests that were asked for since the volume was opened. */
  asked(): number;
  /** A replica counts that did not before. */
  joined(): void;
  /** Jobs were skipped, or sent without a request: whatever waits may look again. */
  moveOn(): void;
}

export class LiveRepair implements Repairing {
  readonly #core: Core;
  readonly #flushes: Flushes;
  readonly #owner: RepairOwner;
  readonly #parts: RepairParts;
  readonly #load: TargetLoad;
  /** Connections that stand in liveRepairReady, by replica. */
  readonly #ready: (Stream | null)[] = [null, null, null];
  readonly #numbers: Numbers[] = ["known", "known", "known"];
  readonly #retries: RepairRetries;
  #round: RepairRound | null = null;
  #isStopped = false;
  #noteTimer: Cancel | null = null;
  #startTimer: Cancel | null = null;
  completed = 0;
  aborted = 0;
  /** How the last round ended. */
  last: RepairOutcome | null = null;

  constructor(core: Core, flushes: Flushes, ids: SessionIds, owner: RepairOwner) {
    this.#core = core;
    this.#flushes = flushes;
    this.#owner = owner;
    this.#parts = {
      core,
      flushes,
      sender: new RepairSender(core.table, core.ports.arena, ids),
      pace: new RepairPace(core.tuning.repairBytesPerSecond),
      asked: () => owner.asked(),
      fail: (lane, fault) => this.fail(lane, fault),
    };
    this.#retries = new RepairRetries(core.ports.clock, core.tuning);
    const { repairPatienceMs } = core.tuning;
    this.#load = new TargetLoad(core.ports.clock, repairPatienceMs, (lane) =>
      this.fail(
        lane,
        new Fault(
          "TRIVET_E_REPAIR",
          `replica ${lane.index} kept writes waiting for most of ${timeText(repairPatienceMs)} while it was being repaired`,
        ),
      ),
    );
  }

  get status(): RepairStatus | null {
    return this.#round?.status ?? null;
  }
  /** Bytes per second, 0: no limit. */
  get rate(): number {
    return this.#parts.pace.bytesPerSecond;
  }
  setRate(bytesPerSecond: number): void {
    this.#parts.pace.setRate(bytesPerSecond, this.#core.ports.clock.nowMs());
    this.#round?.hurry();
  }

  // Beginning

  /** A connection to it is there, and what it missed cannot be sent again. */
  ready(lane: Lane, stream: Stream, numbers: Numbers): void {
    this.#ready[lane.index] = stream;
    this.#retries.ready(lane.index);
    this.#numbers[lane.index] = lane.wasMember ? "ours" : numbers;
    this.consider();
  }

  /** Begins a round when there is something to repair and somebody to copy from. */
  consider(): void {
    const { lanes, ports } = this.#core;
    if (this.#round !== null || this.#isStopped) return;
    const waiting = lanes.filter(({ index }) => this.#ready[index] !== null);
    const source = this.#chooseSource();
    if (source === null || waiting.length === 0) return;
    const nowMs = ports.clock.nowMs();
    const targets = waiting.filter(({ index }) => this.#retries.notBeforeMs(index) <= nowMs);
    if (targets.length > 0) this.#begin(targets, source);
    else
      this.#considerAt(Math.min(...waiting.map(({ index }) => this.#retries.notBeforeMs(index))));
  }
  #considerAt(atMs: number): void {
    const { clock } = this.#core.ports;
    this.#startTimer?.cancel();
    this.#startTimer = clock.after(atMs - clock.nowMs(), () => this.consider());
  }
  /** The active one with the highest number, as in the reference; one in trouble only when there is no other. */
  #chooseSource(): Lane | null {
    let best: Lane | null = null;
    for (const lane of this.#core.lanes) {
      if (lane.standing !== "active" || lane.repairAddress === null) continue;
      if (best === null || best.isTroubled || !lane.isTroubled) best = lane;
    }
    return best;
  }

  #begin(lanes: readonly Lane[], source: Lane): void {
    const core = this.#core;
    const { clock, notes } = core.ports;
    const targets = lanes.map((lane) => ({ lane, numbers: this.#numbers[lane.index]! }));
    const round = new RepairRound(this.#parts, targets, source);
    this.#round = round;
    core.repair = this;
    for (const lane of lanes) this.#enter(lane);
    notes(
      "info",
      "repair.started",
      `repair of replica ${round.names.join(" and ")} from replica ${source.index} begins: ${core.extentCount} extents`,
      { source: source.index },
    );
    this.#noteTimer = clock.after(core.tuning.waitNoteMs, this.#noteProgress);
    round.beginExtent(0);
  }
  #enter(lane: Lane): void {
    const { table, hooks } = this.#core;
    lane.standing = "repairing";
    lane.stream = this.#ready[lane.index]!;
    this.#ready[lane.index] = null;
    lane.doneAs = Part.apart;
    this.#retries.begun(lane.index);
    lane.lastFlush = NONE;
    lane.forgetSpeed();
    // What it did in a former life is worth nothing now: another region may stand in its place.
    for (let slot = table.head; slot !== NONE; slot = table.next[slot]!) {
      const at = slot * 3 + lane.index;
      if (table.part[at] === Part.done) table.part[at] = Part.skipped;
    }
    hooks.repairStarted(lane.index);
  }
  readonly #noteProgress = (): void => {
    const { ports, tuning } = this.#core;
    this.#noteTimer = ports.clock.after(tuning.waitNoteMs, this.#noteProgress);
    ports.notes("info", "repair.progress", `repair: ${progressText(this.status!)}`);
  };

  // Answers

  /** An acknowledgement of a job of repair, without an error. */
  acked(slot: number, lane: Lane, frame: AckFrame): void {
    RepairRound.acked(this.#core, slot, lane, frame);
    lane.doneJobs += 1;
    if (this.#core.table.kind[slot] === Kind.reopen) this.#parts.sender.wake(lane.stream!);
    this.#round?.answered(slot, lane, frame);
  }
  /** A target reports that it could not do a job of repair. */
  refused(lane: Lane, frame: AckFrame): void {
    const text = `replica ${lane.index} could not be repaired: ${errorText(frame.error!)}`;
    this.fail(lane, new Fault("TRIVET_E_REPAIR", text));
  }
  /** `lane` acknowledged the flush `id`. */
  flushed(lane: Lane, id: number): void {
    const round = this.#round;
    if (round !== null && lane.standing === "repairing" && id === round.finalId)
      this.#promote(round, lane);
  }

  /**
   * Everything before the final flush is on its disk: copied with its extent, or done by itself. So it counts as done, and `lastFlush`
   * says so: what is sent to it again later begins there.
   */
  #promote(round: RepairRound, lane: Lane): void {
    const { table, hooks, ports } = this.#core;
    for (let slot = table.head; slot !== NONE; slot = table.next[slot]!) {
      if (table.kind[slot] === Kind.read) continue;
      const at = slot * 3 + lane.index;
      const isCopied = table.part[at] === Part.skipped && table.id[slot]! < round.finalId;
      if (isCopied || table.part[at] === Part.apart) table.part[at] = Part.done;
    }
    this.#leave(round, lane, "active");
    lane.lastFlush = round.finalId;
    lane.wasMember = true;
    this.#retries.repaired(lane.index);
    this.completed += 1;
    const tookMs = ports.clock.nowMs() - round.startedMs;
    ports.notes(
      "info",
      "repair.done",
      `replica ${lane.index} is repaired: ${round.repaired} extents copied, ${round.confirmed} were equal, in ${timeText(tookMs)}`,
      { replica: lane.index },
    );
    hooks.repaired(lane.index);
    if (round.targets.length === 0) this.#end(round, null);
    this.#owner.joined();
    this.consider();
  }
  #leave(round: RepairRound, lane: Lane, standing: "active" | "out"): void {
    lane.standing = standing;
    lane.doneAs = Part.done;
    this.#core.sender.extentLimit[lane.index] = -1;
    this.#load.forget(lane);
    round.remove(lane);
  }

  // Failing

  /** A target cannot go on, by its own fault: it begins anew when it is back, after a pause that grows. */
  fail(lane: Lane, fault: Fault): void {
    const round = this.#round!;
    this.#retries.failed(lane.index, round.repaired > 0);
    this.#drop(round, lane, fault);
    this.#dropped(round, fault);
  }
  #drop(round: RepairRound, lane: Lane, fault: Fault): void {
    this.#leave(round, lane, "out");
    lane.stream = null;
    this.#core.skipAll(lane);
    this.aborted += 1;
    this.#core.hooks.repairFailed(lane.index, fault);
  }
  #dropped(round: RepairRound, fault: Fault): void {
    if (round.targets.length > 0) round.progress();
    else {
      round.cleanUp();
      this.#core.ports.notes(
        "warn",
        "repair.aborted",
        `repair of replica ${round.names.join(" and ")} ended after ${round.doneCount} of ${this.#core.extentCount} extents: ${fault.message}`,
      );
      this.#end(round, fault);
    }
    this.#flushes.recheck();
    this.#owner.moveOn();
    this.consider();
  }

  #end(round: RepairRound, fault: Fault | null): void {
    this.last = {
      targets: round.names,
      isComplete: fault === null,
      repaired: round.repaired,
      confirmed: round.confirmed,
      copiedBytes: round.copiedBytes,
      tookMs: this.#core.ports.clock.nowMs() - round.startedMs,
      reason: fault?.message ?? null,
    };
    round.cancelTimers();
    this.#noteTimer?.cancel();
    this.#core.repair = null;
    this.#round = null;
  }

  /** A connection is gone. Of a replica that took part, its jobs are held or skipped by now. */
  laneLost(lane: Lane): void {
    this.#ready[lane.index] = null;
    const round = this.#round;
    if (round === null) return;
    if (lane.standing === "repairing") {
      const text = `replica ${lane.index} left while it was being repaired`;
      this.fail(lane, new Fault("TRIVET_E_REPAIR", text));
    } else if (lane === round.source && !round.isFinishing) {
      // With the last extent copied it is not needed any more.
      const text = `its source, replica ${lane.index}, left`;
      this.#dropAll(round, new Fault("TRIVET_E_REPAIR", text));
    } else round.progress();
  }
  #dropAll(round: RepairRound, fault: Fault): void {
    for (const target of round.targets) {
      this.#retries.cancelled(target.index);
      this.#drop(round, target, fault);
    }
    this.#dropped(round, fault);
  }

  /** No round begins any more, and one that runs is given up: the volume is being stopped. */
  stop(): void {
    this.#isStopped = true;
    this.#startTimer?.cancel();
    if (this.#round !== null)
      this.#dropAll(this.#round, new Fault("TRIVET_E_REPAIR", "the volume is being stopped"));
  }
  /** The same, and nothing is sent any more. */
  dispose(): void {
    this.#isStopped = true;
    this.#startTimer?.cancel();
    this.#noteTimer?.cancel();
    this.#load.dispose();
    this.#round?.cancelTimers();
    this.#round = null;
    this.#core.repair = null;
  }

  // Repairing: for jobs of the guest

  collect(start: number, blocks: number, floor: number, to: IdList): void {
    this.#round!.extents.collect(start, blocks, floor, to);
  }
  prepare(start: number, blocks: number): void {
    this.#load.submitted();
    this.#round!.prepare(start, blocks);
  }
  takes(slot: number): boolean {
    const { kind, start } = this.#core.table;
    return kind[slot] !== Kind.write || start[slot]! < this.#round!.extents.reach;
  }
  holdsUp(lane: Lane): void {
    this.#load.holdsUp(lane);
  }
}
