import type { Fault } from "../../base/fault.js";
import type { Clock } from "../../ports/clock.js";
import type { Then } from "../../ports/files.js";
import type { StoreDone } from "../region-store.js";

/** Answers that are known before their call has returned: given in the next turn, all at once, in order. */
export class Answers {
  readonly #clock: Clock;
  readonly #drain: () => void;
  #done: StoreDone[] = [];
  #tags: number[] = [];
  #faults: (Fault | null)[] = [];
  #values: number[] = [];
  #scheduled = false;
  #count = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#drain = () => this.#run();
  }

  give(done: StoreDone, tag: number, fault: Fault | null, value: number): void {
    const i = this.#count++;
    this.#done[i] = done;
    this.#tags[i] = tag;
    this.#faults[i] = fault;
    this.#values[i] = value;
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#clock.after(0, this.#drain);
  }
  /** For cold paths. */
  later(then: Then, fault: Fault | null): void {
    this.give({ storeDone: (_, found) => then(found) }, 0, fault, 0);
  }

  /** The arrays are kept and written over; what comes in meanwhile is appended and answered next turn. */
  #run(): void {
    const count = this.#count;
    for (let i = 0; i < count; i++)
      this.#done[i]!.storeDone(this.#tags[i]!, this.#faults[i]!, this.#values[i]!);
    const left = this.#count - count;
    for (let i = 0; i < left; i++) {
      this.#done[i] = this.#done[count + i]!;
      this.#tags[i] = this.#tags[count + i]!;
      this.#faults[i] = this.#faults[count + i]!;
      this.#values[i] = this.#values[count + i]!;
    }
    this.#count = left;
    this.#scheduled = left > 0;
    if (left > 0) this.#clock.after(0, this.#drain);
  }
}
