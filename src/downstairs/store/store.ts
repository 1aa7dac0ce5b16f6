import { Fault } from "../../base/fault.js";
import { invariant } from "../../base/invariant.js";
import { STORE_HELD_BYTES_MAX } from "../../base/limits.js";
import type { RegionDefinition } from "../../crucible/region-definition.js";
import type { Arena } from "../../ports/arena.js";
import type { Clock } from "../../ports/clock.js";
import type { FileIo, FileTree, Then } from "../../ports/files.js";
import type { Hasher } from "../../ports/hasher.js";
import type { Notes } from "../../ports/notes.js";
import type { Address } from "../../ports/stream.js";
import { extentDirectory } from "../../region/layout.js";
import {
  CONTEXT_KIND_AT,
  CONTEXT_SEAL_AT,
  ENCRYPTED_CONTEXT_BYTES,
  PLAIN_CONTEXT_BYTES,
  SEAL_BYTES,
} from "../../region/slot.js";
import type { RegionStore, RepairPeer, StoreDone } from "../region-store.js";
import { Answers } from "./answers.js";
import { Commit, type FlushNumbers } from "./commit.js";
import { ExtentState, type Extents } from "./extents.js";
import { inOrder, inParallel } from "./flow.js";
import { Held } from "./held.js";
import { Jobs, type ScanDone } from "./jobs.js";
import { replaceFile, settleLeftovers } from "./leftovers.js";
import type { Opening } from "./opening.js";
import { type PendingWrite, PendingWrites } from "./pending.js";
import { Pressure } from "./pressure.js";
import { Writeback } from "./writeback.js";

export interface StoreParts {
  readonly arena: Arena;
  readonly io: FileIo;
  readonly tree: FileTree;
  readonly hasher: Hasher;
  readonly clock: Clock;
  readonly notes: Notes;
  readonly peer: RepairPeer;
}

/** Extents that are written out side by side. */
export const COMMITS = 8;

/** What `openStore` has found and reserved; the store takes it over. */
export interface Opened {
  readonly extents: Extents;
  readonly readOnly: boolean;
  readonly opening: Opening;
  /** Descriptor that holds the lock; −1 when read-only. */
  readonly lockFile: number;
  /** Arena allocations to give back at the end. */
  readonly scratch: readonly number[];
  readonly jobsAt: number;
  readonly commitsAt: readonly number[];
  /** Most bytes of written data in memory; undefined: a quarter of the arena, at most 64 MiB. */
  readonly heldBytesMax: number | undefined;
}

/**
 * A region on this machine's disk. Writes are checked, kept in memory and answered; a flush, a close, or lack of
 * memory brings them to their files in an order that every power cut leaves recoverable (README.md). Reads see
 * what is held. Never throws for what a caller, a peer or a disk did wrong: answers a Fault.
 */
export class Store implements RegionStore, ScanDone {
  readonly definition: RegionDefinition;
  readonly readOnly: boolean;
  readonly #parts: StoreParts;
  readonly #extents: Extents;
  readonly #opening: Opening;
  readonly #opened: Opened;
  readonly #answers: Answers;
  readonly #held: Held;
  readonly #jobs: Jobs;
  readonly #writeback: Writeback;
  readonly #pressure: Pressure;
  readonly #pending = new PendingWrites();
  /** Cold operations: those that run, and what waits for the one piece of memory to open extents with. */
  #coldCount = 0;
  readonly #turns: (() => void)[] = [];
  #turnTaken = false;
  #closing: (() => void) | undefined;
  #closed = false;

  constructor(parts: StoreParts, opened: Opened) {
    const { arena, io, hasher, clock } = parts;
    const { extents } = opened;
    const { blocks, blockBytes } = extents.layout;
    this.definition = extents.region;
    this.readOnly = opened.readOnly;
    this.#parts = parts;
    this.#opened = opened;
    this.#extents = extents;
    this.#opening = opened.opening;
    this.#answers = new Answers(clock);
    this.#held = new Held(arena, extents.count, blocks, blockBytes);
    this.#jobs = new Jobs(arena, io, extents, this.#held, this.#answers, opened.jobsAt);
    this.#writeback = new Writeback(
      extents,
      this.#held,
      this.#answers,
      opened.commitsAt.map((at) => new Commit(arena, io, hasher, extents, this.#held, at)),
    );
    const usual = Math.min(STORE_HELD_BYTES_MAX, arena.sizeBytes / 4);
    this.#pressure = new Pressure(
      clock,
      parts.notes,
      extents,
      this.#held,
      this.#writeback,
      opened.heldBytesMax ?? usual,
      (fault) => this.#admit(fault),
    );
  }

  generation(extent: number): bigint {
    return this.#extents.generations[extent]!;
  }
  flushNumber(extent: number): number {
    return this.#extents.flushNumbers[extent]!;
  }
  isDirty(extent: number): boolean {
    return this.#extents.dirty.has(extent);
  }
  isClosed(extent: number): boolean {
    const state = this.#extents.states[extent];
    return state === ExtentState.closed || state === ExtentState.changing;
  }
  /** Arena memory that written data takes, for status displays. */
  get heldBytes(): number {
    return this.#held.bytes;
  }

  // Blocks

  write(
    start: number,
    count: number,
    contextsAt: number,
    dataAt: number,
    frameAt: number,
    unwrittenOnly: boolean,
    done: StoreDone,
    tag: number,
  ): void {
    const write = this.#pending.take();
    write.set(start, count, contextsAt, dataAt, frameAt, unwrittenOnly, done, tag);
    const fault = this.#writeProblem(write);
    if (fault !== null) this.#fail(write, fault);
    else if (this.#pressure.full || this.#pending.waiting) this.#pending.wait(write);
    else this.#perform(write);
  }
  read(
    start: number,
    count: number,
    contextsAt: number,
    dataAt: number,
    done: StoreDone,
    tag: number,
  ): void {
    const fault = this.#stopped() ?? this.#extents.problem(start, count);
    if (fault !== null) this.#answers.give(done, tag, fault, 0);
    else this.#jobs.read(start, count, contextsAt, dataAt, done, tag);
  }

  #writeProblem(write: PendingWrite): Fault | null {
    const stopped = this.#stopped() ?? this.#readOnlyFault();
    return stopped ?? this.#extents.problem(write.start, write.count);
  }
  #readOnlyFault(): Fault | null {
    if (!this.readOnly) return null;
    return new Fault("TRIVET_E_READ_ONLY", `${this.#extents.directory} is open read-only`);
  }
  #fail(write: PendingWrite, fault: Fault): void {
    this.#answers.give(write.done!, write.tag, fault, 0);
    this.#pending.giveBack(write);
  }
  #perform(write: PendingWrite): void {
    const wrong = this.#checkHashes(write);
    if (wrong >= 0) {
      const text = `block ${write.start + wrong} of a write does not have the hash in its context`;
      this.#fail(write, new Fault("TRIVET_E_HASH", text));
    } else if (write.unwrittenOnly) {
      this.#jobs.scan(write.start, write.count, this, this.#pending.park(write));
    } else this.#hold(write, null);
  }
  scanDone(tag: number, fault: Fault | null, written: Uint8Array): void {
    const write = this.#pending.unpark(tag);
    const found = fault ?? this.#extents.problem(write.start, write.count);
    if (found !== null) this.#fail(write, found);
    else this.#hold(write, written);
  }

  /** Index of the first block whose context hash is not its data's; −1: all are right. */
  #checkHashes(write: PendingWrite): number {
    const { bytes } = this.#parts.arena;
    const { hasher } = this.#parts;
    const { blockBytes } = this.#extents.layout;
    let at = write.contextsAt;
    for (let i = 0; i < write.count; ) {
      const kind = bytes[at + CONTEXT_KIND_AT]!;
      const stride = kind === 1 ? ENCRYPTED_CONTEXT_BYTES : PLAIN_CONTEXT_BYTES;
      let n = 1;
      while (i + n < write.count && bytes[at + n * stride + CONTEXT_KIND_AT] === kind) n += 1;
      const dataAt = write.dataAt + i * blockBytes;
      const sealAt = at + CONTEXT_SEAL_AT;
      const wrong =
        kind === 1
          ? hasher.verifyPrefixed(dataAt, blockBytes, n, at, stride, sealAt, stride, SEAL_BYTES)
          : hasher.verify(dataAt, blockBytes, n, at, stride);
      if (wrong >= 0) return i + wrong;
      i += n;
      at += n * stride;
    }
    return -1;
  }
  /** Takes the blocks over, except those that `skip` marks: runs of one extent with contexts of one kind. */
  #hold(write: PendingWrite, skip: Uint8Array | null): void {
    const { bytes } = this.#parts.arena;
    const { blocks, blockBytes } = this.#extents.layout;
    const { start, count, frameAt } = write;
    const length = write.dataAt + count * blockBytes - frameAt;
    const frame = this.#held.beginFrame(frameAt, length);
    let at = write.contextsAt;
    for (let i = 0; i < count; ) {
      const extent = Math.floor((start + i) / blocks);
      const first = start + i - extent * blocks;
      const kind = bytes[at + CONTEXT_KIND_AT]!;
      const stride = kind === 1 ? ENCRYPTED_CONTEXT_BYTES : PLAIN_CONTEXT_BYTES;
      const most = Math.min(count - i, blocks - first);
      let n = 1;
      while (
        n < most &&
        bytes[at + n * stride + CONTEXT_KIND_AT] === kind &&
        (skip === null || skip[i + n] === skip[i])
      )
        n += 1;
      if (skip === null || skip[i] === 0) {
        this.#held.hold(extent, first, n, frame, write.dataAt + i * blockBytes, at, kind === 1);
        this.#extents.dirty.add(extent);
        this.#pressure.holds(extent);
      }
      i += n;
      at += n * stride;
    }
    this.#answers.give(write.done!, write.tag, null, 0);
    this.#pending.giveBack(write);
    this.#held.endFrame(frame);
    this.#pressure.check();
  }
  /** There may be room again; with a fault: there will be none soon. */
  #admit(fault: Fault | null): void {
    while (this.#pending.waiting && (fault !== null || !this.#pressure.full)) {
      const write = this.#pending.next();
      const problem = fault ?? this.#writeProblem(write);
      if (problem !== null) this.#fail(write, problem);
      else this.#perform(write);
    }
  }

  // Flushes

  flush(
    flushNumber: number,
    generation: bigint,
    limit: number,
    done: StoreDone,
    tag: number,
  ): void {
    const numbers = { flushNumber, generation };
    const then = (fault: Fault | null): void => done.storeDone(tag, fault, 0);
    if (limit > this.#extents.count) {
      const text = `a flush up to extent ${limit} of a region of ${this.#extents.count}`;
      this.#answers.later(then, new Fault("TRIVET_E_RANGE", text));
      return;
    }
    const last = limit < 0 ? this.#extents.count : limit;
    const extents: number[] = [];
    for (const extent of this.#extents.dirty) if (extent <= last) extents.push(extent);
    this.#flushSome(extents, numbers, then);
  }
  flushExtent(extent: number, flushNumber: number, generation: bigint, then: Then): void {
    const unknown = this.#extents.unknown(extent);
    if (unknown !== null) this.#answers.later(then, unknown);
    else if (this.isClosed(extent)) this.#answers.later(then, this.#extents.closedFault(extent));
    else this.#flushSome(this.isDirty(extent) ? [extent] : [], { flushNumber, generation }, then);
  }
  #flushSome(extents: readonly number[], numbers: FlushNumbers, then: Then): void {
    const closed = extents.find((extent) => this.#extents.states[extent] !== ExtentState.open);
    const fault =
      this.#stopped() ??
      (extents.length > 0 ? this.#readOnlyFault() : null) ??
      (closed !== undefined ? this.#extents.closedFault(closed) : null);
    if (fault !== null || extents.length === 0) {
      this.#answers.later(then, fault);
      return;
    }
    // All are sealed now: the flush covers what was written before it, nothing later.
    const submit = (index: number, next: Then): void =>
      this.#pressure.writeOut(extents[index]!, numbers, next);
    inParallel(extents.length, extents.length, submit, then);
  }

  // Extents

  closeExtent(extent: number, then: Then): void {
    const { states, files } = this.#extents;
    const fault =
      this.#stopped() ??
      this.#extents.unknown(extent) ??
      (states[extent] === ExtentState.open ? null : this.#extents.closedFault(extent));
    if (fault !== null) {
      this.#answers.later(then, fault);
      return;
    }
    states[extent] = ExtentState.closing;
    this.#cold(then, (next) =>
      this.#pressure.writeOut(extent, null, (failed) => {
        if (failed !== null) {
          states[extent] = ExtentState.open;
          next(failed);
          return;
        }
        this.#extents.whenIdle(extent, () => {
          this.#parts.tree.close(files[extent]!);
          files[extent] = -1;
          states[extent] = ExtentState.closed;
          next(null);
        });
      }),
    );
  }
  reopenExtent(extent: number, then: Then): void {
    const fault = this.#changeProblem(extent);
    if (fault !== null) this.#answers.later(then, fault);
    else this.#cold(then, (next) => this.#reopen(extent, next));
  }
  reopenAll(then: Then): void {
    const fault = this.#stopped();
    const extents: number[] = [];
    for (let extent = 0; extent < this.#extents.count; extent++)
      if (this.#extents.states[extent] === ExtentState.closed) extents.push(extent);
    if (fault !== null || extents.length === 0) {
      this.#answers.later(then, fault);
      return;
    }
    this.#cold(then, (next) =>
      inParallel(extents.length, 1, (index, one) => this.#reopen(extents[index]!, one), next),
    );
  }
  replaceExtent(extent: number, source: Address, then: Then): void {
    const fault = this.#readOnlyFault() ?? this.#changeProblem(extent);
    if (fault !== null) {
      this.#answers.later(then, fault);
      return;
    }
    const { tree, peer, notes } = this.#parts;
    const { states } = this.#extents;
    states[extent] = ExtentState.changing;
    const from = `${source.host}:${source.port}`;
    this.#cold(then, (next) =>
      replaceFile(tree, peer, this.#extents, extent, source, (failed) => {
        states[extent] = ExtentState.closed;
        if (failed === null)
          notes("debug", "extent.replaced", `extent ${extent} was copied from ${from}`, { extent });
        next(failed);
      }),
    );
  }

  #changeProblem(extent: number): Fault | null {
    const fault = this.#stopped() ?? this.#extents.unknown(extent);
    if (fault !== null || this.#extents.states[extent] === ExtentState.closed) return fault;
    const text = `extent ${extent} of ${this.#extents.directory} is not closed`;
    return new Fault("TRIVET_E_PROTOCOL", text);
  }
  /** One at a time: they share memory. */
  #reopen(extent: number, then: Then): void {
    const { tree } = this.#parts;
    const { states, directory } = this.#extents;
    states[extent] = ExtentState.changing;
    const ended = (fault: Fault | null): void => {
      if (fault !== null) states[extent] = ExtentState.closed;
      this.#turnTaken = false;
      this.#turns.shift()?.();
      then(fault);
    };
    const run = (): void => {
      this.#turnTaken = true;
      tree.list(`${directory}/${extentDirectory(extent)}`, (fault, names) => {
        const set = new Set(names ?? []);
        const steps = settleLeftovers(tree, this.#extents, extent, set, this.readOnly);
        if (fault !== null || steps instanceof Fault) return ended(fault ?? (steps as Fault));
        inOrder([...steps, (next) => this.#opening.open(extent, next)], ended);
      });
    };
    if (this.#turnTaken) this.#turns.push(run);
    else run();
  }
  #cold(then: Then, run: (next: Then) => void): void {
    this.#coldCount += 1;
    run((fault) => {
      this.#coldCount -= 1;
      then(fault);
      if (this.#coldCount === 0) this.#closing?.();
    });
  }

  // The end

  #stopped(): Fault | null {
    if (this.#closing === undefined && !this.#closed) return null;
    return new Fault("TRIVET_E_STORE_CLOSED", `${this.#extents.directory} is being closed`);
  }
  close(then: Then): void {
    invariant(this.#closing === undefined && !this.#closed, "a store is closed once");
    let begun = false;
    this.#closing = () => {
      if (begun || this.#coldCount > 0) return;
      begun = true;
      this.#jobs.whenIdle(() => this.#writeAll(then));
    };
    this.#pressure.stop();
    this.#admit(this.#stopped());
    this.#closing();
  }
  #writeAll(then: Then): void {
    const extents = [...new Set([...this.#pressure.holding, ...this.#writeback.extents])];
    const submit = (index: number, next: Then): void =>
      // One that cannot be written must not keep the others from it.
      this.#writeback.submit(extents[index]!, null, (fault) => {
        failed ??= fault;
        next(null);
      });
    let failed: Fault | null = null;
    const finish = (): void => {
      this.#free();
      this.#answers.later(then, failed);
    };
    inParallel(extents.length, Math.max(1, extents.length), submit, finish);
  }
  #free(): void {
    const { tree, arena } = this.#parts;
    const { files, states, count } = this.#extents;
    for (let extent = 0; extent < count; extent++) {
      for (let layer = this.#held.oldest(extent); layer !== undefined; ) {
        this.#held.release(layer);
        layer = this.#held.oldest(extent);
      }
      if (files[extent]! >= 0) tree.close(files[extent]!);
      files[extent] = -1;
      states[extent] = ExtentState.closed;
    }
    if (this.#opened.lockFile >= 0) tree.close(this.#opened.lockFile);
    for (const at of this.#opened.scratch) arena.free(at);
    this.#closed = true;
  }
}
