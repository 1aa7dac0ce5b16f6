import { Fault } from "../../src/base/fault.js";
import type { Uuid } from "../../src/base/ids.js";
import { decide } from "../../src/journal/decide.js";
import { headBytes, tailBytes } from "../../src/journal/layout.js";
import { WriteLog } from "../../src/journal/log.js";
import { LogMemory } from "../../src/journal/memory.js";
import { type LogReading, type LogRow, readLog } from "../../src/journal/reading.js";
import { payloadProblem } from "../../src/journal/verify.js";
import type { Hasher } from "../../src/ports/hasher.js";
import { type Journal, nullJournal } from "../../src/ports/journal.js";
import type { Process } from "./process.js";

// The memory of a host that outlives its processes, and the real write log in it. What `app/serve/write-log` does with files is done
// with a buffer here.

/** One session for each second of the clock, as `trivet serve` spaces them. */
const SPACING_MS = 1000;

export interface LogTerms {
  readonly volumeId: Uuid;
  readonly rows: number;
}

/** What a process that starts finds. */
export interface FoundLog {
  /** It goes on with what a dead predecessor left. */
  readonly resumes: boolean;
  /** To be waited before that. */
  readonly waitMs: number;
  /** With the memory reserved; a Fault: a person has to decide. */
  open(process: Process, hasher: Hasher): Journal | Fault;
}

export class KeptLog {
  readonly #terms: LogTerms | null;
  #head: ArrayBuffer | null = null;
  /** Of the process that has it. */
  #body: Buffer | null = null;
  /** Payload of the rows that a dead one left. */
  #payload: { readonly at: number; readonly bytes: Buffer }[] = [];
  #log: WriteLog | null = null;
  #boot = 1;
  putAside = 0;
  /** Of the volume, when the process that wrote it became active. */
  life = 0;

  /** Null: the volume keeps none. */
  constructor(terms: LogTerms | null) {
    this.#terms = terms;
  }

  /** The power failed. */
  lose(): void {
    this.#head = null;
    this.#body = null;
    this.#payload = [];
    this.#log = null;
    this.life = 0;
    this.#boot += 1;
  }
  /** The process ended, in whatever way, and its memory is about to be given to another. */
  left(): void {
    if (this.#log === null) return;
    if (this.#log.isOpen) this.#keep();
    else this.lose();
    this.#log = null;
    this.#body = null;
  }
  #keep(): void {
    const head = this.#head!;
    const reading = readLog(new LogMemory(head, 0, head.byteLength), Number.MAX_SAFE_INTEGER);
    this.#payload = reading.rows
      .filter(({ at }) => at >= 0)
      .map((row) => {
        const bytes = this.#body!.subarray(row.at, row.at + reservedBytes(row));
        return { at: row.at, bytes: Buffer.from(bytes) };
      });
  }

  find(nowMs: number, arenaBytes: number): FoundLog {
    const terms = this.#terms;
    if (terms === null) return { resumes: false, waitMs: 0, open: () => nullJournal };
    const bytes = headBytes(terms.rows);
    const bootId = `00000000-0000-4000-8000-${`${this.#boot}`.padStart(12, "0")}` as Uuid;
    const ours = { bootId, volumeId: terms.volumeId };
    if (this.#head !== null) {
      const memory = new LogMemory(this.#head, 0, bytes);
      const reading = readLog(memory, bytes + arenaBytes);
      const decision = decide(reading, "the log", ours);
      if (decision.kind === "stop")
        return { resumes: false, waitMs: 0, open: () => decision.fault };
      if (decision.kind === "resume")
        return {
          resumes: true,
          waitMs: Math.max(0, reading.session!.claimedMs + SPACING_MS - nowMs),
          open: (process, hasher) => this.#resume(memory, reading, process, hasher),
        };
    }
    const open = (process: Process): Journal => {
      const head = new ArrayBuffer(bytes);
      const identity = { ...ours, name: "sim", rows: terms.rows, bodyBytes: arenaBytes };
      this.#head = head;
      this.#body = process.arena.bytes;
      this.#log = WriteLog.create(new LogMemory(head, 0, bytes), identity, this.#owner(process));
      return this.#log;
    };
    return { resumes: false, waitMs: 0, open };
  }

  #owner(process: Process) {
    return {
      pid: 1,
      nowMs: () => process.nowMs(),
      setAside: () => {
        this.putAside += 1;
        return true;
      },
    };
  }

  #resume(
    memory: LogMemory,
    reading: LogReading,
    process: Process,
    hasher: Hasher,
  ): Journal | Fault {
    const { arena } = process;
    for (const { at, bytes } of this.#payload) bytes.copy(arena.bytes, at);
    this.#body = arena.bytes;
    const damaged = (what: string): Fault => new Fault("TRIVET_E_LOG_CORRUPT", what);
    const rows = reading.rows.filter(({ at }) => at >= 0);
    for (const row of rows) {
      if (!arena.reserve(row.at, reservedBytes(row)))
        return damaged(`row ${row.row} overlaps another`);
    }
    const largest = rows.reduce((most, { blocks }) => Math.max(most, blocks), 1);
    const scratchAt = arena.alloc(tailBytes(largest));
    const { blockBytes } = reading.session!;
    const problems = rows.flatMap(
      (row) => payloadProblem(row, blockBytes, row.at, arena, hasher, scratchAt) ?? [],
    );
    arena.free(scratchAt);
    if (problems.length > 0) return damaged(problems[0]!);
    this.#log = WriteLog.resume(memory, reading, this.#owner(process));
    return this.#log;
  }
}

const reservedBytes = (row: LogRow): number =>
  row.tailAt < 0 ? row.payloadBytes : row.payloadBytes + tailBytes(row.blocks);
