import type { StoreDone } from "../region-store.js";

/** The arguments of a write that is not done yet. Kept and used again. */
export class PendingWrite {
  start = 0;
  count = 0;
  contextsAt = 0;
  dataAt = 0;
  frameAt = 0;
  unwrittenOnly = false;
  done: StoreDone | undefined;
  tag = 0;
  next: PendingWrite | undefined;

  set(
    start: number,
    count: number,
    contextsAt: number,
    dataAt: number,
    frameAt: number,
    unwrittenOnly: boolean,
    done: StoreDone,
    tag: number,
  ): void {
    this.start = start;
    this.count = count;
    this.contextsAt = contextsAt;
    this.dataAt = dataAt;
    this.frameAt = frameAt;
    this.unwrittenOnly = unwrittenOnly;
    this.done = done;
    this.tag = tag;
  }
}

/** Writes that wait for room, in order, and writes that wait for their scan, by number. */
export class PendingWrites {
  readonly #spare: PendingWrite[] = [];
  readonly #parked: (PendingWrite | undefined)[] = [];
  readonly #freeNumbers: number[] = [];
  #first: PendingWrite | undefined;
  #last: PendingWrite | undefined;

  take(): PendingWrite {
    return this.#spare.pop() ?? new PendingWrite();
  }
  giveBack(write: PendingWrite): void {
    write.done = undefined;
    this.#spare.push(write);
  }

  get waiting(): boolean {
    return this.#first !== undefined;
  }
  wait(write: PendingWrite): void {
    write.next = undefined;
    if (this.#last === undefined) this.#first = write;
    else this.#last.next = write;
    this.#last = write;
  }
  next(): PendingWrite {
    const write = this.#first!;
    this.#first = write.next;
    if (this.#first === undefined) this.#last = undefined;
    write.next = undefined;
    return write;
  }

  park(write: PendingWrite): number {
    const number = this.#freeNumbers.pop() ?? this.#parked.length;
    this.#parked[number] = write;
    return number;
  }
  unpark(number: number): PendingWrite {
    const write = this.#parked[number]!;
    this.#parked[number] = undefined;
    this.#freeNumbers.push(number);
    return write;
  }
}
