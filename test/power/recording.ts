import { appendFileSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

// What the preloaded recorder (shim/recorder.cc) and the recorder of the native interface (fixture/record-driver.ts) write
// down, read back: calls with a beginning and an end, in one order for all threads and processes.

export const Kind = {
  open: 1,
  close: 2,
  write: 3,
  truncate: 4,
  sync: 5,
  syncAll: 6,
  makeDirectory: 7,
  rename: 8,
  unlink: 9,
  send: 10,
  receive: 11,
  marker: 12,
  foreign: 13,
  removeDirectory: 14,
} as const;
const Phase = { begin: 0, end: 1, whole: 2 } as const;
const HEAD_BYTES = 40;

export interface Call {
  readonly kind: number;
  readonly process: number;
  readonly fd: number;
  readonly flags: number;
  /** Offset or size. */
  readonly number: number;
  readonly path: string;
  /** Where a rename goes to. */
  readonly to: string;
  data: Buffer;
  /** Positions in the recording. A call that the process did not survive ends never: Infinity. */
  readonly begin: number;
  end: number;
  /** Descriptor, count, or −1. */
  result: number;
}
export interface Moment {
  readonly call: Call;
  readonly isEnd: boolean;
}
/** Contents by path, as a program sees them; null: a directory. */
export type Contents = Map<string, Buffer | null>;

/** What happened in a directory, and what was in it at some moments. */
export interface Recording {
  readonly directory: string;
  /** As it was written. */
  readonly log: Buffer;
  readonly moments: readonly Moment[];
  /** By the text of a marker. */
  readonly seen: ReadonlyMap<string, Contents>;
}

/** Appends a marker; it lies behind everything that its writer has learned of. */
export function mark(log: string, text: string): void {
  appendFileSync(log, encodeCall(Kind.marker, Phase.whole, 0, 0, -1, 0, 0, text));
}
export function encodeCall(
  kind: number,
  phase: number,
  process: number,
  call: number,
  fd: number,
  flags: number,
  number: number,
  path = "",
  data: Uint8Array = new Uint8Array(0),
): Buffer {
  const name = Buffer.from(path);
  const record = Buffer.alloc(HEAD_BYTES + name.length + data.length);
  record.writeUInt32LE(record.length, 0);
  record[4] = kind;
  record[5] = phase;
  record.writeUInt32LE(process, 8);
  record.writeUInt32LE(call, 12);
  record.writeInt32LE(fd, 16);
  record.writeInt32LE(flags, 20);
  record.writeBigInt64LE(BigInt(number), 24);
  record.writeUInt32LE(name.length, 32);
  record.writeUInt32LE(data.length, 36);
  name.copy(record, HEAD_BYTES);
  record.set(data, HEAD_BYTES + name.length);
  return record;
}

/** Throws when something was recorded that nobody could rebuild. */
export function readRecording(
  bytes: Buffer,
  directory: string,
  seen: ReadonlyMap<string, Contents> = new Map(),
): Recording {
  const moments: Moment[] = [];
  const open = new Map<string, Call>();
  for (let at = 0; at < bytes.length; ) {
    const length = bytes.readUInt32LE(at);
    if (length < HEAD_BYTES || at + length > bytes.length) throw new Error(`no record at ${at}`);
    const phase = bytes[at + 5]!;
    const process = bytes.readUInt32LE(at + 8);
    const name = `${process}.${bytes.readUInt32LE(at + 12)}`;
    const number = Number(bytes.readBigInt64LE(at + 24));
    const pathEnd = at + HEAD_BYTES + bytes.readUInt32LE(at + 32);
    const [path = "", to = ""] = bytes.toString("utf8", at + HEAD_BYTES, pathEnd).split("\0");
    if (phase === Phase.end) {
      const call = open.get(name);
      if (call === undefined) throw new Error(`the end of a call without a beginning at ${at}`);
      open.delete(name);
      call.end = moments.length;
      call.result = number;
      moments.push({ call, isEnd: true });
    } else {
      const isWhole = phase === Phase.whole;
      const call: Call = {
        kind: bytes[at + 4]!,
        process,
        fd: bytes.readInt32LE(at + 16),
        flags: bytes.readInt32LE(at + 20),
        number,
        path,
        to,
        data: bytes.subarray(pathEnd, at + length),
        begin: moments.length,
        end: isWhole ? moments.length : Number.POSITIVE_INFINITY,
        result: isWhole ? 0 : -1,
      };
      if (call.kind === Kind.foreign) throw new Error(`a call that cannot be replayed: ${path}`);
      if (!isWhole) open.set(name, call);
      moments.push({ call, isEnd: isWhole });
    }
    at += length;
  }
  return { directory, log: bytes, moments, seen };
}

/** Everything below a directory, by full path. */
export function contentsOf(directory: string): Contents {
  const found: Contents = new Map();
  const walk = (path: string): void => {
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      const inner = join(path, entry.name);
      found.set(inner, entry.isDirectory() ? null : readFileSync(inner));
      if (entry.isDirectory()) walk(inner);
    }
  };
  walk(directory);
  return found;
}
