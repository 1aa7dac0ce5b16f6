import { Fault } from "../../src/base/fault.js";
import type { Uuid } from "../../src/base/ids.js";
import { invariant } from "../../src/base/invariant.js";
import type { RegionDefinition } from "../../src/crucible/region-definition.js";
import type { RegionStore, StoreDone } from "../../src/downstairs/region-store.js";
import type { Arena } from "../../src/ports/arena.js";
import type { Then } from "../../src/ports/files.js";
import type { Hasher } from "../../src/ports/hasher.js";
import type { Address } from "../../src/ports/stream.js";
import type { World } from "./world.js";

export function regionOf(
  blockSize = 512,
  extentSize = 20,
  extentCount = 8,
  uuid = "12345678-1111-2222-3333-000000000000",
  encrypted = false,
): RegionDefinition {
  const shift = Math.log2(blockSize);
  const versions = { databaseReadVersion: 1, databaseWriteVersion: 1 };
  return { blockSize, extentSize, shift, extentCount, uuid: uuid as Uuid, encrypted, ...versions };
}

type Extent = { generation: bigint; flush: number; dirty: boolean; closed: boolean };
type Range = { from: number; to: number; writes: boolean };

/** A region in memory. Every answer comes `delayMs` later; overlapping operations are a broken invariant. */
export class FakeStore implements RegionStore {
  readonly definition: RegionDefinition;
  readonly readOnly: boolean;
  readonly data: Buffer;
  /** Per block, as they came: 9 or 37 bytes. */
  readonly contexts: (Buffer | undefined)[] = [];
  readonly extents: Extent[];
  /** How long an operation takes; may be a die. */
  delayMs: () => number = () => 0;
  /** Asked at the start of each operation; a fault makes it fail when it is due. */
  trouble: (operation: string, extent: number) => Fault | null = () => null;
  checksHashes = true;
  /** Other regions by the port of their repair server, for replaceExtent. */
  sources = new Map<number, FakeStore>();
  /** Operations in the order in which they took effect. */
  readonly log: string[] = [];
  closedForGood = false;
  readonly #world: World;
  readonly #arena: Arena;
  readonly #hasher: Hasher;
  readonly #running = new Set<Range>();

  constructor(
    world: World,
    arena: Arena,
    hasher: Hasher,
    definition: RegionDefinition = regionOf(),
    readOnly = false,
  ) {
    this.#world = world;
    this.#arena = arena;
    this.#hasher = hasher;
    this.definition = definition;
    this.readOnly = readOnly;
    const { blockSize, extentSize, extentCount } = definition;
    this.data = Buffer.alloc(blockSize * extentSize * extentCount);
    this.extents = Array.from({ length: extentCount }, () => ({
      generation: 0n,
      flush: 0,
      dirty: false,
      closed: false,
    }));
  }

  get inProgress(): number {
    return this.#running.size;
  }
  generation(extent: number): bigint {
    return this.#extent(extent).generation;
  }
  flushNumber(extent: number): number {
    return this.#extent(extent).flush;
  }
  isDirty(extent: number): boolean {
    return this.#extent(extent).dirty;
  }
  isClosed(extent: number): boolean {
    return this.#extent(extent).closed;
  }

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
    this.#open(start, count);
    this.#later("write", start, start + count, true, tag, done, () => {
      const { blockSize } = this.definition;
      const contexts = this.#contexts(contextsAt, count);
      for (let i = 0; i < count; i++)
        if (this.checksHashes && !this.#agrees(contexts[i]!, dataAt + i * blockSize)) {
          const detail = `block ${start + i} does not agree with its hash`;
          return new Fault("TRIVET_E_HASH", detail);
        }
      for (let i = 0; i < count; i++) {
        const block = start + i;
        if (unwrittenOnly && this.contexts[block] !== undefined) continue;
        this.contexts[block] = contexts[i]!;
        const from = dataAt + i * blockSize;
        this.#arena.bytes.copy(this.data, block * blockSize, from, from + blockSize);
        this.extents[Math.floor(block / this.definition.extentSize)]!.dirty = true;
      }
      this.log.push(`write ${start}+${count}`);
      this.#arena.free(frameAt);
      return 0;
    });
  }

  read(
    start: number,
    count: number,
    contextsAt: number,
    dataAt: number,
    done: StoreDone,
    tag: number,
  ): void {
    this.#open(start, count);
    this.#later("read", start, start + count, false, tag, done, () => {
      const { blockSize } = this.definition;
      let at = contextsAt;
      for (let i = 0; i < count; i++) at += this.#putContext(this.contexts[start + i], at);
      this.data.copy(this.#arena.bytes, dataAt, start * blockSize, (start + count) * blockSize);
      this.log.push(`read ${start}+${count}`);
      return at - contextsAt;
    });
  }

  flush(flush: number, generation: bigint, limit: number, done: StoreDone, tag: number): void {
    this.#later("flush", -1, -1, false, tag, done, () => {
      for (const [e, extent] of this.extents.entries())
        if (extent.dirty && (limit < 0 || e <= limit)) {
          invariant(!extent.closed, "a closed extent is not flushed");
          Object.assign(extent, { generation, flush, dirty: false });
        }
      this.log.push(`flush ${flush}`);
      return 0;
    });
  }

  flushExtent(extent: number, flush: number, generation: bigint, then: Then): void {
    this.#whole("flushExtent", extent, then, (row) => {
      invariant(!row.closed, "a closed extent is not flushed");
      if (row.dirty) Object.assign(row, { generation, flush, dirty: false });
    });
  }
  closeExtent(extent: number, then: Then): void {
    this.#whole("closeExtent", extent, then, (row) => {
      invariant(!row.closed, "an extent is closed once");
      row.closed = true;
    });
  }
  reopenExtent(extent: number, then: Then): void {
    this.#whole("reopenExtent", extent, then, (row) => {
      invariant(row.closed, "an open extent is not reopened");
      row.closed = false;
    });
  }
  reopenAll(then: Then): void {
    invariant(this.#running.size === 0, "nothing is in progress when everything is reopened");
    const fault = this.trouble("reopenAll", -1);
    this.#world.after(this.delayMs(), () => {
      this.log.push("reopenAll");
      if (fault === null) for (const extent of this.extents) extent.closed = false;
      then(fault);
    });
  }
  replaceExtent(extent: number, source: Address, then: Then): void {
    this.#whole(`replaceExtent ${source.host}:${source.port}`, extent, then, (row) => {
      invariant(row.closed, "an open extent is not replaced");
      const from = this.sources.get(source.port);
      if (from !== undefined) this.#copyExtent(extent, from);
    });
  }
  close(then: Then): void {
    invariant(this.#running.size === 0, "nothing is in progress when the store is closed");
    this.#world.post(() => {
      this.closedForGood = true;
      then(null);
    });
  }

  #copyExtent(extent: number, from: FakeStore): void {
    const { blockSize, extentSize } = this.definition;
    const source = from.#extent(extent);
    invariant(source.closed, "the source's extent is closed");
    const first = extent * extentSize;
    for (let b = first; b < first + extentSize; b++) this.contexts[b] = from.contexts[b];
    from.data.copy(
      this.data,
      first * blockSize,
      first * blockSize,
      (first + extentSize) * blockSize,
    );
    Object.assign(this.#extent(extent), { ...source });
  }

  #extent(extent: number): Extent {
    const row = this.extents[extent];
    invariant(row !== undefined, `extent ${extent} exists`);
    return row;
  }
  #open(start: number, count: number): void {
    const { extentSize } = this.definition;
    for (let block = start; block < start + count; block++)
      invariant(
        !this.#extent(Math.floor(block / extentSize)).closed,
        "blocks of a closed extent are not touched",
      );
  }

  #later(
    operation: string,
    from: number,
    to: number,
    writes: boolean,
    tag: number,
    done: StoreDone,
    effect: () => Fault | number,
  ): void {
    const extent = Math.max(0, Math.floor(from / this.definition.extentSize));
    const end = this.#begin(from, to, writes);
    const fault = this.trouble(operation, extent);
    this.#world.after(this.delayMs(), () => {
      end();
      const result = fault ?? effect();
      if (typeof result === "number") done.storeDone(tag, null, result);
      else done.storeDone(tag, result, 0);
    });
  }
  #whole(operation: string, extent: number, then: Then, effect: (row: Extent) => void): void {
    const { extentSize } = this.definition;
    const row = this.#extent(extent);
    const end = this.#begin(extent * extentSize, (extent + 1) * extentSize, true);
    const fault = this.trouble(operation, extent);
    this.#world.after(this.delayMs(), () => {
      end();
      if (fault === null) effect(row);
      if (fault === null) this.log.push(`${operation} ${extent}`);
      then(fault);
    });
  }
  #begin(from: number, to: number, writes: boolean): () => void {
    const range = { from, to, writes };
    for (const other of this.#running)
      invariant(
        other.from >= to || from >= other.to || !(writes || other.writes),
        `${from}..${to} does not overlap ${other.from}..${other.to}, which is in progress`,
      );
    this.#running.add(range);
    return () => this.#running.delete(range);
  }

  #contexts(at: number, count: number): Buffer[] {
    const { bytes } = this.#arena;
    const contexts: Buffer[] = [];
    let next = at;
    for (let i = 0; i < count; i++) {
      const length = bytes[next + 8] === 0 ? 9 : 37;
      contexts.push(Buffer.from(bytes.subarray(next, next + length)));
      next += length;
    }
    return contexts;
  }
  #agrees(context: Buffer, dataAt: number): boolean {
    const scratch = this.#arena.alloc(64);
    context.copy(this.#arena.bytes, scratch);
    const { blockSize } = this.definition;
    const bad =
      context.length === 9
        ? this.#hasher.verify(dataAt, blockSize, 1, scratch, 8)
        : this.#hasher.verifyPrefixed(dataAt, blockSize, 1, scratch, 8, scratch + 9, 28, 28);
    this.#arena.free(scratch);
    return bad < 0;
  }
  /** As in a ReadResponse. */
  #putContext(context: Buffer | undefined, at: number): number {
    const { bytes, view } = this.#arena;
    if (context === undefined) {
      view.setUint32(at, 0, true);
      return 4;
    }
    view.setUint32(at, context.length === 9 ? 2 : 1, true);
    if (context.length === 9) return 4 + context.copy(bytes, at + 4, 0, 8);
    return 4 + context.copy(bytes, at + 4, 9);
  }
}
