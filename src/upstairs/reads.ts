import { invariant } from "../base/invariant.js";
import { errorText } from "../crucible/error.js";
import { REFUSE } from "../crucible/frame-receiver.js";
import { READ_CONTEXT_BYTES, READ_UNENCRYPTED } from "../crucible/layout.js";
import { READ_RESPONSE_HEAD_BYTES } from "../crucible/put.js";
import { ReadResponseFrame } from "../crucible/replies.js";
import { type DeviceClient, DeviceStatus } from "../ports/device.js";
import { firstBadBlock } from "./check-blocks.js";
import type { Core } from "./core.js";
import { Flag, Kind, NONE, Part } from "./job-table.js";
import type { Lane } from "./lane.js";

// Reads go to one replica each. Owns the queue of reads that wait, the choice of a replica, the buffers, and what is done when an
// answer does not come or is not good.
//
//   asked ──► queue ──► sent to one replica ──► answered, checked ──► with the requester ──► released
//               ▲              │     │               │
//               └──────────────┴─────┴───────────────┘
//             connection lost, error reported, bad block: again, elsewhere, as a new job
//
// A read asked again gets a new job id, above all others, and depends on what was written by then. So it sees all writes submitted
// before it was first asked; that it may see later ones too is allowed to requests in flight. The old id is not named to anybody
// again (see sender), so nothing has to be replayed.

/** Every so many reads one goes to the next replica in turn, so that a slow one is noticed to have recovered. */
const EXPLORE_EVERY = 64;

/** Worse than any replica that answers. */
const TROUBLED_MS = 1e12;

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

export class Reads {
  readonly #core: Core;
  readonly #writes: WaitingWrites;
  readonly #response = new ReadResponseFrame();
  #head = NONE;
  #last = NONE;
  #turn = 0;
  #roomAsked = false;
  /** Reads asked for and not answered. */
  openCount = 0;
  retries = 0;

  constructor(core: Core, writes: WaitingWrites) {
    this.#core = core;
    this.#writes = writes;
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
        this.#answer(slot, DeviceStatus.io, NONE);
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
    const lane = this.#choose(slot);
    if (lane === null) return this.#isHopeless(slot) ? HOPELESS : WAITS;
    if (table.own[slot] === NONE && !this.#provide(slot)) return NO_ROOM;
    core.admit(slot);
    core.sender.depend(slot, core.writers);
    table.replica[slot] = lane.index;
    table.tried[slot] = table.tried[slot]! | (1 << lane.index);
    lane.addRead(table, slot);
    table.since[slot] = core.ports.clock.nowMs();
    core.sender.send(slot, lane, core.writers.floor, core.generation);
    return SENT;
  }

  #provide(slot: number): boolean {
    const { table, readShare, blockBytes, ports } = this.#core;
    const bytes = answerBytes(table.blocks[slot]!, blockBytes);
    const at = readShare.alloc(bytes);
    if (at < 0) {
      // A full share has room again when an answer is released; an arena without such a run, when anybody frees anything.
      if (readShare.allows(bytes) && !this.#roomAsked) {
        this.#roomAsked = true;
        ports.arena.whenFreed(this.#onFreed);
      }
      return false;
    }
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

  /** The active replica that will answer soonest, as far as one can tell; null when none may have it now. */
  #choose(slot: number): Lane | null {
    const { lanes, table } = this.#core;
    this.#turn += 1;
    if (this.#turn % EXPLORE_EVERY === 0) {
      const lane = lanes[(this.#turn / EXPLORE_EVERY) % lanes.length]!;
      if (this.#mayHave(lane, slot) && this.#shouldHave(lane, slot)) return lane;
    }
    const bytes = table.bytes[slot]!;
    let best: Lane | null = null;
    let bestMs = 0;
    for (let r = 0; r < lanes.length; r++) {
      const lane = lanes[r]!;
      if (!this.#mayHave(lane, slot)) continue;
      // One that is in trouble is better than nobody, and than waiting.
      const ms = this.#shouldHave(lane, slot) ? lane.expectedMs(bytes) : TROUBLED_MS;
      if (best === null || ms < bestMs) {
        best = lane;
        bestMs = ms;
      }
    }
    return best;
  }
  #mayHave(lane: Lane, slot: number): boolean {
    const { table, tuning } = this.#core;
    if (lane.standing !== "active" || (table.tried[slot]! & (1 << lane.index)) !== 0) return false;
    if (lane.sentJobs === 0) return true;
    return lane.sentJobs < tuning.jobsMax && lane.sentBytes + table.bytes[slot]! <= tuning.bytesMax;
  }
  #shouldHave(lane: Lane, slot: number): boolean {
    const { table } = this.#core;
    return !lane.isTroubled && !lane.hasBad(table.start[slot]!, table.blocks[slot]!);
  }
  /** Everybody who is there or will be back gave a bad answer. */
  #isHopeless(slot: number): boolean {
    const tried = this.#core.table.tried[slot]!;
    return (
      tried !== 0 &&
      this.#core.lanes.every((lane) => lane.standing === "out" || (tried & (1 << lane.index)) !== 0)
    );
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
    if ((table.flags[slot]! & Flag.orphan) !== 0) {
      core.recycle(slot);
      return;
    }
    const problem = this.#problem(response, slot, lane);
    if (problem !== "") {
      this.#bad(slot, lane, problem);
      return;
    }
    lane.learn(ports.clock.nowMs() - table.since[slot]!, load);
    lane.readsAnswered += 1;
    lane.readBytesAnswered += response.dataLength;
    this.#answer(slot, DeviceStatus.ok, response.dataAt);
  }

  #problem(response: ReadResponseFrame, slot: number, lane: Lane): string {
    const { table, ports, blockBytes } = this.#core;
    if (response.error !== null) return errorText(response.error);
    const blocks = table.blocks[slot]!;
    if (response.contextsCount !== blocks || response.dataLength !== blocks * blockBytes)
      return `${response.contextsCount} contexts and ${response.dataLength} bytes for ${blocks} blocks`;
    const bad = firstBadBlock(response, ports.arena, ports.hasher, blockBytes);
    if (bad < 0) return "";
    lane.markBad(table.start[slot]! + bad, 1);
    return `block ${table.start[slot]! + bad} does not agree with its hash`;
  }

  #bad(slot: number, lane: Lane, problem: string): void {
    lane.badBlocks += 1;
    this.#core.ports.notes(
      "error",
      "replica.badBlock",
      `replica ${lane.index} gave a bad answer: ${problem}. It is read from another replica`,
      { replica: lane.index, start: this.#core.table.start[slot]! },
    );
    this.#again(slot);
  }

  /** The replica reports an error for `slot`, a read, and goes on trying. */
  reported(slot: number, lane: Lane): void {
    const { table } = this.#core;
    if ((table.flags[slot]! & Flag.orphan) !== 0) return;
    lane.badBlocks += 1;
    lane.markBad(table.start[slot]!, table.blocks[slot]!);
  }
  /** The replica is in trouble, and other jobs may be stuck behind the one: all that was asked there is asked elsewhere. */
  askElsewhere(lane: Lane): void {
    for (let i = lane.readCount - 1; i >= 0; i--) this.#abandon(lane.reads[i]!, lane);
  }

  #abandon(slot: number, lane: Lane): void {
    const core = this.#core;
    const { table } = core;
    if ((table.flags[slot]! & Flag.orphan) !== 0) return;
    const tried = table.tried[slot]!;
    if (!core.lanes.some((l) => l.standing === "active" && (tried & (1 << l.index)) === 0)) return;
    table.flags[slot] = table.flags[slot]! | Flag.orphan;
    const copy = table.take(Kind.read);
    table.start[copy] = table.start[slot]!;
    table.blocks[copy] = table.blocks[slot]!;
    table.bytes[copy] = table.bytes[slot]!;
    table.ticket[copy] = table.ticket[slot]!;
    table.client[copy] = table.client[slot]!;
    table.tag[copy] = table.tag[slot]!;
    // Only stuck behind something else there: it may come back to that replica.
    const isBad = lane.hasBad(table.start[slot]!, table.blocks[slot]!);
    table.tried[copy] = isBad ? tried : tried & ~(1 << lane.index);
    table.client[slot] = null;
    this.#again(copy);
  }

  /** The replica's connection is gone, and no stream writes to its buffers any more. */
  laneLost(lane: Lane): void {
    const core = this.#core;
    const { table } = core;
    while (lane.readCount > 0) {
      const slot = lane.reads[lane.readCount - 1]!;
      lane.removeRead(table, slot);
      core.finish(slot, lane, Part.none);
      table.retire(slot);
      if ((table.flags[slot]! & Flag.orphan) !== 0) core.recycle(slot);
      else {
        // A lost connection is not a bad answer: it may be asked again when it is back.
        table.tried[slot] = table.tried[slot]! & ~(1 << lane.index);
        this.#again(slot);
      }
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
        table.flags[slot] = table.flags[slot]! | Flag.orphan;
        this.openCount -= 1;
        table.client[slot]?.deviceDone(table.tag[slot]!, status, NONE, NONE);
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
