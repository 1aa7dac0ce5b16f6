import { Fault } from "../base/fault.js";
import { sameGeometry } from "../crucible/region-math.js";
import type { Then } from "../ports/files.js";
import type { Address } from "../ports/stream.js";
import { parseRegionConfig } from "../region/config.js";
import type { RegionStore } from "./region-store.js";

// A region becomes a copy of one that another downstairs serves read-only (downstairs reference 7.4). The source
// cannot change meanwhile, so extents are copied one after another, each by the steps of a repair: what was
// copied when it was interrupted is whole, and starting again is safe.

/** The source, besides what a repair asks it. */
export interface CloneSource {
  /** region.json of the source. */
  regionInfo(source: Address, then: (fault: Fault | null, text: string) => void): void;
  readOnly(source: Address, then: (fault: Fault | null, readOnly: boolean) => void): void;
}

/** `store` is open read-write, and nobody else uses it. `progress` is called after each extent. */
export function cloneRegion(
  store: RegionStore,
  peer: CloneSource,
  source: Address,
  progress: (done: number, total: number) => void,
  then: Then,
): void {
  checkSource(store, peer, source, (fault) => {
    if (fault === null) copyFrom(store, source, 0, progress, then);
    else then(fault);
  });
}

function checkSource(store: RegionStore, peer: CloneSource, source: Address, then: Then): void {
  const name = `${source.host}:${source.port}`;
  peer.regionInfo(source, (fault, text) => {
    if (fault !== null) {
      then(fault);
      return;
    }
    const problem = definitionProblem(store, text, name);
    if (problem !== null) {
      then(problem);
      return;
    }
    peer.readOnly(source, (failed, readOnly) => {
      if (failed !== null || readOnly) then(failed);
      else
        then(
          new Fault(
            "TRIVET_E_READ_ONLY_MISMATCH",
            `the source ${name} is not served read-only, so it may change while it is copied`,
          ),
        );
    });
  });
}

function definitionProblem(store: RegionStore, text: string, name: string): Fault | null {
  try {
    const theirs = parseRegionConfig(text, `the region of ${name}`);
    const ours = store.definition;
    if (!sameGeometry(ours, theirs))
      return new Fault(
        "TRIVET_E_GEOMETRY_MISMATCH",
        `the region of ${name} has ${shape(theirs)}, this one ${shape(ours)}`,
      );
    if (ours.uuid === theirs.uuid)
      return new Fault(
        "TRIVET_E_SAME_REGION",
        `the region of ${name} has the uuid of this one, ${ours.uuid}`,
      );
    return null;
  } catch (error) {
    if (error instanceof Fault) return error;
    throw error;
  }
}

function shape(region: RegionStore["definition"]): string {
  const { extentCount, extentSize, blockSize, encrypted } = region;
  const kind = encrypted ? "encrypted" : "plain";
  return `${extentCount} extents of ${extentSize} ${kind} blocks of ${blockSize} bytes`;
}

/** Close, replace, open again, which checks what came. */
function copyFrom(
  store: RegionStore,
  source: Address,
  extent: number,
  progress: (done: number, total: number) => void,
  then: Then,
): void {
  const { extentCount } = store.definition;
  if (extent === extentCount) {
    then(null);
    return;
  }
  const steps: ((next: Then) => void)[] = [
    (next) => store.closeExtent(extent, next),
    (next) => store.replaceExtent(extent, source, next),
    (next) => store.reopenExtent(extent, next),
  ];
  const run = (index: number): void => {
    const step = steps[index];
    if (step === undefined) {
      progress(extent + 1, extentCount);
      copyFrom(store, source, extent + 1, progress, then);
      return;
    }
    step((fault) => {
      if (fault === null) run(index + 1);
      else then(fault);
    });
  };
  run(0);
}
