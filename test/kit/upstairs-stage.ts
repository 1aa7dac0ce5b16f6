import type { XXHashAPI } from "xxhash-wasm";
import { Fault } from "../../src/base/fault.js";
import type { Uuid } from "../../src/base/ids.js";
import { PIECE_BYTES_MAX } from "../../src/base/limits.js";
import type { RegionDefinition } from "../../src/crucible/region-definition.js";
import { type DeviceClient, DeviceStatus } from "../../src/ports/device.js";
import { type Journal, nullJournal } from "../../src/ports/journal.js";
import type { NoteFields } from "../../src/ports/notes.js";
import type { Address, Cancel, Dialer, DialResult } from "../../src/ports/stream.js";
import type { Tuning, UpstairsOptions } from "../../src/upstairs/options.js";
import type { RecordKeeper, VolumeRecord } from "../../src/upstairs/record.js";
import { Upstairs } from "../../src/upstairs/upstairs.js";
import { FakeArena } from "./arena.js";
import { FakeHasher } from "./hasher.js";
import { type LinkOptions, link } from "./link.js";
import { type Manner, ModelReplica, regionOf } from "./replica.js";
import type { World } from "./world.js";

/** Dials model replicas by port: 9000 is the first. */
export class ModelDialer implements Dialer {
  readonly world: World;
  readonly arena: FakeArena;
  readonly replicas: readonly ModelReplica[];
  readonly links: LinkOptions;
  /** Replicas that cannot be reached. */
  readonly unreachable = new Set<number>();
  /** Links of single replicas, where they differ; taken at the next dial. */
  readonly linksOf = new Map<number, LinkOptions>();
  dials = 0;

  constructor(
    world: World,
    arena: FakeArena,
    replicas: readonly ModelReplica[],
    links: LinkOptions,
  ) {
    this.world = world;
    this.arena = arena;
    this.replicas = replicas;
    this.links = links;
  }
  dial(address: Address, timeoutMs: number, then: DialResult): Cancel {
    this.dials += 1;
    const index = address.port - 9000;
    if (this.unreachable.has(index))
      return this.world.after(timeoutMs, () =>
        then(new Fault("TRIVET_E_DIAL", "timed out (simulated)"), null),
      );
    return this.world.after(this.links.latencyMs ?? 0, () => {
      const replica = this.replicas[index]!;
      if (replica.isDown || this.unreachable.has(index)) {
        then(new Fault("TRIVET_E_DIAL", "refused (simulated)"), null);
        return;
      }
      const [ours, theirs] = link(
        this.world,
        this.arena,
        replica.arena,
        this.linksOf.get(index) ?? this.links,
      );
      replica.accept(theirs);
      then(null, ours);
    });
  }
}

/** Remembers a volume's regions from one upstairs to the next. */
export class FakeKeeper implements RecordKeeper {
  last: VolumeRecord | null = null;
  /** What saving ends with. */
  fault: Fault | null = null;
  save(record: VolumeRecord, then: (fault: Fault | null) => void): void {
    if (this.fault === null) this.last = record;
    then(this.fault);
  }
}

export interface StageOptions {
  readonly upstairs?: Partial<Omit<UpstairsOptions, "tuning">>;
  readonly tuning?: Partial<Tuning>;
  readonly links?: LinkOptions;
  readonly manner?: Partial<Manner>;
  readonly region?: Partial<RegionDefinition>;
  readonly arenaBytes?: number;
  readonly journal?: Journal;
  /** Replicas that are there already, for a second upstairs. */
  readonly replicas?: readonly ModelReplica[];
}

export const UPSTAIRS_ID = "00000000-0000-0000-0000-000000000000" as Uuid;

/** Three model replicas and an upstairs over simulated links, in one world. */
export class Stage {
  readonly world: World;
  readonly arena: FakeArena;
  readonly replicas: readonly ModelReplica[];
  readonly dialer: ModelDialer;
  readonly upstairs: Upstairs;
  readonly guest: Guest;
  readonly notes: { level: string; event: string; text: string; fields: NoteFields | undefined }[] =
    [];
  readonly superseded: Fault[] = [];

  constructor(world: World, hash: XXHashAPI, options: StageOptions = {}) {
    this.world = world;
    this.arena = new FakeArena(options.arenaBytes ?? 16 * 1024 * 1024);
    this.replicas =
      options.replicas ??
      [0, 1, 2].map(
        (index) => new ModelReplica(world, regionOf(index, options.region), hash, options.manner),
      );
    for (const replica of this.replicas) replica.peers = this.replicas;
    this.dialer = new ModelDialer(world, this.arena, this.replicas, options.links ?? {});
    this.upstairs = new Upstairs(
      {
        targets: [0, 1, 2].map((index) => ({ host: "10.0.0.1", port: 9000 + index })),
        upstairsId: UPSTAIRS_ID,
        generation: { kind: "given", value: 1n },
        ...options.upstairs,
        // Whoever is away is given up at once, unless a test is about the grace it has.
        tuning: { offlineGraceMs: 0, ...options.tuning },
      },
      {
        dialer: this.dialer,
        arena: this.arena,
        hasher: new FakeHasher(this.arena, hash),
        clock: world,
        random: world,
        notes: (level, event, text, fields) => this.notes.push({ level, event, text, fields }),
        journal: options.journal ?? nullJournal,
      },
      { superseded: (fault) => this.superseded.push(fault) },
    );
    this.guest = new Guest(this.upstairs, this.arena);
  }

  /** Lets time pass until the activation is answered. */
  activate(limitMs = 60_000): Fault | null | undefined {
    let answer: Fault | null | undefined;
    this.upstairs.activate((fault) => {
      answer = fault;
    });
    this.pass(limitMs, () => answer !== undefined);
    return answer;
  }
  stop(limitMs = 120_000): Fault | null | undefined {
    let answer: Fault | null | undefined;
    this.upstairs.stop((fault) => {
      answer = fault;
    });
    this.pass(limitMs, () => answer !== undefined);
    return answer;
  }
  /** Advances until `done`, or for `limitMs`. */
  pass(limitMs: number, done: () => boolean): boolean {
    for (let waited = 0; waited < limitMs && !done(); waited += 1) this.world.advance(1);
    return done();
  }
  get violations(): string[] {
    return this.replicas.flatMap((replica, index) =>
      [...replica.violations, ...replica.unkept].map((v) => `${index}: ${v}`),
    );
  }
  said(event: string): string[] {
    return this.notes.filter((note) => note.event === event).map((note) => note.text);
  }
}

export interface Answer {
  status: DeviceStatus;
  data: Buffer | null;
}

/** A client of a block device that remembers what it was answered. Writes wait for room in order. */
export class Guest implements DeviceClient {
  readonly #device: Upstairs;
  readonly #arena: FakeArena;
  readonly answers = new Map<number, Answer>();
  readonly #lengths = new Map<number, number>();
  #nextTag = 1;
  #placing: { offset: number; data: Buffer; flags: number; tag: number }[] = [];
  /** Called just before a write is handed to the device. */
  onWrite: (tag: number, offset: number, data: Buffer) => void = () => {};
  /** Called with each answer, in the device's call. */
  onAnswer: (tag: number, answer: Answer) => void = () => {};
  /** Keeps answers of reads until told. */
  holds: number[] | null = null;

  constructor(device: Upstairs, arena: FakeArena) {
    this.#device = device;
    this.#arena = arena;
  }

  write(offset: number, data: Buffer, flags = 0): number {
    const tag = this.#nextTag++;
    this.#placing.push({ offset, data, flags, tag });
    if (this.#placing.length === 1) this.deviceRoom();
    return tag;
  }
  get nextTag(): number {
    return this.#nextTag;
  }
  get waitsForRoom(): boolean {
    return this.#placing.length > 0;
  }
  read(offset: number, length: number): number {
    const tag = this.#nextTag++;
    this.#lengths.set(tag, length);
    this.#device.read(offset, length, this, tag);
    return tag;
  }
  flush(): number {
    const tag = this.#nextTag++;
    this.#device.flush(this, tag);
    return tag;
  }
  zeroes(offset: number, length: number, flags = 0): number {
    const tag = this.#nextTag++;
    this.#device.writeZeroes(offset, length, flags, this, tag);
    return tag;
  }
  trim(offset: number, length: number): number {
    const tag = this.#nextTag++;
    this.#device.trim(offset, length, 0, this, tag);
    return tag;
  }
  status(tag: number): DeviceStatus | undefined {
    return this.answers.get(tag)?.status;
  }

  deviceRoom(): void {
    for (let first = this.#placing[0]; first !== undefined; first = this.#placing[0]) {
      const { offset, data, flags, tag } = first;
      const at = this.#device.place(offset, Math.min(data.length, PIECE_BYTES_MAX), this);
      if (at < 0) return;
      this.#placing.shift();
      data.copy(this.#arena.bytes, at);
      this.onWrite(tag, offset, data);
      this.#device.write(offset, data.length, at, flags, this, tag);
    }
  }
  deviceDone(tag: number, status: DeviceStatus, at: number, hold: number): void {
    if (this.answers.has(tag)) throw new Error(`request ${tag} was answered twice`);
    const length = this.#lengths.get(tag);
    const data =
      status === DeviceStatus.ok && length !== undefined && at >= 0
        ? Buffer.from(this.#arena.bytes.subarray(at, at + length))
        : null;
    const answer = { status, data };
    this.answers.set(tag, answer);
    if (hold >= 0) {
      if (this.holds === null) this.#device.release(hold);
      else this.holds.push(hold);
    }
    this.onAnswer(tag, answer);
  }
}
