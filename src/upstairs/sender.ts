import type { Generation } from "../base/ids.js";
import { TAG } from "../crucible/messages.js";
import {
  barrierBytes,
  flushBytes,
  putBarrier,
  putFlush,
  putReadRequest,
  putWriteHead,
  readRequestBytes,
  writeHeadBytes,
  writeTailBytes,
} from "../crucible/put.js";
import type { SessionIds } from "../crucible/session-ids.js";
import type { Arena } from "../ports/arena.js";
import type { Stream } from "../ports/stream.js";
import { FrameRoom } from "./frame-room.js";
import { IdList } from "./id-list.js";
import { type JobTable, Kind, NONE, Part, SHORT_TAIL_BYTES } from "./job-table.js";
import type { Lane } from "./lane.js";
import type { WriterMap } from "./writer-map.js";

// Puts a job on a replica's stream, with the dependencies that this replica can meet. The one rule for those:
//
//   name a job to a replica exactly when it was sent on this connection and is not done there.
//
// A job of repair that is reserved counts as sent: it is sure to be.
//
// A downstairs takes a dependency as met only if that id was completed on this very connection since the last completed flush
// (wire reference 6.3). So a read that went elsewhere, a job skipped, retired, or done before a reconnect must not be
// named, or the job hangs for ever; and one that is done need not be.

/** Tails up to this size are copied behind the head; longer ones go as a piece of their own. */
export const TAIL_INLINE_MAX = 1024;
const REPLICAS = 3;

/** Adds to `to` what opens again the extents of a range that repair has closed or is going to close. */
export interface ClosedExtents {
  collect(start: number, blocks: number, floor: number, to: IdList): void;
}

export class Sender {
  readonly #table: JobTable;
  readonly #arena: Arena;
  readonly #ids: SessionIds;
  /** Candidates for dependencies of the job at hand, the same for all replicas. */
  readonly candidates = new IdList();
  readonly #named = new IdList();
  readonly #room: FrameRoom;
  /** Highest extent that a flush touches, per replica, during its repair; −1: all. Live repair sets it. */
  readonly extentLimit = new Int32Array(REPLICAS).fill(-1);

  constructor(table: JobTable, arena: Arena, ids: SessionIds) {
    this.#table = table;
    this.#arena = arena;
    this.#ids = ids;
    this.#room = new FrameRoom(arena);
  }

  /**
   * Finds the candidates for `slot` and makes it known to `writers`: once per job when it is submitted, once per job and
   * replica when it is replayed. Flushes and barriers need none: they depend on everything. `repair` knows of extents that
   * are closed, or are going to be; null when there are none.
   */
  depend(slot: number, writers: WriterMap, repair: ClosedExtents | null): void {
    const table = this.#table;
    const { candidates } = this;
    candidates.clear();
    const start = table.start[slot]!;
    const blocks = table.blocks[slot]!;
    if (table.kind[slot] === Kind.write)
      writers.replace(start, blocks, table.id[slot]!, candidates);
    else if (table.kind[slot] === Kind.read) writers.collect(start, blocks, candidates);
    if (repair !== null) repair.collect(start, blocks, writers.floor, candidates);
    candidates.settle();
  }

  /** Sends `slot` to `lane`, which is active. `floor` is the newest flush or barrier before it. */
  send(slot: number, lane: Lane, floor: number, generation: Generation): void {
    const table = this.#table;
    const stream = lane.stream!;
    const kind = table.kind[slot]!;
    if (kind === Kind.flush || kind === Kind.barrier) this.#nameAll(lane.index, floor);
    else this.#nameCandidates(slot, lane, floor);
    const names = this.#named;
    const id = table.id[slot]!;
    table.part[slot * REPLICAS + lane.index] = Part.sent;
    lane.sentJobs += 1;
    lane.sentBytes += table.bytes[slot]!;
    switch (kind) {
      case Kind.write:
        this.#sendWrite(slot, stream);
        return;
      case Kind.read: {
        const at = this.#room.take(stream, readRequestBytes(names.count));
        putReadRequest(
          this.#room.memory,
          at,
          this.#ids,
          id,
          names.ids,
          0,
          names.count,
          table.start[slot]!,
          table.blocks[slot]!,
        );
        this.#room.leave(stream);
        return;
      }
      case Kind.flush: {
        const limit = this.extentLimit[lane.index]!;
        const at = this.#room.take(stream, flushBytes(names.count, limit));
        const flushNumber = table.ticket[slot]!;
        putFlush(
          this.#room.memory,
          at,
          this.#ids,
          id,
          names.ids,
          0,
          names.count,
          flushNumber,
          generation,
          limit,
        );
        this.#room.leave(stream);
        return;
      }
      default: {
        const at = this.#room.take(stream, barrierBytes(names.count));
        putBarrier(this.#room.memory, at, this.#ids, id, names.ids, 0, names.count);
        this.#room.leave(stream);
      }
    }
  }

  #sendWrite(slot: number, stream: Stream): void {
    const table = this.#table;
    const arena = this.#arena;
    const names = this.#named;
    const blocks = table.blocks[slot]!;
    const dataBytes = table.bytes[slot]!;
    const tailBytes = writeTailBytes(blocks, false);
    const tailAt = table.tailAt[slot]!;
    const headBytes = writeHeadBytes(names.count);
    const inline = tailBytes <= TAIL_INLINE_MAX;
    const at = this.#room.take(stream, headBytes + (inline ? tailBytes : 0));
    putWriteHead(
      this.#room.memory,
      at,
      TAG.Write,
      this.#ids,
      table.id[slot]!,
      names.ids,
      0,
      names.count,
      table.start[slot]!,
      blocks,
      tailBytes,
      dataBytes,
    );
    if (tailAt < 0)
      table.tails.copy(
        this.#room.memory.bytes,
        at + headBytes,
        slot * SHORT_TAIL_BYTES,
        slot * SHORT_TAIL_BYTES + tailBytes,
      );
    else if (inline)
      arena.bytes.copy(this.#room.memory.bytes, at + headBytes, tailAt, tailAt + tailBytes);
    this.#room.leave(stream);
    // The tail needs no notice of its own: it leaves before the payload does, and is freed with it.
    if (!inline) stream.attach(tailAt, tailBytes, -1);
    table.pins[slot] = table.pins[slot]! + 1;
    stream.attach(table.at[slot]!, dataBytes, slot);
  }

  #nameCandidates(slot: number, lane: Lane, floor: number): void {
    const table = this.#table;
    const named = this.#named;
    named.clear();
    const { ids, count } = this.candidates;
    for (let i = 0; i < count; i++) {
      const id = ids[i]!;
      const on = table.find(id);
      if (on !== NONE && this.#isAhead(on, lane.index)) named.push(id);
    }
    if (table.kind[slot] === Kind.write && lane.readCount > 0) this.#nameReads(slot, lane, floor);
    named.settle();
  }

  #isAhead(slot: number, client: number): boolean {
    const part = this.#table.part[slot * REPLICAS + client];
    return part === Part.sent || part === Part.reserved;
  }

  /** Reads that this replica still has must not see a later write half done. Those from before the floor it has finished with. */
  #nameReads(slot: number, lane: Lane, floor: number): void {
    const table = this.#table;
    const start = table.start[slot]!;
    const end = start + table.blocks[slot]!;
    for (let i = 0; i < lane.readCount; i++) {
      const read = lane.reads[i]!;
      const from = table.start[read]!;
      if (from >= end || from + table.blocks[read]! <= start) continue;
      const id = table.id[read]!;
      if (id > floor) this.#named.push(id);
    }
  }

  /** Everything since the last flush or barrier that the replica has not done, and that one itself. */
  #nameAll(client: number, floor: number): void {
    const table = this.#table;
    const named = this.#named;
    named.clear();
    let slot = floor < 0 ? table.head : table.find(floor);
    if (slot === NONE) slot = table.head;
    for (; slot !== NONE; slot = table.next[slot]!) {
      // Of the jobs that repair one extent the last one stands for all.
      const kind = table.kind[slot]!;
      if (kind >= Kind.close && kind < Kind.reopen) continue;
      const id = table.id[slot]!;
      if (id >= floor && this.#isAhead(slot, client)) named.push(id);
    }
  }
}
