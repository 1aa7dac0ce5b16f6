// Operations on block ranges that have to wait for each other, in order of arrival.
//
//   enter ──► waits ──► active ──leave──► gone
//     └─────────────────┘ at once, when nothing earlier conflicts
//
// Two operations conflict when their ranges overlap and at least one of them changes data. An
// operation becomes active when no earlier one that it conflicts with is left. So everybody moves up in turn, and
// since each waits only for earlier ones, nobody can wait in a circle.
//
// Slots are the caller's: small integers. Nothing is allocated but when a table grows.

export interface RangeQueueOwner {
  /** An operation that had to wait is active now. */
  rangeFree(slot: number): void;
}

export class RangeQueue {
  readonly #owner: RangeQueueOwner;
  #from = new Float64Array(0);
  #to = new Float64Array(0);
  #shared = new Uint8Array(0);
  #waits = new Uint8Array(0);
  #previous = new Int32Array(0);
  #next = new Int32Array(0);
  #first = -1;
  #last = -1;
  #count = 0;
  /** Active and not told yet. */
  readonly #ready: number[] = [];
  #telling = false;

  constructor(owner: RangeQueueOwner) {
    this.#owner = owner;
  }

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  /** Makes room for slots up to `slots` − 1. */
  grow(slots: number): void {
    const int = (from: Int32Array<ArrayBuffer>) => {
      const to = new Int32Array(slots);
      to.set(from);
      return to;
    };
    const float = (from: Float64Array<ArrayBuffer>) => {
      const to = new Float64Array(slots);
      to.set(from);
      return to;
    };
    const byte = (from: Uint8Array<ArrayBuffer>) => {
      const to = new Uint8Array(slots);
      to.set(from);
      return to;
    };
    this.#from = float(this.#from);
    this.#to = float(this.#to);
    this.#shared = byte(this.#shared);
    this.#waits = byte(this.#waits);
    this.#previous = int(this.#previous);
    this.#next = int(this.#next);
  }

  /** Would an operation on [from, to) have to wait? */
  conflicts(from: number, to: number, shared: boolean): boolean {
    return this.#conflictsBefore(-1, from, to, shared ? 1 : 0);
  }

  /** True: it is active at once. False: the owner is told when it is. */
  enter(slot: number, from: number, to: number, shared: boolean): boolean {
    this.#from[slot] = from;
    this.#to[slot] = to;
    this.#shared[slot] = shared ? 1 : 0;
    const waits = this.conflicts(from, to, shared);
    this.#waits[slot] = waits ? 1 : 0;
    this.#previous[slot] = this.#last;
    this.#next[slot] = -1;
    if (this.#last < 0) this.#first = slot;
    else this.#next[this.#last] = slot;
    this.#last = slot;
    this.#count += 1;
    return !waits;
  }

  leave(slot: number): void {
    const previous = this.#previous[slot]!;
    const next = this.#next[slot]!;
    if (previous < 0) this.#first = next;
    else this.#next[previous] = next;
    if (next < 0) this.#last = previous;
    else this.#previous[next] = previous;
    this.#count -= 1;

    const from = this.#from[slot]!;
    const to = this.#to[slot]!;
    for (let one = next; one >= 0; one = this.#next[one]!) {
      if (this.#waits[one] === 0 || this.#from[one]! >= to || this.#to[one]! <= from) continue;
      if (this.#conflictsBefore(one, this.#from[one]!, this.#to[one]!, this.#shared[one]!))
        continue;
      this.#waits[one] = 0;
      this.#ready.push(one);
    }
    this.#tell();
  }

  /** Whoever is told may leave at once; a flag instead of recursion keeps the stack flat. */
  #tell(): void {
    if (this.#telling) return;
    this.#telling = true;
    for (let slot = this.#ready.shift(); slot !== undefined; slot = this.#ready.shift())
      this.#owner.rangeFree(slot);
    this.#telling = false;
  }

  /** Looks at the entries before `end` (−1: at all of them). */
  #conflictsBefore(end: number, from: number, to: number, shared: number): boolean {
    for (let one = this.#first; one !== end && one >= 0; one = this.#next[one]!)
      if (this.#from[one]! < to && this.#to[one]! > from && (this.#shared[one]! & shared) === 0)
        return true;
    return false;
  }
}
