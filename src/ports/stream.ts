import type { Fault } from "../base/fault.js";

/**
 * A connected byte stream (TCP, unix socket, TLS, or a simulated link) whose data lies in the arena.
 *
 * Receiving. The stream owns an inbox of INBOX_BYTES. Whenever bytes arrived it calls
 * `handler.received(at, end)`: bytes [at, end) are received and not consumed. The handler returns how
 * many it consumed, and gets the rest again, contiguous, together with what came after. It may move on
 * to known-length data by calling `receiveInto` before it returns: the `length` bytes that follow the
 * consumed ones go to `at` (those already here are copied, the rest is received straight there), then
 * `handler.filled()` is called. A handler that cannot go on calls `pause` and returns what it consumed.
 * Consuming nothing of a full inbox without `pause` or `receiveInto` is a broken invariant: check lengths first.
 *
 * Sending. `compose` and `attach` queue in call order; everything queued during one turn of the loop
 * leaves together. There is no back-pressure by refusal: watch `queuedBytes` and stop reading.
 */
export interface Stream {
  /** For messages: "127.0.0.1:3810", "unix:pid 812". */
  readonly peer: string;
  /** Address on our side in the same form; "" where there is none. */
  readonly local: string;
  /** Called once, in the turn in which the stream was handed over. */
  start(handler: StreamHandler): void;
  /** Queues `length` ≤ COMPOSE_BYTES_MAX bytes and says where the caller writes them, now. */
  compose(length: number): number;
  /**
   * Queues arena memory by reference. It must not change until `handler.sent(tag)`, which comes
   * exactly once for each tag ≥ 0, also when the stream is closed. Tag −1: no notice (static memory).
   */
  attach(at: number, length: number, tag: number): void;
  /** Bytes queued and not taken by the kernel yet. */
  readonly queuedBytes: number;
  receiveInto(at: number, length: number): void;
  pause(): void;
  /** Presents what is in the inbox again (in this turn or the next), then goes on receiving. */
  resume(): void;
  /** Sends what is queued, then closes. Nothing is received any more. */
  end(): void;
  /** Closes now; what is queued is dropped. `closed` is called in this turn or the next. */
  destroy(): void;

  /**
   * Lets go of the connection without closing it, so that another process can go on with it. To the handler it is like `destroy`. Null: it is
   * ending or broken already. Never to be called from within a call of the stream.
   */
  detach(): Detached | null;
  /** Before `start`: bytes that come before everything that is received from now on. */
  unread(bytes: Uint8Array): void;
}

/** A connection that belongs to nobody. */
export interface Detached {
  readonly descriptor: number;
  /** Received and not consumed: of a `receiveInto` in progress first, then what follows it. */
  readonly received: Uint8Array;
  /** Queued, and not taken by the kernel. */
  readonly unsent: Uint8Array;
}

export interface StreamHandler {
  received(at: number, end: number): number;
  /** The range given to `receiveInto` is full. */
  filled(): void;
  sent(tag: number): void;
  /** `queuedBytes` has fallen to half of BACKLOG_BYTES_MAX after it was above the whole. */
  drained(): void;
  /**
   * Exactly once, last of all calls, after `sent` for every outstanding tag. Null: the peer closed
   * in an orderly way, or we did. Memory of a `receiveInto` in progress is the handler's again.
   */
  closed(fault: Fault | null): void;
}

export interface Address {
  readonly host: string;
  readonly port: number;
}

export interface Dialer {
  /** Connects; `then` is called exactly once, never before `dial` returns, unless cancelled before. */
  dial(address: Address, timeoutMs: number, then: DialResult): Cancel;
}
export type DialResult = (fault: Fault | null, stream: Stream | null) => void;
export interface Cancel {
  cancel(): void;
}
