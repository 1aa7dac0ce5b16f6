import type { Arena } from "../ports/arena.js";
import { DeviceStatus } from "../ports/device.js";
import type { Stream } from "../ports/stream.js";
import {
  ALLOCATION_CONTEXT_ID,
  CHUNK,
  CHUNK_BYTES,
  CHUNK_DONE,
  CHUNK_MAGIC,
  ERROR_TEXT,
  NbdError,
  SIMPLE_REPLY_BYTES,
  SIMPLE_REPLY_MAGIC,
} from "./protocol.js";

const TWO_32 = 2 ** 32;
const ERROR_TEXT_BYTES = new Map(
  Object.entries(ERROR_TEXT).map(([error, text]) => [Number(error), Buffer.from(text)]),
);

/**
 * Lays replies into the stream. Nothing is allocated but in error chunks. Cookies come as the two u32
 * halves that the client sent.
 */
export class Replies {
  readonly #arena: Arena;
  readonly #stream: Stream;
  /** Structured replies were negotiated. */
  readonly structured: boolean;

  constructor(arena: Arena, stream: Stream, structured: boolean) {
    this.#arena = arena;
    this.#stream = stream;
    this.structured = structured;
  }

  /** 16 bytes; the data of a READ follows by the caller's `attach`. */
  simple(error: NbdError, cookieHigh: number, cookieLow: number): void {
    const { view } = this.#arena;
    const at = this.#stream.compose(SIMPLE_REPLY_BYTES);
    view.setUint32(at, SIMPLE_REPLY_MAGIC);
    view.setUint32(at + 4, error);
    view.setUint32(at + 8, cookieHigh);
    view.setUint32(at + 12, cookieLow);
  }

  /** The whole answer to a request that is not a successful READ or BLOCK_STATUS. */
  outcome(error: NbdError, cookieHigh: number, cookieLow: number): void {
    if (error === NbdError.none || !this.structured) this.simple(error, cookieHigh, cookieLow);
    else this.errorChunk(error, cookieHigh, cookieLow);
  }

  /** Head of an OFFSET_DATA chunk; `length` bytes of data follow by the caller's `attach`. */
  dataChunk(
    done: boolean,
    cookieHigh: number,
    cookieLow: number,
    offset: number,
    length: number,
  ): void {
    const flags = done ? CHUNK_DONE : 0;
    const at = this.#chunk(flags, CHUNK.offsetData, cookieHigh, cookieLow, 8 + length, 8);
    const { view } = this.#arena;
    view.setUint32(at, Math.floor(offset / TWO_32));
    view.setUint32(at + 4, offset % TWO_32);
  }

  errorChunk(error: NbdError, cookieHigh: number, cookieLow: number): void {
    const { bytes, view } = this.#arena;
    const text = ERROR_TEXT_BYTES.get(error)!;
    const length = 6 + text.length;
    const at = this.#chunk(CHUNK_DONE, CHUNK.error, cookieHigh, cookieLow, length, length);
    view.setUint32(at, error);
    view.setUint16(at + 4, text.length);
    bytes.set(text, at + 6);
  }

  /** base:allocation: one extent, "allocated, content unknown", which is always true. */
  allocation(cookieHigh: number, cookieLow: number, length: number): void {
    const { view } = this.#arena;
    const at = this.#chunk(CHUNK_DONE, CHUNK.blockStatus, cookieHigh, cookieLow, 12, 12);
    view.setUint32(at, ALLOCATION_CONTEXT_ID);
    view.setUint32(at + 4, length);
    view.setUint32(at + 8, 0);
  }

  /** Answers where the first `composed` of the chunk's `length` payload bytes go. */
  #chunk(
    flags: number,
    type: number,
    cookieHigh: number,
    cookieLow: number,
    length: number,
    composed: number,
  ): number {
    const { view } = this.#arena;
    const at = this.#stream.compose(CHUNK_BYTES + composed);
    view.setUint32(at, CHUNK_MAGIC);
    view.setUint16(at + 4, flags);
    view.setUint16(at + 6, type);
    view.setUint32(at + 8, cookieHigh);
    view.setUint32(at + 12, cookieLow);
    view.setUint32(at + 16, length);
    return at + CHUNK_BYTES;
  }
}

/** The NBD edge: the one place where a device's outcome becomes an error that may travel. */
export function errorOf(status: DeviceStatus): NbdError {
  switch (status) {
    case DeviceStatus.ok:
      return NbdError.none;
    case DeviceStatus.noSpace:
      return NbdError.noSpace;
    case DeviceStatus.readOnly:
      return NbdError.notPermitted;
    case DeviceStatus.invalid:
      return NbdError.invalid;
    case DeviceStatus.io:
    case DeviceStatus.shutdown:
      return NbdError.io;
  }
}
