import { Fault } from "../base/fault.js";
import { BACKLOG_BYTES_MAX, COMPOSE_BYTES_MAX, NBD_HANDSHAKE_MS_MAX } from "../base/limits.js";
import type { Arena } from "../ports/arena.js";
import type { Clock } from "../ports/clock.js";
import type { Notes } from "../ports/notes.js";
import type { Cancel, Stream, StreamHandler } from "../ports/stream.js";
import { type Agreement, Handshake, type HandshakeSetting } from "./handshake.js";
import type { SessionState } from "./session.js";
import { Count } from "./statistics.js";
import { Transmission, type TransmissionOwner, type TransmissionSetting } from "./transmission.js";

// One client's connection: the stream's handler. It owns the order of the phases and the end.
//
//   handshake ──► transmission ──► closed ──► retired
//        └──────────────────────────┘
//
// The handshake may have been held by another process; then it begins with transmission. It may be left to another one in the middle of that.
//
// Bytes left over when a phase changes belong to the next one and are looked at in the same turn.

export interface ConnectionPorts {
  readonly arena: Arena;
  readonly clock: Clock;
  readonly notes: Notes;
}

export interface ConnectionSetting extends HandshakeSetting, TransmissionSetting {}

/** A client that was let go, for somebody to go on with. */
export interface LeftSession {
  readonly descriptor: number;
  readonly state: SessionState;
}

export interface ConnectionOwner {
  /** Its first request is here. False: something is left of connections that it succeeds, so it waits. */
  mayBegin(connection: Connection): boolean;
  retired(connection: Connection): void;
}

export class Connection implements StreamHandler, TransmissionOwner {
  readonly #ports: ConnectionPorts;
  readonly #stream: Stream;
  readonly #setting: ConnectionSetting;
  readonly #owner: ConnectionOwner;
  readonly #handshake: Handshake;
  #deadline: Cancel | undefined;
  #transmission: Transmission | undefined;
  #agreement: Agreement | undefined;
  #exportName = "";
  #left = false;
  #isWaiting = false;
  #paused = false;
  #failed = false;

  constructor(
    ports: ConnectionPorts,
    stream: Stream,
    setting: ConnectionSetting,
    owner: ConnectionOwner,
  ) {
    this.#ports = ports;
    this.#stream = stream;
    this.#setting = setting;
    this.#owner = owner;
    this.#handshake = new Handshake(ports.arena, stream, setting);
  }

  get isNegotiating(): boolean {
    return this.#transmission === undefined && !this.#failed;
  }
  get peer(): string {
    return this.#stream.peer;
  }
  get exportName(): string {
    return this.#exportName;
  }
  get requestsInFlight(): number {
    return this.#transmission?.requestsInFlight ?? 0;
  }

  start(): void {
    this.#deadline = this.#ports.clock.after(NBD_HANDSHAKE_MS_MAX, () =>
      this.fail(
        new Fault(
          "TRIVET_E_NBD_TIMEOUT",
          `${this.#stream.peer} was still in its handshake after ${NBD_HANDSHAKE_MS_MAX / 1000} s`,
        ),
      ),
    );
    this.#stream.start(this);
    this.#handshake.greet();
  }

  /** Instead of `start`: the client agreed on that with a predecessor, who left it in this state. */
  goOn(agreement: Agreement, { received, unsent }: SessionState): void {
    const stream = this.#stream;
    stream.unread(received);
    stream.start(this);
    for (let from = 0; from < unsent.length; from += COMPOSE_BYTES_MAX) {
      const piece = unsent.subarray(from, from + COMPOSE_BYTES_MAX);
      this.#ports.arena.bytes.set(piece, stream.compose(piece.length));
    }
    this.#enterTransmission(agreement);
  }
  park(): void {
    this.#transmission?.park();
  }
  /** Nothing is under way. Whoever negotiates can wait for ever. */
  get isQuiet(): boolean {
    return this.#failed || (this.#transmission?.isQuiet ?? true);
  }
  /** Lets go of the client; null: that cannot be, and it has to be cut. Never to be called from within a call of the stream or the device. */
  leave(): LeftSession | null {
    const agreement = this.#agreement;
    const detached = this.#failed ? null : this.#transmission?.leave();
    if (agreement === undefined || !detached) return null;
    this.#left = true;
    const { target, structured, allocation, attachment } = agreement;
    const { descriptor, received, unsent } = detached;
    return {
      descriptor,
      state: {
        exportName: target.name,
        sizeBytes: target.device.sizeBytes,
        minimumBytes: target.minimumBytes,
        payloadBytesMax: this.#setting.payloadBytesMax,
        offers: target.offers(structured),
        structured,
        allocation,
        attachment,
        received,
        unsent,
      },
    };
  }

  received(at: number, end: number): number {
    if (this.#transmission !== undefined) return this.#transmission.received(at, end);
    return this.#negotiate(at, end);
  }
  filled(): void {
    this.#transmission?.filled();
  }
  sent(tag: number): void {
    this.#transmission?.sent(tag);
  }
  drained(): void {
    if (this.#paused) {
      this.#paused = false;
      this.#stream.resume();
    }
    this.#transmission?.drained();
  }
  closed(fault: Fault | null): void {
    this.#deadline?.cancel();
    const fields = { peer: this.#stream.peer, export: this.#exportName };
    if (this.#transmission === undefined) {
      this.retired();
      return;
    }
    if (this.#left)
      this.#ports.notes(
        "debug",
        "nbd.left",
        `${this.#stream.peer} is left to the successor`,
        fields,
      );
    else if (fault !== null && !this.#failed)
      this.#ports.notes("info", "nbd.lost", `${this.#stream.peer}: ${fault.message}`, fields);
    else this.#ports.notes("info", "nbd.closed", `${this.#stream.peer} has left`, fields);
    this.#transmission.closed();
  }

  fail(fault: Fault): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#setting.statistics.counts[Count.protocolFaults]! += 1;
    this.#ports.notes("warn", "nbd.fault", fault.line, { peer: this.#stream.peer });
    this.#transmission?.mute();
    this.#stream.destroy();
  }
  retired(): void {
    this.#owner.retired(this);
  }

  /** Whether both are of the same attachment, which has one connection at a time. */
  isOfSameAs(other: Connection): boolean {
    const [ours, theirs] = [this.#agreement, other.#agreement];
    if (ours === undefined || theirs === undefined) return false;
    return ours.attachment === theirs.attachment && ours.target === theirs.target;
  }
  /** Its client goes on with `next`: nothing that it sent and that the device does not have is done any more. */
  makeWayFor(next: Connection): void {
    if (this.#failed) return;
    this.#ports.notes(
      "info",
      "nbd.succeeded",
      `${this.#stream.peer} is let go: its client goes on as ${next.peer}`,
      { peer: this.#stream.peer, export: this.#exportName },
    );
    this.cut();
  }
  mayBegin(): boolean {
    const may = this.#owner.mayBegin(this);
    this.#isWaiting = !may;
    return may;
  }
  /** Something was waited for, and perhaps nothing of it is left. */
  lookAgain(): void {
    if (this.#isWaiting && this.mayBegin()) this.#transmission!.begin();
  }

  /** The server stops: answers what is under way and ends. In a handshake the client is told when it asks. */
  finishUp(): void {
    this.#transmission?.finishUp();
  }
  /** Closes without a word. */
  cut(): void {
    this.#failed = true;
    this.#transmission?.mute();
    this.#stream.destroy();
  }

  #negotiate(at: number, end: number): number {
    if (this.#failed) return end - at;
    const handshake = this.#handshake;
    let from = at;
    try {
      while (handshake.outcome === "haggling") {
        if (this.#stream.queuedBytes > BACKLOG_BYTES_MAX) {
          this.#paused = true;
          this.#stream.pause();
          return from - at;
        }
        const used = handshake.step(from, end);
        if (used === 0) return from - at;
        from += used;
      }
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.fail(error);
      return end - at;
    }
    if (handshake.outcome === "ended") {
      this.#stream.end();
      return end - at;
    }
    this.#enterTransmission(handshake.agreement!);
    return from - at + this.#transmission!.received(from, end);
  }

  #enterTransmission(agreement: Agreement): void {
    this.#deadline?.cancel();
    this.#agreement = agreement;
    this.#exportName = agreement.target.name;
    this.#transmission = new Transmission(
      this.#ports.arena,
      this.#stream,
      agreement,
      this.#setting,
      this,
    );
    this.#setting.statistics.counts[Count.negotiated]! += 1;
    this.#ports.notes(
      "info",
      "nbd.opened",
      `${this.#stream.peer} uses ${this.#exportName === "" ? "the default export" : this.#exportName}`,
      {
        peer: this.#stream.peer,
        export: this.#exportName,
        structured: agreement.structured,
      },
    );
    if (this.#setting.stopping) this.#transmission.finishUp();
  }
}
