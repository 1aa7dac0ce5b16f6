import { REPLY_BYTES_MAX } from "../base/limits.js";
import { READ_CONTEXT_BYTES_MAX } from "../crucible/layout.js";
import { putReadResponse, READ_RESPONSE_HEAD_BYTES } from "../crucible/put.js";
import type { JobTable } from "./job-table.js";
import type { Outlet } from "./outlet.js";
import type { StoreDone } from "./region-store.js";
import { ReplyTable } from "./reply-table.js";
import type { Service } from "./service.js";

/** Data of a reply begins at a multiple of this, for the memory's sake. */
const DATA_ALIGN = 64;

/**
 * The memory of one connection's reads: found when a read runs, filled by the store, sent from where it lies, freed
 * when it was sent. A read for which there is no room, or whose peer has not taken earlier answers, waits
 * here while it counts as running.
 *
 *   [ head | room for contexts | length ] [ data ]     as allocated
 *              [ head | contexts | length | data ]     as sent: the front moves up to the data
 */
export class ReadJobs {
  readonly replies: ReplyTable;
  readonly #service: Service;
  readonly #outlet: Outlet;
  readonly #table: JobTable;
  readonly #done: StoreDone;
  #held: number[] = [];
  /** Memory of reads in progress in the store. */
  #readingBytes = 0;
  #awaitingMemory = false;

  /** `done` is told by the store. */
  constructor(service: Service, outlet: Outlet, table: JobTable, done: StoreDone) {
    this.replies = new ReplyTable(service.arena);
    this.#service = service;
    this.#outlet = outlet;
    this.#table = table;
    this.#done = done;
  }

  /** Starts a read of at least one block, now or when there is room. */
  run(slot: number): void {
    const table = this.#table;
    const { arena, store } = this.#service;
    const start = table.start[slot]!;
    const count = table.end[slot]! - start;
    const room = READ_RESPONSE_HEAD_BYTES + count * READ_CONTEXT_BYTES_MAX + 8;
    const dataOffset = Math.ceil(room / DATA_ALIGN) * DATA_ALIGN;
    const length = dataOffset + count * store.definition.blockSize;
    const outstanding = this.replies.bytes + this.#readingBytes;
    if (outstanding > 0 && outstanding + length > REPLY_BYTES_MAX) {
      this.#held.push(slot);
      return;
    }
    const at = arena.alloc(length);
    if (at < 0) {
      this.#held.push(slot);
      this.#awaitMemory();
      return;
    }
    table.frameAt[slot] = at;
    table.frameBytes[slot] = length;
    table.dataAt[slot] = at + dataOffset;
    this.#readingBytes += length;
    this.#service.began();
    const contextsAt = at + READ_RESPONSE_HEAD_BYTES;
    store.read(start, count, contextsAt, at + dataOffset, this.#done, slot);
  }

  /** The store has filled the memory; the job may be finished when this returns. */
  send(slot: number, contextsBytes: number): void {
    const table = this.#table;
    const { arena, store } = this.#service;
    const { stream, ids } = this.#outlet;
    const at = table.frameAt[slot]!;
    const dataAt = table.dataAt[slot]!;
    const length = table.frameBytes[slot]!;
    const count = table.end[slot]! - table.start[slot]!;
    const data = count * store.definition.blockSize;
    const head = READ_RESPONSE_HEAD_BYTES + contextsBytes + 8;
    const headAt = dataAt - head;
    const from = at + READ_RESPONSE_HEAD_BYTES;
    arena.bytes.copyWithin(headAt + READ_RESPONSE_HEAD_BYTES, from, from + contextsBytes);
    putReadResponse(arena, headAt, ids, table.id[slot]!, count, contextsBytes, data);
    table.frameAt[slot] = -1;
    this.#readingBytes -= length;
    stream.attach(headAt, head + data, this.replies.add(at, length));
  }

  /** A read of no blocks: legal, and answered with nothing. */
  sendEmpty(slot: number): void {
    const { stream, ids } = this.#outlet;
    const at = stream.compose(READ_RESPONSE_HEAD_BYTES + 8);
    putReadResponse(this.#service.arena, at, ids, this.#table.id[slot]!, 0, 0, 0);
  }

  /** The read has failed, or nobody wants its answer. */
  release(slot: number): void {
    const at = this.#table.frameAt[slot]!;
    if (at < 0) return;
    this.#table.frameAt[slot] = -1;
    this.#readingBytes -= this.#table.frameBytes[slot]!;
    this.#service.arena.free(at);
  }

  /** For the stream's handler of the same name. */
  sent(tag: number): void {
    this.replies.sent(tag);
    this.retry();
  }

  /** Those that wait, in order, until one has to wait again. */
  retry(): void {
    if (this.#held.length === 0) return;
    const held = this.#held;
    this.#held = [];
    for (let i = 0; i < held.length; i++) {
      this.run(held[i]!);
      if (this.#held.length === 0) continue;
      for (i += 1; i < held.length; i++) this.#held.push(held[i]!);
    }
  }

  /** The connection is over: takes out those that wait. */
  takeHeld(): readonly number[] {
    const held = this.#held;
    this.#held = [];
    return held;
  }

  #awaitMemory(): void {
    if (this.#awaitingMemory) return;
    this.#awaitingMemory = true;
    this.#service.arena.whenFreed(() => {
      this.#awaitingMemory = false;
      this.retry();
    });
  }
}
