import { Fault } from "../base/fault.js";
import { invariant } from "../base/invariant.js";
import {
  NBD_CONNECTIONS_MAX,
  NBD_HANDSHAKES_MAX,
  NBD_PARK_LOOK_MS,
  NBD_PAYLOAD_BYTES_MAX,
  NBD_READ_BYTES_MAX,
  NBD_STOP_HANDSHAKE_MS,
  NBD_STOP_MS_MAX,
  PIECE_BYTES_MAX,
} from "../base/limits.js";
import type { Cancel, Stream, StreamHandler } from "../ports/stream.js";
import {
  Connection,
  type ConnectionOwner,
  type ConnectionPorts,
  type ConnectionSetting,
  type LeftSession,
} from "./connection.js";
import { type ExportOptions, ExportTable, NbdExport } from "./export.js";
import { OFFERS } from "./protocol.js";
import { ReadBudget } from "./read-budget.js";
import type { SessionState } from "./session.js";
import { Count, type CountName, Statistics } from "./statistics.js";

// The NBD server over streams that somebody else accepts.
//
//   serving ──stop()──► stopping ──last connection retired──► stopped
//      └─────park()───► parked ──leave()──► without clients, who go on elsewhere

export interface NbdServerOptions {
  /** The first one is the default: clients get it for the empty name. */
  readonly exports: readonly ExportOptions[];
  /** Give the default export for names that do not exist, too. */
  readonly anyName?: boolean;
  /**
   * Memory that READs of all connections may keep together, from asking the device until the client took
   * the data. Default: a quarter of the arena, at most NBD_READ_BYTES_MAX. The largest payload announced
   * follows from it.
   */
  readonly readBytesMax?: number;
  readonly connectionsMax?: number;
}

export interface ClientRow {
  readonly peer: string;
  /** Empty while the handshake lasts. */
  readonly export: string;
  readonly requestsInFlight: number;
}

export class NbdServer implements ConnectionOwner {
  readonly #ports: ConnectionPorts;
  readonly #setting: ConnectionSetting & { stopping: boolean };
  readonly #connectionsMax: number;
  /** In order of arrival. */
  readonly #connections = new Set<Connection>();
  #whenStopped: (() => void) | undefined;
  #deadlines: Cancel[] = [];

  constructor(ports: ConnectionPorts, options: NbdServerOptions) {
    const quarter = Math.floor(ports.arena.sizeBytes / 4);
    const readBytesMax = options.readBytesMax ?? Math.min(NBD_READ_BYTES_MAX, quarter);
    const payloadBytesMax = Math.min(
      NBD_PAYLOAD_BYTES_MAX,
      2 ** Math.floor(Math.log2(readBytesMax)),
    );
    invariant(
      payloadBytesMax >= PIECE_BYTES_MAX,
      "there is memory for reads of at least one piece",
    );
    this.#ports = ports;
    this.#connectionsMax = options.connectionsMax ?? NBD_CONNECTIONS_MAX;
    this.#setting = {
      exports: new ExportTable(
        options.exports.map((one) => new NbdExport(one)),
        options.anyName,
      ),
      payloadBytesMax,
      budget: new ReadBudget(ports.clock, readBytesMax, payloadBytesMax),
      statistics: new Statistics(),
      stopping: false,
    };
  }

  /** Largest READ or WRITE that clients are told they may send. */
  get payloadBytesMax(): number {
    return this.#setting.payloadBytesMax;
  }
  get exportNames(): readonly string[] {
    return this.#setting.exports.all.map((one) => one.name);
  }
  get clients(): readonly ClientRow[] {
    return [...this.#connections].map(({ peer, exportName, requestsInFlight }) => ({
      peer,
      export: exportName,
      requestsInFlight,
    }));
  }
  statistics(): Record<CountName, number> {
    return this.#setting.statistics.snapshot();
  }

  /** Takes over a stream in the turn in which it was accepted. */
  accept(stream: Stream): void {
    const { counts } = this.#setting.statistics;
    if (this.#setting.stopping || this.#connections.size >= this.#connectionsMax) {
      counts[Count.refused]! += 1;
      const why = this.#setting.stopping ? "stopping" : `${this.#connectionsMax} are connected`;
      this.#ports.notes("warn", "nbd.refused", `${stream.peer} was turned away: ${why}`);
      stream.start(TURNED_AWAY);
      stream.destroy();
      return;
    }
    counts[Count.accepted]! += 1;
    this.#makeRoomForHandshake();
    this.#connect(stream).start();
  }
  /**
   * The older connections of the same attachment are ended; true when nothing of them is left. The order of submission would do for
   * writes, but a device may put a zeroing in its place late. Several connections of one attachment at once are no purpose of this: each
   * would end the others.
   */
  mayBegin(newer: Connection): boolean {
    // In order of arrival, also over a restart: who came later may be about to succeed `newer`.
    const all = [...this.#connections];
    const older = all.slice(0, all.indexOf(newer)).filter((one) => newer.isOfSameAs(one));
    for (const one of older) one.makeWayFor(newer);
    return !older.some((one) => this.#connections.has(one));
  }
  retired(connection: Connection): void {
    this.#connections.delete(connection);
    for (const one of this.#connections) one.lookAgain();
    this.#checkStopped();
  }
  #connect(stream: Stream): Connection {
    const connection = new Connection(this.#ports, stream, this.#setting, this);
    this.#connections.add(connection);
    return connection;
  }

  /**
   * Goes on with a client that a predecessor left, in the turn in which its stream was made. What the client was told has to be true here, too,
   * or it is turned away: then it connects again and is told anew.
   */
  goOn(stream: Stream, state: SessionState): void {
    const { exports, payloadBytesMax, statistics } = this.#setting;
    const target = exports.find(state.exportName);
    const offers = target?.offers(state.structured) ?? 0;
    const isKept =
      target !== undefined &&
      target.device.sizeBytes === state.sizeBytes &&
      target.minimumBytes <= state.minimumBytes &&
      payloadBytesMax >= state.payloadBytesMax &&
      (state.offers & ~offers) === 0 &&
      ((state.offers ^ offers) & OFFERS.readOnly) === 0;
    if (isKept) {
      statistics.counts[Count.accepted]! += 1;
      const { structured, allocation, attachment } = state;
      this.#connect(stream).goOn({ target, structured, allocation, attachment }, state);
      return;
    }
    statistics.counts[Count.refused]! += 1;
    this.#ports.notes(
      "warn",
      "nbd.changed",
      `${stream.peer} is let go: the export ${JSON.stringify(state.exportName)} is not what it was told before the restart`,
    );
    stream.start(TURNED_AWAY);
    stream.destroy();
  }

  /**
   * Takes no more requests and nobody new, and calls `then` once: with true when nothing is under way any more, with false after `limitMs`.
   */
  park(limitMs: number, then: (isQuiet: boolean) => void): void {
    const { clock } = this.#ports;
    this.#setting.stopping = true;
    for (const connection of this.#connections) connection.park();
    const endMs = clock.nowMs() + limitMs;
    const look = (): void => {
      const isQuiet = [...this.#connections].every((connection) => connection.isQuiet);
      if (isQuiet || clock.nowMs() >= endMs) then(isQuiet);
      else clock.after(NBD_PARK_LOOK_MS, look);
    };
    look();
  }
  /**
   * Lets go of every client, with whatever it has under way, and cuts those that nobody can go on with. To be called when parked, from a
   * turn of its own; afterwards the device may do what it likes with requests that it still has.
   */
  leave(): LeftSession[] {
    const all: LeftSession[] = [];
    for (const connection of [...this.#connections]) {
      const left = connection.leave();
      if (left !== null) {
        all.push(left);
        continue;
      }
      this.#ports.notes(
        "info",
        "nbd.cut",
        `${connection.peer} is let go: ${connection.isNegotiating ? "it has not finished its handshake" : "nobody can go on with it"}`,
      );
      connection.cut();
    }
    return all;
  }

  /**
   * Takes no more requests, lets those under way be answered, closes. `then` is called once, when
   * every connection is closed and the devices have nothing of ours any more. Clients that do not take their
   * answers are cut off after NBD_STOP_MS_MAX.
   */
  stop(then: () => void): void {
    invariant(this.#whenStopped === undefined, "a server is stopped once");
    this.#setting.stopping = true;
    this.#whenStopped = then;
    const { clock } = this.#ports;
    this.#deadlines = [
      clock.after(NBD_STOP_HANDSHAKE_MS, () => this.#cut((one) => one.isNegotiating)),
      clock.after(NBD_STOP_MS_MAX, () => this.#cut(() => true)),
    ];
    for (const connection of [...this.#connections]) connection.finishUp();
    this.#checkStopped();
  }

  #cut(which: (connection: Connection) => boolean): void {
    for (const connection of [...this.#connections]) if (which(connection)) connection.cut();
  }

  #checkStopped(): void {
    const then = this.#whenStopped;
    if (then === undefined || this.#connections.size > 0) return;
    for (const deadline of this.#deadlines) deadline.cancel();
    this.#deadlines = [];
    this.#whenStopped = () => {};
    then();
  }

  #makeRoomForHandshake(): void {
    let negotiating = 0;
    for (const connection of this.#connections) if (connection.isNegotiating) negotiating += 1;
    if (negotiating < NBD_HANDSHAKES_MAX) return;
    for (const connection of this.#connections) {
      if (!connection.isNegotiating) continue;
      connection.fail(
        new Fault(
          "TRIVET_E_NBD_TIMEOUT",
          `${connection.peer} made room: ${negotiating} clients are in their handshake`,
        ),
      );
      return;
    }
  }
}

const TURNED_AWAY: StreamHandler = {
  received: (at, end) => end - at,
  filled() {},
  sent() {},
  drained() {},
  closed() {},
};
