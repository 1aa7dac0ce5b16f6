import type { Generation, Uuid } from "../base/ids.js";
import { NIL_UUID } from "../base/ids.js";
import {
  checksum,
  FLUSHED_AT,
  LIFE_WORDS,
  LIVES_MAX,
  Life,
  SESSION_AT,
  SESSION_WORDS,
  Session,
  SessionState,
} from "./layout.js";
import type { LogLife } from "./lives.js";
import type { LogMemory } from "./memory.js";

/** What a log says about the process that keeps it. */
export interface LogSession {
  readonly state: SessionState;
  readonly generation: Generation;
  readonly highestSeen: Generation;
  /** 0: not known yet. */
  readonly blockBytes: number;
  readonly pid: number;
  readonly claimedMs: number;
  /** By replica; null: it took no part. */
  readonly regions: readonly (Uuid | null)[];
  /** Sessions that may have changed regions since the log began, the oldest first. */
  readonly lives: readonly LogLife[];
}

export const FIRST_SESSION: LogSession = {
  state: SessionState.clean,
  generation: 0n as Generation,
  highestSeen: 0n as Generation,
  blockBytes: 0,
  pid: 0,
  claimedMs: 0,
  regions: [null, null, null],
  lives: [],
};

const STATES: readonly number[] = Object.values(SessionState);

/** The two records, of which one is whole at any time. */
export class SessionRecords {
  readonly #memory: LogMemory;
  #count: number;

  constructor(memory: LogMemory) {
    this.#memory = memory;
    this.#count = Math.max(0, ...readRecords(memory).map(({ count }) => count));
  }

  /** Into the record that is not the valid one; the checksum makes it valid. */
  store(session: LogSession): void {
    const memory = this.#memory;
    const { words, doubles } = memory;
    this.#count += 1;
    const base = SESSION_AT[this.#count % 2]!;
    memory.publish(base + Session.checksum, ~words[base + Session.checksum]!);
    words.fill(0, base, base + Session.checksum);
    words[base + Session.count] = this.#count;
    words[base + Session.state] = session.state;
    memory.setU64(base + Session.generation, session.generation);
    memory.setU64(base + Session.highestSeen, session.highestSeen);
    words[base + Session.blockBytes] = session.blockBytes;
    words[base + Session.pid] = session.pid;
    doubles[(base + Session.claimedMs) / 2] = session.claimedMs;
    for (const [i, region] of session.regions.entries())
      memory.setUuid(base + Session.regions + 4 * i, region ?? NIL_UUID);
    for (const [i, life] of session.lives.entries()) storeLife(memory, base, i, life);
    const sum = checksum(words, base, base + Session.checksum);
    memory.publish(base + Session.checksum, sum);
  }
}

/** The valid record; null: neither is. */
export function readSession(memory: LogMemory): LogSession | null {
  const found = readRecords(memory);
  if (found.length === 0) return null;
  const { session } = found.reduce((a, b) => (b.count > a.count ? b : a));
  return { ...session, lives: withFlushed(session.lives, lastFlushed(memory)) };
}

/** Of the newest session; 0: it has not sent a flush. */
export const lastFlushed = (memory: LogMemory): number => memory.doubles[FLUSHED_AT / 2]!;

/** `lives`, of which the newest has sent the flush `flushed`. */
export function withFlushed(lives: readonly LogLife[], flushed: number): readonly LogLife[] {
  const newest = lives.at(-1);
  if (newest === undefined || flushed <= newest.last) return lives;
  return [...lives.slice(0, -1), { ...newest, last: flushed }];
}

const lifeAt = (base: number, index: number): number => base + Session.lives + LIFE_WORDS * index;

function storeLife(memory: LogMemory, base: number, index: number, life: LogLife): void {
  const at = lifeAt(base, index);
  memory.setU64(at + Life.from, life.from);
  memory.setU64(at + Life.generation, life.generation);
  memory.setU64(at + Life.reconciled, life.reconciled);
  memory.doubles[(at + Life.first) / 2] = life.first;
  memory.doubles[(at + Life.last) / 2] = life.last;
}

function readLives(memory: LogMemory, base: number): readonly LogLife[] {
  const lives: LogLife[] = [];
  for (let i = 0; i < LIVES_MAX; i++) {
    const at = lifeAt(base, i);
    const generation = memory.u64(at + Life.generation) as Generation;
    if (generation === 0n) break;
    lives.push({
      from: memory.u64(at + Life.from) as Generation,
      generation,
      reconciled: memory.u64(at + Life.reconciled) as Generation,
      first: memory.doubles[(at + Life.first) / 2]!,
      last: memory.doubles[(at + Life.last) / 2]!,
    });
  }
  return lives;
}

function readRecords(memory: LogMemory): { count: number; session: LogSession }[] {
  const { words, doubles } = memory;
  return SESSION_AT.flatMap((base) => {
    const sum = checksum(words, base, base + SESSION_WORDS - 1);
    const state = words[base + Session.state]!;
    const count = words[base + Session.count]!;
    if (sum !== words[base + Session.checksum] || !STATES.includes(state) || count <= 0) return [];
    const regions = [0, 1, 2].map((i) => memory.uuid(base + Session.regions + 4 * i));
    const session: LogSession = {
      state: state as SessionState,
      generation: memory.u64(base + Session.generation) as Generation,
      highestSeen: memory.u64(base + Session.highestSeen) as Generation,
      blockBytes: words[base + Session.blockBytes]!,
      pid: words[base + Session.pid]!,
      claimedMs: doubles[(base + Session.claimedMs) / 2]!,
      regions: regions.map((region) => (region === NIL_UUID ? null : region)),
      lives: readLives(memory, base),
    };
    return [{ count, session }];
  });
}
