import { unreachable } from "../base/invariant.js";
import type { Then } from "../ports/files.js";
import type { Address } from "../ports/stream.js";
import { JobKind } from "./job-table.js";
import type { RegionStore } from "./region-store.js";

// What jobs do that open, close or replace one whole extent: live repair and reconciliation (downstairs
// reference 6.1, 6.2). They are rare and plainly written.

export interface ExtentJob {
  readonly kind: JobKind;
  readonly extent: number;
  readonly flushNumber: number;
  readonly generation: bigint;
  readonly source: Address | undefined;
  /** It failed before: part of it may be done. */
  readonly again: boolean;
}

/**
 * Why the extent is in the wrong state for a job that runs for the first time; the original aborts then.
 * Undefined: it is not.
 */
export function wrongState(store: RegionStore, job: ExtentJob): string | undefined {
  if (job.again) return undefined;
  const closed = store.isClosed(job.extent);
  switch (job.kind) {
    case JobKind.liveReopen:
    case JobKind.extentReopen:
    case JobKind.liveRepair:
    case JobKind.extentRepair:
      return closed ? undefined : `extent ${job.extent} is open`;
    default:
      return closed ? `extent ${job.extent} is closed` : undefined;
  }
}

export function runExtentJob(store: RegionStore, job: ExtentJob, then: Then): void {
  const { extent, flushNumber, generation } = job;
  const closed = store.isClosed(extent);
  switch (job.kind) {
    case JobKind.liveClose:
    case JobKind.extentClose:
      closed ? then(null) : store.closeExtent(extent, then);
      return;
    case JobKind.liveFlushClose:
      if (closed) {
        then(null);
        return;
      }
      store.flushExtent(extent, flushNumber, generation, (fault) =>
        fault === null ? store.closeExtent(extent, then) : then(fault),
      );
      return;
    case JobKind.extentFlush:
      store.flushExtent(extent, flushNumber, generation, then);
      return;
    case JobKind.liveReopen:
    case JobKind.extentReopen:
      closed ? store.reopenExtent(extent, then) : then(null);
      return;
    case JobKind.liveRepair:
    case JobKind.extentRepair:
      store.replaceExtent(extent, job.source!, then);
      return;
    default:
      unreachable(job.kind as never, "a job of one extent");
      return;
  }
}
