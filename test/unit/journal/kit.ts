import { Fault } from "../../../src/base/fault.js";
import type { Generation, Uuid } from "../../../src/base/ids.js";
import { headBytes, SHORT_TAIL_BYTES, tailBytes } from "../../../src/journal/layout.js";
import { type LogIdentity, type LogOwner, WriteLog } from "../../../src/journal/log.js";
import { LogMemory } from "../../../src/journal/memory.js";
import { type LogReading, readLog } from "../../../src/journal/reading.js";

export const ROWS = 32;
export const BODY_BYTES = 1024 * 1024;
export const BLOCK_BYTES = 512;
export const IDENTITY: LogIdentity = {
  bootId: "00112233-4455-6677-8899-aabbccddeeff" as Uuid,
  volumeId: "12345678-1111-2222-3333-123456789999" as Uuid,
  name: "photos",
  rows: ROWS,
  bodyBytes: BODY_BYTES,
};
export const REGIONS = [1, 2, 3].map((i) => `12345678-0000-4000-8000-00000000000${i}` as Uuid);

export interface Owner extends LogOwner {
  readonly aside: Fault[];
  canCopy: boolean;
}
export function makeOwner(): Owner {
  const aside: Fault[] = [];
  const owner: Owner = {
    pid: 17,
    nowMs: () => 1234.5,
    aside,
    canCopy: true,
    setAside: (why) => {
      if (owner.canCopy) aside.push(why);
      return owner.canCopy;
    },
  };
  return owner;
}

/** A log in memory that remembers what the memory was after each store of a word: what a death between two stores leaves. */
export class TapeMemory extends LogMemory {
  /** Undefined: not recording. */
  tape: ArrayBuffer[] | undefined;
  readonly #buffer: ArrayBuffer;
  readonly #real: Int32Array;
  override readonly words: Int32Array;
  override readonly doubles: Float64Array;

  constructor(buffer = new ArrayBuffer(headBytes(ROWS))) {
    super(buffer, 0, buffer.byteLength);
    this.#buffer = buffer;
    this.#real = new Int32Array(buffer);
    this.words = this.#taped(this.#real, (at, value) => this.#store(at, value));
    const doubles = new Float64Array(buffer);
    this.doubles = this.#taped(doubles, (at, value) => {
      // In two halves, whatever the machine does.
      const halves = new Int32Array(new Float64Array([value]).buffer);
      this.#store(2 * at, halves[0]!);
      this.#store(2 * at + 1, halves[1]!);
    });
  }
  get buffer(): ArrayBuffer {
    return this.#buffer;
  }
  override publish(at: number, word: number): void {
    this.#store(at, word);
  }
  #store(at: number, value: number): void {
    this.#real[at] = value;
    this.tape?.push(this.#buffer.slice(0));
  }
  #taped<T extends Int32Array | Float64Array>(
    real: T,
    store: (at: number, value: number) => void,
  ): T {
    return new Proxy(real, {
      get: (target, key) => {
        if (key === "fill")
          return (value: number, from = 0, to = target.length) => {
            for (let i = from; i < to; i++) if (target[i] !== value) store(i, value);
          };
        return Reflect.get(target, key, target);
      },
      set: (_, key, value: number) => {
        store(Number(key), value);
        return true;
      },
    });
  }

  /** Every state that a death in the middle of `act` leaves, the one before it and the one after it included. */
  record(act: () => void): LogReading[] {
    const before = this.#buffer.slice(0);
    this.tape = [];
    act();
    const states = [before, ...this.tape, this.#buffer.slice(0)];
    this.tape = undefined;
    return states.map(read);
  }
}

export const read = (buffer: ArrayBuffer): LogReading =>
  readLog(new LogMemory(buffer, 0, buffer.byteLength), buffer.byteLength + BODY_BYTES);

export const create = (memory: LogMemory, owner = makeOwner()): WriteLog =>
  WriteLog.create(memory, IDENTITY, owner);

/** Claimed and active, as a session that serves. */
export function serving(memory: LogMemory, owner = makeOwner()): WriteLog {
  const log = create(memory, owner);
  log.claimed(100n as Generation);
  log.activated({
    highestSeen: 90n as Generation,
    reconciledWith: null,
    firstFlush: 1000,
    regions: REGIONS,
    blockBytes: BLOCK_BYTES,
  });
  return log;
}

const tails = new Int32Array(SHORT_TAIL_BYTES / 4).map((_, i) => 0x01010101 * (i + 1));

/** A write of so many blocks; the payload of each has a page of its own (16 for long ones). */
export function write(log: WriteLog, id: number, blocks = 1): number {
  const at = (id % 12) * 65_536;
  const tailAt = tailBytes(blocks) > SHORT_TAIL_BYTES ? at + blocks * BLOCK_BYTES : -1;
  return log.wrote(id, id * 8, blocks, at, tailAt, tails, 0);
}
export const zeroes = (log: WriteLog, id: number, blocks = 8): number =>
  log.wrote(id, id * 8, blocks, -1, -1, tails, 0);

export const why = new Fault("TRIVET_E_SUPERSEDED", "another host has it");
export const idsOf = (reading: LogReading): number[] => reading.rows.map(({ id }) => id);
