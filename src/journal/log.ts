import type { Fault } from "../base/fault.js";
import type { Generation, Uuid } from "../base/ids.js";
import { invariant } from "../base/invariant.js";
import { type Journal, type JournalActivation, LogKind, type Resume } from "../ports/journal.js";
import {
  COVERED_AT,
  checksum,
  FLUSHED_AT,
  HEADER_BYTES,
  Header,
  headBytes,
  inlineWords,
  LOG_VERSION,
  MAGIC,
  mix,
  mixFirst,
  NAME_BYTES_MAX,
  ROW_BODY_END,
  ROW_BYTES,
  ROW_WORDS,
  Row,
  RowState,
  SessionState,
} from "./layout.js";
import { areOf, type LogLife, withLife } from "./lives.js";
import type { LogMemory } from "./memory.js";
import type { LogReading } from "./reading.js";
import {
  FIRST_SESSION,
  type LogSession,
  lastFlushed,
  SessionRecords,
  withFlushed,
} from "./session.js";

// The log of the process that keeps it. Rows are a ring in order of submission: covering is one number that moves on, so what is left
// is always the newest writes without a gap, whichever moment we die at.
//
//   a row:  being written ─► contents, checksum ─► complete        covered when the number of a later flush says so

export interface LogIdentity {
  readonly bootId: Uuid;
  readonly volumeId: Uuid;
  readonly name: string;
  readonly rows: number;
  readonly bodyBytes: number;
}

/** What the log needs of the process around it. */
export interface LogOwner {
  readonly pid: number;
  /** Milliseconds of the monotonic clock of this boot. */
  nowMs(): number;
  /** Copies the log to where people can look at it. False: that failed, and the log stays as it is. */
  setAside(why: Fault): boolean;
}

export class WriteLog implements Journal {
  readonly resume: Resume | null;
  readonly rowsMax: number;
  readonly #memory: LogMemory;
  readonly #words: Int32Array;
  readonly #doubles: Float64Array;
  readonly #mask: number;
  readonly #owner: LogOwner;
  readonly #records: SessionRecords;
  #session: LogSession;
  /** Numbers of rows: 32 bits, wrapping. */
  #newest: number;
  #covered: number;

  private constructor(
    memory: LogMemory,
    owner: LogOwner,
    rows: number,
    session: LogSession,
    reading: LogReading | null,
  ) {
    invariant((rows & (rows - 1)) === 0, "the number of rows is a power of two");
    invariant(memory.bytes === headBytes(rows), "the head has the size of its rows");
    this.#memory = memory;
    this.#words = memory.words;
    this.#doubles = memory.doubles;
    this.#mask = rows - 1;
    this.rowsMax = rows;
    this.#owner = owner;
    this.#records = new SessionRecords(memory);
    this.#session = session;
    this.#covered = reading?.covered ?? 0;
    this.#newest = (this.#covered + (reading?.rows.length ?? 0)) | 0;
    this.resume = reading === null ? null : this.#resume(reading);
  }

  /** Makes an empty log of whatever is there. */
  static create(memory: LogMemory, identity: LogIdentity, owner: LogOwner): WriteLog {
    const { words } = memory;
    const name = Buffer.from(identity.name).subarray(0, NAME_BYTES_MAX);
    memory.publish(Header.magic + 1, 0);
    words.fill(0);
    words[Header.version] = LOG_VERSION;
    words[Header.headerBytes] = HEADER_BYTES;
    words[Header.rowBytes] = ROW_BYTES;
    words[Header.rows] = identity.rows;
    words[Header.bodyAt] = headBytes(identity.rows);
    memory.setU64(Header.bodyBytes, BigInt(identity.bodyBytes));
    memory.setUuid(Header.bootId, identity.bootId);
    memory.setUuid(Header.volumeId, identity.volumeId);
    words[Header.nameBytes] = name.length;
    memory.setText(Header.name, name);
    words[Header.checksum] = checksum(words, Header.version, Header.checksum);
    new SessionRecords(memory).store(FIRST_SESSION);
    words[Header.magic] = MAGIC[0];
    memory.publish(Header.magic + 1, MAGIC[1]);
    return new WriteLog(memory, owner, identity.rows, FIRST_SESSION, null);
  }

  /** Goes on with a log that was read and found good; its payload is reserved in the arena already. */
  static resume(memory: LogMemory, reading: LogReading, owner: LogOwner): WriteLog {
    invariant(reading.kind === "log", "only a good log is resumed");
    const { header, session } = reading;
    return new WriteLog(memory, owner, header!.rows, session!, reading);
  }

  #resume(reading: LogReading): Resume {
    const { generation, regions, blockBytes } = this.#session;
    return {
      generation,
      explains: (found, flush) =>
        found <= this.#session.highestSeen || areOf(this.#session.lives, found, flush),
      regions: regions.filter((region) => region !== null),
      blockBytes,
      writes: reading.rows,
    };
  }

  get isFull(): boolean {
    return ((this.#newest - this.#covered) | 0) > this.#mask;
  }
  get rows(): number {
    return (this.#newest - this.#covered) | 0;
  }
  get lastCovered(): number {
    return this.#covered;
  }

  wrote(
    id: number,
    start: number,
    blocks: number,
    at: number,
    tailAt: number,
    tails: Int32Array,
    tailsAt: number,
  ): number {
    const words = this.#words;
    const doubles = this.#doubles;
    const number = (this.#newest + 1) | 0;
    invariant(!this.isFull, "a row is free");
    const base = HEADER_BYTES / 4 + (number & this.#mask) * ROW_WORDS;
    this.#memory.publish(base + Row.state, RowState.beingWritten);
    words[base + Row.answered] = 0;
    words[base + Row.number] = number;
    words[base + Row.kind] = at < 0 ? LogKind.zeroes : LogKind.write;
    words[base + Row.blocks] = blocks;
    const half = base / 2;
    doubles[half + Row.id / 2] = id;
    doubles[half + Row.start / 2] = start;
    doubles[half + Row.at / 2] = at;
    doubles[half + Row.tailAt / 2] = tailAt;
    let sum = mixFirst(number);
    for (let i = base + Row.kind; i < base + ROW_BODY_END; i++) sum = mix(sum, words[i]!);
    if (at >= 0 && tailAt < 0) {
      const count = inlineWords(blocks);
      const tail = base + Row.tail;
      for (let i = 0; i < count; i++) {
        const word = tails[tailsAt + i]!;
        words[tail + i] = word;
        sum = mix(sum, word);
      }
    } else
      invariant(tailAt < 0 || tailAt === at + blocks * this.#session.blockBytes, "contexts follow");
    words[base + Row.checksum] = sum;
    this.#memory.publish(base + Row.state, RowState.complete);
    this.#newest = number;
    return number;
  }

  answered(row: number): void {
    this.#words[HEADER_BYTES / 4 + (row & this.#mask) * ROW_WORDS + Row.answered] = 1;
  }

  covered(row: number): void {
    const ahead = (row - this.#covered) | 0;
    if (ahead <= 0 || ahead > this.rows) return;
    this.#memory.publish(COVERED_AT[0], row);
    this.#memory.publish(COVERED_AT[1], row);
    this.#covered = row;
  }
  holds(row: number): boolean {
    const ahead = (row - this.#covered) | 0;
    return ahead > 0 && ahead <= this.rows;
  }

  claimed(generation: Generation): void {
    const { pid } = this.#owner;
    this.#store({ generation, pid, claimedMs: this.#owner.nowMs() });
  }
  activated(activation: JournalActivation): void {
    const { generation, state } = this.#session;
    const lives = withFlushed(this.#session.lives, lastFlushed(this.#memory));
    const { highestSeen, reconciledWith, firstFlush: first, regions, blockBytes } = activation;
    const isResumed = state === SessionState.open;
    // The mark goes with the newest session, and its number into the record before there is another one.
    if (isResumed) this.#store({ lives });
    this.#doubles[FLUSHED_AT / 2] = 0;
    const life: LogLife = {
      from: generation,
      generation,
      reconciled: reconciledWith ?? (0n as Generation),
      first,
      last: reconciledWith === null ? first - 1 : first,
    };
    this.#store({
      state: SessionState.open,
      lives: isResumed ? withLife(lives, life) : [life],
      highestSeen,
      // A replica that is left out now is still one that the rows of before are about.
      regions: isResumed
        ? regions.map((region, i) => region ?? this.#session.regions[i] ?? null)
        : regions,
      blockBytes,
    });
  }
  flushing(flushNumber: number): void {
    this.#doubles[FLUSHED_AT / 2] = flushNumber;
  }
  joined(index: number, region: Uuid): void {
    const regions = this.#session.regions.map((was, i) => (i === index ? region : was));
    this.#store({ regions });
  }
  emptied(): void {
    if (this.rows === 0) this.#store({ state: SessionState.clean });
  }
  voided(why: Fault): void {
    if (this.#session.state !== SessionState.open) return;
    if (this.rows > 0 && !this.#owner.setAside(why)) return;
    this.#store({ state: SessionState.void });
    this.covered(this.#newest);
  }

  /** Whether a successor would have something to finish, or to be careful about. */
  get isOpen(): boolean {
    return this.#session.state === SessionState.open;
  }

  #store(change: Partial<LogSession>): void {
    this.#session = { ...this.#session, ...change };
    this.#records.store(this.#session);
  }
}
