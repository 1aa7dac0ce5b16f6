import type { Fault } from "../../base/fault.js";
import type { Clock } from "../../ports/clock.js";
import type { Then } from "../../ports/files.js";
import type { Notes } from "../../ports/notes.js";
import type { Cancel } from "../../ports/stream.js";
import type { FlushNumbers } from "./commit.js";
import type { Extents } from "./extents.js";
import type { Held } from "./held.js";
import type { Writeback } from "./writeback.js";

/** After a failure to write out. Long enough not to make a failing disk busier, short for one that recovered. */
const RETRY_MS = 1000;
/** Extents written out for want of memory at a time. */
const AT_A_TIME = 8;

/**
 * Keeps the memory of held writes bounded: from half of the limit on, extents are written out, those that have held
 * something for longest first, until a quarter is left. At the limit writes wait, and so does their sender.
 * When that fails, those that wait are failed too, and it is tried again after a pause.
 */
export class Pressure {
  readonly #clock: Clock;
  readonly #notes: Notes;
  readonly #extents: Extents;
  readonly #held: Held;
  readonly #writeback: Writeback;
  readonly #limitBytes: number;
  readonly #room: (fault: Fault | null) => void;
  /** Extents with something to write out and no task for it, in order of age. */
  readonly holding = new Set<number>();
  #relieving = false;
  #running = 0;
  /** Estimate of what the running ones will free. */
  #runningBytes = 0;
  #pause: Cancel | undefined;
  #stopped = false;

  constructor(
    clock: Clock,
    notes: Notes,
    extents: Extents,
    held: Held,
    writeback: Writeback,
    limitBytes: number,
    room: (fault: Fault | null) => void,
  ) {
    this.#clock = clock;
    this.#notes = notes;
    this.#extents = extents;
    this.#held = held;
    this.#writeback = writeback;
    this.#limitBytes = limitBytes;
    this.#room = room;
  }

  get full(): boolean {
    return this.#held.bytes >= this.#limitBytes;
  }
  holds(extent: number): void {
    this.holding.add(extent);
  }
  stop(): void {
    this.#stopped = true;
    this.#pause?.cancel();
  }

  /** Seals and writes out an extent, with `numbers` as a flush. */
  writeOut(extent: number, numbers: FlushNumbers | null, then: Then): void {
    this.holding.delete(extent);
    this.#writeback.submit(extent, numbers, (fault) => {
      if (fault !== null && this.#held.newest(extent) !== undefined) this.holding.add(extent);
      then(fault);
      this.check();
      this.#room(null);
    });
  }

  check(): void {
    if (this.#stopped || this.#pause !== undefined) return;
    if (!this.#relieving && this.#held.bytes < this.#limitBytes / 2) return;
    this.#relieving = true;
    while (
      this.#running < AT_A_TIME &&
      this.#held.bytes - this.#runningBytes > this.#limitBytes / 4
    ) {
      const [extent] = this.holding;
      if (extent === undefined) break;
      this.#relieve(extent);
    }
    if (this.#running === 0) this.#relieving = false;
  }
  #relieve(extent: number): void {
    let bytes = 0;
    for (let layer = this.#held.newest(extent) ?? null; layer !== null; layer = layer.older)
      bytes += layer.bytes;
    this.#running += 1;
    this.#runningBytes += bytes;
    this.writeOut(extent, null, (fault) => {
      this.#running -= 1;
      this.#runningBytes -= bytes;
      if (fault !== null) this.#failed(extent, fault);
    });
  }
  #failed(extent: number, fault: Fault): void {
    if (this.#stopped) return;
    this.#notes("warn", "store.writeback.failed", `${fault.line} Trying again.`, {
      extent,
      region: this.#extents.directory,
    });
    this.#pause ??= this.#clock.after(RETRY_MS, () => {
      this.#pause = undefined;
      this.check();
    });
    this.#room(fault);
  }
}
