import { Fault } from "../base/fault.js";
import type { FlushNumber, Generation } from "../base/ids.js";
import { errorText } from "../crucible/error.js";
import { countAt, JOB_AT } from "../crucible/layout.js";
import { TAG } from "../crucible/messages.js";
import type { RegionDefinition } from "../crucible/region-definition.js";
import type { AckFrame } from "../crucible/replies.js";
import type { SessionIds } from "../crucible/session-ids.js";
import { type DeviceClient, DeviceStatus } from "../ports/device.js";
import type { LoggedWrite } from "../ports/journal.js";
import type { Cancel, Stream } from "../ports/stream.js";
import { Core, type CoreHooks } from "./core.js";
import { ErrorReports } from "./error-reports.js";
import { Flushes } from "./flushes.js";
import { Heal } from "./heal.js";
import { Kind, NONE, Part } from "./job-table.js";
import type { Lane } from "./lane.js";
import { LiveRepair } from "./live-repair.js";
import type { Numbers } from "./numbers.js";
import type { Tuning, UpstairsPorts } from "./options.js";
import { Patience } from "./patience.js";
import { Reads } from "./reads.js";
import type { RepairAddress } from "./reconcile.js";
import { Reissue } from "./reissue.js";
import type { RepairStatus } from "./repair-status.js";
import { replay } from "./replay.js";
import { Scrub } from "./scrub.js";
import { Writes } from "./writes.js";
import { Zeroes } from "./zeroes.js";

// The jobs of an active volume. Every event from outside (a request, a reply, a replica that comes or goes) is one method here; each changes
// state first and then lets waiting things move on. It knows no connection: who is there is told by `resumed`, `lost` and `giveUp`.
//
//   closed ── open ──► running ── drain ──► draining ── all answered, last flush done ──► closed
//                         └────────── fail (superseded, stopped by force) ──► failed

export type EngineState = "closed" | "running" | "draining" | "failed";

export class Engine {
  readonly core: Core;
  readonly #flushes: Flushes;
  readonly #writes: Writes;
  readonly #reads: Reads;
  readonly #zeroes: Zeroes;
  readonly #reissue: Reissue;
  readonly #reports: ErrorReports;
  readonly heal: Heal;
  readonly scrub: Scrub;
  readonly repair: LiveRepair;
  readonly #patience: Patience;
  #state: EngineState = "closed";
  #readOnly = false;
  #nextTicket = 0;
  readonly #graceTimers: (Cancel | undefined)[] = [];
  #drained: (() => void) | null = null;
  readonly counts = { reads: 0, writes: 0, flushes: 0, zeroes: 0, readBytes: 0, writtenBytes: 0 };

  constructor(
    ports: UpstairsPorts,
    tuning: Tuning,
    ids: SessionIds,
    isBuffered: boolean,
    hooks: CoreHooks,
  ) {
    this.core = new Core(ports, tuning, ids, hooks);
    this.#flushes = new Flushes(this.core, () => this.#writes.freed());
    this.#writes = new Writes(this.core, this.#flushes, isBuffered);
    this.heal = new Heal(this.core, () => this.#state === "running" && !this.#readOnly);
    this.#reads = new Reads(this.core, this.#writes, this.heal);
    this.heal.connect(this.#reads, this.#writes);
    this.scrub = new Scrub(this.core, this.#reads, this.#writes, this.heal, {
      problem: () => this.#scrubProblem(),
      requests: () =>
        this.counts.reads + this.counts.writes + this.counts.flushes + this.counts.zeroes,
      waiting: () =>
        this.#writes.queuedCount + this.core.room.length + (this.#reads.isWaiting ? 1 : 0),
    });
    this.#zeroes = new Zeroes(this.core, this.#writes, this.#flushes, () => this.#nextTicket++);
    this.repair = new LiveRepair(this.core, this.#flushes, ids, {
      asked: () => this.#nextTicket + this.counts.flushes,
      joined: () => this.#recheck(),
      moveOn: () => this.#moveOn(),
    });
    this.#patience = new Patience(this.core, this);
    this.#reports = new ErrorReports(this.core, this.#patience.strikes);
    this.#reissue = new Reissue(this.core, this.#writes, this.#flushes, this.#zeroes);
  }

  get state(): EngineState {
    return this.#state;
  }
  get isReadOnly(): boolean {
    return this.#readOnly;
  }
  get readCounts() {
    const { retries, hedged, hedgesWon } = this.#reads;
    return { readRetries: retries, readsHedged: hedged, hedgesWon };
  }
  get flushesSubmitted(): number {
    return this.#flushes.submitted;
  }
  get barriersSubmitted(): number {
    return this.#flushes.barriers;
  }
  get waitingWrites(): number {
    return this.#writes.queuedCount;
  }
  get isStopping(): boolean {
    return this.#state === "draining";
  }
  /** Requests not answered yet. */
  get openCount(): number {
    return this.#reads.openCount + this.#writes.openCount + this.#zeroes.openCount;
  }

  /** From here on requests are served. Null, or why not. */
  open(
    region: RegionDefinition,
    generation: Generation,
    nextFlush: FlushNumber,
    readOnly: boolean,
  ): Fault | null {
    const { core } = this;
    core.begin(region, generation, nextFlush);
    this.#readOnly = readOnly;
    const fault = this.#writes.open() ?? this.#zeroes.open();
    if (fault !== null) {
      this.dispose();
      return fault;
    }
    this.#state = "running";
    this.#patience.start();
    return null;
  }

  /** What a dead predecessor left in the write log is written again and flushed; only then are requests served. */
  reissue(writes: readonly LoggedWrite[], then: () => void): Fault | null {
    return this.#reissue.start(writes, then);
  }

  // Requests. Offsets and lengths in bytes, checked here.

  place(length: number, client: DeviceClient): number {
    return this.#writes.place(length, client);
  }
  unplace(at: number): void {
    this.#writes.unplace(at);
  }
  read(offset: number, length: number, client: DeviceClient, tag: number): void {
    const status = this.#check(offset, length, DeviceStatus.invalid);
    if (status !== DeviceStatus.ok || length === 0) {
      client.deviceDone(tag, status, NONE, NONE);
      return;
    }
    const { blockBytes } = this.core;
    this.counts.reads += 1;
    this.counts.readBytes += length;
    this.#reads.ask(offset / blockBytes, length / blockBytes, this.#nextTicket++, client, tag);
  }
  write(
    offset: number,
    length: number,
    at: number,
    flags: number,
    client: DeviceClient,
    tag: number,
  ): void {
    const status = this.#checkWrite(offset, length);
    if (status !== DeviceStatus.ok || length === 0) {
      this.#writes.unplace(at);
      client.deviceDone(tag, status, NONE, NONE);
      return;
    }
    const { blockBytes } = this.core;
    this.counts.writes += 1;
    this.counts.writtenBytes += length;
    this.#writes.ask(
      offset / blockBytes,
      length / blockBytes,
      at,
      this.#nextTicket++,
      flags,
      client,
      tag,
    );
  }
  writeZeroes(
    offset: number,
    length: number,
    flags: number,
    client: DeviceClient,
    tag: number,
  ): void {
    const status = this.#checkWrite(offset, length);
    if (status !== DeviceStatus.ok || length === 0) {
      client.deviceDone(tag, status, NONE, NONE);
      return;
    }
    const { blockBytes } = this.core;
    this.counts.zeroes += 1;
    this.#zeroes.ask(offset / blockBytes, length / blockBytes, flags, client, tag);
  }
  /** A hint that the protocol has no message for: checked and forgotten. */
  trim(offset: number, length: number, client: DeviceClient, tag: number): void {
    client.deviceDone(tag, this.#checkWrite(offset, length), NONE, NONE);
  }
  flush(client: DeviceClient, tag: number): void {
    if (this.#state !== "running" || this.#readOnly) {
      const status = this.#state === "running" ? DeviceStatus.ok : DeviceStatus.shutdown;
      client.deviceDone(tag, status, NONE, NONE);
      return;
    }
    this.counts.flushes += 1;
    this.#flushes.ask(client, tag);
  }
  release(hold: number): void {
    this.#reads.release(hold);
  }

  #check(offset: number, length: number, beyond: DeviceStatus): DeviceStatus {
    const { blockBytes, sizeBytes } = this.core;
    if (this.#state !== "running") return DeviceStatus.shutdown;
    if (!(offset >= 0 && length >= 0) || offset % blockBytes !== 0 || length % blockBytes !== 0)
      return DeviceStatus.invalid;
    return offset + length > sizeBytes ? beyond : DeviceStatus.ok;
  }
  #checkWrite(offset: number, length: number): DeviceStatus {
    if (this.#state === "running" && this.#readOnly) return DeviceStatus.readOnly;
    return this.#check(offset, length, DeviceStatus.noSpace);
  }

  #scrubProblem(): Fault | null {
    if (this.#state !== "running")
      return new Fault("TRIVET_E_NOT_ACTIVE", "the volume is not active");
    if (!this.#readOnly) return null;
    return new Fault(
      "TRIVET_E_READ_ONLY",
      "the volume is read-only, and a scrub may have to write",
    );
  }

  // Replicas.

  /** The replica takes part from now on, with nothing behind it: at activation. */
  joined(index: number, stream: Stream, repairAddress: RepairAddress | null): void {
    const lane = this.core.lanes[index]!;
    lane.standing = "active";
    lane.stream = stream;
    lane.repairAddress = repairAddress;
    lane.wasMember = true;
    lane.lastFlush = -1;
    this.#moveOn();
  }
  /** It is back, on a new connection: what it missed is sent again. */
  resumed(index: number, stream: Stream, repairAddress: RepairAddress | null): void {
    const lane = this.core.lanes[index]!;
    lane.standing = "active";
    lane.stream = stream;
    lane.repairAddress = repairAddress;
    lane.forgetSpeed();
    lane.replays += 1;
    replay(this.core, lane);
    lane.catchUp(true);
    this.#moveOn();
    this.repair.consider();
  }
  /**
   * It is back and has missed too much: it stands in liveRepairReady, and is made equal to the others while they work on. `numbers` says
   * what those of its extents are worth when it did not take part in this session before.
   */
  readyForRepair(
    index: number,
    stream: Stream,
    repairAddress: RepairAddress | null,
    numbers: Numbers = "known",
  ): void {
    const lane = this.core.lanes[index]!;
    lane.repairAddress = repairAddress;
    this.repair.ready(lane, stream, numbers);
  }
  /** Bytes per second that repair copies at most from now on; 0: no limit. */
  setRepairRate(bytesPerSecond: number): void {
    this.repair.setRate(bytesPerSecond);
  }
  /** Null while none is running. */
  get repairStatus(): RepairStatus | null {
    return this.repair.status;
  }
  /** Its connection is gone (no stream touches its buffers any more); it may come back. */
  lost(index: number): void {
    const { core } = this;
    const lane = core.lanes[index]!;
    if (lane.standing === "active") {
      lane.standing = "offline";
      lane.offlineSinceMs = core.ports.clock.nowMs();
      this.#holdAll(lane);
      this.#graceTimers[index]?.cancel();
      this.#graceTimers[index] = core.ports.clock.after(core.tuning.offlineGraceMs, () => {
        this.#writes.giveUpAbsent();
        this.#moveOn();
      });
    }
    this.repair.laneLost(lane);
    lane.stream = null;
    lane.catchUp(false);
    this.#reports.forget(lane);
    this.#reads.laneLost(lane);
    this.#moveOn();
  }
  /** It takes no further part: what it has not done it never will. Its connection is ended by the caller. */
  giveUp(index: number): void {
    const { core } = this;
    const lane = core.lanes[index]!;
    if (lane.standing === "out") return;
    if (lane.standing === "repairing") {
      this.repair.laneLost(lane);
      return;
    }
    lane.standing = "out";
    lane.stream = null;
    core.skipAll(lane);
    this.repair.laneLost(lane);
    this.#flushes.recheck();
    this.#moveOn();
  }

  /** Whatever it had not made stable has to be sent again: also what it had acknowledged since its last flush. */
  #holdAll(lane: Lane): void {
    const { core } = this;
    const { table } = core;
    for (let slot = table.head; slot !== NONE; slot = table.next[slot]!) {
      const kind = table.kind[slot]!;
      if (kind === Kind.read) continue;
      if (kind >= Kind.close) {
        // It opens all its extents when it is back, and is told nothing of this repair.
        core.skip(slot, lane);
        continue;
      }
      const part = table.part[slot * 3 + lane.index];
      if (part === Part.sent) core.finish(slot, lane, Part.none);
      else if (part !== Part.done || table.id[slot]! <= lane.lastFlush) continue;
      core.hold(slot, lane);
    }
  }

  // Replies.

  acked(index: number, frame: AckFrame): void {
    const { core } = this;
    const { table } = core;
    const lane = core.lanes[index]!;
    const slot = table.find(frame.jobId);
    if (slot === NONE || table.part[slot * 3 + index] !== Part.sent) return;
    if (frame.tag === TAG.ErrorReport) {
      this.#reported(lane, slot, frame);
      return;
    }
    const kind = table.kind[slot]!;
    if (kind >= Kind.close) {
      this.#repairAcked(lane, slot, frame);
      return;
    }
    if (frame.tag !== ACK_TAGS[kind])
      throw new Fault(
        "TRIVET_E_PROTOCOL",
        `replica ${index} answered job ${frame.jobId} with message ${frame.tag}`,
      );
    if (frame.error !== null) {
      lane.jobErrors += 1;
      this.#reports.failed(lane, `job ${frame.jobId} failed: ${errorText(frame.error)}`);
      return;
    }
    this.#reports.done(lane, frame.jobId);
    if (kind === Kind.write) this.#writes.acked(slot, lane);
    else {
      this.#flushes.acked(slot, lane);
      this.repair.flushed(lane, frame.jobId);
      this.#writes.giveUpAbsent();
    }
    this.#moveOn();
  }
  #repairAcked(lane: Lane, slot: number, frame: AckFrame): void {
    if (frame.error === null) {
      this.#reports.done(lane, frame.jobId);
      this.repair.acked(slot, lane, frame);
    } else if (lane.standing === "repairing") this.repair.refused(lane, frame);
    else this.#reports.failed(lane, `job ${frame.jobId} failed: ${errorText(frame.error)}`);
    this.#moveOn();
  }
  #reported(lane: Lane, slot: number, frame: AckFrame): void {
    lane.errorReports += 1;
    const { table } = this.core;
    const kind = table.kind[slot]!;
    const error = frame.error!;
    if (kind >= Kind.close && lane.standing === "repairing") {
      this.repair.refused(lane, frame);
      return;
    }
    // The same bytes will fail again, in an endless loop over there (wire reference 11, trap 1).
    if (kind === Kind.write && error.kind === "HashMismatch") {
      this.#reports.failed(lane, `job ${frame.jobId} arrived with a wrong hash`);
      return;
    }
    if (kind === Kind.read) this.#reads.reported(slot, lane, errorText(error));
    this.#reports.report(lane, frame.jobId, kind === Kind.read, errorText(error));
    this.#reads.askElsewhere(lane);
  }

  /** For FrameOwner.place. */
  placeAnswer(index: number, jobId: number, frameBytes: number): number {
    return this.#reads.place(this.core.lanes[index]!, jobId, frameBytes);
  }
  answered(index: number, at: number, frameBytes: number): void {
    const lane = this.core.lanes[index]!;
    if (lane.isTroubled) this.#reports.done(lane, countAt(this.core.ports.arena.view, at + JOB_AT));
    this.#reads.answered(lane, at, frameBytes);
    this.#moveOn();
  }
  /** A stream has done with the payload that was attached by this tag. */
  sent(tag: number): void {
    this.#writes.sent(tag);
  }

  /** A replica counts now that did not. */
  #recheck(): void {
    this.#writes.recheck();
    this.#flushes.recheck();
    this.#moveOn();
  }
  #moveOn(): void {
    if (this.#writes.queuedCount > 0) this.#writes.pump();
    if (this.#reads.isWaiting) this.#reads.pump();
    this.#flushes.pump();
    if (this.#drained !== null) this.#checkDrained();
  }

  // The end.

  /** No new requests; what is asked for is finished, flushed to everybody who is there, and then `then` is called. */
  drain(then: () => void): void {
    this.#state = "draining";
    this.heal.drain();
    this.#drained = then;
    this.repair.stop();
    this.#checkDrained();
  }
  #checkDrained(): void {
    const { core } = this;
    if (this.#drained === null || this.openCount > 0 || !this.#flushes.isIdle) return;
    const then = this.#drained;
    this.#drained = null;
    // Whoever is away now is not waited for: reconciliation sees to it at the next start. Also one that had done everything: if
    // another has not, there will be a last flush, which would be held for it.
    for (const lane of core.lanes)
      if (lane.standing === "offline" && core.table.liveCount > 0 && core.canDoWithout(lane))
        core.hooks.givenUp(
          lane.index,
          new Fault("TRIVET_E_CONNECTION", `replica ${lane.index} is away while the volume stops`),
        );
    this.#flushes.finish(() => {
      this.#state = "closed";
      then();
    });
  }

  /** Everything unanswered ends with `shutdown`, and nothing is ever sent again. */
  fail(): void {
    if (this.#state === "failed") return;
    this.#state = "failed";
    this.#drained = null;
    this.repair.dispose();
    for (const lane of this.core.lanes) {
      lane.standing = "out";
      lane.stream = null;
    }
    this.#flushes.failAll(DeviceStatus.shutdown);
    this.#zeroes.failAll(DeviceStatus.shutdown);
    this.#writes.failAll(DeviceStatus.shutdown);
    this.#reads.failAll(DeviceStatus.shutdown);
    this.heal.failAll(DeviceStatus.shutdown);
  }

  /** Gives back what the engine itself holds; all streams are closed. */
  dispose(): void {
    // A timer left behind would keep a process that has nothing else to do.
    for (const timer of this.#graceTimers) timer?.cancel();
    this.heal.dispose();
    this.scrub.dispose();
    this.#reads.dispose();
    this.repair.dispose();
    this.#patience.dispose();
    this.#flushes.dispose();
    this.#writes.dispose();
    this.#zeroes.dispose();
  }
}

const ACK_TAGS: readonly number[] = [-1, -1, TAG.WriteAck, TAG.FlushAck, TAG.BarrierAck];
