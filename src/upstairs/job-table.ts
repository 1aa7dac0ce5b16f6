import { invariant } from "../base/invariant.js";
import { wider } from "../base/wider.js";
import type { DeviceClient } from "../ports/device.js";

// Requests and jobs, one slot each, in parallel arrays: nothing is allocated per request. The table owns slots, the
// index from job ids to slots and the list of live jobs in order of their ids; it knows no rule about what a job means.
//
//   free ── take ──► waiting (no id yet) ── admit ──► live (has an id) ── retire ──► kept (an answered
//     ▲                   │                                │                │        read or a payload that
//     └────── drop ───────┴────────────────────────────────┴──── drop ◄─────┘        is still being sent)

/** Kinds of jobs. The last four make one extent of a replica under repair equal to the others' (see live-repair). */
export const Kind = {
  free: 0,
  read: 1,
  write: 2,
  flush: 3,
  barrier: 4,
  close: 5,
  copy: 6,
  noop: 7,
  reopen: 8,
} as const;

/**
 * What a job is to one replica. The first three are before it:
 *
 * held      to be sent when the replica is back;
 * sent      on its connection, not acknowledged;
 * reserved  a job of repair that is sure to be sent on this connection; others may depend on it already;
 * done      acknowledged;
 * skipped   never sent, repair will see to it;
 * apart     acknowledged by a replica under repair: it counts for nobody until the repair is over.
 */
export const Part = {
  none: 0,
  held: 1,
  sent: 2,
  reserved: 3,
  done: 4,
  skipped: 5,
  apart: 6,
} as const;

/** Bits of `flags`. */
export const Flag = {
  /** Answer only when a flush covers it. */
  fua: 1,
  /** The requester was answered, or nobody asked. */
  answered: 2,
  /** A flush of our own that nobody waits for: it lets jobs retire once two replicas have it, and is no answer to anybody. */
  own: 4,
  /** Its replica went on to be asked elsewhere; whatever comes back is dropped. */
  orphan: 8,
  /** The contexts are there already. */
  prepared: 16,
  /** Zeros, whose payload is shared. */
  zeroes: 32,
  /** It has a row in the write log. */
  logged: 64,
  /** A read of what one given replica has: asked there and nowhere else, and handed over unchecked. */
  given: 128,
} as const;

export const NONE = -1;
/** Contexts of up to six blocks fit. */
export const SHORT_TAIL_BYTES = 64;
export const SHORT_TAIL_WORDS = SHORT_TAIL_BYTES / 4;
const REPLICAS = 3;

export class JobTable {
  /** One of Kind. */
  kind = new Uint8Array(0);
  flags = new Uint8Array(0);
  /** Job id; −1 while waiting. */
  id = new Float64Array(0);
  /** First block and count of blocks. */
  start = new Float64Array(0);
  blocks = new Float64Array(0);
  /** Payload of a write, buffer of a read. −1: none. `bytes` counts the data alone. */
  at = new Float64Array(0);
  bytes = new Float64Array(0);
  /** Contexts and data length of a write, in their wire form; −1: they are short and lie in `tails`. */
  tailAt = new Float64Array(0);
  /** SHORT_TAIL_BYTES per slot. */
  tails = Buffer.alloc(0);
  /** The same memory in words. */
  tailWords = new Int32Array(0);
  /** What is freed with the slot: usually `at`. −1: nothing, as with zeros, which share one payload. */
  own = new Float64Array(0);
  /** One Part per replica, at 3·slot + replica. */
  part = new Uint8Array(0);
  /** Payload references that streams still hold. */
  pins = new Uint16Array(0);
  /** Of a read: which replica has it, and a bit for each that was tried. Of repair: a bit for each that was not sent a NoOp instead. */
  replica = new Int8Array(0);
  tried = new Uint8Array(0);
  /** Of a write: its row in the write log. Of a flush or barrier: the newest row that it covers. */
  row = new Int32Array(0);
  /** Position in its replica's list of reads. */
  position = new Int32Array(0);
  /** When it was asked for (waiting) or sent (live), in milliseconds. */
  since = new Float64Array(0);
  /** Order of arrival of requests that wait. Of a flush or a close: its flush number. */
  ticket = new Float64Array(0);
  tag = new Float64Array(0);
  client: (DeviceClient | null)[] = [];
  /** Next in a queue of requests; next waiter of a flush. Of a flush itself: its first waiter. Of a live read: the same one asked elsewhere. */
  chain = new Int32Array(0);

  /** Live jobs, by ascending id. */
  head = NONE;
  tail = NONE;
  next = new Int32Array(0);
  previous = new Int32Array(0);
  liveCount = 0;
  usedCount = 0;

  #free = NONE;
  /** Slot by hash of its job id; open addressing, at most half full. */
  #index = new Int32Array(0);

  constructor(slots = 1024) {
    this.#grow(slots);
  }

  get capacity(): number {
    return this.kind.length;
  }

  /** A slot for a request. Everything is reset but what the caller sets. */
  take(kind: number): number {
    if (this.#free === NONE) this.#grow(this.capacity * 2);
    const slot = this.#free;
    this.#free = this.next[slot]!;
    this.usedCount += 1;
    this.kind[slot] = kind;
    this.flags[slot] = 0;
    this.id[slot] = NONE;
    this.start[slot] = 0;
    this.blocks[slot] = 0;
    this.at[slot] = NONE;
    this.bytes[slot] = 0;
    this.tailAt[slot] = NONE;
    this.own[slot] = NONE;
    this.part.fill(Part.none, slot * REPLICAS, slot * REPLICAS + REPLICAS);
    this.pins[slot] = 0;
    this.replica[slot] = NONE;
    this.tried[slot] = 0;
    this.position[slot] = NONE;
    this.chain[slot] = NONE;
    this.client[slot] = null;
    return slot;
  }

  /** Back to the free slots. It must not be live. */
  drop(slot: number): void {
    invariant(this.kind[slot] !== Kind.free, "a slot is given back once");
    invariant(this.id[slot] === NONE, "a live job is retired before its slot is given back");
    this.kind[slot] = Kind.free;
    this.client[slot] = null;
    this.next[slot] = this.#free;
    this.#free = slot;
    this.usedCount -= 1;
  }

  /** Gives the job its id, which is above all others, and appends it to the live ones. */
  admit(slot: number, id: number): void {
    this.id[slot] = id;
    this.next[slot] = NONE;
    this.previous[slot] = this.tail;
    if (this.tail === NONE) this.head = slot;
    else this.next[this.tail] = slot;
    this.tail = slot;
    this.liveCount += 1;
    const mask = this.#index.length - 1;
    let spot = this.#home(id);
    while (this.#index[spot]! !== NONE) spot = (spot + 1) & mask;
    this.#index[spot] = slot;
  }

  /** Takes the job out of the live ones; the slot stays with the caller. */
  retire(slot: number): void {
    const next = this.next[slot]!;
    const previous = this.previous[slot]!;
    if (previous === NONE) this.head = next;
    else this.next[previous] = next;
    if (next === NONE) this.tail = previous;
    else this.previous[next] = previous;
    this.liveCount -= 1;
    this.#forget(this.id[slot]!);
    this.id[slot] = NONE;
  }

  /** Slot of a live job, −1 when there is none of that id. */
  find(id: number): number {
    const mask = this.#index.length - 1;
    let spot = this.#home(id);
    for (;;) {
      const slot = this.#index[spot]!;
      if (slot === NONE || this.id[slot] === id) return slot;
      spot = (spot + 1) & mask;
    }
  }

  /** How many replicas have the job in this state. */
  count(slot: number, part: number): number {
    const base = slot * REPLICAS;
    let count = 0;
    for (let r = 0; r < REPLICAS; r++) if (this.part[base + r] === part) count += 1;
    return count;
  }
  /** Whether no replica has it before it. */
  isSettled(slot: number): boolean {
    const base = slot * REPLICAS;
    for (let r = 0; r < REPLICAS; r++) {
      const part = this.part[base + r]!;
      if (part !== Part.none && part < Part.done) return false;
    }
    return true;
  }

  #home(id: number): number {
    return Math.imul(id, 0x9e3779b1) >>> this.#shift;
  }
  #shift = 0;

  /** Removal from an open-addressed table: later entries of the run move up into the gap. */
  #forget(id: number): void {
    const index = this.#index;
    const mask = index.length - 1;
    let gap = this.#home(id);
    while (this.id[index[gap]!] !== id) gap = (gap + 1) & mask;
    for (let spot = (gap + 1) & mask; ; spot = (spot + 1) & mask) {
      const slot = index[spot]!;
      if (slot === NONE) break;
      const home = this.#home(this.id[slot]!);
      if (((spot - home) & mask) >= ((spot - gap) & mask)) {
        index[gap] = slot;
        gap = spot;
      }
    }
    index[gap] = NONE;
  }

  #grow(capacity: number): void {
    invariant((capacity & (capacity - 1)) === 0, "the table grows by powers of two");
    const old = this.capacity;
    this.kind = wider(this.kind, new Uint8Array(capacity));
    this.flags = wider(this.flags, new Uint8Array(capacity));
    this.id = wider(this.id, new Float64Array(capacity));
    this.start = wider(this.start, new Float64Array(capacity));
    this.blocks = wider(this.blocks, new Float64Array(capacity));
    this.at = wider(this.at, new Float64Array(capacity));
    this.bytes = wider(this.bytes, new Float64Array(capacity));
    this.tailAt = wider(this.tailAt, new Float64Array(capacity));
    this.own = wider(this.own, new Float64Array(capacity));
    const tails = new ArrayBuffer(capacity * SHORT_TAIL_BYTES);
    this.tails = wider(this.tails, Buffer.from(tails));
    this.tailWords = new Int32Array(tails);
    this.part = wider(this.part, new Uint8Array(capacity * REPLICAS));
    this.pins = wider(this.pins, new Uint16Array(capacity));
    this.replica = wider(this.replica, new Int8Array(capacity));
    this.tried = wider(this.tried, new Uint8Array(capacity));
    this.row = wider(this.row, new Int32Array(capacity));
    this.position = wider(this.position, new Int32Array(capacity));
    this.since = wider(this.since, new Float64Array(capacity));
    this.ticket = wider(this.ticket, new Float64Array(capacity));
    this.tag = wider(this.tag, new Float64Array(capacity));
    this.chain = wider(this.chain, new Int32Array(capacity));
    this.next = wider(this.next, new Int32Array(capacity));
    this.previous = wider(this.previous, new Int32Array(capacity));
    for (let slot = capacity - 1; slot >= old; slot--) {
      this.client[slot] = null;
      this.next[slot] = this.#free;
      this.#free = slot;
    }
    this.#index = new Int32Array(capacity * 2).fill(NONE);
    this.#shift = 32 - Math.log2(capacity * 2);
    const mask = this.#index.length - 1;
    for (let slot = this.head; slot !== NONE; slot = this.next[slot]!) {
      let spot = this.#home(this.id[slot]!);
      while (this.#index[spot]! !== NONE) spot = (spot + 1) & mask;
      this.#index[spot] = slot;
    }
  }
}
