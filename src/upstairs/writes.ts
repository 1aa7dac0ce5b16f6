import { Fault } from "../base/fault.js";
import { invariant } from "../base/invariant.js";
import { PIECE_BYTES_MAX } from "../base/limits.js";
import { PLAIN_CONTEXT_BYTES } from "../crucible/layout.js";
import { putPlainTail, writeTailBytes } from "../crucible/put.js";
import { type DeviceClient, DeviceStatus, FUA } from "../ports/device.js";
import type { Core } from "./core.js";
import { type Flushes, QUORUM } from "./flushes.js";
import { Flag, Kind, NONE, Part, SHORT_TAIL_BYTES, SHORT_TAIL_WORDS } from "./job-table.js";
import type { Lane } from "./lane.js";
import type { WaitingWrites } from "./reads.js";

// Writes: memory for them, the queue of those that wait for their turn, submission to the replicas, and when they are answered.
//
//   placed ──► asked ──► queue ──► submitted to all ──► answered: two have it (buffered: at once; ──► kept until a flush
//                                                       FUA: a flush that covers it is answered)      retires it (flushes)
//
// They wait only while fewer than two replicas take part, or one that is there has too much before it: then
// the queue holds its order, and everybody behind waits as well.

const PAGE_BYTES = 4096;

export class Writes implements WaitingWrites {
  readonly #core: Core;
  readonly #flushes: Flushes;
  readonly #isBuffered: boolean;
  #head = NONE;
  #last = NONE;
  #queuedCount = 0;
  #roomAsked = false;
  #isSubmitting = false;
  #hasFreed = false;
  /** Where hashes of a few blocks are computed; a page. */
  #scratchAt = NONE;
  /** Writes asked for and not answered. */
  openCount = 0;

  constructor(core: Core, flushes: Flushes, isBuffered: boolean) {
    this.#core = core;
    this.#flushes = flushes;
    this.#isBuffered = isBuffered;
  }

  /** Takes the memory that it always needs. */
  open(): Fault | null {
    this.#scratchAt = this.#core.ports.arena.alloc(SHORT_TAIL_BYTES);
    if (this.#scratchAt >= 0) return null;
    return new Fault("TRIVET_E_MEMORY", "the arena has no room for the upstairs");
  }
  dispose(): void {
    if (this.#scratchAt >= 0) this.#core.ports.arena.free(this.#scratchAt);
    this.#scratchAt = NONE;
  }
  get queuedCount(): number {
    return this.#queuedCount;
  }

  /** Payload and, when they are long, the contexts behind it. */
  #placeBytes(length: number): number {
    // Before the volume is active nothing is written, but whoever tries is told by the answer to the write.
    if (this.#core.blockBytes === 0) return length;
    const tail = writeTailBytes(Math.ceil(length / this.#core.blockBytes), false);
    return tail <= SHORT_TAIL_BYTES ? length : length + tail;
  }

  place(length: number, client: DeviceClient): number {
    invariant(length <= PIECE_BYTES_MAX, "a piece is not larger than the largest");
    const { room, writeShare } = this.#core;
    const bytes = Math.max(1, this.#placeBytes(length));
    if (!room.isBusy) {
      const at = writeShare.alloc(bytes);
      if (at >= 0) return at;
    }
    room.wait(client, bytes);
    this.#lackRoom(bytes);
    return NONE;
  }
  unplace(at: number): void {
    this.#core.writeShare.free(at);
    this.freed();
  }

  /** Like `place`, for one who can do without: −1, and nobody waits. */
  placeNow(length: number): number {
    const { room, writeShare } = this.#core;
    return room.isBusy ? NONE : writeShare.alloc(this.#placeBytes(length));
  }

  /**
   * Writes at once, before anything that waits, or not at all: between what the caller has just looked at and this write there is
   * no other. False: not now; the payload stays the caller's. `force`: whatever waits, and however much is before the replicas.
   */
  writeNow(
    start: number,
    blocks: number,
    at: number,
    force: boolean,
    client: DeviceClient,
    tag: number,
  ): boolean {
    const core = this.#core;
    if (this.#isSubmitting || core.isRetiring || core.acceptingCount < QUORUM) return false;
    const slot = this.#take(start, blocks, at, client, tag);
    this.#isSubmitting = true;
    const may = force ? !core.ports.journal.isFull : this.#head === NONE && this.#maySubmit(slot);
    if (may) {
      this.openCount += 1;
      this.#submit(slot);
    } else core.table.drop(slot);
    this.#submitted();
    return may;
  }

  /** Room was asked for and there is none: whatever may bring some is set going. */
  #lackRoom(bytes: number): void {
    const core = this.#core;
    if (core.writeShare.allows(bytes) && !this.#roomAsked) {
      // The share would allow it, but the arena has no such run now.
      this.#roomAsked = true;
      core.ports.arena.whenFreed(this.#onFreed);
    }
    this.#flushes.relieve();
    this.giveUpAbsent();
  }
  readonly #onFreed = (): void => {
    this.#roomAsked = false;
    this.freed();
  };

  /** When a flush cannot bring room any more, an absent replica holds it all: the volume goes on without that one. */
  giveUpAbsent(): void {
    const core = this.#core;
    if (core.room.length === 0 || this.#flushes.canRelieve) return;
    for (const lane of core.lanes) {
      // One under repair that has so much before it gets a while to do it.
      if (lane.standing === "repairing" && lane.sentBytes * 2 >= core.writeShare.usedBytes)
        core.repair!.holdsUp(lane);
      const held = Math.max(lane.heldBytes, lane.heldJobs * PAGE_BYTES);
      const isCause = lane.standing === "offline" && held * 2 >= core.writeShare.usedBytes;
      if (isCause && lane.heldJobs > 0 && core.mayGiveUp(lane)) {
        this.#giveUp(lane, "memory for writes ran out");
        return;
      }
    }
  }

  /** Memory of writes was freed. Those who wait for it are told, but never while a write asked for earlier is being submitted. */
  freed(): void {
    if (this.#isSubmitting || this.#core.isRetiring) this.#hasFreed = true;
    else if (this.#core.room.length > 0) this.#core.room.serve();
  }
  #submitted(): void {
    this.#isSubmitting = false;
    if (!this.#hasFreed) return;
    this.#hasFreed = false;
    this.freed();
  }

  /** A payload at `at`, checked against the volume's size by the caller. */
  ask(
    start: number,
    blocks: number,
    at: number,
    ticket: number,
    flags: number,
    client: DeviceClient,
    tag: number,
  ): void {
    const { table } = this.#core;
    const slot = this.#take(start, blocks, at, client, tag);
    table.ticket[slot] = ticket;
    if ((flags & FUA) !== 0) table.flags[slot] = Flag.fua;
    this.enqueue(slot);
  }
  #take(start: number, blocks: number, at: number, client: DeviceClient, tag: number): number {
    const { table, blockBytes } = this.#core;
    const slot = table.take(Kind.write);
    table.start[slot] = start;
    table.blocks[slot] = blocks;
    table.bytes[slot] = blocks * blockBytes;
    table.at[slot] = at;
    table.own[slot] = at;
    if (writeTailBytes(blocks, false) > SHORT_TAIL_BYTES)
      table.tailAt[slot] = at + blocks * blockBytes;
    table.client[slot] = client;
    table.tag[slot] = tag;
    return slot;
  }

  /** For pieces of zeros, which bring payload and contexts of their own: submits `slot`, or lets it wait its turn. */
  enqueue(slot: number): void {
    const { table } = this.#core;
    this.openCount += 1;
    if (this.#head === NONE) {
      this.#isSubmitting = true;
      const may = this.#maySubmit(slot);
      if (may) this.#submit(slot);
      this.#submitted();
      if (may) return;
    }
    if (this.#head === NONE) this.#head = slot;
    else table.chain[this.#last] = slot;
    this.#last = slot;
    this.#queuedCount += 1;
  }

  pump(): void {
    const { table } = this.#core;
    if (this.#isSubmitting) return;
    for (;;) {
      const slot = this.#head;
      if (slot === NONE) return;
      this.#isSubmitting = true;
      if (!this.#maySubmit(slot)) {
        this.#submitted();
        return;
      }
      this.#head = table.chain[slot]!;
      table.chain[slot] = NONE;
      if (this.#head === NONE) this.#last = NONE;
      this.#queuedCount -= 1;
      this.#submit(slot);
      this.#submitted();
    }
  }

  /** A read must see the writes asked for before it, so it lets those that overlap go first. */
  delays(read: number): boolean {
    if (this.#head === NONE) return false;
    const { table } = this.#core;
    const start = table.start[read]!;
    const end = start + table.blocks[read]!;
    const ticket = table.ticket[read]!;
    for (let slot = this.#head; slot !== NONE; slot = table.chain[slot]!) {
      if (table.ticket[slot]! > ticket) return false;
      const from = table.start[slot]!;
      if (from < end && from + table.blocks[slot]! > start) return true;
    }
    return false;
  }

  #maySubmit(slot: number): boolean {
    const core = this.#core;
    if (core.acceptingCount < QUORUM) return false;
    if (core.ports.journal.isFull && (core.table.flags[slot]! & Flag.logged) === 0) {
      this.#flushes.relieve();
      return false;
    }
    const bytes = core.table.bytes[slot]!;
    const { jobsMax, bytesMax, offlineJobsMax, offlineBytesMax } = core.tuning;
    let slow: Lane | null = null;
    for (let r = 0; r < core.lanes.length; r++) {
      const lane = core.lanes[r]!;
      if (lane.standing === "active" || lane.standing === "repairing") {
        if (lane.isFull(bytes, jobsMax, bytesMax)) {
          if (lane.standing === "active") return false;
          slow = lane;
        }
      } else if (
        lane.standing === "offline" &&
        (lane.heldJobs > offlineJobsMax || lane.heldBytes > offlineBytesMax)
      ) {
        // Two absent at once are waited for: giving one up would leave a single copy.
        if (!core.canDoWithout(lane)) return false;
        if (core.mayGiveUp(lane))
          this.#giveUp(
            lane,
            `${lane.heldJobs} jobs with ${lane.heldBytes} bytes wait for it, too many to replay`,
          );
      }
    }
    if (slow !== null) core.repair!.holdsUp(slow);
    return slow === null;
  }
  #giveUp(lane: Lane, reason: string): void {
    this.#core.hooks.givenUp(
      lane.index,
      new Fault("TRIVET_E_CONNECTION", `replica ${lane.index} is away and ${reason}`),
    );
  }

  #submit(slot: number): void {
    const core = this.#core;
    const { table } = core;
    this.#prepareTail(slot);
    if (core.repair !== null) core.repair.prepare(table.start[slot]!, table.blocks[slot]!);
    core.admit(slot);
    this.#log(slot);
    table.since[slot] = core.ports.clock.nowMs();
    core.sender.depend(slot, core.writers, core.repair);
    core.spread(slot);
    core.written(table.start[slot]!, table.blocks[slot]!);
    for (let r = 0; r < core.lanes.length; r++) core.lanes[r]!.took(table.bytes[slot]!);
    const heldPages = table.own[slot]! >= 0 ? Math.ceil(table.bytes[slot]! / PAGE_BYTES) : 0;
    this.#flushes.wrote(slot, heldPages * PAGE_BYTES);
    if ((table.flags[slot]! & Flag.fua) !== 0) {
      this.openCount -= 1;
      this.#flushes.cover(slot);
    } else if (this.#isBuffered) this.#answer(slot);
  }

  /** Into the write log, before any replica has it and anybody is told. */
  #log(slot: number): void {
    const core = this.#core;
    const { table } = core;
    const flags = table.flags[slot]!;
    if ((flags & Flag.logged) === 0) {
      const isZeroes = (flags & Flag.zeroes) !== 0;
      table.flags[slot] = flags | Flag.logged;
      table.row[slot] = core.ports.journal.wrote(
        table.id[slot]!,
        table.start[slot]!,
        table.blocks[slot]!,
        isZeroes ? NONE : table.at[slot]!,
        isZeroes ? NONE : table.tailAt[slot]!,
        table.tailWords,
        slot * SHORT_TAIL_WORDS,
      );
    }
    core.newestRow = table.row[slot]!;
  }

  /** Hashes and the length of the data, in the form in which they follow every head of this job. */
  #prepareTail(slot: number): void {
    const { table, ports, blockBytes } = this.#core;
    const { arena, hasher } = ports;
    const blocks = table.blocks[slot]!;
    const at = table.at[slot]!;
    const tailAt = table.tailAt[slot]!;
    if ((table.flags[slot]! & Flag.prepared) !== 0) return;
    const into = tailAt >= 0 ? tailAt : this.#scratchAt;
    putPlainTail(arena, into, blocks, table.bytes[slot]!);
    hasher.blocks(at, blockBytes, blocks, into, PLAIN_CONTEXT_BYTES);
    if (tailAt < 0)
      arena.bytes.copy(table.tails, slot * SHORT_TAIL_BYTES, into, into + SHORT_TAIL_BYTES);
  }

  /** `lane` acknowledged the write in `slot`. */
  acked(slot: number, lane: Lane): void {
    const core = this.#core;
    const { table } = core;
    core.finish(slot, lane, lane.doneAs);
    if ((table.flags[slot]! & (Flag.answered | Flag.fua)) !== 0) return;
    if (table.count(slot, Part.done) >= QUORUM) this.#answer(slot);
  }
  /** A replica counts that did not: answers what that allows. */
  recheck(): void {
    const { table } = this.#core;
    const due: number[] = [];
    for (let slot = table.head; slot !== NONE; slot = table.next[slot]!)
      if (
        table.kind[slot] === Kind.write &&
        (table.flags[slot]! & (Flag.answered | Flag.fua)) === 0 &&
        table.count(slot, Part.done) >= QUORUM
      )
        due.push(slot);
    for (const slot of due) this.#answer(slot);
  }

  #answer(slot: number): void {
    const { table } = this.#core;
    table.flags[slot] = table.flags[slot]! | Flag.answered;
    this.openCount -= 1;
    this.#core.ports.journal.answered(table.row[slot]!);
    table.client[slot]!.deviceDone(table.tag[slot]!, DeviceStatus.ok, NONE, NONE);
  }

  /** A stream has done with the payload of `slot`. */
  sent(slot: number): void {
    const { table } = this.#core;
    const left = table.pins[slot]! - 1;
    table.pins[slot] = left;
    if (left > 0 || table.id[slot] !== NONE) return;
    this.#core.recycle(slot);
    this.freed();
  }

  /** Everything ends with `status`, and nothing is sent any more. */
  failAll(status: DeviceStatus): void {
    const core = this.#core;
    const { table } = core;
    while (this.#head !== NONE) {
      const slot = this.#head;
      this.#head = table.chain[slot]!;
      if (this.#head === NONE) this.#last = NONE;
      this.#queuedCount -= 1;
      this.openCount -= 1;
      const client = table.client[slot]!;
      const tag = table.tag[slot]!;
      core.recycle(slot);
      client.deviceDone(tag, status, NONE, NONE);
    }
    for (let slot = table.head; slot !== NONE; ) {
      const next = table.next[slot]!;
      if (table.kind[slot] !== Kind.read) this.#fail(slot, status);
      slot = next;
    }
    this.freed();
  }
  #fail(slot: number, status: DeviceStatus): void {
    const core = this.#core;
    const { table } = core;
    const isOpen = table.kind[slot] === Kind.write && (table.flags[slot]! & Flag.answered) === 0;
    const client = table.client[slot]!;
    const tag = table.tag[slot]!;
    for (const lane of core.lanes) core.skip(slot, lane);
    table.retire(slot);
    if (table.pins[slot] === 0) core.recycle(slot);
    if (!isOpen) return;
    this.openCount -= 1;
    client.deviceDone(tag, status, NONE, NONE);
  }
}
