import { Fault } from "../base/fault.js";
import type { ExtentId, FlushNumber, Generation, JobId } from "../base/ids.js";
import { RETRY_FIRST_MS, RETRY_MS_MAX } from "../base/limits.js";
import type { CrucibleError } from "../crucible/error.js";
import { TAG } from "../crucible/messages.js";
import { ACK_BYTES, type AckTag, putAck } from "../crucible/put.js";
import type { Cancel } from "../ports/stream.js";
import { crucibleErrorOf } from "./error-report.js";
import { type ExtentJob, runExtentJob, wrongState } from "./extent-jobs.js";
import { JobQueue } from "./job-queue.js";
import { JobKind, type JobTable } from "./job-table.js";
import type { Outlet } from "./outlet.js";
import { ReadJobs } from "./read-jobs.js";
import type { StoreDone } from "./region-store.js";
import type { Service } from "./service.js";
import { delayed, LOSSY_DELAY_MS, troubled } from "./test-modes.js";

/** What acknowledges a job of each kind that says nothing but that it was done. */
const ACK_TAGS: { readonly [kind: number]: AckTag } = {
  [JobKind.write]: TAG.WriteAck,
  [JobKind.writeUnwritten]: TAG.WriteUnwrittenAck,
  [JobKind.flush]: TAG.FlushAck,
  [JobKind.barrier]: TAG.BarrierAck,
  [JobKind.liveRepair]: TAG.ExtentLiveRepairAckId,
  [JobKind.liveReopen]: TAG.ExtentLiveAckId,
  [JobKind.liveNoOp]: TAG.ExtentLiveAckId,
};

/**
 * Runs the jobs of one connection on the store and answers them. A job that fails is reported and tried
 * again after a growing pause, without holding up others (the original: at once, for ever, holding up
 * everything). The acknowledgement is written before the job counts as complete, so that none
 * overtakes those that it depends on.
 *
 * After `stop` nothing is answered; what is in progress in the store ends there and gives back its memory.
 */
export class JobRunner implements StoreDone {
  readonly queue: JobQueue;
  readonly reads: ReadJobs;
  readonly #service: Service;
  readonly #outlet: Outlet;
  readonly #table: JobTable;
  readonly #timers = new Map<number, Cancel>();
  #stopped = false;

  constructor(service: Service, outlet: Outlet) {
    this.#service = service;
    this.#outlet = outlet;
    this.queue = new JobQueue(this);
    this.#table = this.queue.table;
    this.reads = new ReadJobs(service, outlet, this.#table, this);
  }

  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    for (const timer of this.#timers.values()) timer.cancel();
    // Jobs that wait for a moment of theirs while they count as running.
    const held = [...this.reads.takeHeld(), ...this.#timers.keys()];
    this.#timers.clear();
    for (const slot of held) if (this.queue.isRunning(slot)) this.#drop(slot);
    this.queue.abandon((slot) => this.#freeFrame(slot));
  }

  /** For the queue. */
  startJob(slot: number): void {
    const { testModes, random } = this.#service;
    if (delayed(testModes, random)) this.#after(slot, LOSSY_DELAY_MS, () => this.#run(slot));
    else this.#run(slot);
  }

  storeDone(slot: number, fault: Fault | null, value: number): void {
    if (this.#stopped) this.#discarded(slot, fault);
    else if (fault !== null) this.#storeFailed(slot, fault);
    else this.#stored(slot, value);
    this.#service.ended();
  }

  #run(slot: number): void {
    const table = this.#table;
    const kind = table.kind[slot]!;
    const { testModes, random, store } = this.#service;
    const trouble = troubled(testModes, random, kind);
    if (trouble !== undefined) {
      this.#fail(slot, crucibleErrorOf(trouble), trouble);
      return;
    }
    switch (kind) {
      case JobKind.write:
      case JobKind.writeUnwritten:
        this.#write(slot, kind === JobKind.writeUnwritten);
        return;
      case JobKind.read:
        this.#read(slot);
        return;
      case JobKind.flush:
        this.#flush(slot);
        return;
      case JobKind.barrier:
      case JobKind.liveNoOp:
        this.#acknowledge(slot);
        return;
      default: {
        const job = this.#extentJob(slot);
        const wrong = wrongState(store, job);
        if (wrong !== undefined) {
          this.#refuse(slot, wrong);
          return;
        }
        this.#service.began();
        runExtentJob(store, job, (fault) => {
          this.#extentJobDone(slot, job, fault);
          this.#service.ended();
        });
      }
    }
  }

  #write(slot: number, unwrittenOnly: boolean): void {
    const table = this.#table;
    const start = table.start[slot]!;
    const count = table.end[slot]! - start;
    if (count === 0) {
      this.#freeFrame(slot);
      this.#acknowledge(slot);
      return;
    }
    if (this.#touchesClosed(slot)) return;
    this.#service.began();
    this.#service.store.write(
      start,
      count,
      table.contextsAt[slot]!,
      table.dataAt[slot]!,
      table.frameAt[slot]!,
      unwrittenOnly,
      this,
      slot,
    );
  }

  #read(slot: number): void {
    if (this.#table.start[slot] === this.#table.end[slot]) {
      this.reads.sendEmpty(slot);
      this.#finish(slot);
    } else if (!this.#touchesClosed(slot)) this.reads.run(slot);
  }

  #flush(slot: number): void {
    const table = this.#table;
    const { store, closedExtents } = this.#service;
    const limit = table.limit[slot]!;
    if (limit > store.definition.extentCount) {
      const detail = `a flush up to extent ${limit} of ${store.definition.extentCount}`;
      this.#fail(slot, { kind: "InvalidExtent" }, new Fault("TRIVET_E_PROTOCOL", detail));
      return;
    }
    for (const extent of closedExtents)
      if (store.isDirty(extent) && (limit < 0 || extent <= limit)) {
        this.#refuse(slot, `a flush while extent ${extent} is closed and dirty`);
        return;
      }
    this.#service.began();
    store.flush(table.flushNumber[slot]!, table.generation[slot]!, limit, this, slot);
  }

  /** Ends the connection, and returns true, when a block of the job lies in a closed extent. */
  #touchesClosed(slot: number): boolean {
    const { store, closedExtents } = this.#service;
    if (closedExtents.size === 0) return false;
    const { extentSize } = store.definition;
    const last = Math.floor((this.#table.end[slot]! - 1) / extentSize);
    for (let e = Math.floor(this.#table.start[slot]! / extentSize); e <= last; e++) {
      if (!closedExtents.has(e)) continue;
      this.#refuse(slot, `blocks of extent ${e}, which is closed`);
      return true;
    }
    return false;
  }

  #stored(slot: number, value: number): void {
    const table = this.#table;
    const { statistics, store } = this.#service;
    const kind = table.kind[slot]!;
    const bytes = (table.end[slot]! - table.start[slot]!) * store.definition.blockSize;
    if (kind === JobKind.read) {
      statistics.reads += 1;
      statistics.bytesRead += bytes;
      this.reads.send(slot, value);
      this.#finish(slot);
      return;
    }
    if (kind === JobKind.flush) statistics.flushes += 1;
    else {
      statistics.writes += 1;
      statistics.bytesWritten += bytes;
      // The frame is the store's now.
      table.frameAt[slot] = -1;
    }
    this.#acknowledge(slot);
  }

  #acknowledge(slot: number): void {
    const { stream, ids } = this.#outlet;
    const tag = ACK_TAGS[this.#table.kind[slot]!]!;
    putAck(this.#service.arena, stream.compose(ACK_BYTES), tag, ids, this.#table.id[slot]!);
    this.#finish(slot);
  }

  #finish(slot: number): void {
    if (this.queue.finish(slot) || this.#stopped) return;
    this.#outlet.endFor(
      new Fault(
        "TRIVET_E_PROTOCOL",
        `${this.queue.completed.count} jobs without a flush or barrier`,
      ),
    );
  }

  #storeFailed(slot: number, fault: Fault): void {
    // A write keeps its frame for the next attempt; a read finds new memory then.
    const wasRead = this.#table.kind[slot] === JobKind.read;
    if (wasRead) this.#freeFrame(slot);
    this.#fail(slot, crucibleErrorOf(fault), fault);
    if (wasRead && !this.#stopped) this.reads.retry();
  }

  #fail(slot: number, error: CrucibleError, fault: Fault): void {
    const table = this.#table;
    const { notes, statistics, clock } = this.#service;
    statistics.failures += 1;
    const jobId = table.id[slot]! as JobId;
    const { upstairsId, sessionId } = this.#outlet.ids;
    notes("warn", "downstairs.job.failed", fault.line, { job: jobId });
    this.#outlet.say({ kind: "ErrorReport", upstairsId, sessionId, jobId, error });
    this.queue.pause(slot);
    if (this.#stopped) return;
    const delay = Math.min(RETRY_MS_MAX, RETRY_FIRST_MS * 2 ** (table.failures[slot]! - 1));
    const timer = clock.after(delay, () => {
      this.#timers.delete(slot);
      this.queue.resume(slot);
    });
    this.#timers.set(slot, timer);
  }

  /** The peer asked for something that makes no sense; the original aborts. */
  #refuse(slot: number, what: string): void {
    const fault = new Fault("TRIVET_E_PROTOCOL", `job ${this.#table.id[slot]}: ${what}`);
    this.#drop(slot);
    this.#outlet.endFor(fault);
  }

  #extentJob(slot: number): ExtentJob {
    const table = this.#table;
    return {
      kind: table.kind[slot]! as JobKind,
      extent: table.extent[slot]!,
      flushNumber: table.flushNumber[slot]!,
      generation: table.generation[slot]!,
      source: table.source[slot],
      again: table.failures[slot]! > 0,
    };
  }

  #extentJobDone(slot: number, job: ExtentJob, fault: Fault | null): void {
    const { store, closedExtents, statistics } = this.#service;
    if (store.isClosed(job.extent)) closedExtents.add(job.extent);
    else closedExtents.delete(job.extent);
    if (this.#stopped) {
      this.queue.discard(slot);
      return;
    }
    const reconciliation = job.kind >= JobKind.extentFlush;
    if (fault !== null && reconciliation) {
      this.#extentError(slot, job, fault);
      return;
    }
    if (fault !== null && job.kind === JobKind.liveRepair) {
      this.#repairFailed(slot, fault);
      return;
    }
    if (fault !== null) {
      this.#fail(slot, crucibleErrorOf(fault), fault);
      return;
    }
    statistics.otherJobs += 1;
    if (reconciliation) this.#outlet.say({ kind: "RepairAckId", repairId: this.#table.id[slot]! });
    else if (job.kind === JobKind.liveClose || job.kind === JobKind.liveFlushClose)
      this.#sayClosed(slot, job.extent);
    else {
      this.#acknowledge(slot);
      return;
    }
    this.#finish(slot);
  }

  #sayClosed(slot: number, extent: number): void {
    const { store } = this.#service;
    const { upstairsId, sessionId } = this.#outlet.ids;
    this.#outlet.say({
      kind: "ExtentLiveCloseAck",
      upstairsId,
      sessionId,
      jobId: this.#table.id[slot]! as JobId,
      result: {
        ok: true,
        generation: store.generation(extent) as Generation,
        flushNumber: store.flushNumber(extent) as FlushNumber,
        dirty: store.isDirty(extent),
      },
    });
  }

  /** Not tried again: the upstairs starts over with everybody. */
  #extentError(slot: number, job: ExtentJob, fault: Fault): void {
    const { notes, statistics } = this.#service;
    statistics.failures += 1;
    notes("warn", "downstairs.reconcile.failed", fault.line, { extent: job.extent });
    const error = crucibleErrorOf(fault);
    const repairId = this.#table.id[slot]!;
    this.#outlet.say({ kind: "ExtentError", repairId, extentId: job.extent as ExtentId, error });
    this.#finish(slot);
  }

  /** Not tried again either: reported, and the report must get out before the connection closes. */
  #repairFailed(slot: number, fault: Fault): void {
    const { upstairsId, sessionId } = this.#outlet.ids;
    const jobId = this.#table.id[slot]! as JobId;
    this.#service.statistics.failures += 1;
    this.#drop(slot);
    const error = crucibleErrorOf(fault);
    this.#outlet.say({ kind: "ErrorReport", upstairsId, sessionId, jobId, error });
    this.#outlet.endFor(fault);
  }

  /** A job of a stopped connection has ended in the store. */
  #discarded(slot: number, fault: Fault | null): void {
    if (fault !== null || this.#table.kind[slot] === JobKind.read) this.#freeFrame(slot);
    this.queue.discard(slot);
  }

  #drop(slot: number): void {
    this.#freeFrame(slot);
    this.queue.discard(slot);
  }

  #freeFrame(slot: number): void {
    const table = this.#table;
    if (table.kind[slot] === JobKind.read) {
      this.reads.release(slot);
      return;
    }
    const at = table.frameAt[slot]!;
    if (at < 0) return;
    table.frameAt[slot] = -1;
    this.#service.arena.free(at);
  }

  #after(slot: number, delayMs: number, run: () => void): void {
    const timer = this.#service.clock.after(delayMs, () => {
      this.#timers.delete(slot);
      run();
    });
    this.#timers.set(slot, timer);
  }
}
