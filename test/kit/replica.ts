import xxhash, { type XXHashAPI } from "xxhash-wasm";
import type { Uuid } from "../../src/base/ids.js";
import type { Message } from "../../src/crucible/messages.js";
import { type RegionDefinition, regionBytes } from "../../src/crucible/region-definition.js";
import { FakeArena } from "./arena.js";
import type { FakeStream } from "./link.js";
import { ModelConnection } from "./replica-connection.js";
import type { World } from "./world.js";

// A model of a downstairs for tests of the upstairs: frames over simulated links, blocks in a map. It is stricter than
// the real one where that shows mistakes: a dependency is met only by an id completed on the same connection since the last flush, a
// job with another one waits for ever, and both that and two overlapping jobs at once are put down in `violations`. Under repair it knows
// how far it has come: a write, a read or a flush that goes beyond is put down too.

export interface Block {
  readonly data: Buffer;
  readonly hash: bigint;
}
export interface ExtentState {
  generation: bigint;
  flushNumber: number;
  dirty: boolean;
  closed: boolean;
}

export const REGION_UUIDS = [
  "12345678-1111-2222-3333-000000000000",
  "12345678-1111-2222-3333-000000000001",
  "12345678-1111-2222-3333-000000000002",
] as readonly string[] as readonly Uuid[];

export const regionOf = (
  index: number,
  over: Partial<RegionDefinition> = {},
): RegionDefinition => ({
  blockSize: 512,
  extentSize: 20,
  shift: 9,
  extentCount: 8,
  uuid: REGION_UUIDS[index]!,
  encrypted: false,
  databaseReadVersion: 1,
  databaseWriteVersion: 1,
  ...over,
});

export type JobMessage = Extract<Message, { jobId: unknown; dependencies: unknown }>;

/** How a model behaves; changed by tests at any time. */
export interface Manner {
  /** Milliseconds that a job takes, uniformly up to this. */
  jobMs: number;
  /** How much longer this one takes. */
  slowMs: (job: JobMessage) => number;
  version: number;
  readOnly: boolean;
  encrypted: boolean;
  /** Closes in answer to PromoteToActive. */
  refusesPromotion: boolean;
  /** What to do about a job instead of doing it: an error report and another try after a while, an error in the acknowledgement, nothing, another look in a moment. */
  trouble: (job: JobMessage) => "report" | "fail" | "ignore" | "wait" | null;
  /** Messages swallowed before they are looked at. */
  deaf: (message: Message) => boolean;
  /** Milliseconds that copying an extent takes, uniformly up to this, besides `jobMs`. */
  copyMs: number;
  /** Changed answers. */
  rewrite: (message: Message) => Message;
}

export class ModelReplica {
  readonly world: World;
  readonly region: RegionDefinition;
  readonly arena: FakeArena;
  readonly manner: Manner;
  readonly blocks = new Map<number, Block>();
  readonly extents: ExtentState[];
  /** What a power cut leaves of blocks written since the extent was flushed. */
  readonly #stable = new Map<number, Block | undefined>();
  readonly violations: string[] = [];
  /** Everything received and sent, by connection. */
  readonly heard: { conn: number; message: Message }[] = [];
  readonly said: { conn: number; message: Message }[] = [];
  /** Writes and flushes done, in order. */
  readonly done: { conn: number; jobId: number; kind: string }[] = [];
  readonly #hash: XXHashAPI;
  connections: ModelConnection[] = [];
  active: ModelConnection | null = null;
  peers: readonly ModelReplica[] = [];
  isDown = false;
  #connectionCount = 0;
  #targetUntilMs = -1000;

  constructor(
    world: World,
    region: RegionDefinition,
    hash: XXHashAPI,
    manner: Partial<Manner> = {},
    arenaBytes = 16 * 1024 * 1024,
  ) {
    this.arena = new FakeArena(arenaBytes);
    this.world = world;
    this.region = region;
    this.#hash = hash;
    this.manner = {
      jobMs: 0,
      slowMs: () => 0,
      copyMs: 0,
      version: 13,
      readOnly: false,
      encrypted: false,
      refusesPromotion: false,
      trouble: () => null,
      deaf: () => false,
      rewrite: (message) => message,
      ...manner,
    };
    this.extents = Array.from({ length: region.extentCount }, () => ({
      generation: 0n,
      flushNumber: 0,
      dirty: false,
      closed: false,
    }));
  }

  accept(stream: FakeStream): void {
    const connection = new ModelConnection(this, stream, this.#connectionCount++);
    this.connections.push(connection);
    stream.start(connection);
  }
  left(connection: ModelConnection): void {
    if (connection.isTarget) this.#targetUntilMs = this.world.nowMs();
    this.connections = this.connections.filter((other) => other !== connection);
    if (this.active === connection) this.active = null;
  }
  /** The process dies and loses what its host would not lose; with `power`, the host does too. */
  crash(power = false): void {
    this.isDown = true;
    for (const connection of [...this.connections]) connection.stream.destroy();
    this.connections = [];
    this.active = null;
    if (power)
      for (const [block, was] of this.#stable)
        if (this.world.chance() < 0.5) {
          if (was === undefined) this.blocks.delete(block);
          else this.blocks.set(block, was);
        }
    this.#stable.clear();
    for (const extent of this.extents) extent.closed = false;
  }
  start(): void {
    this.isDown = false;
  }
  /** The network to it breaks; the process lives. */
  cut(): void {
    for (const connection of [...this.connections]) connection.stream.destroy();
  }

  hashOf(data: Uint8Array): bigint {
    return this.#hash.h64Raw(data);
  }
  extentOf(block: number): number {
    return Math.floor(block / this.region.extentSize);
  }
  write(block: number, data: Uint8Array, hash: bigint): void {
    const extent = this.extents[this.extentOf(block)]!;
    if (extent.closed) this.violations.push(`write to closed extent ${this.extentOf(block)}`);
    extent.dirty = true;
    if (!this.#stable.has(block)) this.#stable.set(block, this.blocks.get(block));
    this.blocks.set(block, { data: Buffer.from(data), hash });
  }
  /** Everything dirty up to an extent, or one extent with numbers of its own. */
  flush(flushNumber: number, generation: bigint, only?: number, upTo = Infinity): void {
    for (const [index, extent] of this.extents.entries()) {
      if (!extent.dirty || (only !== undefined && only !== index) || index > upTo) continue;
      if (extent.closed) this.violations.push(`flush of closed extent ${index}`);
      // Whoever starts next takes the highest for the newest.
      if (generation === extent.generation && flushNumber < extent.flushNumber)
        this.violations.push(
          `extent ${index} goes back from flush ${extent.flushNumber} to ${flushNumber}`,
        );
      extent.dirty = false;
      extent.flushNumber = flushNumber;
      extent.generation = generation;
      for (const block of [...this.#stable.keys()])
        if (this.extentOf(block) === index) this.#stable.delete(block);
    }
  }
  /** Dependencies on jobs that were announced by them and never came, on connections that are open. */
  get unkept(): string[] {
    return this.connections.flatMap((connection) => connection.unkept);
  }
  /** Somebody repairs it, or did a moment ago: what was sent then may still be under way. */
  get isTarget(): boolean {
    if (this.world.nowMs() - this.#targetUntilMs < 100) return true;
    return this.connections.some((connection) => connection.isTarget);
  }
  /** What is stable: what a power cut cannot take. */
  stableBlock(block: number): Block | undefined {
    return this.#stable.has(block) ? this.#stable.get(block) : this.blocks.get(block);
  }
  /** Takes an extent over from another replica. */
  copyExtent(index: number, from: ModelReplica): void {
    for (let i = 0; i < this.region.extentSize; i++) {
      const block = index * this.region.extentSize + i;
      const theirs = from.blocks.get(block);
      if (theirs === undefined) this.blocks.delete(block);
      else this.blocks.set(block, theirs);
      this.#stable.delete(block);
    }
    const { generation, flushNumber, dirty } = from.extents[index]!;
    Object.assign(this.extents[index]!, { generation, flushNumber, dirty });
  }
  image(): Buffer {
    const image = Buffer.alloc(regionBytes(this.region));
    for (const [block, { data }] of this.blocks) data.copy(image, block * this.region.blockSize);
    return image;
  }
}

export const hashApi = (): Promise<XXHashAPI> => xxhash();
