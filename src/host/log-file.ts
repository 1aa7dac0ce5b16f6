import fs from "node:fs";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Fault } from "../base/fault.js";
import type { Uuid } from "../base/ids.js";
import { addon } from "./native.js";

// The file of a write log, as a file: who has it, what kind of file system it is on, copies of it. What is in it is known to src/journal.

/** A predecessor that was killed may need a moment to be gone. */
const LOCK_MS_MAX = 2_000;
const LOCK_POLL_MS = 50;
const CHUNK_BYTES = 1024 * 1024;
const ZEROS = Buffer.alloc(CHUNK_BYTES);
/** Of statfs: tmpfs and ramfs, which nothing writes to a disk. */
const MEMORY_FILE_SYSTEMS: readonly number[] = [0x01021994, 0x858458f6];

export interface FileRange {
  readonly at: number;
  readonly bytes: number;
}

/** Open and locked. Another process has the same path only after this one closed it, or died. */
export class LogFile {
  readonly path: string;
  readonly descriptor: number;

  private constructor(path: string, descriptor: number) {
    this.path = path;
    this.descriptor = descriptor;
  }

  /** Makes it when it is missing, empty. Undefined: another process has it, still after a moment. */
  static async open(path: string): Promise<LogFile | undefined> {
    const { O_RDWR, O_CREAT, O_NOFOLLOW } = fs.constants;
    for (let waited = 0; ; waited += LOCK_POLL_MS) {
      const descriptor = fs.openSync(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600);
      const isLocked = addon().lock(descriptor) === 0;
      if (isLocked && isStillThere(path, descriptor)) return new LogFile(path, descriptor);
      fs.closeSync(descriptor);
      if (waited >= LOCK_MS_MAX) return undefined;
      await sleep(LOCK_POLL_MS);
    }
  }

  /** One that another process opened and locked, and gave us with its lock. */
  static adopt(path: string, descriptor: number): LogFile {
    return new LogFile(path, descriptor);
  }

  get sizeBytes(): number {
    return fs.fstatSync(this.descriptor).size;
  }
  /** The first `bytes` of it; what is missing at the end is zero. */
  read(bytes: number): ArrayBuffer {
    return readStart(this.descriptor, bytes);
  }
  /** Nothing is left in it. */
  truncate(): void {
    fs.ftruncateSync(this.descriptor, 0);
  }

  /** A copy that only its owner can read, on disk when this returns. Only the ranges are copied, and of them what is not zero; elsewhere it has holes. */
  copyTo(path: string, ranges: readonly FileRange[]): void {
    const copy = fs.openSync(path, "wx", 0o600);
    try {
      const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
      for (const { at, bytes } of ranges) {
        for (let done = 0; done < bytes; ) {
          const most = Math.min(CHUNK_BYTES, bytes - done);
          const got = fs.readSync(this.descriptor, chunk, 0, most, at + done);
          if (got === 0) break;
          const isZero = chunk.compare(ZEROS, 0, got, 0, got) === 0;
          if (!isZero) fs.writeSync(copy, chunk, 0, got, at + done);
          done += got;
        }
      }
      fs.ftruncateSync(copy, this.sizeBytes);
      fs.fsyncSync(copy);
    } catch (error) {
      fs.rmSync(path, { force: true });
      throw error;
    } finally {
      fs.closeSync(copy);
    }
  }
  remove(): void {
    fs.rmSync(this.path, { force: true });
  }
  close(): void {
    fs.closeSync(this.descriptor);
  }
}

/** Its name may have been given to another file, or to none, between opening and locking. */
function isStillThere(path: string, descriptor: number): boolean {
  const ours = fs.fstatSync(descriptor);
  const there = fs.statSync(path, { throwIfNoEntry: false });
  return there !== undefined && there.ino === ours.ino && there.dev === ours.dev;
}

/** The first `bytes` of an open file; what is missing at the end is zero. */
export function readStart(descriptor: number, bytes: number): ArrayBuffer {
  const buffer = new ArrayBuffer(bytes);
  const view = new Uint8Array(buffer);
  for (let done = 0; done < bytes; ) {
    const got = fs.readSync(descriptor, view, done, bytes - done, done);
    if (got === 0) break;
    done += got;
  }
  return buffer;
}

/** Whether files there are only memory. A log on a disk would be written to it for ever. False also when it does not exist. */
export function isMemoryFolder(folder: string): boolean {
  try {
    return MEMORY_FILE_SYSTEMS.includes(fs.statfsSync(folder).type);
  } catch {
    const parent = dirname(folder);
    return parent !== folder && !fs.existsSync(folder) && isMemoryFolder(parent);
  }
}

/** Names this boot of this machine. */
export function bootId(): Uuid {
  const path = "/proc/sys/kernel/random/boot_id";
  const text = fs.readFileSync(path, "utf8").trim();
  if (!/^[0-9a-f-]{36}$/.test(text))
    throw new Fault("TRIVET_E_FILE", `${path} says ${text}, which is no id`);
  return text as Uuid;
}

/** Milliseconds of the clock that all processes of this boot share, and that nobody sets. */
export const bootClockMs = (): number => Number(process.hrtime.bigint() / 1_000_000n);
