import type { Clock } from "../ports/clock.js";
import type { Tuning } from "./options.js";

interface History {
  /** Attempts since it was last well for long. */
  attempts: number;
  endedMs: number;
  wasRepaired: boolean;
}

/**
 * When a replica may be repaired again. The first attempt comes at once; each further one after a pause that doubles, because every attempt
 * costs the guest something. It starts from the beginning for one that stayed well for as long as the longest pause. An attempt that
 * copied something counts as the first: the next finds that equal already.
 */
export class RepairRetries {
  readonly #clock: Clock;
  readonly #firstMs: number;
  readonly #longestMs: number;
  readonly #histories: readonly History[] = [0, 1, 2].map(() => ({
    attempts: 0,
    endedMs: 0,
    wasRepaired: false,
  }));

  constructor(clock: Clock, tuning: Pick<Tuning, "repairRetryMs" | "repairRetryMsMax">) {
    this.#clock = clock;
    this.#firstMs = tuning.repairRetryMs;
    this.#longestMs = tuning.repairRetryMsMax;
  }

  /** On the clock's scale; the past: now. */
  notBeforeMs(index: number): number {
    const { attempts, endedMs } = this.#histories[index]!;
    if (attempts === 0) return 0;
    return endedMs + Math.min(this.#longestMs, this.#firstMs * 2 ** (attempts - 1));
  }

  /** It is there and needs repair. */
  ready(index: number): void {
    const history = this.#histories[index]!;
    const wellMs = this.#clock.nowMs() - history.endedMs;
    if (history.wasRepaired && wellMs >= this.#longestMs) history.attempts = 0;
    history.wasRepaired = false;
  }
  begun(index: number): void {
    this.#histories[index]!.attempts += 1;
  }
  repaired(index: number): void {
    this.#end(index);
    this.#histories[index]!.wasRepaired = true;
  }
  failed(index: number, gotSomewhere: boolean): void {
    this.#end(index);
    if (gotSomewhere) this.#histories[index]!.attempts = 1;
  }
  /** It ended for no fault of this replica. */
  cancelled(index: number): void {
    this.#histories[index]!.attempts -= 1;
  }
  #end(index: number): void {
    this.#histories[index]!.endedMs = this.#clock.nowMs();
  }
}
