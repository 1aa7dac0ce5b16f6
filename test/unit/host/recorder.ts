import type { Fault } from "../../../src/base/fault.js";
import { invariant } from "../../../src/base/invariant.js";
import type { Arena } from "../../../src/ports/arena.js";
import type { Stream, StreamHandler } from "../../../src/ports/stream.js";

/**
 * A handler that writes down everything it is told and holds the stream to its contract: nothing after
 * `closed`, no tag twice, no call from within its own calls. What it consumes is decided by `onReceived`.
 */
export class Recorder implements StreamHandler {
  readonly stream: Stream;
  readonly arena: Arena;
  receivedBytes = 0;
  readonly #pieces: Buffer[] = [];
  readonly sentTags: number[] = [];
  calls: string[] = [];
  fills = 0;
  drains = 0;
  ends: (Fault | null)[] = [];
  onReceived: (bytes: Buffer, recorder: Recorder) => number = (bytes) => bytes.length;
  onFilled: () => void = () => {};
  onSent: (tag: number) => void = () => {};
  #busy = false;

  constructor(stream: Stream, arena: Arena) {
    this.stream = stream;
    this.arena = arena;
    this.quietly(() => stream.start(this));
  }
  /** Runs calls on the stream during which it must not call back. */
  quietly<T>(run: () => T): T {
    const before = this.#busy;
    this.#busy = true;
    try {
      return run();
    } finally {
      this.#busy = before;
    }
  }
  compose(bytes: Buffer): void {
    this.quietly(() => bytes.copy(this.arena.bytes, this.stream.compose(bytes.length)));
  }
  attach(at: number, length: number, tag: number): void {
    this.quietly(() => this.stream.attach(at, length, tag));
  }
  get isClosed(): boolean {
    return this.ends.length > 0;
  }

  get allReceived(): Buffer {
    return Buffer.concat(this.#pieces);
  }
  received(at: number, end: number): number {
    this.#enter("received");
    invariant(end > at, "something is presented");
    const bytes = this.arena.bytes.subarray(at, end);
    const used = this.quietly(() => this.onReceived(bytes, this));
    this.receivedBytes += used;
    this.#pieces.push(Buffer.from(bytes.subarray(0, used)));
    return used;
  }
  filled(): void {
    this.#enter("filled");
    this.fills += 1;
    this.quietly(() => this.onFilled());
  }
  sent(tag: number): void {
    this.#enter("sent");
    invariant(!this.sentTags.includes(tag), `tag ${tag} is sent once`);
    this.sentTags.push(tag);
    this.quietly(() => this.onSent(tag));
  }
  drained(): void {
    this.#enter("drained");
    this.drains += 1;
  }
  closed(fault: Fault | null): void {
    this.#enter("closed");
    this.ends.push(fault);
  }
  #enter(name: string): void {
    invariant(!this.#busy, `${name} is not called from within a call`);
    invariant(this.ends.length === 0, `${name} does not come after closed`);
    this.calls.push(name);
  }
}
