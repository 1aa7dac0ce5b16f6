import xxhash from "xxhash-wasm";
import type { BlockIndex, FlushNumber, Generation, JobId, Uuid } from "../../src/base/ids.js";
import { COMPOSE_BYTES_MAX } from "../../src/base/limits.js";
import { decode, encode, type Message } from "../../src/crucible/messages.js";
import type { Arena } from "../../src/ports/arena.js";
import type { Stream, StreamHandler } from "../../src/ports/stream.js";

/** An upstairs that says what it is told to say, and keeps what it hears. */
export class ScriptedUpstairs implements StreamHandler {
  readonly #arena: Arena;
  readonly #stream: Stream;
  #rest = Buffer.alloc(0);
  /** Whole frames that nobody has looked at yet. */
  readonly frames: Buffer[] = [];
  isClosed = false;

  constructor(arena: Arena, stream: Stream) {
    this.#arena = arena;
    this.#stream = stream;
    stream.start(this);
  }

  say(message: Message): void {
    this.send(encode(message));
  }
  send(bytes: Buffer): void {
    for (let from = 0; from < bytes.length; from += COMPOSE_BYTES_MAX) {
      const piece = bytes.subarray(from, from + COMPOSE_BYTES_MAX);
      piece.copy(this.#arena.bytes, this.#stream.compose(piece.length));
    }
  }
  /** Everything heard since the last call. */
  heard(): Message[] {
    return this.frames.splice(0).map((frame) => decode(frame));
  }
  /** Their kinds. */
  kinds(): string[] {
    return this.heard().map((message) => message.kind);
  }
  pause(): void {
    this.#stream.pause();
  }
  resume(): void {
    this.#stream.resume();
  }
  leave(): void {
    this.#stream.end();
  }
  cut(): void {
    this.#stream.destroy();
  }

  received(at: number, end: number): number {
    this.#rest = Buffer.concat([this.#rest, this.#arena.bytes.subarray(at, end)]);
    while (this.#rest.length >= 8 && this.#rest.length >= this.#rest.readUInt32LE(0)) {
      const length = this.#rest.readUInt32LE(0);
      this.frames.push(Buffer.from(this.#rest.subarray(0, length)));
      this.#rest = this.#rest.subarray(length);
    }
    return end - at;
  }
  filled(): void {}
  sent(): void {}
  drained(): void {}
  closed(): void {
    this.isClosed = true;
  }
}

/** What a test's upstairs is called. */
export const UPSTAIRS = "aaaaaaaa-0000-4000-8000-000000000001" as Uuid;
export const SESSION = "bbbbbbbb-0000-4000-8000-000000000001" as Uuid;

/** Says the right things, and remembers under which ids. Blocks have 512 bytes and are filled with one byte. */
export class Talk {
  readonly peer: ScriptedUpstairs;
  readonly upstairsId: Uuid;
  readonly sessionId: Uuid;
  readonly generation: Generation;

  constructor(
    peer: ScriptedUpstairs,
    generation = 1n,
    upstairsId: Uuid = UPSTAIRS,
    sessionId: Uuid = SESSION,
  ) {
    this.peer = peer;
    this.generation = generation as Generation;
    this.upstairsId = upstairsId;
    this.sessionId = sessionId;
  }
  hello(readOnly = false): void {
    const { upstairsId, sessionId, generation } = this;
    this.peer.say({
      kind: "HereIAm",
      version: 13,
      upstairsId,
      sessionId,
      generation,
      readOnly,
      encrypted: false,
      alternateVersions: [],
    });
  }
  promote(): void {
    const { upstairsId, sessionId, generation } = this;
    this.peer.say({ kind: "PromoteToActive", upstairsId, sessionId, generation });
  }
  /** All of the negotiation in one go. */
  activate(readOnly = false): void {
    this.hello(readOnly);
    this.promote();
    this.peer.say({ kind: "RegionInfoPlease" });
    this.peer.say({ kind: "ExtentVersionsPlease" });
  }
  write(
    jobId: number,
    start: number,
    count: number,
    fill: number,
    ...dependencies: number[]
  ): void {
    const data = Buffer.alloc(512 * count, fill);
    const hash = hash64(Buffer.alloc(512, fill));
    const context = { hash, encryption: null };
    this.peer.say({
      kind: "Write",
      ...this.#job(jobId, dependencies),
      start: start as BlockIndex,
      contexts: new Array(count).fill(context),
      data,
    });
  }
  read(jobId: number, start: number, count: number, ...dependencies: number[]): void {
    this.peer.say({
      kind: "ReadRequest",
      ...this.#job(jobId, dependencies),
      start: start as BlockIndex,
      count,
    });
  }
  flush(jobId: number, flushNumber: number, ...dependencies: number[]): void {
    this.say(jobId, dependencies, {
      kind: "Flush",
      flushNumber: flushNumber as FlushNumber,
      generation: this.generation,
      snapshot: null,
      extentLimit: null,
    });
  }
  /** Any job, without what all jobs share. */
  say(jobId: number, dependencies: readonly number[], rest: object): void {
    this.peer.say({ ...rest, ...this.#job(jobId, dependencies) } as Message);
  }
  #job(jobId: number, dependencies: readonly number[]) {
    const { upstairsId, sessionId } = this;
    return {
      upstairsId,
      sessionId,
      jobId: jobId as JobId,
      dependencies: dependencies as readonly JobId[],
    };
  }
}

const xxh = await xxhash();
const hash64 = (bytes: Buffer): bigint => xxh.h64Raw(bytes);
