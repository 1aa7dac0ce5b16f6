import { Fault } from "../../base/fault.js";
import type { Clock } from "../../ports/clock.js";
import type { Notes } from "../../ports/notes.js";
import type { Cancel } from "../../ports/stream.js";
import type { Scrubbing } from "../../upstairs/scrub-status.js";
import { asFault } from "../report.js";
import type { ScrubRecord, ScrubState } from "./scrub-state.js";

// When the replicas of a volume are compared: every so often, or because somebody asks. One that was interrupted, by a stop of the
// server or a crash, goes on where it was, to within a minute.

/** A timer of a month is more than timers can do, and clocks are set. */
const LOOK_MS = 3_600_000;
/** How often the position is kept. */
const KEEP_MS = 60_000;
/** After the volume became active, or a scrub failed. */
const SETTLE_MS = 60_000;
const DAY_SECONDS = 86_400;

/** What is compared. */
export interface Scrubbed extends Scrubbing {
  readonly readOnly: boolean;
  readonly sizeBytes: number;
  readonly blockBytes: number;
}

export interface ScrubPlanOptions {
  readonly volume: Scrubbed;
  readonly state: ScrubState;
  readonly clock: Clock;
  readonly notes: Notes;
  /** Null: only when asked. */
  readonly everyMs: number | null;
  readonly bytesPerSecond: number;
}

export class ScrubPlan {
  readonly #options: ScrubPlanOptions;
  #isActive = false;
  #isRunning = false;
  #timer: Cancel | null = null;
  #keepTimer: Cancel | null = null;

  constructor(options: ScrubPlanOptions) {
    this.#options = options;
  }

  /** The volume is active. */
  begin(): void {
    this.#isActive = true;
    if (this.#options.state.record.completedAt === null) this.#keep({});
    if (this.#options.everyMs !== null && !this.#options.volume.readOnly) this.#look(SETTLE_MS);
  }
  /** The volume has ended; resolves when what has to be kept is. */
  async end(): Promise<void> {
    this.#isActive = false;
    this.#timer?.cancel();
    this.#keepTimer?.cancel();
    if (this.#isRunning) this.#keep({ position: this.#position() });
    // What went wrong with earlier writes is said by them.
    await this.#options.state.save(this.#options.state.record).catch(() => {});
  }

  /** Because somebody asks. `bytesPerSecond` null: as configured; 0: no limit. Null: it runs. */
  start(bytesPerSecond: number | null): Fault | null {
    const { volume } = this.#options;
    if (this.#isRunning) return new Fault("TRIVET_E_SCRUB_RUNNING", "a scrub runs already");
    if (!this.#isActive) return new Fault("TRIVET_E_NOT_ACTIVE", "the volume is not active");
    if (volume.readOnly)
      return new Fault(
        "TRIVET_E_READ_ONLY",
        "the volume is read-only, and a scrub may have to write",
      );
    this.#run(bytesPerSecond ?? this.#options.bytesPerSecond);
    return null;
  }
  /** Its position is kept, and it goes on there when asked, or by itself on another day. Null: none runs any more. */
  stop(): Fault | null {
    const notBefore = Math.floor(this.#options.clock.wallSeconds()) + DAY_SECONDS;
    if (this.#isRunning) this.#keep({ notBefore });
    this.#options.volume.stopScrub();
    return null;
  }

  #look(delayMs: number): void {
    this.#timer?.cancel();
    this.#timer = this.#options.clock.after(Math.min(delayMs, LOOK_MS), this.#onLook);
  }
  readonly #onLook = (): void => {
    this.#timer = null;
    const { everyMs, clock, bytesPerSecond } = this.#options;
    if (everyMs === null || !this.#isActive) return;
    const leftMs = this.#dueAt(everyMs) * 1000 - clock.wallSeconds() * 1000;
    if (leftMs <= 0 && !this.#isRunning) this.#run(bytesPerSecond);
    this.#look(Math.max(leftMs, SETTLE_MS));
  };
  #dueAt(everyMs: number): number {
    const { position, completedAt, knownSince, notBefore } = this.#options.state.record;
    const due = position === null ? (completedAt ?? knownSince) + everyMs / 1000 : 0;
    return Math.max(due, notBefore);
  }

  #run(bytesPerSecond: number): void {
    const { volume, state } = this.#options;
    const { position } = state.record;
    const isThere = position !== null && position < volume.sizeBytes / volume.blockBytes;
    this.#isRunning = true;
    this.#keepLater();
    volume.scrub({ bytesPerSecond, fromBlock: isThere ? position : 0 }, (fault) =>
      this.#ended(fault),
    );
  }
  #ended(fault: Fault | null): void {
    const { volume, clock, notes } = this.#options;
    this.#isRunning = false;
    this.#keepTimer?.cancel();
    this.#keepTimer = null;
    const isDone = fault === null && volume.scrubStatus?.state === "done";
    if (isDone) this.#keep({ position: null, completedAt: Math.floor(clock.wallSeconds()) });
    else this.#keep({ position: this.#position() });
    if (fault !== null && this.#isActive)
      notes("warn", "scrub.failed", `the scrub did not go on: ${fault.message}`);
  }
  /** Null: there is nothing that it would go on from. */
  #position(): number | null {
    return this.#options.volume.scrubStatus?.block ?? this.#options.state.record.position;
  }

  #keepLater(): void {
    this.#keepTimer = this.#options.clock.after(KEEP_MS, () => {
      this.#keep({ position: this.#position() });
      this.#keepLater();
    });
  }
  #keep(change: Partial<ScrubRecord>): void {
    const { state, notes } = this.#options;
    state.save({ ...state.record, ...change }).catch((error: unknown) => {
      const fault = asFault(error);
      if (fault === undefined) throw error;
      notes("warn", "state.unavailable", `the position of the scrub is not kept: ${fault.message}`);
    });
  }
}
