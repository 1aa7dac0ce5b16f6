import type { Fault } from "../../base/fault.js";
import type { Then } from "../../ports/files.js";

// Cold paths are chains of calls that answer later. No promises below `host`, so these two.

/** One step after the other, up to the first fault. A step calls `next` exactly once, not before it returned. */
export function inOrder(steps: readonly ((next: Then) => void)[], then: Then): void {
  let index = 0;
  const next = (fault: Fault | null): void => {
    const step = fault === null ? steps[index++] : undefined;
    if (step === undefined) then(fault);
    else step(next);
  };
  next(null);
}

/**
 * Runs 0 … count−1, at most `width` at a time; after a fault nothing new begins. `then` gets the first fault when
 * all that had begun is over; it may be called before this returns only when count is 0.
 */
export function inParallel(
  count: number,
  width: number,
  run: (index: number, next: Then) => void,
  then: Then,
): void {
  let index = 0;
  let running = 0;
  let first: Fault | null = null;
  const pump = (): void => {
    while (running < width && index < count && first === null) {
      running += 1;
      run(index++, ended);
    }
    if (running === 0) then(first);
  };
  const ended = (fault: Fault | null): void => {
    running -= 1;
    first ??= fault;
    pump();
  };
  pump();
}
