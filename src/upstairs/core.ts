import type { Fault } from "../base/fault.js";
import type { Generation } from "../base/ids.js";
import { invariant } from "../base/invariant.js";
import type { RegionDefinition } from "../crucible/region-definition.js";
import { regionBlocks } from "../crucible/region-math.js";
import type { SessionIds } from "../crucible/session-ids.js";
import { Flag, JobTable, Kind, NONE, Part } from "./job-table.js";
import { Lane } from "./lane.js";
import { RoomQueue, Share } from "./memory.js";
import type { Tuning, UpstairsPorts } from "./options.js";
import { type ClosedExtents, Sender } from "./sender.js";
import { WriterMap } from "./writer-map.js";

/** First job id of a session (wire reference 6.1). */
export const FIRST_JOB_ID = 1000;

export interface CoreHooks {
  /** The replica takes no further part; its connection has to end, and is not made again before `pauseMs`. */
  givenUp(index: number, fault: Fault, pauseMs?: number): void;
  /** This connection has to end; what is outstanding is replayed on the next. */
  dropConnection(index: number, fault: Fault): void;
  /** A replica that was ready for repair is being repaired from now on: jobs are sent to it, answers come. */
  repairStarted(index: number): void;
  /** Its repair is complete: it takes part as any other. */
  repaired(index: number): void;
  /** Its repair ended too early: this connection has to end, and it is repaired from the beginning when it is back. */
  repairFailed(index: number, fault: Fault): void;
}

/** Somebody who decides about blocks, and wants to know when that is out of date. */
export interface WriteWatcher {
  /** A write to these blocks was submitted. */
  overtaken(start: number, blocks: number): void;
}

/** A live repair that is running, as the guest's jobs meet it. */
export interface Repairing extends ClosedExtents {
  /** A write to this range is about to get its id. */
  prepare(start: number, blocks: number): void;
  /** Whether a replica under repair gets the job in `slot`. */
  takes(slot: number): boolean;
  /** A write waits, and only because of `lane`, which is under repair. */
  holdsUp(lane: Lane): void;
  /** `lane`, under repair, cannot go on. */
  fail(lane: Lane, fault: Fault): void;
}

/** What the parts of the job engine share: the table, the replicas' lanes, memory, and the rules about who counts. */
export class Core {
  readonly ports: UpstairsPorts;
  readonly tuning: Tuning;
  readonly hooks: CoreHooks;
  readonly table = new JobTable();
  readonly lanes: readonly Lane[] = [new Lane(0), new Lane(1), new Lane(2)];
  readonly writers = new WriterMap();
  readonly sender: Sender;
  readonly writeShare: Share;
  readonly readShare: Share;
  readonly room: RoomQueue;
  blockBytes = 0;
  blocks = 0;
  extentBlocks = 0;
  extentCount = 0;
  /** Null nearly always. */
  repair: Repairing | null = null;
  generation = 0n as Generation;
  firstFlushNumber = 0;
  nextFlushNumber = 0;
  /** The list of live jobs is being walked and cut: nobody may be told of room, as they would submit at once. */
  isRetiring = false;
  /** A handful at most; none nearly always. */
  readonly watchers: WriteWatcher[] = [];
  /** False from the moment a barrier retired jobs until a flush did (wire reference 6.9). */
  replayPossible = true;
  /** Row in the write log of the write submitted last: what the next flush covers. */
  newestRow: number;
  #nextId = FIRST_JOB_ID;

  constructor(ports: UpstairsPorts, tuning: Tuning, ids: SessionIds, hooks: CoreHooks) {
    this.ports = ports;
    this.tuning = tuning;
    this.hooks = hooks;
    const { arena } = ports;
    this.newestRow = ports.journal.lastCovered;
    this.sender = new Sender(this.table, arena, ids);
    this.writeShare = new Share(arena, arena.sizeBytes * tuning.writeShare);
    this.readShare = new Share(arena, arena.sizeBytes * tuning.readShare);
    this.room = new RoomQueue(this.writeShare);
  }

  get sizeBytes(): number {
    return this.blocks * this.blockBytes;
  }
  get nextJobId(): number {
    return this.#nextId;
  }

  begin(region: RegionDefinition, generation: Generation, flushNumber: number): void {
    this.generation = generation;
    this.firstFlushNumber = flushNumber;
    this.nextFlushNumber = flushNumber;
    this.blockBytes = region.blockSize;
    this.blocks = regionBlocks(region);
    this.extentBlocks = region.extentSize;
    this.extentCount = region.extentCount;
  }

  /** The next job id, in order of submission. */
  admit(slot: number): void {
    this.table.admit(slot, this.#nextId++);
  }

  takeFlushNumber(): number {
    const number = this.nextFlushNumber++;
    this.ports.journal.flushing(number);
    return number;
  }

  /** This session has used `number`; one below the first is reconciliation's. */
  hasFlushed(number: number): boolean {
    return number >= this.firstFlushNumber - 1 && number < this.nextFlushNumber;
  }

  /** A write was submitted: what was known of its blocks is out of date. */
  written(start: number, blocks: number): void {
    const { lanes, watchers } = this;
    for (let r = 0; r < lanes.length; r++) lanes[r]!.written(start, blocks);
    for (let w = 0; w < watchers.length; w++) watchers[w]!.overtaken(start, blocks);
  }

  get activeCount(): number {
    let count = 0;
    for (const lane of this.lanes) if (lane.standing === "active") count += 1;
    return count;
  }
  /** Replicas that jobs are sent to, or held for, and that count. */
  get acceptingCount(): number {
    let count = 0;
    for (const { standing } of this.lanes)
      if (standing === "active" || standing === "offline") count += 1;
    return count;
  }

  /** Whether the volume can do without it: the other two are at work, or it counts for nothing yet. */
  canDoWithout(lane: Lane): boolean {
    if (lane.standing === "repairing") return true;
    return this.lanes.every((other) => other === lane || other.standing === "active");
  }
  /** The volume goes on without it, until it is repaired. */
  giveUp(lane: Lane, fault: Fault, pauseMs = 0): void {
    if (lane.standing === "repairing") this.repair!.fail(lane, fault);
    else this.hooks.givenUp(lane.index, fault, pauseMs);
  }

  /** Whether an offline replica may be given up: it has had its time to come back, and the volume can do without it. */
  mayGiveUp(lane: Lane): boolean {
    const awayMs = this.ports.clock.nowMs() - lane.offlineSinceMs;
    return awayMs >= this.tuning.offlineGraceMs && this.canDoWithout(lane);
  }

  /** Sends a fresh job to everybody who is there, holds it for those who will be back, skips it for the rest. */
  spread(slot: number): void {
    const { table, lanes } = this;
    const floor = this.writers.floor;
    for (let r = 0; r < lanes.length; r++) {
      const lane = lanes[r]!;
      const { standing } = lane;
      if (standing === "active" || (standing === "repairing" && this.repair!.takes(slot)))
        this.sender.send(slot, lane, floor, this.generation);
      else if (standing === "offline") this.hold(slot, lane);
      else table.part[slot * 3 + r] = Part.skipped;
    }
  }
  hold(slot: number, lane: Lane): void {
    const { table } = this;
    table.part[slot * 3 + lane.index] = Part.held;
    lane.heldJobs += 1;
    lane.heldBytes += table.bytes[slot]!;
  }

  /** Nothing is before the replica any more: what it has not done it never will. Its reads are seen to elsewhere. */
  skipAll(lane: Lane): void {
    const { table } = this;
    for (let slot = table.head; slot !== NONE; slot = table.next[slot]!)
      if (table.kind[slot] !== Kind.read) this.skip(slot, lane);
  }
  /** The same for one job. */
  skip(slot: number, lane: Lane): void {
    const { table } = this;
    const at = slot * 3 + lane.index;
    const part = table.part[at]!;
    if (part === Part.none || part >= Part.done) return;
    // Jobs of repair are in no count: nobody waits for room because of them.
    if (table.kind[slot]! >= Kind.close) table.part[at] = Part.skipped;
    else this.finish(slot, lane, Part.skipped);
  }

  /** The job is no longer before the replica, and becomes `part` to it. */
  finish(slot: number, lane: Lane, part: number): void {
    const { table } = this;
    const at = slot * 3 + lane.index;
    const bytes = table.bytes[slot]!;
    if (table.part[at] === Part.sent) {
      lane.sentJobs -= 1;
      lane.sentBytes -= bytes;
      lane.did(bytes);
    } else {
      invariant(table.part[at] === Part.held, "a job is before a replica once");
      lane.heldJobs -= 1;
      lane.heldBytes -= bytes;
    }
    table.part[at] = part;
  }

  /** Gives back a slot that is not live and holds no payload any more that a stream may read. */
  recycle(slot: number): void {
    const { table } = this;
    const own = table.own[slot]!;
    // What a successor may have to write again stays where it is: after a failure this process uses the memory no more.
    const isLogged = (table.flags[slot]! & Flag.logged) !== 0;
    const isKept = isLogged && this.ports.journal.holds(table.row[slot]!);
    if (own >= 0 && !isKept)
      (table.kind[slot] === Kind.read ? this.readShare : this.writeShare).free(own);
    table.own[slot] = NONE;
    table.drop(slot);
  }
}
