import { Fault } from "../base/fault.js";
import type { Cancel } from "../ports/stream.js";
import type { Done, Members } from "./members.js";

const STOP_LOOK_MS = 500;

/** How a volume ends: in order (drained, flushed, closed), or at once with a fault. */
export class Ending {
  /** Why it ended; null: it was asked to. */
  fault: Fault | null = null;
  /** Told first when the volume ends at once, with the reason; then the rest is torn down. */
  onEnd: (reason: Fault) => void = () => {};
  readonly #members: Members;
  readonly #onSuperseded: (fault: Fault) => void;
  #stopped: Done | null = null;
  #stopTimer: Cancel | null = null;

  constructor(members: Members, onSuperseded: (fault: Fault) => void) {
    this.#members = members;
    this.#onSuperseded = onSuperseded;
  }

  stop(then: Done): void {
    const { state, ports, engine, replicas } = this.#members;
    if (state === "idle" || state === "ended") {
      this.#members.state = "ended";
      this.#stopped = then;
      this.checkClosed();
      return;
    }
    this.#stopped = then;
    if (state === "activating") {
      this.end(null);
      return;
    }
    if (state === "stopping") return;
    this.#members.state = "stopping";
    const nowMs = ports.clock.nowMs();
    this.#watch(nowMs, nowMs);
    engine.drain(() => {
      this.#members.state = "ended";
      ports.journal.emptied();
      for (const replica of replicas) replica.park();
      this.checkClosed();
    });
  }

  /**
   * Ends at once, as the death of the process would: nothing more is sent or answered, and the journal keeps whatever is not covered. Also
   * in the middle of `stop`, whose `then` is not called any more.
   */
  abandon(then: Done): void {
    this.#stopped = then;
    this.#stopTimer?.cancel();
    this.#stopTimer = null;
    if (this.#members.state === "ended") this.checkClosed();
    else this.end(null);
  }

  /** Looks whether the last flush can still be hoped for: two replicas are needed, and some time. */
  #watch(sinceMs: number, aliveMs: number): void {
    const { ports, tuning, engine, readOnly } = this.#members;
    const nowMs = ports.clock.nowMs();
    const isAlive = engine.core.activeCount >= (readOnly ? 1 : 2);
    const lastMs = isAlive ? nowMs : aliveMs;
    const isLate = nowMs - sinceMs >= tuning.stopMs;
    if (isLate || nowMs - lastMs >= tuning.stopAloneMs) {
      const why = isLate ? "" : ", and fewer than two replicas are there to do so";
      const waited = Math.round((nowMs - sinceMs) / 1000);
      this.end(
        new Fault(
          "TRIVET_E_TIMEOUT",
          `the last flush was not acknowledged within ${waited} s${why}`,
        ),
      );
      return;
    }
    this.#stopTimer = ports.clock.after(STOP_LOOK_MS, () => this.#watch(sinceMs, lastMs));
  }

  /** Nothing is sent any more, and everything unanswered fails. `null`: on request, before the volume was active. */
  end(fault: Fault | null): void {
    const members = this.#members;
    const wasActive = members.state === "active";
    members.state = "ended";
    this.fault = fault;
    const reason = fault ?? new Fault("TRIVET_E_CONNECTION", "the volume was stopped");
    // Before anything is freed.
    if (fault?.code === "TRIVET_E_SUPERSEDED") members.ports.journal.voided(fault);
    for (const replica of members.replicas) replica.drop(reason, false);
    members.engine.fail();
    if (fault !== null) members.note("error", "volume.ended", fault.line);
    this.onEnd(reason);
    if (wasActive && fault?.code === "TRIVET_E_SUPERSEDED") this.#onSuperseded(fault);
    this.checkClosed();
  }

  /** Gives everything back once the last connection is closed. */
  checkClosed(): void {
    const { state, replicas, engine } = this.#members;
    if (state !== "ended" || replicas.some((replica) => replica.isConnected)) return;
    this.#stopTimer?.cancel();
    this.#stopTimer = null;
    engine.dispose();
    const then = this.#stopped;
    this.#stopped = null;
    then?.(this.fault);
  }
}
