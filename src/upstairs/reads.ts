import { invariant } from "../base/invariant.js";
import { REFUSE } from "../crucible/frame-receiver.js";
import { READ_CONTEXT_BYTES, READ_UNENCRYPTED } from "../crucible/layout.js";
import { READ_RESPONSE_HEAD_BYTES } from "../crucible/put.js";
import { ReadResponseFrame } from "../crucible/replies.js";
import { type DeviceClient, DeviceStatus } from "../ports/device.js";
import type { Core } from "./core.js";
import { type BadBlocks, Inspector } from "./heal-inspect.js";
import { type Asker, Hedges } from "./hedge.js";
import { Flag, Kind, NONE, Part } from "./job-table.js";
import type { Lane } from "./lane.js";
import { ReadChoice } from "./read-choice.js";

// Reads go to one replica each. Owns the queue of reads that wait, the choice of a replica, the buffers, and what is done when an
// answer does not come or is not good.
//
//   asked ──► queue ──► sent to one replica ──► answered, checked ──► with the requester ──► released
//               ▲              │     │               │
//               └──────────────┴─────┴───────────────┘ nobody has good blocks: BadBlocks puts it together, or it fails
//             connection lost, error reported, bad block: again, elsewhere, as a new job
//
// One that is late is asked at a second replica while the first still has it (see hedge): two slots, linked by `chain`. The first good
// answer wins; the other slot becomes an orphan, which keeps its buffer until its answer came or its connection is gone.
//
// A read asked again gets a new job id, above all others, and depends on what was written by then. So it sees all writes submitted
// before it was first asked; that it may see later ones too is allowed to requests in flight. The old id is not named to anybody
// again (see sender), so nothing has to be replayed.

// What came of trying to send a read.
const WAITS = 0;
const SENT = 1;
const NO_ROOM = 2;
const HOPELESS = 3;
/** In `chain`: the buffer is with the requester. */
const HELD_OUT = -2;

/** Largest answer to a read of so many blocks of a region without encryption. */
export const answerBytes = (blocks: number, blockBytes: number): number =>
  READ_RESPONSE_HEAD_BYTES + blocks * (READ_CONTEXT_BYTES[READ_UNENCRYPTED]! + blockBytes) + 8;

/** What reads need to know of writes: whether an earlier one that overlaps is still waiting to be submitted. */
export interface WaitingWrites {
  delays(read: number): boolean;
}

export class Reads implements Asker {
  readonly #core: Core;
  readonly #writes: WaitingWrites;
  readonly #badBlocks: BadBlocks;
  readonly #hedges: Hedges;
  readonly #choice: ReadChoice;
  readonly #inspector: Inspector;
  readonly #response = new ReadResponseFrame();
  #head = NONE;
  #last = NONE;
  #roomAsked = false;
  /** Reads asked for and not answered. */
  openCount = 0;
  retries = 0;

  constructor(core: Core, writes: WaitingWrites, badBlocks: BadBlocks) {
    this.#core = core;
    this.#writes = writes;
    this.#badBlocks = badBlocks;
    this.#hedges = new Hedges(core, this);
    this.#choice = new ReadChoice(core);
    this.#inspector = new Inspector(core, badBlocks);
  }
  get hedged(): number {
    return this.#hedges.asked;
  }
  get hedgesWon(): number {
    return this.#hedges.won;
  }
  dispose(): void {
    this.#hedges.dispose();
  }

  /** Blocks and order of arrival are checked and given by the caller. */
  ask(start: number, blocks: number, ticket: number, client: DeviceClient, tag: number): void {
    const { table, blockBytes } = this.#core;
    const slot = table.take(Kind.read);
    table.start[slot] = start;
    table.blocks[slot] = blocks;
    table.bytes[slot] = blocks * blockBytes;
    table.ticket[slot] = ticket;
    table.client[slot] = client;
    table.tag[slot] = tag;
    this.openCount += 1;
    if (this.#head === NONE && this.#tryToSend(slot) === SENT) return;
    if (this.#head === NONE) this.#head = slot;
    else table.chain[this.#last] = slot;
    this.#last = slot;
  }

  get isWaiting(): boolean {
    return this.#head !== NONE;
  }

  /** Sends what can be sent. A read that waits for a write or a replica lets others pass; one that waits for memory does not. */
  pump(): void {
    const { table } = this.#core;
    let before = NONE;
    let slot = this.#head;
    while (slot !== NONE) {
      const next = table.chain[slot]!;
      const outcome = this.#tryToSend(slot);
      if (outcome === NO_ROOM) return;
      if (outcome === WAITS) before = slot;
      else {
        table.chain[slot] = NONE;
        if (before === NONE) this.#head = next;
        else table.chain[before] = next;
        if (next === NONE) this.#last = before;
      }
      if (outcome === HOPELESS) {
        if (!this.#badBlocks.takeOver(slot)) this.#answer(slot, DeviceStatus.io, NONE);
        // Whoever was told may have asked for more: the queue is another one now.
        before = NONE;
        slot = this.#head;
      } else slot = next;
    }
  }

  #tryToSend(slot: number): number {
    const core = this.#core;
    const { table } = core;
    if (this.#writes.delays(slot)) return WAITS;
    const lane = this.#choice.choose(slot);
    if (lane === null) return this.#choice.isHopeless(slot) ? HOPELESS : WAITS;
    if (table.own[slot] === NONE && !this.#provide(slot)) {
      // A full share has room again when an answer is released; an arena without such a run, when anybody frees anything.
      const bytes = answerBytes(table.blocks[slot]!, core.blockBytes);
      if (core.readShare.allows(bytes) && !this.#roomAsked) {
        this.#roomAsked = true;
        core.ports.arena.whenFreed(this.#onFreed);
      }
      return NO_ROOM;
    }
    this.#sendTo(slot, lane);
    return SENT;
  }
  #sendTo(slot: number, lane: Lane): void {
    const core = this.#core;
    const { table } = core;
    core.admit(slot);
    core.sender.depend(slot, core.writers, core.repair);
    table.replica[slot] = lane.index;
    table.tried[slot] = table.tried[slot]! | (1 << lane.index);
    lane.addRead(table, slot);
    table.since[slot] = core.ports.clock.nowMs();
    core.sender.send(slot, lane, core.writers.floor, core.generation);
    this.#hedges.watch();
  }

  #provide(slot: number): boolean {
    const { table, readShare, blockBytes } = this.#core;
    const at = readShare.alloc(answerBytes(table.blocks[slot]!, blockBytes));
    if (at < 0) return false;
    table.own[slot] = at;
    table.at[slot] = at;
    return true;
  }
  readonly #onFreed = (): void => {
    this.#roomAsked = false;
    // While jobs retire the engine moves on by itself afterwards.
    if (!this.#core.isRetiring) this.pump();
  };

  /** The requester has done with what it was answered. */
  release(hold: number): void {
    const { table } = this.#core;
    invariant(
      table.kind[hold] === Kind.read && table.id[hold] === NONE && table.chain[hold] === HELD_OUT,
      "what is released was handed out",
    );
    this.#core.recycle(hold);
    if (this.#head !== NONE) this.pump();
  }

  // What compares replicas asks here: one block range, one given replica, the answer unchecked.

  /** A slot and memory for such a read; −1: not now. Then `sendGiven` or `release`. */
  reserveGiven(start: number, blocks: number, client: DeviceClient, tag: number): number {
    const { table, blockBytes } = this.#core;
    const slot = table.take(Kind.read);
    table.flags[slot] = Flag.given;
    table.start[slot] = start;
    table.blocks[slot] = blocks;
    table.bytes[slot] = blocks * blockBytes;
    table.client[slot] = client;
    table.tag[slot] = tag;
    if (!this.#provide(slot)) {
      table.drop(slot);
      return NONE;
    }
    table.chain[slot] = HELD_OUT;
    return slot;
  }
  /**
   * Its client is told once: `ok`, and the whole frame lies at the address given, until it is released; `io`: the replica cannot read
   * that; `shutdown`: the connection is gone, or the volume is.
   */
  sendGiven(slot: number, lane: Lane): void {
    this.#core.table.chain[slot] = NONE;
    this.#sendTo(slot, lane);
  }
  #answerGiven(slot: number, status: DeviceStatus): void {
    const { table } = this.#core;
    const client = table.client[slot]!;
    const tag = table.tag[slot]!;
    table.client[slot] = null;
    const isHeld = status === DeviceStatus.ok;
    const at = table.at[slot]!;
    if (isHeld) table.chain[slot] = HELD_OUT;
    else if (table.id[slot] === NONE) this.#core.recycle(slot);
    else table.flags[slot] = table.flags[slot]! | Flag.orphan;
    client.deviceDone(tag, status, isHeld ? at : NONE, isHeld ? slot : NONE);
  }

  /** A read that was taken over may never have been sent. False: there is no memory for it now. */
  provide(slot: number): boolean {
    return this.#core.table.own[slot] !== NONE || this.#provide(slot);
  }
  /** The read that was taken over has its data at `at`, inside its own buffer. */
  finish(slot: number, at: number): void {
    this.#answer(slot, DeviceStatus.ok, at);
  }
  fail(slot: number, status: DeviceStatus): void {
    this.#answer(slot, status, NONE);
  }
  /** Asked again, as if nobody had been asked. */
  restart(slot: number): void {
    this.#core.table.tried[slot] = 0;
    this.#again(slot);
  }

  /** For FrameOwner.place: where the answer that begins at `headAt` goes. */
  place(lane: Lane, jobId: number, frameBytes: number): number {
    const core = this.#core;
    const { table } = core;
    const slot = table.find(jobId);
    if (slot === NONE || table.kind[slot] !== Kind.read || table.replica[slot] !== lane.index)
      return REFUSE;
    return frameBytes <= answerBytes(table.blocks[slot]!, core.blockBytes)
      ? table.at[slot]!
      : REFUSE;
  }

  /** A whole answer lies where `place` said. */
  answered(lane: Lane, at: number, frameBytes: number): void {
    const core = this.#core;
    const { table, ports } = core;
    const response = this.#response;
    response.read(ports.arena, at, frameBytes);
    const slot = table.find(response.jobId);
    const load = lane.readBytes;
    lane.removeRead(table, slot);
    core.finish(slot, lane, Part.none);
    table.retire(slot);
    const nowMs = ports.clock.nowMs();
    lane.lastReadMs = nowMs;
    lane.isStalled = false;
    this.#hedges.earn();
    // Also when nobody waits for it any more: that it came late is what has to be learnt.
    if (response.error === null) lane.learn(nowMs - table.since[slot]!, load);
    const flags = table.flags[slot]!;
    if ((flags & Flag.orphan) !== 0) {
      core.recycle(slot);
      return;
    }
    if ((flags & Flag.given) !== 0) {
      const isAnswer = this.#inspector.isAnswer(response, slot, lane);
      this.#answerGiven(slot, isAnswer ? DeviceStatus.ok : DeviceStatus.io);
      return;
    }
    if (!this.#inspector.isGood(response, slot, lane)) {
      this.#bad(slot, lane);
      return;
    }
    const twin = this.#unlink(slot);
    if (twin !== NONE) {
      this.#orphan(twin);
      if (table.since[twin]! < table.since[slot]!) this.#hedges.won += 1;
    }
    lane.readsAnswered += 1;
    lane.readBytesAnswered += response.dataLength;
    this.#answer(slot, DeviceStatus.ok, response.dataAt);
  }

  /** The answer for `slot` is of no use. */
  #bad(slot: number, lane: Lane): void {
    const { table } = this.#core;
    const twin = this.#unlink(slot);
    if (twin === NONE) this.#again(slot);
    else {
      table.tried[twin] = table.tried[twin]! | (1 << lane.index);
      this.#core.recycle(slot);
    }
  }

  /** The replica reports an error for `slot`, a read, and goes on trying. */
  reported(slot: number, lane: Lane, problem: string): void {
    const { table } = this.#core;
    const flags = table.flags[slot]!;
    if ((flags & Flag.orphan) !== 0) return;
    this.#inspector.unreadable(slot, lane, problem);
    if ((flags & Flag.given) !== 0) this.#answerGiven(slot, DeviceStatus.io);
  }
  /** The replica is in trouble, and other jobs may be stuck behind the one: all that was asked there is asked elsewhere. */
  askElsewhere(lane: Lane): void {
    for (let i = lane.readCount - 1; i >= 0; i--) this.#abandon(lane.reads[i]!, lane);
  }

  #abandon(slot: number, lane: Lane): void {
    const core = this.#core;
    const { table } = core;
    if ((table.flags[slot]! & (Flag.orphan | Flag.given)) !== 0) return;
    // Only stuck behind something else there: it may come back to that replica.
    const isBad = lane.hasBad(table.start[slot]!, table.blocks[slot]!);
    const bit = 1 << lane.index;
    const twin = this.#unlink(slot);
    if (twin !== NONE) {
      table.tried[twin] = isBad ? table.tried[twin]! | bit : table.tried[twin]! & ~bit;
      this.#orphan(slot);
      return;
    }
    const tried = table.tried[slot]!;
    const hasOther = core.lanes.some(
      (l) => l.standing === "active" && (tried & (1 << l.index)) === 0,
    );
    if (!hasOther && !(isBad && this.#choice.isHopeless(slot))) return;
    const copy = this.#copy(slot);
    table.tried[copy] = isBad ? tried : tried & ~bit;
    this.#orphan(slot);
    this.#again(copy);
  }
  #copy(slot: number): number {
    const { table } = this.#core;
    const copy = table.take(Kind.read);
    table.start[copy] = table.start[slot]!;
    table.blocks[copy] = table.blocks[slot]!;
    table.bytes[copy] = table.bytes[slot]!;
    table.ticket[copy] = table.ticket[slot]!;
    table.client[copy] = table.client[slot]!;
    table.tag[copy] = table.tag[slot]!;
    table.tried[copy] = table.tried[slot]!;
    return copy;
  }
  /** Nobody waits for its answer any more. It stays live, with its buffer, until the answer came or the connection is gone. */
  #orphan(slot: number): void {
    const { table } = this.#core;
    table.flags[slot] = table.flags[slot]! | Flag.orphan;
    table.client[slot] = null;
  }
  /** The same read at another replica, which is on its own from now on; −1: it was asked once. */
  #unlink(slot: number): number {
    const { table } = this.#core;
    const twin = table.chain[slot]!;
    if (twin === NONE) return NONE;
    table.chain[slot] = NONE;
    table.chain[twin] = NONE;
    return twin;
  }

  askTwice(slot: number, lane: Lane): boolean {
    const { table, lanes, readShare } = this.#core;
    let other: Lane | null = null;
    for (let r = 0; r < lanes.length; r++) {
      const one = lanes[r]!;
      if (one === lane || !this.#choice.mayHave(one, slot) || !this.#choice.shouldHave(one, slot))
        continue;
      if (other === null || one.expectedMs(0) < other.expectedMs(0)) other = one;
    }
    // Half of the memory is for reads that nobody has yet.
    if (other === null || readShare.usedBytes * 2 > readShare.sizeBytes) return false;
    const copy = this.#copy(slot);
    if (!this.#provide(copy)) {
      table.drop(copy);
      return false;
    }
    table.chain[slot] = copy;
    table.chain[copy] = slot;
    this.#sendTo(copy, other);
    return true;
  }

  /** The replica's connection is gone, and no stream writes to its buffers any more. */
  laneLost(lane: Lane): void {
    const core = this.#core;
    const { table } = core;
    lane.isStalled = false;
    const bit = 1 << lane.index;
    while (lane.readCount > 0) {
      const slot = lane.reads[lane.readCount - 1]!;
      lane.removeRead(table, slot);
      core.finish(slot, lane, Part.none);
      table.retire(slot);
      const flags = table.flags[slot]!;
      const twin = this.#unlink(slot);
      // A lost connection is not a bad answer: it may be asked again when it is back.
      const isBad = lane.hasBad(table.start[slot]!, table.blocks[slot]!);
      const still = twin === NONE ? slot : twin;
      table.tried[still] = isBad ? table.tried[still]! | bit : table.tried[still]! & ~bit;
      if ((flags & Flag.orphan) !== 0 || twin !== NONE) core.recycle(slot);
      else if ((flags & Flag.given) !== 0) this.#answerGiven(slot, DeviceStatus.shutdown);
      else this.#again(slot);
    }
  }

  /** First in the queue: it has waited longest. */
  #again(slot: number): void {
    const { table } = this.#core;
    this.retries += 1;
    table.replica[slot] = NONE;
    table.chain[slot] = this.#head;
    this.#head = slot;
    if (this.#last === NONE) this.#last = slot;
    this.pump();
  }

  /** Everything asked for ends with `status`. Buffers that a stream may still write to stay until `laneLost`. */
  failAll(status: DeviceStatus): void {
    const { table, lanes } = this.#core;
    while (this.#head !== NONE) {
      const slot = this.#head;
      this.#head = table.chain[slot]!;
      table.chain[slot] = NONE;
      if (this.#head === NONE) this.#last = NONE;
      this.#answer(slot, status, NONE);
    }
    for (const lane of lanes)
      for (let i = 0; i < lane.readCount; i++) {
        const slot = lane.reads[i]!;
        if ((table.flags[slot]! & Flag.orphan) !== 0) continue;
        if ((table.flags[slot]! & Flag.given) !== 0) {
          this.#answerGiven(slot, DeviceStatus.shutdown);
          continue;
        }
        const twin = this.#unlink(slot);
        if (twin !== NONE) this.#orphan(twin);
        const client = table.client[slot]!;
        this.#orphan(slot);
        this.openCount -= 1;
        client.deviceDone(table.tag[slot]!, status, NONE, NONE);
      }
  }

  /** Not live any more. A good answer stays with the requester until it is released; anything else is given back now. */
  #answer(slot: number, status: DeviceStatus, dataAt: number): void {
    const { table } = this.#core;
    const client = table.client[slot]!;
    const tag = table.tag[slot]!;
    this.openCount -= 1;
    if (status === DeviceStatus.ok) {
      table.chain[slot] = HELD_OUT;
      client.deviceDone(tag, status, dataAt, slot);
      return;
    }
    this.#core.recycle(slot);
    client.deviceDone(tag, status, NONE, NONE);
  }
}
