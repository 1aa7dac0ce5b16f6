import { Fault } from "../base/fault.js";
import { invariant } from "../base/invariant.js";
import {
  BACKLOG_BYTES_MAX,
  COMPOSE_BYTES_MAX,
  END_MS_MAX,
  INBOX_BYTES,
  LINGER_MS_MAX,
} from "../base/limits.js";
import type { Detached, Stream, StreamHandler } from "../ports/stream.js";
import type { HostArena } from "./arena.js";
import type { Driver, SlotOwner, TurnClient } from "./driver.js";
import { describe } from "./errno.js";
import { Request } from "./native.js";
import { SendQueue } from "./send-queue.js";

type State = "open" | "ending" | "lingering" | "closing" | "closed";
/** Which memory native code has been given to receive into. */
type Armed = "nothing" | "inbox" | "direct";

/**
 * After a payload of at least so much, only so little is received into the inbox, where the beginning of the
 * next payload would have to be copied away again.
 */
const BULK_FROM_BYTES = INBOX_BYTES;
const BULK_BYTES = 4096;

/**
 * A connected socket as a Stream. Owns one slot of the native socket table, one inbox and the memory of
 * composed messages. It must never give memory back before native code has said that the slot is closed.
 *
 *   open ──end()──▶ ending ──queue empty──▶ lingering ──peer's end, error, time──▶ closing ──slotClosed──▶ closed
 *     ├──────────destroy(), peer's end, error (any state)───────────────────────────▲
 *     └──────────detach(): the connection goes on without us────────────────────────┘
 *
 * Ending sends the rest; lingering has sent our end and throws away what still comes, because closing a TCP
 * socket with unread data resets it and can destroy our last message on its way. When sending fails, we read
 * on for a moment: the peer may have said why before it left.
 */
export class SocketStream implements Stream, SlotOwner, TurnClient {
  readonly peer: string;
  readonly local: string;
  readonly #driver: Driver;
  readonly #arena: HostArena;
  readonly #slot: number;
  readonly #onClosed: (stream: SocketStream) => void;
  readonly #inbox: number;
  readonly #queue: SendQueue;
  #handler: StreamHandler | undefined;
  #state: State = "open";
  #fault: Fault | null = null;

  /** Bytes [head, tail) of the inbox are received and not consumed. */
  #head = 0;
  #tail = 0;
  #directFrom = 0;
  #directAt = 0;
  #directLeft = 0;
  /** Received by a predecessor: comes before what the socket has. */
  #first: Uint8Array | undefined;
  #armed: Armed = "nothing";
  /** A long payload has just been received: the next header is likely followed by another. */
  #bulk = false;
  #paused = false;
  #peerEnded = false;
  #presenting = false;
  #presentWanted = false;

  #sending = false;
  #sendFault: Fault | null = null;
  #overfull = false;
  #turnWanted = false;
  #timer: NodeJS.Timeout | undefined;

  /** Takes over the slot and `inbox`, INBOX_BYTES of stream memory. */
  constructor(
    driver: Driver,
    arena: HostArena,
    slot: number,
    inbox: number,
    onClosed: (stream: SocketStream) => void,
  ) {
    this.#driver = driver;
    this.#arena = arena;
    this.#slot = slot;
    this.#inbox = inbox;
    this.#onClosed = onClosed;
    this.#queue = new SendQueue(arena);
    this.peer = driver.native.peer(slot);
    this.local = driver.native.local(slot);
    driver.own(slot, this);
  }

  // ---- What handlers call ----

  get queuedBytes(): number {
    return this.#queue.bytes;
  }
  start(handler: StreamHandler): void {
    invariant(this.#handler === undefined, "a stream is started once");
    this.#handler = handler;
    this.#wantTurn();
  }
  compose(length: number): number {
    invariant(length > 0 && length <= COMPOSE_BYTES_MAX, "a composed message is small");
    if (this.#state === "closed") return this.#queue.scratch();
    const at = this.#queue.compose(length);
    if (at < 0) {
      // Only when thousands of streams are full at once: this one is given up, the process is not.
      this.#close(new Fault("TRIVET_E_MEMORY", `no room to answer ${this.peer}`));
      return this.#queue.scratch();
    }
    this.#pushed();
    return at;
  }
  attach(at: number, length: number, tag: number): void {
    invariant(length > 0, "what is attached has a length");
    if (this.#state === "closed") {
      if (tag >= 0) queueMicrotask(() => this.#handler?.sent(tag));
      return;
    }
    this.#queue.attach(at, length, tag);
    this.#pushed();
  }
  receiveInto(at: number, length: number): void {
    invariant(this.#directLeft === 0, "one receiveInto at a time");
    invariant(length > 0, "receiveInto has a length");
    this.#directFrom = at;
    this.#directAt = at;
    this.#directLeft = length;
    if (!this.#presenting) this.#wantPresent();
  }
  pause(): void {
    this.#paused = true;
    if (this.#sendFault !== null) this.#wantTurn();
  }
  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    if (!this.#presenting) this.#wantPresent();
  }
  end(): void {
    if (this.#state !== "open") return;
    this.#state = "ending";
    this.#setTimer(END_MS_MAX, () =>
      this.#close(new Fault("TRIVET_E_TIMEOUT", `${this.peer} does not read what it is sent`)),
    );
    this.#wantTurn();
  }
  destroy(): void {
    this.#close(null);
  }
  unread(bytes: Uint8Array): void {
    invariant(this.#handler === undefined, "what comes first is known before anything comes");
    if (bytes.length > 0) this.#first = bytes;
  }
  detach(): Detached | null {
    if (this.#state !== "open" || this.#sendFault !== null) return null;
    const [descriptor, got] = this.#driver.native.detach(this.#slot);
    if (descriptor < 0) return null;
    const { bytes } = this.#arena;
    const parts: Uint8Array[] = [];
    if (this.#directLeft > 0) parts.push(bytes.subarray(this.#directFrom, this.#directAt + got));
    parts.push(bytes.subarray(this.#inbox + this.#head, this.#inbox + this.#tail));
    if (this.#first !== undefined) parts.push(this.#first);
    const detached = { descriptor, received: Buffer.concat(parts), unsent: this.#queue.copy() };
    this.#closing(null);
    return detached;
  }

  // ---- Receiving ----

  slotReceived(result: number): void {
    const armed = this.#armed;
    this.#armed = "nothing";
    if (this.#state === "closing") return;
    if (this.#state !== "open") {
      // What comes after end() is thrown away, until the peer ends as well.
      this.#head = this.#tail = 0;
      if (result > 0) this.#wantTurn();
      else if (this.#state === "lingering") this.#close(null);
      else if (result === 0) this.#peerEnded = true;
      else this.#close(this.#sendFault ?? this.#broken(result, "receiving from"));
      return;
    }
    if (result < 0) {
      this.#close(this.#sendFault ?? this.#broken(result, "receiving from"));
      return;
    }
    if (result === 0) this.#peerEnded = true;
    else if (armed === "direct") {
      this.#directAt += result;
      this.#directLeft -= result;
      this.#bulk = result >= BULK_FROM_BYTES;
      if (this.#directLeft === 0) this.#filled();
    } else {
      this.#tail += result;
      this.#bulk = false;
    }
    this.#present();
    this.#wantTurn();
  }

  /** Hands out what lies in the inbox: to the direct range first, then to the handler until it wants no more. */
  #present(): void {
    const handler = this.#handler;
    if (handler === undefined || this.#presenting) return;
    this.#presenting = true;
    const inbox = this.#inbox;
    while (this.#state === "open" && this.#tail > this.#head) {
      if (this.#directLeft > 0) {
        const count = Math.min(this.#directLeft, this.#tail - this.#head);
        const from = inbox + this.#head;
        this.#arena.bytes.copyWithin(this.#directAt, from, from + count);
        this.#head += count;
        this.#directAt += count;
        this.#directLeft -= count;
        if (this.#directLeft === 0) handler.filled();
        continue;
      }
      if (this.#paused) break;
      const held = this.#tail - this.#head;
      const used = handler.received(inbox + this.#head, inbox + this.#tail);
      invariant(used >= 0 && used <= held, "a handler consumes what it was given");
      this.#head += used;
      if (used === 0 && this.#directLeft === 0 && !this.#paused) {
        invariant(held < INBOX_BYTES, "a full inbox is consumed from");
        break;
      }
    }
    this.#presenting = false;
    if (this.#peerEnded && !this.#paused && this.#state === "open") this.#peerHasEnded();
  }

  /** The peer sends no more. What it is still owed and queued already leaves first; half-open is not supported. */
  #peerHasEnded(): void {
    if (this.#sendFault !== null || this.#queue.bytes === 0) this.#close(this.#sendFault);
    else this.end();
  }

  /** Hands out what a predecessor had received, as if it came now. */
  #presentFirst(): void {
    for (;;) {
      const rest = this.#first;
      if (rest === undefined || this.#state !== "open") return;
      const isDirect = this.#directLeft > 0;
      if (!isDirect && this.#paused) return;
      if (isDirect && this.#tail > this.#head) {
        this.#present();
        continue;
      }
      if (!isDirect && this.#head > 0) this.#moveUp();
      const room = isDirect ? this.#directLeft : INBOX_BYTES - this.#tail;
      const count = Math.min(room, rest.length);
      const to = isDirect ? this.#directAt : this.#inbox + this.#tail;
      this.#arena.bytes.set(rest.subarray(0, count), to);
      this.#first = count < rest.length ? rest.subarray(count) : undefined;
      if (isDirect) {
        this.#directAt += count;
        this.#directLeft -= count;
        if (this.#directLeft === 0) this.#filled();
      } else this.#tail += count;
      this.#present();
    }
  }
  #filled(): void {
    this.#presenting = true;
    this.#handler!.filled();
    this.#presenting = false;
  }
  /** What was not consumed goes to the beginning of the inbox. Only while native code has no address inside. */
  #moveUp(): void {
    const from = this.#inbox + this.#head;
    this.#arena.bytes.copyWithin(this.#inbox, from, this.#inbox + this.#tail);
    this.#tail -= this.#head;
    this.#head = 0;
  }

  #arm(): boolean {
    if (this.#first !== undefined && this.#state === "open") return true;
    if (this.#armed !== "nothing" || this.#peerEnded || this.#handler === undefined) return true;
    if (!this.#driver.roomForRow) return false;
    if (this.#state === "open" && this.#directLeft > 0) {
      this.#armed = "direct";
      this.#driver.row(Request.receiveAll, this.#slot, this.#directAt, this.#directLeft);
      return true;
    }
    if (this.#state === "open" && this.#paused) return true;
    // Moving is safe only now, while native code has no address inside.
    if (this.#head === this.#tail) this.#head = this.#tail = 0;
    else if (this.#tail > INBOX_BYTES / 2 && this.#head > 0) this.#moveUp();
    let room = INBOX_BYTES - this.#tail;
    if (room === 0) return true;
    if (this.#bulk) room = Math.min(room, BULK_BYTES);
    this.#armed = "inbox";
    this.#driver.row(Request.receive, this.#slot, this.#inbox + this.#tail, room);
    return true;
  }

  // ---- Sending ----

  #pushed(): void {
    if (this.#queue.bytes > BACKLOG_BYTES_MAX) this.#overfull = true;
    if (!this.#sending) this.#wantTurn();
  }

  slotSent(result: number): void {
    this.#sending = false;
    if (this.#state === "closing") return;
    if (result < 0) {
      // What is queued stays until the slot is closed: `sent` follows then.
      this.#sendFault = this.#broken(result, "sending to");
      this.#setTimer(LINGER_MS_MAX, () => this.#close(this.#sendFault));
      this.#wantTurn();
      return;
    }
    this.#queue.advance(result, this.#handler);
    if (this.#overfull && this.#queue.bytes <= BACKLOG_BYTES_MAX / 2) {
      this.#overfull = false;
      if (this.#isLive) this.#handler?.drained();
    }
    if (this.#queue.bytes > 0 || this.#state === "ending") this.#wantTurn();
  }
  // ---- The turn ----

  #wantTurn(): void {
    if (this.#turnWanted) return;
    this.#turnWanted = true;
    this.#driver.wantTurn(this);
  }
  #wantPresent(): void {
    this.#presentWanted = true;
    this.#wantTurn();
  }
  turn(): void {
    this.#turnWanted = false;
    if (this.#presentWanted) {
      this.#presentWanted = false;
      this.#present();
    }
    if (this.#first !== undefined && this.#handler !== undefined) this.#presentFirst();
    if (this.#sendFault !== null && (this.#paused || this.#state !== "open"))
      this.#close(this.#sendFault);
    if (this.#state === "ending" && this.#queue.bytes === 0 && !this.#sending) {
      if (this.#peerEnded) this.#close(null);
      else {
        this.#state = "lingering";
        this.#driver.native.shutDown(this.#slot);
        this.#setTimer(LINGER_MS_MAX, () => this.#close(null));
      }
    }
  }
  stage(): boolean {
    if (!this.#isLive) return true;
    if (!this.#arm()) return false;
    if (this.#sending || this.#queue.bytes === 0 || this.#sendFault !== null) return true;
    if (!this.#queue.stage(this.#driver, this.#slot)) return false;
    this.#sending = true;
    return true;
  }

  // ---- The end ----

  #close(fault: Fault | null): void {
    if (!this.#isLive) return;
    this.#driver.native.closeSlot(this.#slot);
    this.#closing(fault);
  }
  /** Native code has let go of the socket, and says when it has of the memory. */
  #closing(fault: Fault | null): void {
    this.#state = "closing";
    this.#fault = fault;
    clearTimeout(this.#timer);
    this.#driver.poke();
  }
  slotClosed(): void {
    this.#state = "closed";
    this.#queue.close(this.#handler);
    this.#arena.freeOfStream(this.#inbox);
    this.#onClosed(this);
    // After the notices for whatever a handler attached while being told that the rest is done with.
    queueMicrotask(() => this.#handler?.closed(this.#fault));
  }
  get #isLive(): boolean {
    return this.#state !== "closing" && this.#state !== "closed";
  }
  slotConnected(): void {
    invariant(false, "a stream is connected already");
  }
  slotAccepted(): void {
    invariant(false, "a stream accepts nobody");
  }
  #broken(result: number, doing: string): Fault {
    const detail = `${doing} ${this.peer || "a peer"} failed: ${describe(result)}`;
    return new Fault("TRIVET_E_CONNECTION", detail, { errno: result });
  }
  #setTimer(delayMs: number, run: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(run, delayMs);
  }
}
