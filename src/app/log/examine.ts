import { closeSync, constants, existsSync, fstatSync, openSync, readSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Fault } from "../../base/fault.js";
import { bootId, readStart } from "../../host/log-file.js";
import { decide } from "../../journal/decide.js";
import { tailBytes } from "../../journal/layout.js";
import { type LogReading, type LogRow, readLogFrom } from "../../journal/reading.js";
import { payloadBytes, payloadProblem } from "../../journal/verify.js";
import type { Arena } from "../../ports/arena.js";
import type { Hasher } from "../../ports/hasher.js";
import { asFault } from "../report.js";

// A log read from outside: without its lock, without a change, also while a server writes to it.

/** A server may be in the middle of something. */
const LOOKS = 5;
const LOOK_MS = 20;

export class LogExaminer {
  readonly path: string;
  readonly #descriptor: number;

  /** Throws a Fault when it is no file that we may read. */
  constructor(path: string) {
    this.path = path;
    try {
      this.#descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT")
        throw new Fault("TRIVET_E_LOG_MISSING", `there is no file ${path}`);
      throw asFault(error) ?? error;
    }
    if (fstatSync(this.#descriptor).isFile()) return;
    closeSync(this.#descriptor);
    throw new Fault("TRIVET_E_LOG_FORMAT", `${path} is no regular file`);
  }
  close(): void {
    closeSync(this.#descriptor);
  }

  /** What is in it now; looked at again when it seems damaged while a process may be at work on it. */
  async read(): Promise<LogReading> {
    let reading = this.#read();
    for (let i = 1; i < LOOKS && reading.kind === "corrupt" && isRunning(reading); i++) {
      await sleep(LOOK_MS);
      reading = this.#read();
    }
    return reading;
  }
  #read(): LogReading {
    const descriptor = this.#descriptor;
    return readLogFrom((bytes) => readStart(descriptor, bytes), fstatSync(descriptor).size);
  }

  /** Payload, and contexts behind it, of a row. */
  payload(reading: LogReading, row: LogRow): Buffer {
    const bytes = Buffer.alloc(payloadBytes(row));
    if (row.at >= 0) readSync(this.#descriptor, bytes, 0, bytes.length, bodyAt(reading) + row.at);
    return bytes;
  }

  /** What is wrong with the payload of rows that still count afterwards. */
  payloadProblems(reading: LogReading, arena: Arena, hasher: Hasher): string[] {
    const blockBytes = reading.session?.blockBytes ?? 0;
    const problems: { row: number; text: string }[] = [];
    for (const row of reading.rows) {
      if (row.at < 0) continue;
      const bytes = this.payload(reading, row);
      const at = arena.alloc(bytes.length);
      const scratchAt = arena.alloc(tailBytes(row.blocks));
      bytes.copy(arena.bytes, at);
      const text = payloadProblem(row, blockBytes, at, arena, hasher, scratchAt);
      if (text !== null) problems.push({ row: row.row, text });
      arena.free(at);
      arena.free(scratchAt);
    }
    if (problems.length === 0) return [];
    const now = new Set(this.#read().rows.map(({ row }) => row));
    return problems.flatMap(({ row, text }) => (now.has(row) ? [text] : []));
  }

  /** What a server of this volume would do with it, in words. */
  outlook(reading: LogReading): string {
    const volumeId = reading.header?.volumeId;
    if (reading.kind === "blank") return "nothing was ever in it";
    const ours = { bootId: bootId(), volumeId: volumeId! };
    const decision = decide(reading, this.path, ours);
    switch (decision.kind) {
      case "fresh":
        return "a server of this volume begins a new one: there is nothing to finish";
      case "aside":
        return `a server of this volume puts it aside and begins a new one: ${decision.why}`;
      case "stop":
        return decision.aside
          ? "a server of this volume puts it aside and stops, for somebody to decide"
          : "a server of this volume refuses to start";
      case "resume":
        return isRunning(reading)
          ? "a server is at work on it, or died: the next one finishes it"
          : `the next server of this volume goes on with generation ${reading.session!.generation + 1n} and writes ${reading.rows.length} writes again, unless another host has used the volume`;
    }
  }
}

const bodyAt = (reading: LogReading): number => reading.header?.bodyAt ?? 0;

/** Whether a process of the number that it names exists in this boot. */
export function isRunning({ header, session }: LogReading): boolean {
  const isNow = header !== null && header.bootId === bootId();
  return isNow && session !== null && session.pid > 0 && existsSync(`/proc/${session.pid}`);
}
