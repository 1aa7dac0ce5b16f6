import type { Uuid } from "../base/ids.js";
import { type LoggedWrite, LogKind } from "../ports/journal.js";
import {
  COVERED_AT,
  checksum,
  HEADER_BYTES,
  Header,
  headBytes,
  inlineWords,
  LOG_VERSION,
  MAGIC,
  NAME_BYTES_MAX,
  ROW_BYTES,
  ROW_WORDS,
  ROWS_MAX,
  Row,
  RowState,
  rowChecksum,
  SessionState,
  SHORT_TAIL_BYTES,
  tailBytes,
} from "./layout.js";
import { LogMemory, rowBase } from "./memory.js";
import { type LogSession, lastFlushed, readSession } from "./session.js";

// A log that somebody else wrote, and may have died over. Believes nothing: every number is checked before it is used, and what is
// wrong is said in words.

export interface LogHeader {
  readonly rows: number;
  readonly bodyAt: number;
  readonly bodyBytes: number;
  readonly bootId: Uuid;
  readonly volumeId: Uuid;
  readonly name: string;
}

export interface LogRow extends LoggedWrite {
  readonly id: number;
  readonly answered: boolean;
  readonly payloadBytes: number;
}

export interface LogReading {
  /**
   * blank: its making was not finished, nothing was ever in it. alien: no write log. version: of another version, whose layout is not
   * known. corrupt: see `problems`. log: good.
   */
  readonly kind: "blank" | "alien" | "version" | "corrupt" | "log";
  readonly version: number;
  readonly header: LogHeader | null;
  readonly session: LogSession | null;
  readonly covered: number;
  /** Not covered, in order. Of a corrupt log: those that are whole. */
  readonly rows: readonly LogRow[];
  /** Rows whose making was interrupted: of a write that was neither sent nor answered. */
  readonly torn: number;
  readonly problems: readonly string[];
}

const NOTHING: Omit<LogReading, "kind"> = {
  version: 0,
  header: null,
  session: null,
  covered: 0,
  rows: [],
  torn: 0,
  problems: [],
};

/** How much of a file `readLog` needs, from its first HEADER_BYTES; null: those will do, there is no more to understand. */
export function headBytesOf(memory: LogMemory): number | null {
  const rows = memory.words[Header.rows]!;
  const version = memory.words[Header.version]!;
  return hasMagic(memory) && version === LOG_VERSION && isRowCount(rows) ? headBytes(rows) : null;
}

/** A log whose bytes `start` gives, so many from its beginning. */
export function readLogFrom(start: (bytes: number) => ArrayBuffer, fileBytes: number): LogReading {
  const first = new LogMemory(start(HEADER_BYTES), 0, HEADER_BYTES);
  const bytes = headBytesOf(first);
  return readLog(bytes === null ? first : new LogMemory(start(bytes), 0, bytes), fileBytes);
}

/** `memory` holds what `headBytesOf` asked for; `fileBytes` is the size of the whole file. */
export function readLog(memory: LogMemory, fileBytes: number): LogReading {
  const { words } = memory;
  if (!hasMagic(memory)) {
    const isBlank = words[Header.magic + 1] === 0 && (words[0] === 0 || words[0] === MAGIC[0]);
    return { ...NOTHING, kind: isBlank ? "blank" : "alien" };
  }
  const version = words[Header.version]!;
  if (version !== LOG_VERSION) return { ...NOTHING, kind: "version", version };
  const problems: string[] = [];
  const header = readHeader(memory, fileBytes, problems);
  const session = readSession(memory);
  if (session === null) problems.push("neither of the two session records is whole");
  const flushed = lastFlushed(memory);
  if (!Number.isSafeInteger(flushed) || flushed < 0)
    problems.push("the number of the last flush is damaged");
  if (header === null) return { ...NOTHING, kind: "corrupt", version, session, problems };
  return { ...readRows(memory, header, session, problems), version, header, session };
}

const hasMagic = ({ words }: LogMemory): boolean =>
  words[Header.magic] === MAGIC[0] && words[Header.magic + 1] === MAGIC[1];
const isRowCount = (rows: number): boolean =>
  rows >= 32 && rows <= ROWS_MAX && (rows & (rows - 1)) === 0;

function readHeader(memory: LogMemory, fileBytes: number, problems: string[]): LogHeader | null {
  const { words } = memory;
  const rows = words[Header.rows]!;
  const bodyAt = words[Header.bodyAt]!;
  const bodyBytes = Number(memory.u64(Header.bodyBytes));
  const nameBytes = words[Header.nameBytes]!;
  const isWhole =
    checksum(words, Header.version, Header.checksum) === words[Header.checksum] &&
    words[Header.headerBytes] === HEADER_BYTES &&
    words[Header.rowBytes] === ROW_BYTES &&
    isRowCount(rows) &&
    bodyAt === headBytes(rows) &&
    bodyBytes > 0 &&
    bodyBytes % 4096 === 0 &&
    nameBytes >= 0 &&
    nameBytes <= NAME_BYTES_MAX;
  if (!isWhole) {
    problems.push("the header is damaged");
    return null;
  }
  if (memory.bytes < bodyAt || fileBytes < bodyAt + bodyBytes) {
    problems.push(`the file has ${fileBytes} bytes, its header says ${bodyAt + bodyBytes}`);
    return null;
  }
  return {
    rows,
    bodyAt,
    bodyBytes,
    bootId: memory.uuid(Header.bootId),
    volumeId: memory.uuid(Header.volumeId),
    name: memory.text(Header.name, nameBytes),
  };
}

type Rows = Pick<LogReading, "kind" | "covered" | "rows" | "torn" | "problems">;

function readRows(
  memory: LogMemory,
  header: LogHeader,
  session: LogSession | null,
  problems: string[],
): Rows {
  const { words } = memory;
  const mask = header.rows - 1;
  const covered = readCovered(words, header.rows, problems);
  const live = new Map<number, LogRow>();
  let count = 0;
  const beingWritten: number[] = [];
  for (let place = 0; place < header.rows; place++) {
    const base = rowBase(HEADER_BYTES / 4, place);
    const state = words[base + Row.state]!;
    if (state === RowState.beingWritten) beingWritten.push(place);
    if (state !== RowState.complete || !isWhole(words, base)) continue;
    const ahead = (words[base + Row.number]! - covered) | 0;
    if (ahead <= 0) continue;
    const row = readRow(memory, base, header, session, problems);
    if (ahead > header.rows || (words[base + Row.number]! & mask) !== place)
      problems.push(`row ${words[base + Row.number]} stands in place ${place}`);
    else if (row !== null) live.set(ahead, row);
    count = Math.max(count, Math.min(ahead, header.rows));
  }
  const rows: LogRow[] = [];
  for (let ahead = 1; ahead <= count; ahead++) {
    const row = live.get(ahead);
    if (row !== undefined) rows.push(row);
    else
      problems.push(`row ${(covered + ahead) | 0} is ${whatIs(words, (covered + ahead) & mask)}`);
  }
  const nextPlace = (covered + count + 1) & mask;
  const next = rowBase(HEADER_BYTES / 4, nextPlace);
  if (count < header.rows && !mayBeUnused(words, next))
    problems.push(`row ${(covered + count + 1) | 0} is damaged`);
  for (const place of beingWritten)
    if (place !== nextPlace || count === header.rows)
      problems.push(`the row in place ${place} is half written, and not the last one`);
  if (session?.state === SessionState.clean && count > 0)
    problems.push(`it was left in order, but ${count} rows are not covered`);
  const kind = problems.length > 0 ? "corrupt" : "log";
  return { kind, covered, rows, torn: beingWritten.length, problems };
}

/** The first mark is stored first; between the two stores the second, earlier one still holds. */
function readCovered(words: Int32Array, rows: number, problems: string[]): number {
  const [first, second] = [words[COVERED_AT[0]]!, words[COVERED_AT[1]]!];
  const between = (first - second) | 0;
  if (between < 0 || between > rows) problems.push("the two marks of what is covered disagree");
  return between < 0 ? first : second;
}

/** The place of the next row: never used, or half written, or a whole row that is covered. Anything else was a row that counted. */
function mayBeUnused(words: Int32Array, base: number): boolean {
  const state = words[base + Row.state]!;
  if (state === RowState.complete) return isWhole(words, base);
  if (state === RowState.beingWritten) return true;
  return words.subarray(base, base + ROW_WORDS).every((word) => word === 0);
}

function whatIs(words: Int32Array, place: number): string {
  const state = words[rowBase(HEADER_BYTES / 4, place) + Row.state];
  if (state === RowState.complete) return "damaged";
  return state === RowState.beingWritten ? "half written" : "missing";
}

function isWhole(words: Int32Array, base: number): boolean {
  return rowChecksum(words, base, tailWordsOf(words, base)) === words[base + Row.checksum];
}
/** Doubles are read by their words here: −1 has its sign in the high one. */
function tailWordsOf(words: Int32Array, base: number): number {
  const blocks = words[base + Row.blocks]!;
  const isInline = words[base + Row.at + 1]! >= 0 && words[base + Row.tailAt + 1]! < 0;
  if (!isInline || !(blocks > 0) || tailBytes(blocks) > SHORT_TAIL_BYTES) return 0;
  return inlineWords(blocks);
}

const isCount = (value: number): boolean => Number.isSafeInteger(value) && value >= 0;

function readRow(
  memory: LogMemory,
  base: number,
  header: LogHeader,
  session: LogSession | null,
  problems: string[],
): LogRow | null {
  const { words, doubles } = memory;
  const double = (at: number): number => doubles[(base + at) / 2]!;
  const row = words[base + Row.number]!;
  const kind = words[base + Row.kind]!;
  const blocks = words[base + Row.blocks]!;
  const [id, start, at, tailAt] = [
    double(Row.id),
    double(Row.start),
    double(Row.at),
    double(Row.tailAt),
  ];
  const payloadBytes = blocks * (session?.blockBytes ?? 0);
  const hasInline = tailAt === -1 && tailBytes(blocks) <= SHORT_TAIL_BYTES;
  const end = at + payloadBytes + (hasInline ? 0 : tailBytes(blocks));
  const isPlaced =
    kind === LogKind.zeroes
      ? at === -1 && tailAt === -1
      : isCount(at) && at % 4096 === 0 && end <= header.bodyBytes;
  const isContexts = kind === LogKind.zeroes || hasInline || tailAt === at + payloadBytes;
  const isKind = kind === LogKind.write || kind === LogKind.zeroes;
  if (!isKind || !(blocks > 0) || !isCount(id) || !isCount(start) || !isPlaced || !isContexts) {
    problems.push(`row ${row} makes no sense: kind ${kind}, ${blocks} blocks, payload at ${at}`);
    return null;
  }
  return {
    row,
    kind,
    id,
    start,
    blocks,
    at,
    tailAt,
    tail:
      kind === LogKind.write && hasInline ? memory.copy(base + Row.tail, tailBytes(blocks)) : null,
    answered: words[base + Row.answered] !== 0,
    payloadBytes,
  };
}
