import { Fault } from "../base/fault.js";
import type { Core } from "./core.js";
import type { Lane } from "./lane.js";
import type { Strikes } from "./strikes.js";

// A downstairs that cannot do a job reports errors and tries again, for ever (wire reference 6.7). Owns the patience with that: one
// replica must not hold up the volume when the other two can go on without it.

interface Trouble {
  count: number;
  readonly sinceMs: number;
}

const READ_REPORTS_MAX = 5;

export class ErrorReports {
  readonly #core: Core;
  readonly #strikes: Strikes;
  /** By job id, per replica; empty nearly always. */
  readonly #troubles: readonly Map<number, Trouble>[] = [new Map(), new Map(), new Map()];

  constructor(core: Core, strikes: Strikes) {
    this.#core = core;
    this.#strikes = strikes;
  }

  report(lane: Lane, jobId: number, isRead: boolean, text: string): void {
    lane.isTroubled = true;
    const { clock, notes } = this.#core.ports;
    const { reportsMax, reportsMs } = this.#core.tuning;
    const troubles = this.#troubles[lane.index]!;
    const nowMs = clock.nowMs();
    let trouble = troubles.get(jobId);
    if (trouble === undefined) {
      trouble = { count: 0, sinceMs: nowMs };
      troubles.set(jobId, trouble);
      notes(
        "warn",
        "replica.errorReport",
        `replica ${lane.index} reports ${text}, and goes on trying`,
        {
          replica: lane.index,
          job: jobId,
        },
      );
    }
    trouble.count += 1;
    // A read was asked elsewhere. It only stands in the way of flushes here, and a new connection is rid of it.
    if (isRead && trouble.count >= READ_REPORTS_MAX && this.#core.activeCount > 1) {
      this.#core.hooks.dropConnection(
        lane.index,
        new Fault("TRIVET_E_IO", `replica ${lane.index} cannot read: ${text}`),
      );
      return;
    }
    if (trouble.count < reportsMax && nowMs - trouble.sinceMs < reportsMs) return;
    // Nobody to go on without it: wait on.
    if (!this.#core.canDoWithout(lane)) return;
    this.#core.giveUp(
      lane,
      new Fault(
        "TRIVET_E_IO",
        `replica ${lane.index} failed at job ${jobId} ${trouble.count} times: ${text}`,
      ),
      this.#strikes.add(lane.index),
    );
  }

  /** A job that will not succeed there. One failure is enough; without the other two its connection is tried anew instead. */
  failed(lane: Lane, text: string): void {
    const fault = new Fault("TRIVET_E_IO", `replica ${lane.index}: ${text}`);
    if (this.#core.canDoWithout(lane))
      this.#core.giveUp(lane, fault, this.#strikes.add(lane.index));
    else this.#core.hooks.dropConnection(lane.index, fault);
  }

  done(lane: Lane, jobId: number): void {
    const troubles = this.#troubles[lane.index]!;
    if (troubles.size === 0) return;
    troubles.delete(jobId);
    lane.isTroubled = troubles.size > 0;
  }
  forget(lane: Lane): void {
    this.#troubles[lane.index]!.clear();
    lane.isTroubled = false;
  }
}
