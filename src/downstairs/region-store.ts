import type { Fault } from "../base/fault.js";
import type { RegionDefinition } from "../crucible/region-definition.js";
import type { Then } from "../ports/files.js";
import type { Address } from "../ports/stream.js";

/**
 * The storage of one region as the protocol side of a downstairs sees it: blocks with their contexts,
 * extents that open and close, numbers per extent. Below it lie the region format and the files;
 * above it job queues and connections. No call answers before it returned. Overlapping jobs are never
 * submitted at the same time unless both are reads; a flush covers exactly the writes done before it was submitted.
 */
export interface RegionStore {
  readonly definition: RegionDefinition;
  readonly readOnly: boolean;
  /** Per extent: generation and flush number on disk, dirty in memory. Valid for closed extents too. */
  generation(extent: number): bigint;
  flushNumber(extent: number): number;
  isDirty(extent: number): boolean;
  isClosed(extent: number): boolean;

  /**
   * Blocks [start, start+count), possibly over several extents. Contexts lie at `contextsAt` as they came on the
   * wire (9 or 37 bytes each, already checked for length), data at `dataAt`; both inside the arena
   * allocation `frameAt`, which belongs to the store once the job was done without a fault, and stays
   * the caller's otherwise. Every block's hash is checked before anything is changed. `unwrittenOnly`:
   * blocks that have a context, also an unflushed one, are skipped.
   */
  write(
    start: number,
    count: number,
    contextsAt: number,
    dataAt: number,
    frameAt: number,
    unwrittenOnly: boolean,
    done: StoreDone,
    tag: number,
  ): void;
  /**
   * Data to `dataAt` (count × block size), contexts to `contextsAt` in the wire form of ReadResponse (4, 12 or 32
   * bytes each, so leave room for 32 × count). The value given to storeDone is the bytes of contexts.
   */
  read(
    start: number,
    count: number,
    contextsAt: number,
    dataAt: number,
    done: StoreDone,
    tag: number,
  ): void;
  /** Every dirty extent ≤ limit (−1: all); returns when it is durable. Numbers are stored as given. */
  flush(flushNumber: number, generation: bigint, limit: number, done: StoreDone, tag: number): void;

  flushExtent(extent: number, flushNumber: number, generation: bigint, then: Then): void;
  /** Without a flush: a dirty extent stays dirty. */
  closeExtent(extent: number, then: Then): void;
  reopenExtent(extent: number, then: Then): void;
  /** Every closed extent. */
  reopenAll(then: Then): void;
  /** Replaces the file of a closed extent by the source's (crucible-downstairs: repair). */
  replaceExtent(extent: number, source: Address, then: Then): void;
  /** Writes out what is held in memory (without a flush), closes the files, unlocks the region. */
  close(then: Then): void;
}

export interface StoreDone {
  storeDone(tag: number, fault: Fault | null, value: number): void;
}

/** The source's repair server, as a destination uses it. Names are as in the repair HTTP interface. */
export interface RepairPeer {
  files(
    source: Address,
    extent: number,
    then: (fault: Fault | null, names: readonly string[]) => void,
  ): void;
  /** Streams one file into `path`, which must not exist, and syncs it. */
  fetch(
    source: Address,
    extent: number,
    type: "data" | "db" | "db_shm" | "db_wal",
    path: string,
    then: Then,
  ): void;
  ready(source: Address, extent: number, then: (fault: Fault | null, ready: boolean) => void): void;
}
