import { Fault } from "../base/fault.js";
import { TAG } from "../crucible/messages.js";
import type { AckFrame } from "../crucible/replies.js";
import type { Cancel } from "../ports/stream.js";
import type { Core } from "./core.js";
import { type ExtentJobs, RepairedExtents } from "./extent-jobs.js";
import type { Flushes } from "./flushes.js";
import { Kind, NONE, Part } from "./job-table.js";
import type { Lane } from "./lane.js";
import { extentDiffers, type Numbers } from "./numbers.js";
import type { RepairPace } from "./repair-pace.js";
import type { RepairSender } from "./repair-sender.js";
import type { RepairStatus } from "./repair-status.js";

// One live repair, from the first extent to the final flush (wire reference 8.2, 8.3). Owns the extent at work, its steps, the rest after
// it, and what is sent when nobody is left to repair. Who takes part, and what a failure means for whom, is live-repair's.
//
//   ┌─► reopen and close to all ─ all closed ─► copy, or NoOp where equal ─► NoOp ─ all reopened ─► rest ─┐
//   └─────────────────────────────────────────────────────────────────────────────────────────────────────┤
//                                                                              after the last extent ─────▼
//                                                                                               final flush
//
// What was reserved is sent, as what it was meant or as a NoOp, to each replica whose connection is still the one that it was reserved
// for: other jobs wait for it.

/** What the parts of live repair share. */
export interface RepairParts {
  readonly core: Core;
  readonly flushes: Flushes;
  readonly sender: RepairSender;
  readonly pace: RepairPace;
  /** Requests that were asked for since the volume was opened. */
  asked(): number;
  /** A target cannot go on. */
  fail(lane: Lane, fault: Fault): void;
}

export interface Target {
  readonly lane: Lane;
  readonly numbers: Numbers;
}

export class RepairRound {
  readonly source: Lane;
  readonly startedMs: number;
  /** Indexes of all that it began with. */
  readonly names: readonly number[];
  /** Job id of the final flush; −1 before. */
  finalId = NONE;
  repaired = 0;
  confirmed = 0;
  copiedBytes = 0;
  readonly #parts: RepairParts;
  readonly #core: Core;
  readonly #extents: RepairedExtents;
  readonly #targets: Target[];
  #isResting = false;
  /** Position of the job that is waited for, in the order of ids. */
  #step = 0;
  #extentMs = 0;
  #askedBefore = 0;
  #copies = 0;
  #stepTimer: Cancel | null = null;
  #restTimer: Cancel | null = null;

  constructor(parts: RepairParts, targets: readonly Target[], source: Lane) {
    this.#parts = parts;
    this.#core = parts.core;
    this.#targets = [...targets];
    this.names = targets.map(({ lane }) => lane.index);
    this.source = source;
    this.#extents = new RepairedExtents(parts.core);
    this.startedMs = parts.core.ports.clock.nowMs();
  }

  get targets(): readonly Lane[] {
    return this.#targets.map(({ lane }) => lane);
  }
  get isFinishing(): boolean {
    return this.finalId !== NONE;
  }
  get extents(): RepairedExtents {
    return this.#extents;
  }
  get doneCount(): number {
    return this.repaired + this.confirmed;
  }
  /** `lane` is no target any more, whether it is repaired or gone. */
  remove(lane: Lane): void {
    const position = this.#targets.findIndex((target) => target.lane === lane);
    this.#targets.splice(position, 1);
  }

  // Extents

  beginExtent(extent: number): void {
    const core = this.#core;
    const { sender } = this.#parts;
    const jobs = this.#extents.begin(extent);
    this.#isResting = false;
    this.#step = 0;
    this.#copies = 0;
    this.#extentMs = core.ports.clock.nowMs();
    this.#askedBefore = this.#parts.asked();
    this.#limit();
    this.#armStep();
    for (const lane of core.lanes) {
      if (!this.#isReserved(jobs.close, lane)) continue;
      sender.send(jobs.reopen, lane, extent, { do: "reopen" });
      if (this.#targetOf(lane) !== undefined)
        sender.send(jobs.close, lane, extent, { do: "close" });
      else {
        const { generation } = core;
        sender.send(jobs.close, lane, extent, { do: "flushClose", generation });
      }
    }
  }
  #isReserved(slot: number, lane: Lane): boolean {
    return this.#core.table.part[slot * 3 + lane.index] === Part.reserved;
  }
  #targetOf(lane: Lane): Target | undefined {
    return this.#targets.find((target) => target.lane === lane);
  }
  /** Flushes of a target go as far as its jobs do. */
  #limit(): void {
    for (const { lane } of this.#targets)
      this.#core.sender.extentLimit[lane.index] = this.#extents.limit;
  }

  /** Something changed for the extent at work: goes on as far as it can. */
  progress(): void {
    const jobs = this.#extents.current;
    if (jobs === null) return;
    while (this.#core.table.isSettled(this.#slot(jobs))) {
      this.#step += 1;
      this.#armStep();
      if (this.#step === 1) this.#copy(jobs);
      else if (this.#step === 2) this.#sendNoOps(jobs.noop);
      else if (this.#step === 4) {
        this.#extentDone(jobs);
        return;
      }
    }
  }
  /** Of the job that is waited for. */
  #slot({ close, copy, noop, reopen }: ExtentJobs): number {
    return [close, copy, noop, reopen][this.#step]!;
  }

  #copy(jobs: ExtentJobs): void {
    const core = this.#core;
    const source = this.#sourceOf(jobs);
    const ours = jobs.closed[source.index]!;
    for (const lane of core.lanes) {
      if (!this.#isReserved(jobs.copy, lane)) continue;
      const target = this.#targetOf(lane);
      const theirs = jobs.closed[lane.index];
      const isBehind =
        target !== undefined && extentDiffers(theirs!, ours, target.numbers, core.generation);
      if (!isBehind) {
        this.#parts.sender.sendNoOp(jobs.copy, lane);
        continue;
      }
      this.#copies += 1;
      lane.inheritBad(source, core.table.start[jobs.copy]!, core.extentBlocks);
      this.#parts.sender.send(jobs.copy, lane, jobs.extent, {
        do: "copy",
        source: source.index,
        from: source.repairAddress!,
      });
    }
  }
  /** The round's source, unless it is known to have bad blocks here and another one that closed the extent has none. */
  #sourceOf(jobs: ExtentJobs): Lane {
    const { extentBlocks, lanes, table } = this.#core;
    const start = table.start[jobs.copy]!;
    if (!this.source.hasBadWithin(start, extentBlocks)) return this.source;
    const better = lanes.find(
      (lane) =>
        lane.standing === "active" &&
        lane.repairAddress !== null &&
        jobs.closed[lane.index] !== null &&
        !lane.hasBadWithin(start, extentBlocks),
    );
    return better ?? this.source;
  }
  #sendNoOps(slot: number): void {
    for (const lane of this.#core.lanes)
      if (this.#isReserved(slot, lane)) this.#parts.sender.sendNoOp(slot, lane);
  }

  #extentDone({ extent }: ExtentJobs): void {
    const core = this.#core;
    const { pace, asked } = this.#parts;
    const bytes = this.#copies * core.extentBlocks * core.blockBytes;
    this.#extents.done();
    this.#stepTimer?.cancel();
    if (this.#copies > 0) this.repaired += 1;
    else this.confirmed += 1;
    this.copiedBytes += bytes;
    const nowMs = core.ports.clock.nowMs();
    pace.extentDone(this.#extentMs, nowMs, bytes, asked() !== this.#askedBefore);
    if (extent === core.extentCount - 1) this.#finish();
    else this.#rest();
  }
  #rest(): void {
    const { clock } = this.#core.ports;
    this.#isResting = true;
    this.#restTimer?.cancel();
    const pauseMs = this.#parts.pace.nextMs - clock.nowMs();
    if (this.#extents.isAhead) this.#restTimer = clock.after(0, this.#goOn);
    else if (pauseMs > 0) this.#restTimer = clock.after(pauseMs, this.#goOn);
    else this.#goOn();
  }
  readonly #goOn = (): void => this.beginExtent(this.doneCount);
  /** The pace has changed. */
  hurry(): void {
    if (this.#isResting) this.#rest();
  }

  /** Everything is copied. What the targets hold of it is made stable, and with that they take part again. */
  #finish(): void {
    this.finalId = this.#parts.flushes.submitOwn();
    this.#armStep();
  }

  // Answers

  /** An acknowledgement of a job of repair, without an error. It may belong to a round that is over. */
  static acked(core: Core, slot: number, lane: Lane, frame: AckFrame): void {
    const { table } = core;
    const isReal = (table.tried[slot]! & (1 << lane.index)) !== 0;
    const expected = isReal ? ACK_TAGS[table.kind[slot]!]! : TAG.ExtentLiveAckId;
    if (frame.tag !== expected)
      throw new Fault(
        "TRIVET_E_PROTOCOL",
        `replica ${lane.index} answered job ${frame.jobId} of repair with message ${frame.tag}`,
      );
    table.part[slot * 3 + lane.index] = Part.done;
  }
  /** The job in `slot` was acknowledged by `lane`. */
  answered(slot: number, lane: Lane, frame: AckFrame): void {
    const jobs = this.#extents.current;
    if (jobs?.close === slot) {
      const { generation, flushNumber, isDirty } = frame;
      jobs.closed[lane.index] = { generation, flushNumber, isDirty };
    }
    this.progress();
  }

  #armStep(): void {
    const { ports, tuning } = this.#core;
    this.#stepTimer?.cancel();
    this.#stepTimer = ports.clock.after(tuning.repairStepMs, this.#onStepTimer);
  }
  /** A target that is not done with a step holds up flushes everywhere; another replica that is not has its own limits. */
  readonly #onStepTimer = (): void => {
    const { table, tuning } = this.#core;
    const jobs = this.#extents.current;
    this.#armStep();
    const slot = jobs === null ? table.find(this.finalId) : this.#slot(jobs);
    for (const lane of this.targets) {
      if (slot === NONE || table.part[slot * 3 + lane.index] !== Part.sent) continue;
      this.#parts.fail(
        lane,
        new Fault(
          "TRIVET_E_TIMEOUT",
          `replica ${lane.index} was not done with a step of its repair within ${tuning.repairStepMs} ms`,
        ),
      );
    }
  };

  // The end

  /** What waits for the extent at work, and for those ahead, gets what it waits for; a flush behind them lets all of it be forgotten. */
  cleanUp(): void {
    const jobs = this.#extents.current;
    if (jobs !== null) {
      this.#sendNoOps(jobs.copy);
      this.#sendNoOps(jobs.noop);
      this.#extents.done();
    }
    for (const ahead of this.#extents.takeAhead()) {
      this.#sendNoOps(ahead.reopen);
      this.#sendNoOps(ahead.close);
      this.#sendNoOps(ahead.copy);
      this.#sendNoOps(ahead.noop);
    }
    if (!this.isFinishing) this.#parts.flushes.submitOwn();
  }
  cancelTimers(): void {
    this.#stepTimer?.cancel();
    this.#restTimer?.cancel();
  }

  /** A write to this range is about to get its id. */
  prepare(start: number, blocks: number): void {
    if (!this.#extents.prepare(start, blocks)) return;
    this.#limit();
    this.hurry();
  }

  get status(): RepairStatus {
    const { extentCount, ports } = this.#core;
    const { repaired, confirmed, copiedBytes, startedMs, doneCount } = this;
    const tookMs = ports.clock.nowMs() - startedMs;
    const left = extentCount - doneCount;
    return {
      targets: this.targets.map(({ index }) => index),
      source: this.source.index,
      extent: this.#extents.current?.extent ?? Math.max(0, doneCount - 1),
      extentCount,
      repaired,
      confirmed,
      left,
      copiedBytes,
      bytesPerSecond: tookMs > 0 ? Math.round((copiedBytes * 1000) / tookMs) : 0,
      remainingMs: doneCount === 0 ? null : Math.round((tookMs / doneCount) * left),
      startedMs,
    };
  }
}

const ACK_TAGS: { readonly [kind: number]: number } = {
  [Kind.close]: TAG.ExtentLiveCloseAck,
  [Kind.copy]: TAG.ExtentLiveRepairAckId,
  [Kind.noop]: TAG.ExtentLiveAckId,
  [Kind.reopen]: TAG.ExtentLiveAckId,
};
