import { invariant } from "../../src/base/invariant.js";
import { COMPOSE_BYTES_MAX } from "../../src/base/limits.js";
import type { Arena } from "../../src/ports/arena.js";
import type { Stream, StreamHandler } from "../../src/ports/stream.js";
import type { World } from "./world.js";

// A scripted NBD client over a simulated link. It knows the wire by itself (nothing of src/nbd is used), says
// exactly what it is told, and keeps whatever comes back.

export const u16 = (value: number): Buffer => {
  const out = Buffer.alloc(2);
  out.writeUInt16BE(value);
  return out;
};
export const u32 = (value: number): Buffer => {
  const out = Buffer.alloc(4);
  out.writeUInt32BE(value);
  return out;
};
export const u64 = (value: bigint | number): Buffer => {
  const out = Buffer.alloc(8);
  out.writeBigUInt64BE(BigInt(value));
  return out;
};
export const hex = (text: string): Buffer =>
  Buffer.from(text.replace(/#.*$/gm, "").replace(/\s+/g, ""), "hex");

export const OPT = {
  exportName: 1,
  abort: 2,
  list: 3,
  peek: 4,
  startTls: 5,
  info: 6,
  go: 7,
  structured: 8,
  listMeta: 9,
  setMeta: 10,
  extended: 11,
} as const;
export const CMD = {
  read: 0,
  write: 1,
  disc: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  zeroes: 6,
  status: 7,
} as const;

export function option(code: number, data: Buffer = Buffer.alloc(0)): Buffer {
  return Buffer.concat([Buffer.from("IHAVEOPT"), u32(code), u32(data.length), data]);
}
/** Data of INFO and GO. */
export function infoData(name: string, types: readonly number[] = []): Buffer {
  const text = Buffer.from(name);
  return Buffer.concat([u32(text.length), text, u16(types.length), ...types.map(u16)]);
}
/** Data of LIST_META_CONTEXT and SET_META_CONTEXT. */
export function metaData(name: string, queries: readonly string[]): Buffer {
  const texts = [name, ...queries].map((text) => Buffer.from(text));
  const [head, ...rest] = texts.map((text) => Buffer.concat([u32(text.length), text]));
  return Buffer.concat([head!, u32(rest.length), ...rest]);
}

export interface RequestFields {
  readonly command: number;
  readonly flags?: number;
  readonly cookie?: bigint | number;
  readonly offset?: bigint | number;
  readonly length?: number;
  readonly payload?: Buffer;
}
export function request(fields: RequestFields): Buffer {
  const payload = fields.payload ?? Buffer.alloc(0);
  return Buffer.concat([
    u32(0x25609513),
    u16(fields.flags ?? 0),
    u16(fields.command),
    u64(fields.cookie ?? 0),
    u64(fields.offset ?? 0),
    u32(fields.length ?? payload.length),
    payload,
  ]);
}

export interface OptionReply {
  readonly option: number;
  readonly type: number;
  readonly data: Buffer;
}
export interface Chunk {
  readonly flags: number;
  readonly type: number;
  readonly cookie: bigint;
  readonly payload: Buffer;
}
export interface SimpleReply {
  readonly error: number;
  readonly cookie: bigint;
}

export class NbdClient implements StreamHandler {
  readonly #world: World;
  readonly #arena: Arena;
  readonly stream: Stream;
  #inbox: Buffer = Buffer.alloc(0);
  #fresh: Buffer[] = [];
  isClosed = false;

  constructor(world: World, arena: Arena, stream: Stream) {
    this.#world = world;
    this.#arena = arena;
    this.stream = stream;
    stream.start(this);
  }

  received(at: number, end: number): number {
    this.#fresh.push(Buffer.from(this.#arena.bytes.subarray(at, end)));
    return end - at;
  }
  filled(): void {}
  sent(): void {}
  drained(): void {}
  closed(): void {
    this.isClosed = true;
  }

  send(...parts: readonly Buffer[]): this {
    const all = Buffer.concat(parts);
    for (let from = 0; from < all.length; from += COMPOSE_BYTES_MAX) {
      const piece = all.subarray(from, from + COMPOSE_BYTES_MAX);
      this.#arena.bytes.set(piece, this.stream.compose(piece.length));
    }
    return this;
  }

  /** Bytes that have arrived and were not taken. */
  get pending(): number {
    this.#world.settle();
    if (this.#fresh.length > 0) this.#inbox = Buffer.concat([this.#inbox, ...this.#fresh]);
    this.#fresh = [];
    return this.#inbox.length;
  }
  /** Exactly so many bytes, which must have arrived by now (in virtual time). */
  take(count: number): Buffer {
    const have = this.pending;
    invariant(
      have >= count,
      `${count} bytes have come, not ${have}: ${this.#inbox.toString("hex", 0, 64)}`,
    );
    const out = this.#inbox.subarray(0, count);
    this.#inbox = this.#inbox.subarray(count);
    return out;
  }
  takeAll(): Buffer {
    return this.take(this.pending);
  }
  peek(count: number): Buffer {
    const have = this.pending;
    return this.#inbox.subarray(0, Math.min(count, have));
  }

  optionReply(): OptionReply {
    const head = this.take(20);
    invariant(head.readBigUInt64BE(0) === 0x0003e889045565a9n, "an option reply has its magic");
    return {
      option: head.readUInt32BE(8),
      type: head.readUInt32BE(12),
      data: this.take(head.readUInt32BE(16)),
    };
  }
  /** Replies up to the one that concludes the option. */
  optionReplies(): OptionReply[] {
    const all: OptionReply[] = [];
    for (;;) {
      const reply = this.optionReply();
      all.push(reply);
      if (reply.type === 1 || reply.type >= 0x80000000) return all;
    }
  }
  simple(): SimpleReply {
    const head = this.take(16);
    invariant(head.readUInt32BE(0) === 0x67446698, `a simple reply, not ${head.toString("hex")}`);
    return { error: head.readUInt32BE(4), cookie: head.readBigUInt64BE(8) };
  }
  chunk(): Chunk {
    const head = this.take(20);
    invariant(head.readUInt32BE(0) === 0x668e33ef, `a chunk, not ${head.toString("hex")}`);
    return {
      flags: head.readUInt16BE(4),
      type: head.readUInt16BE(6),
      cookie: head.readBigUInt64BE(8),
      payload: this.take(head.readUInt32BE(16)),
    };
  }
  /** Error number of a reply to a request that carries no data, in either form. */
  error(): number {
    if (this.peek(4).readUInt32BE(0) === 0x67446698) return this.simple().error;
    const { type, payload } = this.chunk();
    return type === 0 ? 0 : payload.readUInt32BE(0);
  }

  /** Greeting, flags, options and GO; what it leaves is the transmission phase. */
  negotiate(
    name = "",
    wanted: { structured?: boolean; allocation?: boolean; zeroes?: boolean } = {},
  ): this {
    this.take(18);
    this.send(u32(wanted.zeroes === true ? 1 : 3));
    if (wanted.structured === true || wanted.allocation === true) {
      this.send(option(OPT.structured));
      invariant(this.optionReply().type === 1, "structured replies are granted");
    }
    if (wanted.allocation === true) {
      this.send(option(OPT.setMeta, metaData(name, ["base:allocation"])));
      invariant(this.optionReplies().length === 2, "base:allocation is granted");
    }
    this.send(option(OPT.go, infoData(name, [3])));
    invariant(this.optionReplies().at(-1)!.type === 1, "GO is granted");
    return this;
  }
}
