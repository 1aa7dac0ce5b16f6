import type { XXHashAPI } from "xxhash-wasm";
import { Fault } from "../../src/base/fault.js";
import type { Generation, Uuid } from "../../src/base/ids.js";
import { type Decision, decide } from "../../src/journal/decide.js";
import { headBytes } from "../../src/journal/layout.js";
import { WriteLog } from "../../src/journal/log.js";
import { LogMemory } from "../../src/journal/memory.js";
import { type LogReading, readLog } from "../../src/journal/reading.js";
import { takePayload } from "../../src/journal/verify.js";
import type { Clock } from "../../src/ports/clock.js";
import { type Journal, nullJournal } from "../../src/ports/journal.js";
import type { Address, Cancel, Dialer, DialResult } from "../../src/ports/stream.js";
import type { Tuning, UpstairsOptions } from "../../src/upstairs/options.js";
import { Upstairs } from "../../src/upstairs/upstairs.js";
import { FakeArena } from "./arena.js";
import { FakeHasher } from "./hasher.js";
import { type FakeStream, link } from "./link.js";
import { type Manner, ModelReplica, regionOf } from "./replica.js";
import { FakeKeeper, Guest, UPSTAIRS_ID } from "./upstairs-stage.js";
import type { World } from "./world.js";

// Servers that die, and what outlives them: the memory that their write log lies in. Nothing of a dead one runs any more.

// Small, because many are made: three inboxes and what is composed; a frame of the whole volume.
const STREAM_BYTES = 2 * 1024 * 1024;
const REPLICA_BYTES = 2 * 1024 * 1024;
export const BOOT_ID = "aaaaaaaa-0000-4000-8000-000000000001" as Uuid;

/** What a tmpfs keeps: head and arena of one log. */
export interface KeptMemory {
  readonly head: ArrayBuffer;
  readonly body: Buffer;
}

/** A copy as of now: whatever the process does afterwards is not in it. */
export const snapshot = ({ head, body }: KeptMemory): KeptMemory => ({
  head: head.slice(0),
  body: Buffer.from(body),
});
export const logMemory = ({ head }: KeptMemory): LogMemory =>
  new LogMemory(head, 0, head.byteLength);
export const readKept = (memory: KeptMemory, bodyBytes: number): LogReading =>
  readLog(logMemory(memory), memory.head.byteLength + bodyBytes);

export interface KeptOptions {
  readonly rows?: number;
  readonly arenaBytes?: number;
  readonly ack?: "quorum" | "buffered";
  readonly tuning?: Partial<Tuning>;
  readonly manner?: Partial<Manner>;
  readonly degradedAfterMs?: number | null;
  readonly latencyMs?: number;
  /** For mistakes planted on purpose: done to every journal before it is used. */
  readonly tamper?: (journal: Journal, world: World) => void;
}

/** Three model replicas, and one host after another's process on it. */
export class KeptVolume {
  readonly world: World;
  readonly hash: XXHashAPI;
  readonly replicas: readonly ModelReplica[];
  readonly options: KeptOptions;
  readonly unreachable = new Set<number>();

  constructor(world: World, hash: XXHashAPI, options: KeptOptions = {}) {
    this.world = world;
    this.hash = hash;
    this.options = options;
    this.replicas = [0, 1, 2].map((index) => {
      const manner = { jobMs: 3, ...options.manner };
      return new ModelReplica(world, regionOf(index), hash, manner, REPLICA_BYTES);
    });
    for (const replica of this.replicas) replica.peers = this.replicas;
  }
  get violations(): string[] {
    return this.replicas.flatMap((replica, i) => replica.violations.map((v) => `${i}: ${v}`));
  }
}

/** A computer with a clock, where servers of the volume are started. */
export class KeptHost {
  readonly volume: KeptVolume;
  readonly rows: number;
  readonly arenaBytes: number;
  /** Null: no log is left here. */
  memory: KeptMemory | null = null;
  lastUsed = 0n;
  readonly record = new FakeKeeper();
  clockOffset = 0;
  readonly upstairsId: Uuid;
  readonly setAside: { readonly why: Fault; readonly reading: LogReading }[] = [];

  constructor(volume: KeptVolume, upstairsId: Uuid = UPSTAIRS_ID) {
    this.volume = volume;
    this.upstairsId = upstairsId;
    this.rows = volume.options.rows ?? 64;
    this.arenaBytes = volume.options.arenaBytes ?? 2 * 1024 * 1024;
  }

  /** What a server would do with the log that is here. */
  judge(): Decision | null {
    if (this.memory === null) return null;
    const reading = readKept(this.memory, this.arenaBytes);
    return decide(reading, "/run/v.log", { bootId: BOOT_ID, volumeId: this.upstairsId });
  }
  start(options: Partial<UpstairsOptions> & { keepsNoLog?: boolean } = {}): Life {
    return new Life(this, options);
  }
}

/** One process: a server from its start to its end. */
export class Life implements Clock, Dialer {
  readonly host: KeptHost;
  readonly world: World;
  readonly arena: FakeArena;
  readonly journal: Journal;
  readonly upstairs: Upstairs;
  readonly guest: Guest;
  readonly notes: { event: string; text: string }[] = [];
  readonly superseded: Fault[] = [];
  readonly #memory: KeptMemory | null;
  isAlive = true;
  #isAbandoned = false;
  /** Undefined: not answered yet. */
  activated: Fault | null | undefined;
  readonly #streams: FakeStream[] = [];

  constructor(host: KeptHost, options: Partial<UpstairsOptions> & { keepsNoLog?: boolean }) {
    const { volume } = host;
    this.host = host;
    this.world = volume.world;
    const decision = options.keepsNoLog === true ? null : host.judge();
    if (decision?.kind === "stop") throw decision.fault;
    const old = decision?.kind === "resume" ? host.memory : null;
    const inAll = host.arenaBytes + STREAM_BYTES;
    const bytes = Buffer.alloc(inAll, 0xcc);
    old?.body.copy(bytes);
    this.arena = new FakeArena(host.arenaBytes, STREAM_BYTES, bytes);
    const hasher = new FakeHasher(this.arena, volume.hash);
    if (options.keepsNoLog === true) {
      this.#memory = null;
      this.journal = nullJournal;
    } else {
      const head = old === null ? new ArrayBuffer(headBytes(host.rows)) : old.head.slice(0);
      this.#memory = { head, body: bytes.subarray(0, host.arenaBytes) };
      this.journal = this.#open(old, hasher);
      host.memory = this.#memory;
      volume.options.tamper?.(this.journal, this.world);
    }
    const { ack, tuning, degradedAfterMs } = volume.options;
    this.upstairs = new Upstairs(
      {
        targets: [0, 1, 2].map((index) => ({ host: "10.0.0.1", port: 9000 + index })),
        upstairsId: host.upstairsId,
        generation: {
          kind: "clock",
          lastUsed: host.lastUsed,
          save: (generation, then) => {
            host.lastUsed = generation;
            then(null);
          },
        },
        ack: ack ?? "quorum",
        record: host.record,
        degradedAfterMs: degradedAfterMs ?? null,
        ...options,
        tuning: { redialFirstMs: 20, redialMs: 50, dialTimeoutMs: 100, ...tuning },
      },
      {
        dialer: this,
        arena: this.arena,
        hasher,
        clock: this,
        random: this.world,
        notes: (_, event, text) => this.notes.push({ event, text }),
        journal: this.journal,
      },
      { superseded: (fault) => this.superseded.push(fault) },
    );
    this.guest = new Guest(this.upstairs, this.arena);
    this.upstairs.activate((fault) => {
      this.activated = fault;
    });
  }

  #open(old: KeptMemory | null, hasher: FakeHasher): WriteLog {
    const { host } = this;
    const memory = logMemory(this.#memory!);
    const owner = {
      pid: 1,
      nowMs: () => this.nowMs(),
      setAside: (why: Fault) => {
        host.setAside.push({ why, reading: readKept(this.#memory!, host.arenaBytes) });
        return true;
      },
    };
    if (old === null) {
      const { rows, arenaBytes: bodyBytes, upstairsId: volumeId } = host;
      const identity = { bootId: BOOT_ID, volumeId, name: "v", rows, bodyBytes };
      return WriteLog.create(memory, identity, owner);
    }
    const reading = readKept(old, host.arenaBytes);
    const problem = takePayload(reading, this.arena, hasher);
    if (problem !== null) throw new Error(problem);
    return WriteLog.resume(memory, reading, owner);
  }

  get generation(): Generation {
    return this.upstairs.status().generation as Generation;
  }
  said(event: string): string[] {
    return this.notes.filter((note) => note.event === event).map(({ text }) => text);
  }

  /** -9: what has left may still arrive, nothing else happens. What the log was at this moment is what the next one finds. */
  kill(): void {
    if (!this.isAlive) return;
    this.isAlive = false;
    if (this.#memory !== null) this.host.memory = snapshot(this.#memory);
    for (const stream of this.#streams) stream.die("end");
  }
  /** As in a hand-over that does not wait: over when the last connection is closed. */
  abandon(): void {
    if (this.#isAbandoned) return;
    this.#isAbandoned = true;
    this.upstairs.abandon(() => this.kill());
  }
  /** An orderly end; the log is taken away when it is empty. Answers what `stop` was answered with. */
  stop(): Fault | null | undefined {
    let answer: Fault | null | undefined;
    this.upstairs.stop((fault) => {
      answer = fault;
    });
    this.pass(60_000, () => answer !== undefined);
    if (this.journal instanceof WriteLog && !this.journal.isOpen) this.host.memory = null;
    this.isAlive = false;
    return answer;
  }
  pass(limitMs: number, done: () => boolean): boolean {
    for (let waited = 0; waited < limitMs && !done(); waited += 1) this.world.advance(1);
    return done();
  }
  /** Waits until the activation is answered. */
  up(limitMs = 120_000): Fault | null | undefined {
    this.pass(limitMs, () => this.activated !== undefined);
    return this.activated;
  }

  // What the process sees of the outside

  nowMs(): number {
    return this.world.nowMs();
  }
  wallSeconds(): number {
    return this.world.wallSeconds() + this.host.clockOffset;
  }
  after(delayMs: number, run: () => void): Cancel {
    return this.world.after(delayMs, () => {
      if (this.isAlive) run();
    });
  }
  dial(address: Address, timeoutMs: number, then: DialResult): Cancel {
    const { volume } = this.host;
    const index = address.port - 9000;
    const replica = volume.replicas[index]!;
    const isThere = (): boolean => !replica.isDown && !volume.unreachable.has(index);
    if (!isThere()) return this.after(timeoutMs, () => then(unreachable(), null));
    const latencyMs = volume.options.latencyMs ?? 0.5;
    return this.after(latencyMs, () => {
      if (!isThere()) {
        then(unreachable(), null);
        return;
      }
      const [ours, theirs] = link(this.world, this.arena, replica.arena, { latencyMs });
      this.#streams.push(ours);
      replica.accept(theirs);
      then(null, ours);
    });
  }
}

const unreachable = (): Fault => new Fault("TRIVET_E_DIAL", "refused (simulated)");
