import { Fault } from "../base/fault.js";
import type { JobId } from "../base/ids.js";
import { FRAME_BYTES_MAX } from "../base/limits.js";
import { READ_CONTEXT_BYTES_MAX } from "../crucible/layout.js";
import { decode, KINDS, type Message, TAG } from "../crucible/messages.js";
import { READ_RESPONSE_HEAD_BYTES } from "../crucible/put.js";
import { rangeProblem, regionBlocks } from "../crucible/region-math.js";
import { FlushFrame, ReadRequestFrame, RequestFrame, WriteFrame } from "../crucible/requests.js";
import type { Arena } from "../ports/arena.js";
import type { JobQueue } from "./job-queue.js";
import { JobKind, type JobTable } from "./job-table.js";
import type { RegionStore } from "./region-store.js";
import type { Service } from "./service.js";

// Frames that ask for work become rows of the job table. Everything that a peer may get wrong about a job
// in itself is found here, before the job is queued: lengths, ranges, modes. Every problem is thrown as
// a Fault, which ends the connection (the original aborts for some of these). Whether an extent is
// open is the runner's question, as it is answered when the job runs.

const TAGS = {
  [JobKind.write]: TAG.Write,
  [JobKind.writeUnwritten]: TAG.WriteUnwritten,
  [JobKind.read]: TAG.ReadRequest,
  [JobKind.flush]: TAG.Flush,
  [JobKind.barrier]: TAG.Barrier,
  [JobKind.liveClose]: TAG.ExtentLiveClose,
  [JobKind.liveFlushClose]: TAG.ExtentLiveFlushClose,
  [JobKind.liveRepair]: TAG.ExtentLiveRepair,
  [JobKind.liveReopen]: TAG.ExtentLiveReopen,
  [JobKind.liveNoOp]: TAG.ExtentLiveNoOp,
  [JobKind.extentFlush]: TAG.ExtentFlush,
  [JobKind.extentClose]: TAG.ExtentClose,
  [JobKind.extentRepair]: TAG.ExtentRepair,
  [JobKind.extentReopen]: TAG.ExtentReopen,
} as const satisfies Record<JobKind, number>;

type ExtentMessage = Extract<Message, { extentId: number; kind: `Extent${string}` }>;

const JOB_KINDS: readonly (JobKind | undefined)[] = KINDS.map((_, tag) =>
  Object.values(JobKind).find((kind) => TAGS[kind] === tag),
);

/** The kind of job that a frame asks for; undefined: none. */
export function jobKindOf(tag: number): JobKind | undefined {
  return JOB_KINDS[tag];
}

/** Whether frames of this kind carry ids and dependencies. */
export const hasIds = (kind: JobKind): boolean => kind < JobKind.extentFlush;

/** A read-only region answers reads, flushes (nothing is dirty) and barriers. */
const READ_ONLY_KINDS: readonly JobKind[] = [JobKind.read, JobKind.flush, JobKind.barrier];

export class JobIntake {
  readonly #arena: Arena;
  readonly #store: RegionStore;
  readonly #queue: JobQueue;
  readonly #table: JobTable;
  // One record of each kind, filled again for every frame.
  readonly #head = new RequestFrame();
  readonly #write = new WriteFrame();
  readonly #read = new ReadRequestFrame();
  readonly #flush = new FlushFrame();
  readonly #blocks: number;
  readonly #replyBytesMax: number;

  constructor(service: Service, queue: JobQueue) {
    const { arena, store, memoryBytes } = service;
    this.#arena = arena;
    this.#store = store;
    this.#replyBytesMax = Math.min(FRAME_BYTES_MAX, memoryBytes / 2);
    this.#queue = queue;
    this.#table = queue.table;
    this.#blocks = regionBlocks(store.definition);
  }

  /**
   * The ids were checked already. True: the job keeps the frame's memory (`owned`), which is the
   * caller's in all other cases. The job may have run, and the connection ended, when this returns.
   */
  take(kind: JobKind, at: number, length: number): boolean {
    if (this.#store.readOnly && !READ_ONLY_KINDS.includes(kind))
      throw new Fault(
        "TRIVET_E_READ_ONLY",
        `${KINDS[TAGS[kind]]} for a region that is served read-only`,
      );
    switch (kind) {
      case JobKind.write:
      case JobKind.writeUnwritten:
        this.#takeWrite(kind, at, length);
        return true;
      case JobKind.read:
        this.#takeRead(at, length);
        return false;
      case JobKind.flush:
        this.#takeFlush(at, length);
        return false;
      case JobKind.barrier:
      case JobKind.liveNoOp:
        this.#head.read(this.#arena, at, length);
        this.#submit(this.#job(kind, this.#head), this.#head);
        return false;
      default:
        this.#takeExtentJob(kind, at, length);
        return false;
    }
  }

  #takeWrite(kind: JobKind, at: number, length: number): void {
    const frame = this.#write;
    frame.read(this.#arena, at, length);
    const { startBlock, contextsCount: count } = frame;
    const want = count * this.#store.definition.blockSize;
    if (frame.dataLength !== want)
      throw new Fault(
        "TRIVET_E_PROTOCOL",
        `write ${frame.jobId} of ${count} blocks has ${frame.dataLength} bytes, not ${want}`,
      );
    this.#checkRange(frame.jobId, startBlock, count);
    const slot = this.#job(kind, frame);
    const table = this.#table;
    table.start[slot] = startBlock;
    table.end[slot] = startBlock + count;
    table.contextsAt[slot] = frame.contextsAt;
    table.dataAt[slot] = frame.dataAt;
    this.#dependOnAll(slot, frame);
    // From here on nothing throws: the frame is the job's.
    table.frameAt[slot] = at;
    this.#queue.submit(slot);
  }

  #takeRead(at: number, length: number): void {
    const frame = this.#read;
    frame.read(this.#arena, at, length);
    const { startBlock, count, jobId } = frame;
    this.#checkRange(jobId, startBlock, count);
    const perBlock = READ_CONTEXT_BYTES_MAX + this.#store.definition.blockSize;
    const bytes = READ_RESPONSE_HEAD_BYTES + 8 + count * perBlock;
    if (bytes > this.#replyBytesMax)
      throw new Fault(
        "TRIVET_E_PROTOCOL",
        `the answer to read ${jobId} has ${bytes} bytes, at most ${this.#replyBytesMax} are possible`,
      );
    const slot = this.#job(JobKind.read, frame);
    this.#table.start[slot] = startBlock;
    this.#table.end[slot] = startBlock + count;
    this.#submit(slot, frame);
  }

  #takeFlush(at: number, length: number): void {
    const frame = this.#flush;
    frame.read(this.#arena, at, length);
    // Acknowledging it without a snapshot, as the original does, would be a lie.
    if (frame.snapshot !== null)
      throw new SnapshotRefused(frame.jobId as JobId, "this file system offers no snapshots");
    const slot = this.#job(JobKind.flush, frame);
    const table = this.#table;
    table.end[slot] = Number.POSITIVE_INFINITY;
    table.flushNumber[slot] = frame.flushNumber;
    table.generation[slot] = frame.generation;
    table.limit[slot] = frame.extentLimit;
    this.#submit(slot, frame);
  }

  #takeExtentJob(kind: JobKind, at: number, length: number): void {
    const message = decode(this.#arena.bytes, at, length) as ExtentMessage;
    const { extentCount, extentSize } = this.#store.definition;
    const extent = message.extentId;
    if (extent >= extentCount)
      throw new Fault(
        "TRIVET_E_PROTOCOL",
        `${message.kind} of extent ${extent}, the region has ${extentCount}`,
      );
    const table = this.#table;
    const id = "jobId" in message ? message.jobId : message.repairId;
    const slot = this.#newSlot(kind, id);
    table.extent[slot] = extent;
    table.start[slot] = extent * extentSize;
    table.end[slot] = (extent + 1) * extentSize;
    table.flushNumber[slot] = "flushNumber" in message ? message.flushNumber : 0;
    table.generation[slot] = "generation" in message ? message.generation : 0n;
    if ("sourceRepairAddress" in message) table.source[slot] = message.sourceRepairAddress;
    const dependencies = "dependencies" in message ? message.dependencies : [];
    for (const on of dependencies) this.#depend(slot, on);
    this.#queue.submit(slot);
  }

  #checkRange(jobId: number, start: number, count: number): void {
    if (count <= this.#blocks - start) return;
    if (count === 0) return;
    const problem = rangeProblem(this.#store.definition, start, count);
    throw new Fault("TRIVET_E_PROTOCOL", `job ${jobId}: ${problem}`);
  }

  #job(kind: JobKind, frame: RequestFrame): number {
    return this.#newSlot(kind, frame.jobId);
  }
  #newSlot(kind: JobKind, id: number): number {
    const slot = this.#queue.take(kind, id);
    if (slot < 0)
      throw new Fault("TRIVET_E_PROTOCOL", `more than ${this.#queue.count} jobs are unfinished`);
    return slot;
  }

  #submit(slot: number, frame: RequestFrame): void {
    this.#dependOnAll(slot, frame);
    this.#queue.submit(slot);
  }
  #dependOnAll(slot: number, frame: RequestFrame): void {
    const { depsCount } = frame;
    for (let i = 0; i < depsCount; i++) this.#depend(slot, frame.dependency(this.#arena, i));
  }
  #depend(slot: number, on: number): void {
    if (this.#queue.depend(slot, on)) return;
    const unmet = this.#queue.unmetDependencies;
    throw new Fault("TRIVET_E_PROTOCOL", `more than ${unmet} dependencies are unmet`);
  }
}

/** A flush that asks for a snapshot: reported, then the connection ends. */
export class SnapshotRefused extends Fault {
  readonly jobId: JobId;
  constructor(jobId: JobId, why: string) {
    super("TRIVET_E_NOT_YET", `flush ${jobId} asks for a snapshot: ${why}`);
    this.jobId = jobId;
  }
}
