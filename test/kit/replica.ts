import xxhash, { type XXHashAPI } from "xxhash-wasm";
import type { Fault } from "../../src/base/fault.js";
import type { Uuid } from "../../src/base/ids.js";
import { FrameReceiver } from "../../src/crucible/frame-receiver.js";
import { decode, encode, type Message, type MessageOf } from "../../src/crucible/messages.js";
import { type RegionDefinition, regionBytes } from "../../src/crucible/region-definition.js";
import type { StreamHandler } from "../../src/ports/stream.js";
import { FakeArena } from "./arena.js";
import type { FakeStream } from "./link.js";
import type { World } from "./world.js";

// A model of a downstairs for tests of the upstairs: frames over simulated links, blocks in a map. It is stricter than
// the real one where that shows mistakes: a dependency is met only by an id completed on the same connection since the last flush, a
// job with another one waits for ever, and both that and two overlapping jobs at once are put down in `violations`.

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

type JobMessage = Extract<Message, { jobId: unknown; dependencies: unknown }>;

/** How a model behaves; changed by tests at any time. */
export interface Manner {
  /** Milliseconds that a job takes, uniformly up to this. */
  jobMs: number;
  version: number;
  readOnly: boolean;
  encrypted: boolean;
  /** Closes in answer to PromoteToActive. */
  refusesPromotion: boolean;
  /** What to do about a job instead of doing it: an error report and another try after a while, an error in the acknowledgement, nothing. */
  trouble: (job: JobMessage) => "report" | "fail" | "ignore" | null;
  /** Messages swallowed before they are looked at. */
  deaf: (message: Message) => boolean;
  /** Changed answers. */
  rewrite: (message: Message) => Message;
}

export class ModelReplica {
  readonly world: World;
  readonly region: RegionDefinition;
  readonly arena = new FakeArena(64 * 1024 * 1024);
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

  constructor(
    world: World,
    region: RegionDefinition,
    hash: XXHashAPI,
    manner: Partial<Manner> = {},
  ) {
    this.world = world;
    this.region = region;
    this.#hash = hash;
    this.manner = {
      jobMs: 0,
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
    this.connections = this.connections.filter((other) => other !== connection);
    if (this.active === connection) this.active = null;
  }
  /** The process dies and loses what its host would not lose; with `power`, the host does too. */
  crash(power = false): void {
    this.isDown = true;
    for (const connection of [...this.connections]) connection.stream.cut();
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
    for (const connection of [...this.connections]) connection.stream.cut();
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
  /** Everything dirty, or one extent with numbers of its own. */
  flush(flushNumber: number, generation: bigint, only?: number): void {
    for (const [index, extent] of this.extents.entries()) {
      if (!extent.dirty || (only !== undefined && only !== index)) continue;
      extent.dirty = false;
      extent.flushNumber = flushNumber;
      extent.generation = generation;
      for (const block of [...this.#stable.keys()])
        if (this.extentOf(block) === index) this.#stable.delete(block);
    }
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

interface Queued {
  readonly message: JobMessage;
  state: "waiting" | "running";
}

class ModelConnection implements StreamHandler {
  readonly stream: FakeStream;
  readonly #replica: ModelReplica;
  readonly #receiver: FrameReceiver;
  readonly #number: number;
  #step: "hello" | "promote" | "region" | "versions" | "io" = "hello";
  upstairsId = "";
  sessionId = "";
  generation = 0n;
  readonly #seen = new Set<number>();
  #completed = new Set<number>();
  #queue: Queued[] = [];
  #isClosed = false;

  constructor(replica: ModelReplica, stream: FakeStream, number: number) {
    this.#replica = replica;
    this.stream = stream;
    this.#number = number;
    this.#receiver = new FrameReceiver(stream, replica.arena, this);
  }

  received(at: number, end: number): number {
    return this.#receiver.received(at, end);
  }
  filled(): void {
    this.#receiver.filled();
  }
  sent(): void {}
  drained(): void {}
  closed(): void {
    this.#isClosed = true;
    const at = this.#receiver.closed();
    if (at >= 0) this.#replica.arena.free(at);
    this.#replica.left(this);
  }
  place(_tag: number, frameBytes: number): number {
    return this.#replica.arena.alloc(frameBytes);
  }
  bad(fault: Fault): void {
    this.#replica.violations.push(`bad frame: ${fault.message}`);
    this.stream.destroy();
  }
  frame(_tag: number, at: number, frameBytes: number, owned: boolean): void {
    const copy = Buffer.from(this.#replica.arena.bytes.subarray(at, at + frameBytes));
    if (owned) this.#replica.arena.free(at);
    const message = decode(copy);
    if (this.#replica.manner.deaf(message)) return;
    this.#replica.heard.push({ conn: this.#number, message });
    this.#handle(message);
  }

  say(original: Message): void {
    if (this.#isClosed) return;
    const message = this.#replica.manner.rewrite(original);
    this.#replica.said.push({ conn: this.#number, message });
    const frame = encode(message);
    for (let from = 0; from < frame.length; from += 16384) {
      const piece = frame.subarray(from, from + 16384);
      piece.copy(this.#replica.arena.bytes, this.stream.compose(piece.length));
    }
  }

  #handle(message: Message): void {
    const { manner, region, extents } = this.#replica;
    switch (message.kind) {
      case "Ruok":
        this.say({ kind: "Imok" });
        return;
      case "HereIAm":
        if (this.#step !== "hello") {
          this.stream.end();
          return;
        }
        this.upstairsId = message.upstairsId;
        this.sessionId = message.sessionId;
        if (manner.version !== 13) {
          this.#refuse({ kind: "VersionMismatch", version: manner.version });
          return;
        }
        if (message.readOnly !== manner.readOnly) {
          this.#refuse({ kind: "ReadOnlyMismatch", expected: manner.readOnly });
          return;
        }
        if (message.encrypted !== manner.encrypted) {
          this.#refuse({ kind: "EncryptedMismatch", expected: manner.encrypted });
          return;
        }
        this.#step = "promote";
        this.say({
          kind: "YesItsMe",
          version: 13,
          repairAddress: { host: "127.0.0.1", port: 7810 + 10 * Number(region.uuid.slice(-1)) },
        });
        return;
      case "PromoteToActive":
        if (this.#step !== "promote") {
          this.stream.end();
          return;
        }
        this.#promote(message);
        return;
      case "RegionInfoPlease":
        if (this.#step !== "region") {
          this.stream.end();
          return;
        }
        this.#step = "versions";
        this.say({ kind: "RegionInfo", region });
        return;
      case "ExtentVersionsPlease":
        if (this.#step !== "versions") {
          this.stream.end();
          return;
        }
        this.#step = "io";
        this.say({
          kind: "ExtentVersions",
          generations: BigUint64Array.from(extents, (extent) => extent.generation),
          flushNumbers: Float64Array.from(extents, (extent) => extent.flushNumber),
          dirty: Uint8Array.from(extents, (extent) => Number(extent.dirty)),
        });
        return;
      case "LastFlush":
        if (this.#step !== "versions") {
          this.stream.end();
          return;
        }
        this.#step = "io";
        if (message.lastFlushJob !== null) this.#completed.add(message.lastFlushJob);
        return;
      case "ExtentFlush":
      case "ExtentClose":
      case "ExtentRepair":
      case "ExtentReopen":
        this.#reconcile(message);
        return;
      default:
        if ("dependencies" in message) this.#job(message);
        else this.stream.end();
    }
  }
  #refuse(message: Message): void {
    this.say(message);
    this.stream.end();
  }

  #promote(message: MessageOf<"PromoteToActive">): void {
    const replica = this.#replica;
    const { active } = replica;
    if (replica.manner.refusesPromotion) {
      this.stream.end();
      return;
    }
    this.generation = message.generation;
    if (active !== null && active !== this && !replica.manner.readOnly) {
      const isSame = active.upstairsId === this.upstairsId && active.sessionId === this.sessionId;
      if (message.generation < active.generation) {
        this.stream.end();
        return;
      }
      if (message.generation === active.generation && !isSame) {
        this.stream.end();
        return;
      }
      active.say({
        kind: "YouAreNoLongerActive",
        newUpstairsId: message.upstairsId,
        newSessionId: message.sessionId,
        newGeneration: message.generation,
      });
      active.#queue = [];
      active.stream.end();
    }
    replica.active = this;
    for (const extent of replica.extents) extent.closed = false;
    this.#step = "region";
    this.say({ ...message, kind: "YouAreNowActive" });
  }

  #reconcile(
    message:
      | MessageOf<"ExtentFlush">
      | MessageOf<"ExtentClose">
      | MessageOf<"ExtentRepair">
      | MessageOf<"ExtentReopen">,
  ): void {
    const replica = this.#replica;
    const extent = replica.extents[message.extentId]!;
    const wrong = (what: string) => replica.violations.push(`${message.kind}: ${what}`);
    switch (message.kind) {
      case "ExtentFlush":
        replica.flush(message.flushNumber, message.generation, message.extentId);
        break;
      case "ExtentClose":
        if (extent.closed) wrong("closed already");
        extent.closed = true;
        break;
      case "ExtentRepair": {
        const source = replica.peers[message.sourceClientId]!;
        if (!extent.closed || !source.extents[message.extentId]!.closed) wrong("open");
        replica.copyExtent(message.extentId, source);
        break;
      }
      case "ExtentReopen":
        if (!extent.closed) wrong("open already");
        extent.closed = false;
    }
    this.say({ kind: "RepairAckId", repairId: message.repairId });
  }

  #job(message: JobMessage): void {
    const { violations, region } = this.#replica;
    if (this.#step !== "io") {
      violations.push(`${message.kind} ${message.jobId} before the handshake was done`);
      return;
    }
    for (const id of message.dependencies)
      if (!this.#completed.has(id) && !this.#queue.some((queued) => queued.message.jobId === id))
        violations.push(`${message.kind} ${message.jobId} depends on ${id}, which cannot be met`);
    if (this.#seen.has(message.jobId)) violations.push(`job ${message.jobId} came twice`);
    this.#seen.add(message.jobId);
    const { end } = rangeOf(message);
    if (Number.isFinite(end) && end > region.extentSize * region.extentCount)
      violations.push(`job ${message.jobId} is outside the region`);
    this.#queue.push({ message, state: "waiting" });
    this.#run();
  }

  #run(): void {
    for (const queued of this.#queue) {
      if (queued.state === "running") continue;
      if (!queued.message.dependencies.every((id) => this.#completed.has(id))) continue;
      this.#checkAlone(queued);
      queued.state = "running";
      this.#try(queued);
    }
  }
  /** Jobs that touch the same blocks must have been ordered by dependencies. */
  #checkAlone(queued: Queued): void {
    const { violations } = this.#replica;
    const mine = rangeOf(queued.message);
    for (const other of this.#queue) {
      if (other === queued || other.message.jobId > queued.message.jobId) continue;
      const theirs = rangeOf(other.message);
      const bothRead = !mine.changes && !theirs.changes;
      if (bothRead || mine.start >= theirs.end || theirs.start >= mine.end) continue;
      violations.push(
        `${queued.message.kind} ${queued.message.jobId} does not wait for ${other.message.kind} ${other.message.jobId}`,
      );
    }
  }
  #try(queued: Queued): void {
    const replica = this.#replica;
    const { world, manner } = replica;
    world.after(world.chance() * manner.jobMs, () => {
      if (this.#isClosed || !this.#queue.includes(queued)) return;
      const { message } = queued;
      const ids = {
        upstairsId: message.upstairsId,
        sessionId: message.sessionId,
        jobId: message.jobId,
      };
      const trouble = manner.trouble(message);
      if (trouble === "ignore") return;
      if (trouble === "report") {
        this.say({ kind: "ErrorReport", ...ids, error: { kind: "IoError", text: "model" } });
        world.after(50, () => this.#try(queued));
        return;
      }
      this.#queue = this.#queue.filter((other) => other !== queued);
      if (trouble === "fail") this.say(failure(message));
      else this.say(this.#do(message));
      replica.done.push({ conn: this.#number, jobId: message.jobId, kind: message.kind });
      this.#run();
    });
  }

  #do(message: JobMessage): Message {
    const replica = this.#replica;
    const { blockSize } = replica.region;
    const ids = {
      upstairsId: message.upstairsId,
      sessionId: message.sessionId,
      jobId: message.jobId,
    };
    switch (message.kind) {
      case "Write":
        message.contexts.forEach((context, i) => {
          const data = message.data.subarray(i * blockSize, (i + 1) * blockSize);
          if (replica.hashOf(data) !== context.hash)
            replica.violations.push(`wrong hash in ${message.jobId}`);
          replica.write(message.start + i, data, context.hash);
        });
        if (message.data.length !== message.contexts.length * blockSize)
          replica.violations.push(`length of ${message.jobId}`);
        this.#completed.add(message.jobId);
        return { kind: "WriteAck", ...ids, result: OK };
      case "Flush":
        replica.flush(message.flushNumber, message.generation);
        this.#completed = new Set([message.jobId]);
        return { kind: "FlushAck", ...ids, result: OK };
      case "Barrier":
        this.#completed = new Set([message.jobId]);
        return { kind: "BarrierAck", ...ids, result: OK };
      case "ReadRequest": {
        const found = Array.from({ length: message.count }, (_, i) =>
          replica.blocks.get(message.start + i),
        );
        this.#completed.add(message.jobId);
        return {
          kind: "ReadResponse",
          ...ids,
          result: {
            ok: true,
            contexts: found.map((block) =>
              block === undefined ? { kind: "Empty" } : { kind: "Unencrypted", hash: block.hash },
            ),
          },
          data: Buffer.concat(found.map((block) => block?.data ?? Buffer.alloc(blockSize))),
        };
      }
      default:
        throw new Error(`the model does not know ${message.kind}`);
    }
  }
}

const OK = { ok: true } as const;

/** Flushes and barriers stand between everything before and everything after. */
function rangeOf(message: JobMessage): { start: number; end: number; changes: boolean } {
  switch (message.kind) {
    case "Write":
    case "WriteUnwritten":
      return { start: message.start, end: message.start + message.contexts.length, changes: true };
    case "ReadRequest":
      return { start: message.start, end: message.start + message.count, changes: false };
    default:
      return { start: 0, end: Number.POSITIVE_INFINITY, changes: true };
  }
}

function failure(message: JobMessage): Message {
  const { upstairsId, sessionId, jobId } = message;
  const ids = { upstairsId, sessionId, jobId };
  const result = { ok: false, error: { kind: "IoError", text: "model" } } as const;
  switch (message.kind) {
    case "Write":
      return { kind: "WriteAck", ...ids, result };
    case "ReadRequest":
      return { kind: "ReadResponse", ...ids, result, data: Buffer.alloc(0) };
    case "Barrier":
      return { kind: "BarrierAck", ...ids, result };
    default:
      return { kind: "FlushAck", ...ids, result };
  }
}

export const hashApi = (): Promise<XXHashAPI> => xxhash();
