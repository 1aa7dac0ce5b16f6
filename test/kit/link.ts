import { Fault } from "../../src/base/fault.js";
import { invariant } from "../../src/base/invariant.js";
import { BACKLOG_BYTES_MAX, COMPOSE_BYTES_MAX, INBOX_BYTES } from "../../src/base/limits.js";
import type { Arena } from "../../src/ports/arena.js";
import type { Detached, Stream, StreamHandler } from "../../src/ports/stream.js";
import { FakeArena } from "./arena.js";
import type { World } from "./world.js";

/** How bytes travel: latency, and how many at a time (1: every boundary is hit). */
export interface LinkOptions {
  readonly latencyMs?: number;
  readonly segmentBytes?: number;
  /** Bytes that may be on the way or unread before the sender has to wait, as with real sockets. */
  readonly windowBytes?: number;
  /** Ways from left to right and from right to left, instead of a fixed latency. */
  readonly routes?: readonly [Route, Route];
  /** How fast bytes leave, in each direction. */
  readonly bytesPerMs?: number;
}

/** One direction of a wire that changes as time passes. */
export interface Route {
  /** When bytes that leave now arrive; never before those that left earlier. */
  due(nowMs: number, bytes: number): number;
}

/** What the other side sees of a process that is gone: an orderly end, a reset, or nothing at all. */
export type Death = "end" | "reset" | "silence";

/** Two streams joined by a simulated wire. Each side may live in an arena of its own. */
export function link(
  world: World,
  left: Arena,
  right: Arena,
  options: LinkOptions = {},
): [FakeStream, FakeStream] {
  const a = new FakeStream(world, left, "left", options, options.routes?.[0]);
  const b = new FakeStream(world, right, "right", options, options.routes?.[1]);
  a.join(b);
  b.join(a);
  return [a, b];
}

type Item = { at: number; length: number; tag: number; own: boolean };

/** The Stream contract over memory: what the host does with sockets, without any. */
export class FakeStream implements Stream {
  readonly peer: string;
  readonly local: string;
  readonly #world: World;
  readonly #arena: Arena;
  readonly #latencyMs: number;
  readonly #segmentBytes: number;
  readonly #windowBytes: number;
  readonly #route: Route | undefined;
  readonly #bytesPerMs: number;
  /** When what was sent last has left. */
  #busyUntilMs = 0;
  readonly #inbox: number;
  readonly #options: LinkOptions;
  #other: FakeStream | undefined;
  /** Let go: what still arrives is kept for whoever goes on. */
  #isDetached = false;
  #heir: FakeStream | undefined;
  /** To be received before what arrives. */
  #first: Buffer[] = [];
  #handler: StreamHandler | undefined;
  #held = 0;
  #arriving: Buffer[] = [];
  #direct: { from: number; at: number; left: number } | undefined;
  #paused = false;
  #pumping = false;
  #pumpPosted = false;
  #queue: Item[] = [];
  #queued = 0;
  /** Sent and not taken out by the other end yet. */
  #unread = 0;
  #overfull = false;
  #sendPosted = false;
  #ending = false;
  #peerEnded = false;
  #state: "open" | "closed" = "open";
  /** What this end had sent and the other has not received yet is sent again by nobody. */
  #isMute = false;

  constructor(world: World, arena: Arena, name: string, options: LinkOptions, route?: Route) {
    this.#world = world;
    this.#route = route;
    this.#options = options;
    this.#arena = arena;
    this.peer = `sim:${name}`;
    this.local = `sim:${name}`;
    this.#latencyMs = options.latencyMs ?? 0;
    this.#segmentBytes = options.segmentBytes ?? Number.POSITIVE_INFINITY;
    this.#windowBytes = options.windowBytes ?? Number.POSITIVE_INFINITY;
    this.#bytesPerMs = options.bytesPerMs ?? Number.POSITIVE_INFINITY;
    this.#inbox = forStream(arena, INBOX_BYTES);
    invariant(this.#inbox >= 0, "the fake arena has room for an inbox");
  }

  join(other: FakeStream): void {
    this.#other = other;
  }
  get queuedBytes(): number {
    return this.#queued;
  }
  get isClosed(): boolean {
    return this.#state === "closed";
  }
  start(handler: StreamHandler): void {
    invariant(this.#handler === undefined, "a stream is started once");
    this.#handler = handler;
    this.#wake();
  }

  compose(length: number): number {
    invariant(length > 0 && length <= COMPOSE_BYTES_MAX, "a composed message is small");
    const at = forStream(this.#arena, length);
    invariant(at >= 0, "the fake arena has room to compose");
    this.#push({ at, length, tag: -1, own: true });
    return at;
  }
  attach(at: number, length: number, tag: number): void {
    this.#push({ at, length, tag, own: false });
  }
  receiveInto(at: number, length: number): void {
    invariant(this.#direct === undefined, "one receiveInto at a time");
    invariant(length > 0, "receiveInto has a length");
    this.#direct = { from: at, at, left: length };
    this.#wake();
  }
  pause(): void {
    this.#paused = true;
  }
  resume(): void {
    this.#paused = false;
    this.#wake();
  }
  end(): void {
    this.#ending = true;
    this.#postSend();
  }
  destroy(): void {
    const wasClosed = this.#state === "closed";
    this.#close(null);
    if (this.#route === undefined) this.#other?.cut();
    else if (!wasClosed) this.reset();
  }
  unread(bytes: Uint8Array): void {
    invariant(this.#handler === undefined, "what comes first is known before anything comes");
    if (bytes.length > 0) this.#first.push(Buffer.from(bytes));
  }
  detach(): Detached | null {
    invariant(!this.#pumping, "a stream is not let go from within its own call");
    if (this.#state === "closed" || this.#ending) return null;
    const { bytes } = this.#arena;
    const copy = (from: number, to: number): Buffer => Buffer.from(bytes.subarray(from, to));
    const direct = this.#direct === undefined ? [] : [copy(this.#direct.from, this.#direct.at)];
    const inbox = copy(this.#inbox, this.#inbox + this.#held);
    const unsent = this.#queue.map(({ at, length }) => copy(at, at + length));
    const arriving = this.#arriving;
    this.#isDetached = true;
    this.#close(null);
    this.#arriving = arriving;
    return {
      descriptor: 0,
      received: Buffer.concat([...direct, inbox, ...this.#first]),
      unsent: Buffer.concat(unsent),
    };
  }
  /** The same connection, after `detach`, in the hands of somebody with another arena. */
  heir(arena: Arena): FakeStream {
    invariant(this.#isDetached && this.#heir === undefined, "a connection goes on once");
    const heir = new FakeStream(this.#world, arena, "heir", this.#options, this.#route);
    this.#heir = heir;
    heir.#arriving = this.#arriving;
    heir.#peerEnded = this.#peerEnded;
    heir.#unread = this.#unread;
    const other = this.#other!;
    heir.join(other);
    other.join(heir);
    return heir;
  }
  /**
   * The process at this end is gone: its handler is called no more. What has left is still delivered in an orderly end, and lost
   * otherwise. After `silence` the other end learns of it by `reset`, or by losing patience.
   */
  die(how: Death): void {
    this.#handler = undefined;
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#arriving = [];
    this.#queue = [];
    this.#queued = 0;
    const other = this.#other;
    if (how === "end") this.#travel(0, () => other?.arriveEnd());
    else {
      this.#isMute = true;
      if (how === "reset") this.reset();
    }
  }
  /** The host of a dead end answers again, and does not know the connection. */
  reset(): void {
    const other = this.#other;
    this.#travel(0, () => other?.cut());
  }
  /** `leavesInMs`: when the last of them has left. */
  #travel(bytes: number, run: () => void, leavesInMs = 0): void {
    const route = this.#route;
    if (route === undefined) this.#world.after(leavesInMs + this.#latencyMs, run);
    else {
      const nowMs = this.#world.nowMs();
      this.#world.after(route.due(nowMs + leavesInMs, bytes) - nowMs, run);
    }
  }
  /** What a broken network does to both ends. */
  cut(fault = new Fault("TRIVET_E_CONNECTION", "connection reset (simulated)")): void {
    this.#heir?.cut(fault);
    this.#world.post(() => this.#close(fault));
  }

  #push(item: Item): void {
    if (this.#state === "closed") {
      this.#world.post(() => this.#release(item));
      return;
    }
    this.#queue.push(item);
    this.#queued += item.length;
    if (this.#queued > BACKLOG_BYTES_MAX) this.#overfull = true;
    this.#postSend();
  }
  #postSend(): void {
    if (this.#sendPosted) return;
    this.#sendPosted = true;
    this.#world.post(this.#sendNow);
  }
  readonly #sendNow = (): void => {
    this.#sendPosted = false;
    this.#send();
  };
  #send(): void {
    if (this.#state === "closed") return;
    const nowMs = this.#world.nowMs();
    while (this.#queue.length > 0 && this.#unread < this.#windowBytes) {
      if (this.#busyUntilMs > nowMs) {
        this.#sendPosted = true;
        this.#world.after(this.#busyUntilMs - nowMs, this.#sendNow);
        break;
      }
      const item = this.#queue.shift()!;
      this.#busyUntilMs = nowMs + item.length / this.#bytesPerMs;
      const leavesInMs = this.#busyUntilMs - nowMs;
      const copy = Buffer.from(this.#arena.bytes.subarray(item.at, item.at + item.length));
      this.#queued -= item.length;
      this.#unread += item.length;
      for (let from = 0; from < copy.length; from += this.#segmentBytes) {
        const piece = copy.subarray(from, Math.min(copy.length, from + this.#segmentBytes));
        this.#travel(piece.length, () => this.#deliver(piece), leavesInMs);
      }
      this.#release(item);
      if (this.#state !== "open") break;
    }
    if (this.#overfull && this.#queued <= BACKLOG_BYTES_MAX / 2) {
      this.#overfull = false;
      this.#handler?.drained();
    }
    if (this.#ending && this.#queue.length === 0) {
      const other = this.#other;
      this.#travel(0, () => other?.arriveEnd());
      this.#close(null);
    }
  }
  #release(item: Item): void {
    if (item.own) this.#arena.free(item.at);
    else if (item.tag >= 0) this.#handler?.sent(item.tag);
  }

  #deliver(piece: Buffer): void {
    if (!this.#isMute) this.#other?.arrive(piece);
  }
  /** Called by the other end. */
  arrive(piece: Buffer): void {
    if (this.#heir !== undefined) {
      this.#heir.arrive(piece);
      return;
    }
    if (this.#state === "closed" && !this.#isDetached) return;
    this.#arriving.push(piece);
    this.#pump();
  }
  arriveEnd(): void {
    if (this.#heir !== undefined) {
      this.#heir.arriveEnd();
      return;
    }
    this.#peerEnded = true;
    this.#pump();
  }
  #wake(): void {
    if (this.#pumpPosted) return;
    this.#pumpPosted = true;
    this.#world.post(() => {
      this.#pumpPosted = false;
      this.#pump();
    });
  }

  #pump(): void {
    const handler = this.#handler;
    if (handler === undefined || this.#pumping) return;
    this.#pumping = true;
    const { bytes } = this.#arena;
    while (this.#state === "open" && !this.#ending) {
      if (this.#direct !== undefined) {
        const direct = this.#direct;
        const piece = this.#take(direct.left);
        if (piece.length === 0) break;
        piece.copy(bytes, direct.at);
        direct.at += piece.length;
        direct.left -= piece.length;
        if (direct.left === 0) {
          this.#direct = undefined;
          handler.filled();
        }
        continue;
      }
      if (this.#paused) break;
      const fresh = this.#takeArriving(INBOX_BYTES - this.#held);
      fresh.copy(bytes, this.#inbox + this.#held);
      this.#held += fresh.length;
      if (this.#held === 0) break;
      const before = this.#held;
      const used = handler.received(this.#inbox, this.#inbox + this.#held);
      invariant(used >= 0 && used <= before, "a handler consumes what it was given");
      if ((this.#state as string) === "closed") break;
      bytes.copyWithin(this.#inbox, this.#inbox + used, this.#inbox + this.#held);
      this.#held -= used;
      if (used === 0 && this.#direct === undefined && !this.#paused) {
        invariant(this.#held < INBOX_BYTES, "a full inbox is consumed from");
        if (this.#arriving.length === 0 && this.#first.length === 0) break;
      }
    }
    this.#pumping = false;
    const isEmpty = this.#arriving.length === 0 && this.#first.length === 0;
    if (this.#peerEnded && isEmpty && !this.#paused) this.#close(null);
  }
  /** Bytes for a direct range: first those already in the inbox. */
  #take(most: number): Buffer {
    if (this.#held > 0) {
      const { bytes } = this.#arena;
      const count = Math.min(most, this.#held);
      const piece = Buffer.from(bytes.subarray(this.#inbox, this.#inbox + count));
      bytes.copyWithin(this.#inbox, this.#inbox + count, this.#inbox + this.#held);
      this.#held -= count;
      return piece;
    }
    return this.#takeArriving(most);
  }
  #takeArriving(most: number): Buffer {
    const isFresh = this.#first.length === 0;
    const pieces = isFresh ? this.#arriving : this.#first;
    const first = pieces[0];
    if (first === undefined || most === 0) return Buffer.alloc(0);
    if (isFresh) this.#other?.taken(Math.min(first.length, most));
    if (first.length <= most) {
      pieces.shift();
      return first;
    }
    pieces[0] = first.subarray(most);
    return first.subarray(0, most);
  }
  /** Called by the other end. */
  taken(bytes: number): void {
    this.#unread -= bytes;
    if (this.#queue.length > 0) this.#postSend();
  }

  #close(fault: Fault | null): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#direct = undefined;
    this.#arriving = [];
    this.#queued = 0;
    this.#world.post(() => {
      for (const item of this.#queue.splice(0)) this.#release(item);
      this.#arena.free(this.#inbox);
      this.#handler?.closed(fault);
    });
  }
}

const forStream = (arena: Arena, length: number): number =>
  arena instanceof FakeArena ? arena.allocForStream(length) : arena.alloc(length);
