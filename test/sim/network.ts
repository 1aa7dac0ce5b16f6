import { Fault } from "../../src/base/fault.js";
import type { Address, Cancel, Dialer, DialResult } from "../../src/ports/stream.js";
import { type FakeStream, link, type Route } from "../kit/link.js";
import type { World } from "../kit/world.js";
import type { Process } from "./process.js";

// Machines and the wires between them. Every pair of machines has a way in each direction that can stall, slow down and
// get long; every connection on it has a latency of its own, so that connections overtake each other while each
// keeps its order.

/** One direction between two machines, shared by all connections on it. */
export class Way {
  /** Nothing arrives before this time. */
  stalledUntilMs = 0;
  extraMs = 0;
  bytesPerMs = Number.POSITIVE_INFINITY;

  heal(): void {
    this.stalledUntilMs = 0;
    this.extraMs = 0;
    this.bytesPerMs = Number.POSITIVE_INFINITY;
  }
}

class ConnectionRoute implements Route {
  readonly #world: World;
  readonly #way: Way;
  readonly #baseMs: number;
  readonly #jitterMs: number;
  #lastMs = 0;

  constructor(world: World, way: Way, baseMs: number, jitterMs: number) {
    this.#world = world;
    this.#way = way;
    this.#baseMs = baseMs;
    this.#jitterMs = jitterMs;
  }
  due(nowMs: number, bytes: number): number {
    const way = this.#way;
    const startMs = Math.max(nowMs, way.stalledUntilMs);
    const usualMs = startMs + this.#baseMs + this.#jitterMs * this.#world.chance() + way.extraMs;
    const paceMs = Math.max(this.#lastMs, startMs) + bytes / way.bytesPerMs;
    this.#lastMs = Math.max(usualMs, paceMs);
    return this.#lastMs;
  }
}

export interface Listener {
  readonly process: Process;
  accept(stream: FakeStream): void;
}

export interface NetworkOptions {
  readonly latencyMs: number;
  readonly jitterMs: number;
  /** Part of the connections whose bytes come in small pieces through small windows. */
  readonly choppy: number;
}

interface Wire {
  readonly from: string;
  readonly to: string;
  readonly ends: readonly [FakeStream, FakeStream];
}

export class Network {
  readonly #world: World;
  readonly #options: NetworkOptions;
  readonly #listeners = new Map<string, Listener>();
  readonly #ways = new Map<string, Way>();
  #wires: Wire[] = [];

  constructor(world: World, options: NetworkOptions) {
    this.#world = world;
    this.#options = options;
  }

  way(from: string, to: string): Way {
    const key = `${from}>${to}`;
    let way = this.#ways.get(key);
    if (way === undefined) {
      way = new Way();
      this.#ways.set(key, way);
    }
    return way;
  }
  listen(address: Address, listener: Listener): void {
    this.#listeners.set(`${address.host}:${address.port}`, listener);
  }
  /** Whoever listens there, alive. */
  listener(address: Address): Listener | undefined {
    const listener = this.#listeners.get(`${address.host}:${address.port}`);
    return listener?.process.isAlive === true ? listener : undefined;
  }
  unlisten(address: Address): void {
    this.#listeners.delete(`${address.host}:${address.port}`);
  }

  dialer(process: Process): Dialer {
    return { dial: (address, timeoutMs, then) => this.#dial(process, address, timeoutMs, then) };
  }
  /** Resets connections between two machines, in the middle of whatever is on its way. */
  cut(one: string, other: string, part = 1): number {
    let count = 0;
    for (const { from, to, ends } of this.#open()) {
      const between = (from === one && to === other) || (from === other && to === one);
      if (!between || this.#world.chance() >= part) continue;
      count += 1;
      for (const end of ends) end.cut();
    }
    return count;
  }
  healAll(): void {
    for (const way of this.#ways.values()) way.heal();
  }
  /** How long until something can go from one to the other and back. */
  stalledMs(one: string, other: string): number {
    const untilMs = Math.max(
      this.way(one, other).stalledUntilMs,
      this.way(other, one).stalledUntilMs,
    );
    return Math.max(0, untilMs - this.#world.nowMs());
  }

  #open(): Wire[] {
    this.#wires = this.#wires.filter(({ ends }) => !ends[0].isClosed || !ends[1].isClosed);
    return this.#wires;
  }

  #dial(process: Process, address: Address, timeoutMs: number, then: DialResult): Cancel {
    const world = this.#world;
    const here = process.machine.name;
    const there = address.host;
    const forth = this.way(here, there);
    const back = this.way(there, here);
    const roundTripMs = 2 * this.#options.latencyMs + forth.extraMs + back.extraMs;
    const waitMs = this.stalledMs(here, there) + roundTripMs * (0.5 + world.chance());
    const timedOut = (): void => then(new Fault("TRIVET_E_DIAL", "timed out (simulated)"), null);
    if (waitMs >= timeoutMs) return process.after(timeoutMs, timedOut);
    let late: Cancel | null = null;
    const arrival = process.after(waitMs, () => {
      const listener = this.#listeners.get(`${there}:${address.port}`);
      if (listener === undefined || !listener.process.machine.isPowered) {
        const isOff = listener !== undefined;
        if (isOff) late = process.after(timeoutMs - waitMs, timedOut);
        else then(new Fault("TRIVET_E_DIAL", "refused (simulated)"), null);
        return;
      }
      if (!listener.process.isAlive) {
        then(new Fault("TRIVET_E_DIAL", "refused (simulated)"), null);
        return;
      }
      then(null, this.#connect(process, listener, forth, back));
    });
    return {
      cancel: () => {
        arrival.cancel();
        late?.cancel();
      },
    };
  }

  #connect(process: Process, listener: Listener, forth: Way, back: Way): FakeStream {
    const world = this.#world;
    const { latencyMs, jitterMs, choppy } = this.#options;
    const baseMs = latencyMs * (0.5 + world.chance());
    const isChoppy = world.chance() < choppy;
    const segmentBytes = isChoppy ? 1 + Math.floor(world.chance() ** 2 * 700) : 1e9;
    const ends = link(world, process.arena, listener.process.arena, {
      segmentBytes: Math.max(segmentBytes, isChoppy ? 7 : 1),
      windowBytes: isChoppy ? 4096 : 1 << 20,
      routes: [
        new ConnectionRoute(world, forth, baseMs, jitterMs),
        new ConnectionRoute(world, back, baseMs, jitterMs),
      ],
    });
    const [ours, theirs] = ends;
    process.owns(ours);
    listener.process.owns(theirs);
    const from = process.machine.name;
    const to = listener.process.machine.name;
    if (this.#wires.length >= 64) this.#open();
    this.#wires.push({ from, to, ends });
    listener.accept(theirs);
    return ours;
  }
}
