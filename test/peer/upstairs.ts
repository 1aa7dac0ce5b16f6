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
