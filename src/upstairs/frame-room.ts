import { COMPOSE_BYTES_MAX } from "../base/limits.js";
import type { Memory } from "../crucible/layout.js";
import type { Arena } from "../ports/arena.js";
import type { Stream } from "../ports/stream.js";

/**
 * Where a frame's own bytes are put. Frames with thousands of dependencies are larger than a stream hands out at once: those are
 * built aside and copied over in pieces.
 */
export class FrameRoom {
  readonly #arena: Arena;
  readonly #long = { bytes: Buffer.alloc(0), view: new DataView(new ArrayBuffer(0)) };
  #longBytes = 0;

  constructor(arena: Arena) {
    this.#arena = arena;
  }

  /** The address in `memory` where `bytes` bytes belong; then `leave`. */
  take(stream: Stream, bytes: number): number {
    this.#longBytes = bytes <= COMPOSE_BYTES_MAX ? 0 : bytes;
    if (this.#longBytes === 0) return stream.compose(bytes);
    const long = this.#long;
    if (long.bytes.length < bytes) {
      long.bytes = Buffer.alloc(bytes * 2);
      long.view = new DataView(long.bytes.buffer, long.bytes.byteOffset, long.bytes.length);
    }
    return 0;
  }
  get memory(): Memory {
    return this.#longBytes === 0 ? this.#arena : this.#long;
  }
  leave(stream: Stream): void {
    for (let done = 0; done < this.#longBytes; done += COMPOSE_BYTES_MAX) {
      const piece = Math.min(COMPOSE_BYTES_MAX, this.#longBytes - done);
      const at = stream.compose(piece);
      this.#long.bytes.copy(this.#arena.bytes, at, done, done + piece);
    }
    this.#longBytes = 0;
  }
}
