import type { Fault } from "../../src/base/fault.js";
import type { FlushNumber, Generation } from "../../src/base/ids.js";
import { FrameReceiver } from "../../src/crucible/frame-receiver.js";
import { decode, encode, type Message, type MessageOf } from "../../src/crucible/messages.js";
import type { StreamHandler } from "../../src/ports/stream.js";
import type { FakeStream } from "./link.js";
import type { JobMessage, ModelReplica } from "./replica.js";
import { type Range, RepairWatch } from "./replica-repair.js";

// One connection of a model replica: handshake, reconciliation, and the queue of jobs with its dependencies.

interface Queued {
  readonly message: JobMessage;
  state: "waiting" | "running";
}

export class ModelConnection implements StreamHandler {
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
  readonly #repair: RepairWatch;
  #queue: Queued[] = [];
  #isClosed = false;

  constructor(replica: ModelReplica, stream: FakeStream, number: number) {
    this.#replica = replica;
    this.stream = stream;
    this.#number = number;
    this.#receiver = new FrameReceiver(stream, replica.arena, this);
    this.#repair = new RepairWatch(replica);
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

  get isTarget(): boolean {
    return this.#repair.isTarget;
  }
  get unkept(): string[] {
    return this.#repair.unkept;
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
          repairAddress: {
            host: "127.0.0.1",
            port: 7810 + 10 * Number.parseInt(region.uuid.slice(-1), 16),
          },
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
    this.#repair.arrived(message);
    const who = `${message.kind} ${message.jobId}`;
    for (const id of message.dependencies) {
      const isKnown = this.#completed.has(id) || this.#queue.some((q) => q.message.jobId === id);
      if (isKnown || (!this.#seen.has(id) && this.#repair.promises(id, who))) continue;
      violations.push(`${who} depends on ${id}, which cannot be met`);
    }
    if (this.#seen.has(message.jobId)) violations.push(`job ${message.jobId} came twice`);
    this.#seen.add(message.jobId);
    const { end } = this.#rangeOf(message);
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
    const mine = this.#rangeOf(queued.message);
    for (const other of this.#queue) {
      if (other === queued || other.message.jobId > queued.message.jobId) continue;
      const theirs = this.#rangeOf(other.message);
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
    const copyMs = queued.message.kind === "ExtentLiveRepair" ? manner.copyMs : 0;
    const takesMs = world.chance() * (manner.jobMs + copyMs) + manner.slowMs(queued.message);
    world.after(takesMs, () => {
      if (this.#isClosed || !this.#queue.includes(queued)) return;
      const { message } = queued;
      const ids = {
        upstairsId: message.upstairsId,
        sessionId: message.sessionId,
        jobId: message.jobId,
      };
      const trouble = manner.trouble(message);
      if (trouble === "ignore") return;
      if (trouble === "wait") {
        world.after(1, () => this.#try(queued));
        return;
      }
      if (trouble === "report") {
        this.say({ kind: "ErrorReport", ...ids, error: { kind: "IoError", text: "model" } });
        world.after(50, () => this.#try(queued));
        return;
      }
      this.#queue = this.#queue.filter((other) => other !== queued);
      if (message.kind === "ExtentLiveRepair" && !this.#repair.mayCopy(message)) {
        const error = { kind: "RepairRequestError", text: "model" } as const;
        this.say({ kind: "ErrorReport", ...ids, error });
        this.stream.end();
        return;
      }
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
        this.#repair.checkExtents(message, this.#rangeOf(message));
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
        this.#repair.checkLimit(message);
        replica.flush(
          message.flushNumber,
          message.generation,
          undefined,
          message.extentLimit ?? undefined,
        );
        this.#completed = new Set([message.jobId]);
        return { kind: "FlushAck", ...ids, result: OK };
      case "Barrier":
        this.#completed = new Set([message.jobId]);
        return { kind: "BarrierAck", ...ids, result: OK };
      case "ExtentLiveClose":
      case "ExtentLiveFlushClose": {
        this.#repair.perform(message);
        this.#completed.add(message.jobId);
        const { generation, flushNumber, dirty } = replica.extents[message.extentId]!;
        const result = {
          ok: true,
          generation: generation as Generation,
          flushNumber: flushNumber as FlushNumber,
          dirty,
        } as const;
        return { kind: "ExtentLiveCloseAck", ...ids, result };
      }
      case "ExtentLiveRepair":
        this.#repair.perform(message);
        this.#completed.add(message.jobId);
        return { kind: "ExtentLiveRepairAckId", ...ids, result: OK };
      case "ExtentLiveReopen":
        this.#repair.perform(message);
        this.#completed.add(message.jobId);
        return { kind: "ExtentLiveAckId", ...ids, result: OK };
      case "ExtentLiveNoOp":
        this.#completed.add(message.jobId);
        return { kind: "ExtentLiveAckId", ...ids, result: OK };
      case "ReadRequest": {
        this.#repair.checkExtents(message, this.#rangeOf(message));
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

  /** Flushes and barriers stand between everything before and everything after. */
  #rangeOf(message: JobMessage): Range {
    const { extentSize } = this.#replica.region;
    switch (message.kind) {
      case "ExtentLiveNoOp":
        return { start: 0, end: 0, changes: false };
      case "ExtentLiveClose":
      case "ExtentLiveFlushClose":
      case "ExtentLiveRepair":
      case "ExtentLiveReopen": {
        const start = message.extentId * extentSize;
        return { start, end: start + extentSize, changes: true };
      }
      case "Write":
      case "WriteUnwritten":
        return {
          start: message.start,
          end: message.start + message.contexts.length,
          changes: true,
        };
      case "ReadRequest":
        return { start: message.start, end: message.start + message.count, changes: false };
      default:
        return { start: 0, end: Number.POSITIVE_INFINITY, changes: true };
    }
  }
}

const OK = { ok: true } as const;

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
    case "ExtentLiveClose":
    case "ExtentLiveFlushClose":
      return { kind: "ExtentLiveCloseAck", ...ids, result };
    case "ExtentLiveRepair":
      return { kind: "ExtentLiveRepairAckId", ...ids, result };
    case "ExtentLiveReopen":
    case "ExtentLiveNoOp":
      return { kind: "ExtentLiveAckId", ...ids, result };
    default:
      return { kind: "FlushAck", ...ids, result };
  }
}
