import type { ClientId, ExtentId, FlushNumber, Generation, JobId } from "../base/ids.js";
import { FRAME_BYTES_MIN } from "../base/limits.js";
import { encodedBytes, encodeInto, type Message, TAG } from "../crucible/messages.js";
import type { SessionIds } from "../crucible/session-ids.js";
import type { Arena } from "../ports/arena.js";
import type { Stream } from "../ports/stream.js";
import { FrameRoom } from "./frame-room.js";
import { IdList } from "./id-list.js";
import { type JobTable, Kind, NONE, Part } from "./job-table.js";
import type { Lane } from "./lane.js";
import type { RepairAddress } from "./reconcile.js";

// Puts jobs of repair on a replica's stream. Their dependencies follow the one rule (see sender), with the candidates that each has:
// a close waits for what was submitted to its extent before it, or for the newest flush before it; every other job for the one
// whose id is one less. A reopen is sent first of all, so it names a job that is only reserved.
//
// The candidates of a close are found by its id, not by the moment when it is sent. When ids were reserved, that is later, and what was
// submitted in between waits for the reopen: naming that would hang both.

/** What a job is sent as. Any of them may become a NoOp. */
export type Order =
  | { readonly do: "close" | "reopen" | "noop" }
  | { readonly do: "flushClose"; readonly generation: Generation }
  | { readonly do: "copy"; readonly source: number; readonly from: RepairAddress };

const NO_OP: Order = { do: "noop" };

export class RepairSender {
  readonly #table: JobTable;
  readonly #ids: SessionIds;
  readonly #arena: Arena;
  readonly #room: FrameRoom;
  readonly #named = new IdList();

  constructor(table: JobTable, arena: Arena, ids: SessionIds) {
    this.#table = table;
    this.#arena = arena;
    this.#ids = ids;
    this.#room = new FrameRoom(arena);
  }

  /** `slot` is reserved for `lane`, and of `extent`. */
  send(slot: number, lane: Lane, extent: number, order: Order): void {
    const table = this.#table;
    const stream = lane.stream!;
    this.#name(slot, lane.index);
    table.part[slot * 3 + lane.index] = Part.sent;
    if (order.do !== "noop") table.tried[slot] = table.tried[slot]! | (1 << lane.index);
    const message = this.#message(slot, extent as ExtentId, order);
    const at = this.#room.take(stream, encodedBytes(message));
    encodeInto(message, this.#room.memory.bytes, at);
    this.#room.leave(stream);
  }
  sendNoOp(slot: number, lane: Lane): void {
    this.send(slot, lane, 0, NO_OP);
  }

  /** Makes a downstairs look again at the jobs that wait there: it may not notice what a reopen allows (wire reference 11, trap 3). */
  wake(stream: Stream): void {
    const { view } = this.#arena;
    const at = stream.compose(FRAME_BYTES_MIN);
    view.setUint32(at, FRAME_BYTES_MIN, true);
    view.setUint32(at + 4, TAG.Ruok, true);
  }

  #message(slot: number, extentId: ExtentId, order: Order): Message {
    const { upstairsId, sessionId } = this.#ids;
    const named = this.#named;
    const request = {
      upstairsId,
      sessionId,
      jobId: this.#table.id[slot]! as JobId,
      dependencies: [...named.ids.subarray(0, named.count)] as JobId[],
    };
    switch (order.do) {
      case "close":
        return { kind: "ExtentLiveClose", ...request, extentId };
      case "flushClose":
        return {
          kind: "ExtentLiveFlushClose",
          ...request,
          extentId,
          flushNumber: this.#table.ticket[slot]! as FlushNumber,
          generation: order.generation,
        };
      case "copy":
        return {
          kind: "ExtentLiveRepair",
          ...request,
          extentId,
          sourceClientId: order.source as ClientId,
          sourceRepairAddress: order.from,
        };
      case "reopen":
        return { kind: "ExtentLiveReopen", ...request, extentId };
      case "noop":
        return { kind: "ExtentLiveNoOp", ...request };
    }
  }

  #name(slot: number, client: number): void {
    const table = this.#table;
    this.#named.clear();
    if (table.kind[slot] === Kind.close) {
      this.#nameBefore(slot, client);
      return;
    }
    const id = table.id[slot]! - 1;
    const before = table.find(id);
    if (before !== NONE && this.#isAhead(before, client)) this.#named.push(id);
  }
  #isAhead(slot: number, client: number): boolean {
    const part = this.#table.part[slot * 3 + client];
    return part === Part.sent || part === Part.reserved;
  }
  #nameBefore(close: number, client: number): void {
    const table = this.#table;
    const named = this.#named;
    const start = table.start[close]!;
    const end = start + table.blocks[close]!;
    const id = table.id[close]!;
    for (let slot = table.head; slot !== NONE && table.id[slot]! < id; slot = table.next[slot]!) {
      if (!this.#isAhead(slot, client)) continue;
      const kind = table.kind[slot]!;
      const isBetween = kind === Kind.flush || kind === Kind.barrier;
      // It stands for everything before it, which it makes the downstairs forget.
      if (isBetween) named.clear();
      const from = table.start[slot]!;
      if (isBetween || (from < end && from + table.blocks[slot]! > start))
        named.push(table.id[slot]!);
    }
  }
}
