import { Fault } from "../base/fault.js";
import { writeTailBytes } from "../crucible/put.js";
import { type DeviceClient, DeviceStatus } from "../ports/device.js";
import { type LoggedWrite, LogKind } from "../ports/journal.js";
import type { Core } from "./core.js";
import type { Flushes } from "./flushes.js";
import { Flag, Kind, SHORT_TAIL_BYTES } from "./job-table.js";
import type { Writes } from "./writes.js";
import type { Zeroes } from "./zeroes.js";

// What a dead predecessor had logged, written again: every write in order, then a flush. They are ordinary writes, except that each has its
// row in the log already, and keeps it until a flush of this session covers it; so dying here again changes nothing.
//
//   start ──► all enqueued ──► all answered ──► flush ──► `then`

const FLUSH_TAG = 1;

export class Reissue implements DeviceClient {
  readonly #core: Core;
  readonly #writes: Writes;
  readonly #flushes: Flushes;
  readonly #zeroes: Zeroes;
  #left = 0;
  #then: (() => void) | null = null;

  constructor(core: Core, writes: Writes, flushes: Flushes, zeroes: Zeroes) {
    this.#core = core;
    this.#writes = writes;
    this.#flushes = flushes;
    this.#zeroes = zeroes;
  }

  /** Null, or why it cannot be. `then` is not called when the volume ends before. */
  start(entries: readonly LoggedWrite[], then: () => void): Fault | null {
    const slots: number[] = [];
    for (const entry of entries) {
      const slot = this.#take(entry);
      if (slot < 0)
        return new Fault("TRIVET_E_MEMORY", "the arena has no room to write the log again");
      slots.push(slot);
    }
    this.#then = then;
    this.#left = slots.length;
    for (const slot of slots) this.#writes.enqueue(slot);
    return null;
  }

  #take(entry: LoggedWrite): number {
    const { table, blockBytes, writeShare } = this.#core;
    const bytes = entry.blocks * blockBytes;
    const slot = table.take(Kind.write);
    table.start[slot] = entry.start;
    table.blocks[slot] = entry.blocks;
    table.bytes[slot] = bytes;
    table.row[slot] = entry.row;
    table.client[slot] = this;
    table.tag[slot] = 0;
    if (entry.kind === LogKind.zeroes) {
      table.flags[slot] = Flag.logged;
      return this.#zeroes.furnish(slot) ? slot : -1;
    }
    const { at, tailAt, tail } = entry;
    table.flags[slot] = Flag.logged | Flag.prepared;
    table.at[slot] = at;
    table.own[slot] = at;
    table.tailAt[slot] = tailAt;
    if (tail !== null) table.tails.set(tail, slot * SHORT_TAIL_BYTES);
    writeShare.adopt(at, tailAt < 0 ? bytes : bytes + writeTailBytes(entry.blocks, false));
    return slot;
  }

  deviceDone(tag: number, status: DeviceStatus): void {
    if (status !== DeviceStatus.ok) return;
    if (tag === FLUSH_TAG) {
      const then = this.#then;
      this.#then = null;
      then?.();
      return;
    }
    this.#left -= 1;
    if (this.#left === 0) this.#flushes.ask(this, FLUSH_TAG);
  }
  deviceRoom(): void {}
}
