import type { Uuid } from "../base/ids.js";
import { invariant } from "../base/invariant.js";
import { ROW_BYTES, ROW_WORDS } from "./layout.js";

// The head of a log as words. Every store that a successor relies on is a store of one aligned word, which is done or not done when the
// process dies; order is kept by `publish`, which nothing may be moved across.

/** `buffer` from `at` on, `bytes` long: a mapping, or a copy of one. */
export class LogMemory {
  readonly words: Int32Array;
  readonly doubles: Float64Array;

  constructor(buffer: ArrayBuffer, at: number, bytes: number) {
    invariant(at % 8 === 0 && bytes % ROW_BYTES === 0, "the head of a log is whole rows");
    this.words = new Int32Array(buffer, at, bytes / 4);
    this.doubles = new Float64Array(buffer, at, bytes / 8);
  }

  get bytes(): number {
    return this.words.length * 4;
  }

  /** Stores a word when everything before is stored. */
  publish(at: number, word: number): void {
    Atomics.store(this.words, at, word);
  }

  /** u64 in two words, low one first. */
  u64(at: number): bigint {
    return (BigInt(this.words[at + 1]! >>> 0) << 32n) | BigInt(this.words[at]! >>> 0);
  }
  setU64(at: number, value: bigint): void {
    this.words[at] = Number(BigInt.asIntN(32, value));
    this.words[at + 1] = Number(BigInt.asIntN(32, value >> 32n));
  }

  /** 16 bytes in the order of the text form. */
  uuid(at: number): Uuid {
    const hex = Buffer.from(this.#slice(at, 16)).toString("hex");
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5") as Uuid;
  }
  setUuid(at: number, uuid: Uuid): void {
    this.#slice(at, 16).set(Buffer.from(uuid.replaceAll("-", ""), "hex"));
  }

  text(at: number, bytes: number): string {
    return Buffer.from(this.#slice(at, bytes)).toString("utf8");
  }
  setText(at: number, bytes: Uint8Array): void {
    this.#slice(at, bytes.length).set(bytes);
  }

  /** A copy. */
  copy(at: number, bytes: number): Uint8Array {
    return new Uint8Array(this.#slice(at, bytes));
  }

  #slice(at: number, bytes: number): Uint8Array {
    const { buffer, byteOffset } = this.words;
    return new Uint8Array(buffer, byteOffset + 4 * at, bytes);
  }
}

/** Word at which the row at `place` begins. */
export const rowBase = (firstRowWord: number, place: number): number =>
  firstRowWord + place * ROW_WORDS;
