import type { Fault } from "../../base/fault.js";
import { invariant } from "../../base/invariant.js";
import type { Detached, Stream, StreamHandler } from "../../ports/stream.js";

/**
 * A stream that was accepted before anybody could serve it. It takes nothing from the peer, and is handed
 * over later as if it had just been accepted.
 *
 *   held ──start(handler)──▶ passed on
 *     └──(peer leaves)──▶ gone: `onGone` is called, and it must not be started
 */
export class HeldStream implements Stream, StreamHandler {
  readonly #stream: Stream;
  readonly #onGone: () => void;
  #handler: StreamHandler | undefined;

  constructor(stream: Stream, onGone: () => void) {
    this.#stream = stream;
    this.#onGone = onGone;
    stream.start(this);
  }

  get peer(): string {
    return this.#stream.peer;
  }
  get local(): string {
    return this.#stream.local;
  }
  get queuedBytes(): number {
    return this.#stream.queuedBytes;
  }
  start(handler: StreamHandler): void {
    invariant(this.#handler === undefined, "a stream is started once");
    this.#handler = handler;
    this.#stream.resume();
  }
  compose(length: number): number {
    return this.#stream.compose(length);
  }
  attach(at: number, length: number, tag: number): void {
    this.#stream.attach(at, length, tag);
  }
  receiveInto(at: number, length: number): void {
    this.#stream.receiveInto(at, length);
  }
  pause(): void {
    this.#stream.pause();
  }
  resume(): void {
    this.#stream.resume();
  }
  end(): void {
    this.#stream.end();
  }
  destroy(): void {
    this.#stream.destroy();
  }
  detach(): Detached | null {
    return this.#stream.detach();
  }
  unread(bytes: Uint8Array): void {
    this.#stream.unread(bytes);
  }

  received(at: number, end: number): number {
    if (this.#handler !== undefined) return this.#handler.received(at, end);
    this.#stream.pause();
    return 0;
  }
  filled(): void {
    this.#handler?.filled();
  }
  sent(tag: number): void {
    this.#handler?.sent(tag);
  }
  drained(): void {
    this.#handler?.drained();
  }
  closed(fault: Fault | null): void {
    if (this.#handler === undefined) this.#onGone();
    else this.#handler.closed(fault);
  }
}
