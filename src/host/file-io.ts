import { invariant } from "../base/invariant.js";
import { FILE_PIECES_MAX, type FileDone, type FileIo } from "../ports/files.js";
import type { Driver, TurnClient } from "./driver.js";
import { Request } from "./native.js";

/** Numbers of a waiting request: those of a row. */
const WIDTH = 6;

/**
 * File operations by rows. Requests go straight into the row tables while those and the native side have
 * room; the rest waits here in order, in columns that grow and are kept. Lengths are completed natively.
 */
export class HostFileIo implements FileIo, TurnClient {
  readonly #driver: Driver;
  /** Slots: who is told, and under which tag. Free slots form a stack. */
  readonly #done: (FileDone | undefined)[] = [];
  readonly #tags: number[] = [];
  readonly #free: number[] = [];
  /** Requests that wait: [first, next) of a ring, `WIDTH` numbers each, and the pieces of gathered ones. */
  #mask = 255;
  #waiting = new Float64Array(256 * WIDTH);
  #pieces: (Float64Array | undefined)[] = new Array(256);
  #first = 0;
  #next = 0;
  #turnWanted = false;

  constructor(driver: Driver) {
    this.#driver = driver;
    driver.onFileDone((slot, result) => this.#finish(slot, result));
  }

  read(file: number, offset: number, at: number, length: number, done: FileDone, tag: number) {
    this.#plain(Request.fileRead, file, at, length, offset, done, tag);
  }
  write(file: number, offset: number, at: number, length: number, done: FileDone, tag: number) {
    this.#plain(Request.fileWrite, file, at, length, offset, done, tag);
  }
  sync(file: number, dataOnly: boolean, done: FileDone, tag: number) {
    this.#plain(dataOnly ? Request.fileDataSync : Request.fileSync, file, 0, 0, 0, done, tag);
  }
  writeGather(
    file: number,
    offset: number,
    pieces: Float64Array,
    count: number,
    done: FileDone,
    tag: number,
  ): void {
    invariant(count > 0 && count <= FILE_PIECES_MAX, "a gathered write has 1 to 256 pieces");
    const slot = this.#take(done, tag);
    if (this.#canStage && this.#driver.roomForVectors(count)) {
      this.#stageGather(file, offset, pieces, count, slot);
      this.#driver.poke();
    } else {
      this.#wait(Request.fileWriteVector, file, 0, count, offset, slot, pieces.slice(0, 2 * count));
    }
  }

  #plain(
    request: number,
    file: number,
    at: number,
    length: number,
    offset: number,
    done: FileDone,
    tag: number,
  ): void {
    const slot = this.#take(done, tag);
    if (this.#canStage) {
      this.#driver.fileRow(request, file, at, length, offset, slot);
      this.#driver.poke();
    } else {
      this.#wait(request, file, at, length, offset, slot, undefined);
    }
  }
  get #canStage(): boolean {
    return this.#first === this.#next && this.#driver.roomForFile;
  }
  #stageGather(file: number, offset: number, pieces: Float64Array, count: number, slot: number) {
    const from = this.#driver.nextVector;
    for (let i = 0; i < 2 * count; i += 2) this.#driver.vector(pieces[i]!, pieces[i + 1]!);
    this.#driver.fileRow(Request.fileWriteVector, file, from, count, offset, slot);
  }

  #take(done: FileDone, tag: number): number {
    const slot = this.#free.pop() ?? this.#done.length;
    this.#done[slot] = done;
    this.#tags[slot] = tag;
    return slot;
  }
  #finish(slot: number, result: number): void {
    const done = this.#done[slot];
    const tag = this.#tags[slot]!;
    invariant(done !== undefined, "a completion names an operation in flight");
    this.#done[slot] = undefined;
    this.#free.push(slot);
    if (this.#first !== this.#next) this.#wantTurn();
    done.fileDone(tag, result);
  }

  #wait(
    request: number,
    file: number,
    at: number,
    length: number,
    offset: number,
    slot: number,
    pieces: Float64Array | undefined,
  ): void {
    if (this.#next - this.#first > this.#mask) this.#grow();
    const place = this.#next++ & this.#mask;
    this.#waiting.set([request, file, at, length, offset, slot], place * WIDTH);
    this.#pieces[place] = pieces;
    this.#wantTurn();
  }
  #grow(): void {
    const size = 2 * (this.#mask + 1);
    const waiting = new Float64Array(size * WIDTH);
    const pieces: (Float64Array | undefined)[] = new Array(size);
    for (let n = this.#first; n < this.#next; n++) {
      const from = n & this.#mask;
      const to = n & (size - 1);
      waiting.set(this.#waiting.subarray(from * WIDTH, (from + 1) * WIDTH), to * WIDTH);
      pieces[to] = this.#pieces[from];
    }
    this.#waiting = waiting;
    this.#pieces = pieces;
    this.#mask = size - 1;
  }
  #wantTurn(): void {
    if (this.#turnWanted) return;
    this.#turnWanted = true;
    this.#driver.wantTurn(this);
  }
  turn(): void {
    this.#turnWanted = false;
  }
  stage(): boolean {
    const driver = this.#driver;
    while (this.#first !== this.#next) {
      // Too many in flight: an answer will bring us back.
      if (driver.roomForRow && !driver.roomForFile) return true;
      const place = this.#first & this.#mask;
      const w = this.#waiting;
      const i = place * WIDTH;
      const pieces = this.#pieces[place];
      if (pieces !== undefined) {
        if (!driver.roomForVectors(w[i + 3]!)) return false;
        this.#stageGather(w[i + 1]!, w[i + 4]!, pieces, w[i + 3]!, w[i + 5]!);
        this.#pieces[place] = undefined;
      } else {
        if (!driver.roomForRow) return false;
        driver.fileRow(w[i]!, w[i + 1]!, w[i + 2]!, w[i + 3]!, w[i + 4]!, w[i + 5]!);
      }
      this.#first += 1;
    }
    return true;
  }
}
