import { closeSync, mkdirSync, openSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Fault } from "../../base/fault.js";
import type { Generation, Uuid } from "../../base/ids.js";
import {
  bootClockMs,
  bootId,
  type FileRange,
  isMemoryFolder,
  LogFile,
  readStart,
} from "../../host/log-file.js";
import type { ArenaBacking, Host } from "../../host/open.js";
import { decide } from "../../journal/decide.js";
import { HEADER_BYTES, headBytes, ROWS_DEFAULT } from "../../journal/layout.js";
import { WriteLog } from "../../journal/log.js";
import { LogMemory } from "../../journal/memory.js";
import { type LogReading, readLog, readLogFrom } from "../../journal/reading.js";
import { readSession } from "../../journal/session.js";
import { payloadBytes, takePayload } from "../../journal/verify.js";
import type { Notes } from "../../ports/notes.js";
import { makeRuntimeFolder } from "../control/paths.js";
import { asFault } from "../report.js";
import type { PassedLog } from "./inheritance.js";
import type { WriteLogSetting } from "./log-place.js";
import { fileNameOf } from "./volume-state.js";

// Finding, judging and keeping the write log of a volume: everything about it that is not on the way of a request.

/** Generations follow the clock's seconds: one session each, so that one above the last is never ahead of it. */
const SPACING_MS = 1_000;

export interface LogTerms {
  readonly writeLog: WriteLogSetting;
  readonly volume: string;
  readonly volumeId: Uuid;
  readonly arenaBytes: number;
  /** Where what nobody may lose is put aside: on a disk. */
  readonly stateFolder: string;
  readonly notes: Notes;
}

/** The log of this process: locked, judged, not mapped yet. */
export class OwnLog {
  readonly backing: ArenaBacking;
  /** The arena that belongs to it: of a log that is resumed the size that it has. */
  readonly arenaBytes: number;
  readonly #terms: LogTerms;
  readonly #file: LogFile;
  readonly #reading: LogReading | null;
  #log: WriteLog | undefined;
  #isAside = false;

  private constructor(terms: LogTerms, file: LogFile, reading: LogReading | null) {
    this.#terms = terms;
    this.#file = file;
    this.#reading = reading;
    const rows = reading?.header?.rows ?? ROWS_DEFAULT;
    this.arenaBytes = reading?.header?.bodyBytes ?? terms.arenaBytes;
    this.backing = { path: file.path, descriptor: file.descriptor, headBytes: headBytes(rows) };
  }

  /**
   * Resolves with a Fault when another server has it; rejects with one when the place will not do, or what is in it needs a
   * person.
   */
  static async open(path: string, terms: LogTerms): Promise<OwnLog | Fault> {
    if (!isMemoryFolder(dirname(path)))
      throw new Fault(
        "TRIVET_E_LOG_PLACE",
        `${path} is on a disk, which a write log would wear out`,
      );
    if (terms.writeLog.isDefault) makeRuntimeFolder(dirname(path));
    else mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    const file = await LogFile.open(path);
    if (file === undefined)
      return new Fault(
        "TRIVET_E_LOG_LOCKED",
        `another server of the volume ${terms.volume} runs on this machine${whoHas(path)}: it has ${path}`,
      );
    try {
      return await OwnLog.#judge(terms, file);
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /** The log of a predecessor that gave it to us with its lock. Rejects with a Fault when what is in it needs a person. */
  static adopt({ path, descriptor }: PassedLog, terms: LogTerms): Promise<OwnLog> {
    return OwnLog.#judge(terms, LogFile.adopt(path, descriptor));
  }

  static async #judge(terms: LogTerms, file: LogFile): Promise<OwnLog> {
    const { notes, volumeId } = terms;
    const reading = readLogFrom((bytes) => file.read(bytes), file.sizeBytes);
    const decision = decide(reading, file.path, { bootId: bootId(), volumeId });
    const own = new OwnLog(terms, file, decision.kind === "resume" ? reading : null);
    switch (decision.kind) {
      case "resume": {
        const since = bootClockMs() - reading.session!.claimedMs;
        if (since < SPACING_MS) await sleep(SPACING_MS - Math.max(0, since));
        if (own.arenaBytes !== terms.arenaBytes)
          notes(
            "info",
            "log.arena",
            `going on with the arena of the log, ${own.arenaBytes} bytes; ${terms.arenaBytes} count after an orderly stop`,
          );
        return own;
      }
      case "stop":
        if (decision.aside) {
          own.#putAside(reading, decision.fault.message);
          file.remove();
        }
        throw decision.fault;
      case "aside":
        own.#putAside(reading, decision.why);
        file.truncate();
        return own;
      case "fresh":
        return own;
    }
  }

  /** What the predecessor claimed; null: there is nothing to resume. */
  get predecessor(): Generation | null {
    return this.#reading?.session?.generation ?? null;
  }

  /** With the arena mapped. Throws a Fault when what has to be written again is damaged. */
  start(host: Host): WriteLog {
    const { volume: name, volumeId } = this.#terms;
    const memory = new LogMemory(host.head, host.headAt, this.backing.headBytes);
    const owner = {
      pid: process.pid,
      nowMs: bootClockMs,
      setAside: (why: Fault) => this.#voided(memory, why),
    };
    const reading = this.#reading;
    if (reading === null) {
      const bodyBytes = this.arenaBytes;
      const identity = { bootId: bootId(), volumeId, name, rows: ROWS_DEFAULT, bodyBytes };
      this.#log = WriteLog.create(memory, identity, owner);
    } else {
      const problem = takePayload(reading, host.arena, host.hasher);
      if (problem !== null) {
        this.#putAside(reading, problem);
        this.#isAside = true;
        throw new Fault("TRIVET_E_LOG_CORRUPT", `${this.#file.path} is damaged: ${problem}`);
      }
      this.#log = WriteLog.resume(memory, reading, owner);
    }
    return this.#log;
  }

  /** At the end, the host closed: what nobody needs is taken away, and its memory with it. */
  close(): void {
    const isNeeded = this.#log === undefined ? this.#reading !== null : this.#log.isOpen;
    if (!isNeeded || this.#isAside) this.#file.remove();
    this.#file.close();
  }

  /** At the end, the host closed: for a successor to adopt, whatever is in it. Null: nobody may have it. */
  leave(): PassedLog | null {
    if (this.#isAside) {
      this.close();
      return null;
    }
    const { path, descriptor } = this.#file;
    return { path, descriptor };
  }

  #voided(memory: LogMemory, why: Fault): boolean {
    const reading = readLog(memory, this.#file.sizeBytes);
    try {
      this.#putAside(reading, why.message);
      return true;
    } catch (error) {
      const fault = asFault(error);
      if (fault === undefined) throw error;
      this.#terms.notes(
        "error",
        "log.stuck",
        `the write log could not be put aside: ${fault.line}`,
      );
      return false;
    }
  }

  /** To the state folder, which outlives a reboot; when that cannot be, beside it. Throws when neither can be. */
  #putAside(reading: LogReading, why: string): void {
    const { stateFolder, volume, notes } = this.#terms;
    const file = this.#file;
    const when = new Date().toISOString().replaceAll(":", "-");
    const ranges =
      reading.kind === "log" ? usedRanges(reading) : [{ at: 0, bytes: file.sizeBytes }];
    let to = join(stateFolder, `${fileNameOf(volume)}.${when}.log`);
    try {
      mkdirSync(stateFolder, { recursive: true });
      file.copyTo(to, ranges);
    } catch (error) {
      const fault = asFault(error);
      if (fault === undefined) throw error;
      notes("warn", "log.copy", `the write log cannot be copied: ${fault.message}`);
      to = `${file.path}.${when}`;
      file.copyTo(to, ranges);
    }
    const answered = reading.rows.filter((row) => row.answered).length;
    const holds =
      reading.header === null
        ? ""
        : ` It holds ${reading.rows.length} writes, ${answered} of them acknowledged; trivet log dump shows them`;
    notes(
      "error",
      "log.aside",
      `the write log is put aside as ${to} and not written again: ${why}.${holds}`,
    );
  }
}

/** " (pid 17)", if the log says so. */
function whoHas(path: string): string {
  const descriptor = openSync(path, "r");
  try {
    const head = new LogMemory(readStart(descriptor, HEADER_BYTES), 0, HEADER_BYTES);
    const pid = readSession(head)?.pid ?? 0;
    return pid > 0 ? ` (pid ${pid})` : "";
  } finally {
    closeSync(descriptor);
  }
}

/** The head, and the payload of every row that counts. */
function usedRanges(reading: LogReading): FileRange[] {
  const bodyAt = reading.header!.bodyAt;
  const payload = reading.rows
    .filter(({ at }) => at >= 0)
    .map((row) => ({ at: bodyAt + row.at, bytes: payloadBytes(row) }));
  return [{ at: 0, bytes: bodyAt }, ...payload];
}
