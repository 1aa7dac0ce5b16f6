import { invariant } from "../../src/base/invariant.js";
import { COMPOSE_BYTES_MAX } from "../../src/base/limits.js";
import type { Stream, StreamHandler } from "../../src/ports/stream.js";
import type { FakeArena } from "../kit/arena.js";
import { CMD, infoData, OPT, option, u32 } from "../kit/nbd-client.js";
import type { Incarnation, ReadRecord, VolumeModel, WriteRecord } from "./model.js";
import { fillSector, SECTOR_BYTES, sectorStamp } from "./pattern.js";
import type { Trace } from "./trace.js";

// One NBD connection of a guest: many requests at a time, every answer judged by the model. Knows the protocol by
// itself; nothing of src/nbd is used.

const REQUEST_BYTES = 28;
const FUA = 1;
const SIMPLE_MAGIC = 0x67446698;
const CHUNK_MAGIC = 0x668e33ef;
/** The server is stopping, and says so to one who is still in the handshake. */
const SHUTDOWN = 0x80000007;
const CHUNK = { none: 0, data: 1, hole: 2, error: 0x8001, errorOffset: 0x8002 } as const;

type Kind = "read" | "write" | "zeroes" | "flush" | "trim" | "cache";

interface Request {
  readonly kind: Kind;
  readonly sector: number;
  readonly count: number;
  readonly write: WriteRecord | null;
  readonly read: ReadRecord | null;
  readonly begun: number;
  /** Answers of reads that come in chunks. */
  data: Buffer | null;
}

export interface GuestOwner {
  readonly model: VolumeModel;
  readonly trace: Trace;
  /** One more request was answered. */
  answered(guest: GuestConnection): void;
  /** The answer promised that something is safe: to a flush, or to a write with FUA. */
  promised(): void;
  failed(text: string): void;
  ready(guest: GuestConnection): void;
  /** The connection ended; this many requests will never be answered. */
  gone(guest: GuestConnection, unanswered: number): void;
}

export class GuestConnection implements StreamHandler {
  readonly host: Incarnation;
  /** Requests that it likes to have under way. */
  readonly depth: number;
  readonly #owner: GuestOwner;
  readonly #arena: FakeArena;
  readonly #stream: Stream;
  readonly #structured: boolean;
  readonly #requests = new Map<number, Request>();
  #cookie = 1;
  #phase: "greeting" | "structured" | "go" | "ready" | "closed" = "greeting";

  constructor(
    owner: GuestOwner,
    arena: FakeArena,
    stream: Stream,
    host: Incarnation,
    options: { readonly structured: boolean; readonly depth: number },
  ) {
    this.#owner = owner;
    this.#arena = arena;
    this.#stream = stream;
    this.host = host;
    this.depth = options.depth;
    this.#structured = options.structured;
    stream.start(this);
  }

  get isReady(): boolean {
    return this.#phase === "ready";
  }
  get inFlight(): number {
    return this.#requests.size;
  }
  get unanswered(): string {
    return [...this.#requests.values()].map((r) => `${r.kind} ${r.sector}+${r.count}`).join(", ");
  }
  /** The guest goes away without a word. */
  drop(): void {
    this.#stream.destroy();
  }
  disconnect(): void {
    if (this.#phase === "ready") this.#send(CMD.disc, 0, 0, 0, 0, null);
  }

  // Requests.

  read(sector: number, count: number): void {
    const read = this.#owner.model.beginRead(this.host, sector, count);
    this.#ask(CMD.read, 0, {
      kind: "read",
      sector,
      count,
      write: null,
      read,
      begun: 0,
      data: null,
    });
  }
  write(sector: number, count: number, fua: boolean): void {
    const write = this.#owner.model.beginWrite(this.host, sector, count, false, fua);
    this.#ask(CMD.write, fua ? FUA : 0, {
      kind: "write",
      sector,
      count,
      write,
      read: null,
      begun: 0,
      data: null,
    });
  }
  zeroes(sector: number, count: number, fua: boolean): void {
    const write = this.#owner.model.beginWrite(this.host, sector, count, true, fua);
    this.#ask(CMD.zeroes, fua ? FUA : 0, {
      kind: "zeroes",
      sector,
      count,
      write,
      read: null,
      begun: 0,
      data: null,
    });
  }
  flush(): void {
    const begun = this.#owner.model.beginFlush();
    const none = { write: null, read: null, data: null };
    this.#ask(CMD.flush, 0, { kind: "flush", sector: 0, count: 0, begun, ...none });
  }
  /** A hint that changes nothing here. */
  hint(kind: "trim" | "cache", sector: number, count: number): void {
    const none = { write: null, read: null, data: null, begun: 0 };
    this.#ask(CMD[kind], 0, { kind, sector, count, ...none });
  }

  #ask(command: number, flags: number, request: Request): void {
    const cookie = this.#cookie++;
    this.#requests.set(cookie, request);
    const { sector, count, write } = request;
    this.#owner.trace.add("nbd", () => `${this.host.name} ${cookie}: ${describe(request)}`);
    const payload = request.kind === "write" ? write : null;
    this.#send(command, flags, cookie, sector * SECTOR_BYTES, count * SECTOR_BYTES, payload);
  }
  #send(
    command: number,
    flags: number,
    cookie: number,
    offset: number,
    length: number,
    write: WriteRecord | null,
  ): void {
    const { view, bytes } = this.#arena;
    const room = Math.min(COMPOSE_BYTES_MAX, REQUEST_BYTES + (write === null ? 0 : length));
    const at = this.#stream.compose(room);
    view.setUint32(at, 0x25609513);
    view.setUint16(at + 4, flags);
    view.setUint16(at + 6, command);
    view.setUint32(at + 8, 0);
    view.setUint32(at + 12, cookie);
    view.setUint32(at + 16, 0);
    view.setUint32(at + 20, offset);
    view.setUint32(at + 24, length);
    if (write === null) return;
    // Sectors may lie over the end of a composed piece.
    let to = at + REQUEST_BYTES;
    let end = at + room;
    for (let i = 0; i < write.count; i++) {
      fillSector(sectorBuffer, 0, write.stamp, write.sector + i);
      for (let from = 0; from < SECTOR_BYTES; ) {
        if (to === end) {
          const left = (write.count - i) * SECTOR_BYTES - from;
          const piece = Math.min(COMPOSE_BYTES_MAX, left);
          to = this.#stream.compose(piece);
          end = to + piece;
        }
        const part = Math.min(SECTOR_BYTES - from, end - to);
        sectorBuffer.copy(bytes, to, from, from + part);
        from += part;
        to += part;
      }
    }
  }

  // StreamHandler

  received(at: number, end: number): number {
    let from = at;
    while (this.#phase !== "closed") {
      const used = this.#phase === "ready" ? this.#reply(from, end) : this.#handshake(from, end);
      if (used === 0) break;
      from += used;
    }
    return from - at;
  }
  filled(): void {}
  sent(): void {}
  drained(): void {}
  closed(): void {
    this.#phase = "closed";
    const left = [...this.#requests.values()];
    this.#requests.clear();
    for (const { read } of left) if (read !== null) this.#owner.model.forgetRead(read);
    this.#owner.gone(this, left.length);
  }

  #say(bytes: Buffer): void {
    this.#arena.bytes.set(bytes, this.#stream.compose(bytes.length));
  }
  #handshake(at: number, end: number): number {
    const { view } = this.#arena;
    if (this.#phase === "greeting") {
      if (end - at < 18) return 0;
      this.#say(u32(3));
      this.#phase = this.#structured ? "structured" : "go";
      if (this.#structured) this.#say(option(OPT.structured));
      else this.#say(option(OPT.go, infoData("", [3])));
      return 18;
    }
    if (end - at < 20) return 0;
    const type = view.getUint32(at + 12);
    const length = view.getUint32(at + 16);
    if (end - at < 20 + length) return 0;
    if (type === SHUTDOWN) this.drop();
    else if (type >= 0x80000000) this.#owner.failed(`option refused with ${type.toString(16)}`);
    if (type === 1 && this.#phase === "structured") {
      this.#phase = "go";
      this.#say(option(OPT.go, infoData("", [3])));
    } else if (type === 1) {
      this.#phase = "ready";
      this.#owner.ready(this);
    }
    return 20 + length;
  }

  #reply(at: number, end: number): number {
    const { view } = this.#arena;
    if (end - at < 16) return 0;
    const magic = view.getUint32(at);
    if (magic === SIMPLE_MAGIC) {
      const cookie = view.getUint32(at + 12);
      const request = this.#find(cookie);
      if (request === null) return 0;
      const error = view.getUint32(at + 4);
      const length = request.kind === "read" && error === 0 ? request.count * SECTOR_BYTES : 0;
      if (end - at < 16 + length) return 0;
      this.#answered(cookie, request, error, this.#arena.bytes, at + 16);
      return 16 + length;
    }
    if (magic !== CHUNK_MAGIC) {
      this.#owner.failed(`no reply begins with ${magic.toString(16)}`);
      this.drop();
      return 0;
    }
    if (end - at < 20) return 0;
    const length = view.getUint32(at + 16);
    if (end - at < 20 + length) return 0;
    this.#chunk(at, length);
    return 20 + length;
  }
  #chunk(at: number, length: number): void {
    const { view, bytes } = this.#arena;
    const isDone = (view.getUint16(at + 4) & 1) !== 0;
    const type = view.getUint16(at + 6);
    const cookie = view.getUint32(at + 12);
    const request = this.#find(cookie);
    if (request === null) return;
    const body = at + 20;
    let error = 0;
    if (type === CHUNK.error || type === CHUNK.errorOffset) error = view.getUint32(body);
    else if (type === CHUNK.data) {
      request.data ??= Buffer.alloc(request.count * SECTOR_BYTES, 0xee);
      const offset = view.getUint32(body + 4) - request.sector * SECTOR_BYTES;
      bytes.copy(request.data, offset, body + 8, body + length);
    } else if (type !== CHUNK.none) this.#owner.failed(`chunk of type ${type}`);
    if (isDone || error !== 0) this.#answered(cookie, request, error, request.data ?? bytes, 0);
  }
  #find(cookie: number): Request | null {
    const request = this.#requests.get(cookie);
    if (request !== undefined) return request;
    this.#owner.failed(`request ${cookie} was answered and is not under way`);
    this.drop();
    return null;
  }

  #answered(cookie: number, request: Request, error: number, bytes: Buffer, at: number): void {
    const { model } = this.#owner;
    this.#requests.delete(cookie);
    const { kind, sector, count, write, read } = request;
    this.#owner.trace.add("nbd", () => {
      const what = kind === "read" ? describe(request) : kind;
      return `${this.host.name} ${cookie}: ${what} answered${error === 0 ? "" : ` ${error}`}`;
    });
    if (error !== 0) {
      this.#owner.failed(`${kind} of ${sector}+${count} ended with error ${error}`);
      if (read !== null) model.forgetRead(read);
    } else if (kind === "read") {
      model.endRead(read!, (i) => {
        const stamp = sectorStamp(bytes, at + i * SECTOR_BYTES, sector + i);
        return stamp > 0 && !model.knows(stamp, sector + i) ? -1 : stamp;
      });
    } else if (write !== null) model.endWrite(write);
    else if (kind === "flush") model.endFlush(this.host.life, request.begun);
    if (error === 0 && (kind === "flush" || write?.stable === true)) this.#owner.promised();
    this.#owner.answered(this);
  }
}

function describe({ kind, sector, count, write }: Request): string {
  if (kind === "flush") return kind;
  const stamp = write === null || write.stamp === 0 ? "" : ` ${write.stamp}`;
  return `${kind}${stamp} ${sector}+${count}${write?.stable === true ? " fua" : ""}`;
}

const sectorBuffer = Buffer.alloc(SECTOR_BYTES);

invariant(REQUEST_BYTES < COMPOSE_BYTES_MAX, "a request fits into a composed message");
