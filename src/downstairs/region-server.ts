import { CONNECTIONS_PER_REGION_MAX } from "../base/limits.js";
import type { Then } from "../ports/files.js";
import type { Address, Stream } from "../ports/stream.js";
import { type Activation, ReadOnlyActivation, ReadWriteActivation } from "./activation.js";
import { Service, type Surroundings } from "./service.js";
import { Session, type SessionHost } from "./session.js";
import type { Statistics } from "./statistics.js";

/**
 * One region being served: takes connections, knows who is active, and ends in order. Listening is
 * not its business, nor is the repair service.
 */
export class RegionServer implements SessionHost {
  readonly activation: Activation;
  readonly #service: Service;
  readonly #address: (stream: Stream) => Address;
  readonly #sessions = new Set<Session>();
  #closing: Then | undefined;

  /** `repairAddress`: the repair server's address as the peer of a connection reaches it. */
  constructor(surroundings: Surroundings, repairAddress: (stream: Stream) => Address) {
    const { store } = surroundings;
    this.#address = repairAddress;
    this.#service = new Service(surroundings, () => this.#idle());
    this.activation = store.readOnly
      ? new ReadOnlyActivation()
      : new ReadWriteActivation(
          () => this.#service.operations > 0,
          (then) => this.#reopenAll(then),
        );
  }

  get statistics(): Statistics {
    return this.#service.statistics;
  }
  get connections(): readonly ReturnType<typeof this.describe>[] {
    return [...this.#sessions].map((session) => this.describe(session));
  }

  accept(stream: Stream): void {
    const { statistics, notes } = this.#service;
    if (this.#closing !== undefined || this.#sessions.size >= CONNECTIONS_PER_REGION_MAX) {
      notes("warn", "downstairs.connection.refused", `no room for ${stream.peer}`);
      refuse(stream);
      return;
    }
    statistics.connections += 1;
    statistics.connectionsOpen += 1;
    notes("debug", "downstairs.connection.opened", `${stream.peer} connected`);
    this.#sessions.add(new Session(this.#service, this, stream));
  }

  repairAddress(stream: Stream): Address {
    return this.#address(stream);
  }

  gone(session: Session): void {
    this.#service.statistics.connectionsOpen -= 1;
    this.#sessions.delete(session);
    this.#idle();
  }

  /** Ends every connection, lets the store finish what it has begun, then closes it. Once. */
  close(then: Then): void {
    this.#closing = then;
    for (const session of [...this.#sessions]) session.end();
    this.#idle();
  }

  describe(session: Session): { peer: string; state: string; jobs: number; running: number } {
    return { peer: session.stream.peer, ...session.status };
  }

  #reopenAll(then: Then): void {
    const { store, closedExtents } = this.#service;
    this.#service.began();
    store.reopenAll((fault) => {
      closedExtents.clear();
      if (fault !== null)
        for (let e = 0; e < store.definition.extentCount; e++)
          if (store.isClosed(e)) closedExtents.add(e);
      then(fault);
      this.#service.ended();
    });
  }

  #idle(): void {
    const then = this.#closing;
    if (then === undefined) {
      this.activation.idle();
      return;
    }
    if (this.#sessions.size > 0 || this.#service.operations > 0) return;
    this.#closing = () => {};
    this.#service.began();
    this.#service.store.close(then);
  }
}

/** A stream must be started to be got rid of. */
function refuse(stream: Stream): void {
  stream.start({
    received: (at, end) => end - at,
    filled: () => {},
    sent: () => {},
    drained: () => {},
    closed: () => {},
  });
  stream.destroy();
}
