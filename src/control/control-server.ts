import { Fault } from "../base/fault.js";
import {
  COMPOSE_BYTES_MAX,
  CONTROL_BACKLOG_BYTES_MAX,
  CONTROL_CLIENTS_MAX,
} from "../base/limits.js";
import type { Arena } from "../ports/arena.js";
import type { Notes } from "../ports/notes.js";
import type { Stream, StreamHandler } from "../ports/stream.js";
import { cutFrame, makeFrame } from "./frames.js";
import { ANSWER_LIMITS, makeAnswer, REQUEST_LIMITS, readRequest } from "./protocol.js";
import { handle, type VolumeControl } from "./volume-control.js";

// The clients of a control socket. Each connection is a queue of requests answered in order; bad bytes end that connection and
// nothing else.
//
//   accepted ──► request ──► answer ──► request … ──► closed by the client, by bad bytes, or because it does not read

export class ControlServer {
  readonly #arena: Arena;
  readonly #notes: Notes;
  readonly #volume: VolumeControl;
  /** In order of arrival. */
  readonly #sessions = new Set<Session>();
  badConnections = 0;

  constructor(arena: Arena, notes: Notes, volume: VolumeControl) {
    this.#arena = arena;
    this.#notes = notes;
    this.#volume = volume;
  }

  get clients(): number {
    return this.#sessions.size;
  }

  /** Too many: the oldest makes room, so that forgotten ones lock nobody out. */
  accept(stream: Stream): void {
    if (this.#sessions.size >= CONTROL_CLIENTS_MAX) {
      const [oldest] = this.#sessions;
      oldest?.destroy();
    }
    const session = new Session(stream, this.#arena, this.#volume, (fault) => {
      this.#sessions.delete(session);
      if (fault !== null) this.#bad(stream.peer, fault);
    });
    this.#sessions.add(session);
    stream.start(session);
  }

  close(): void {
    for (const session of [...this.#sessions]) session.destroy();
  }

  #bad(peer: string, fault: Fault): void {
    this.badConnections += 1;
    const level = this.badConnections === 1 ? "warn" : "debug";
    this.#notes(
      level,
      "control.bad",
      `a client of the control socket was cut off: ${fault.message}`,
      {
        peer,
      },
    );
  }
}

class Session implements StreamHandler {
  readonly #stream: Stream;
  readonly #arena: Arena;
  readonly #volume: VolumeControl;
  readonly #ended: (fault: Fault | null) => void;
  #isOpen = true;

  constructor(
    stream: Stream,
    arena: Arena,
    volume: VolumeControl,
    ended: (fault: Fault | null) => void,
  ) {
    this.#stream = stream;
    this.#arena = arena;
    this.#volume = volume;
    this.#ended = ended;
  }

  destroy(): void {
    this.#end(null);
  }
  #end(fault: Fault | null): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#stream.destroy();
    this.#ended(fault);
  }

  received(at: number, end: number): number {
    let from = at;
    try {
      while (this.#isOpen) {
        const { usedBytes, value } = cutFrame(
          this.#arena.bytes.subarray(from, end),
          REQUEST_LIMITS,
        );
        if (usedBytes === 0) break;
        from += usedBytes;
        this.#answer(value);
      }
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      const head = this.#arena.bytes.subarray(from, Math.min(end, from + 16)).toString("hex");
      this.#end(new Fault(error.code, `${error.message}; it began with ${head}`));
    }
    return this.#isOpen ? from - at : end - at;
  }

  #answer(value: unknown): void {
    const request = readRequest(value);
    const outcome = "fault" in request ? request.fault : handle(request.command, this.#volume);
    const frame = makeFrame(makeAnswer(request.id, outcome), ANSWER_LIMITS);
    for (let from = 0; from < frame.length; from += COMPOSE_BYTES_MAX) {
      const piece = frame.subarray(from, from + COMPOSE_BYTES_MAX);
      this.#arena.bytes.set(piece, this.#stream.compose(piece.length));
    }
    if (this.#stream.queuedBytes > CONTROL_BACKLOG_BYTES_MAX)
      this.#end(new Fault("TRIVET_E_CONTROL", "it asks and does not take the answers"));
  }

  filled(): void {}
  sent(): void {}
  drained(): void {}
  closed(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#ended(null);
  }
}
