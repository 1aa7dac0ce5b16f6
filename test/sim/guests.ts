import type { Address } from "../../src/ports/stream.js";
import type { FakeStream } from "../kit/link.js";
import type { World } from "../kit/world.js";
import { GuestConnection, type GuestOwner } from "./guest.js";
import type { HostBox } from "./host.js";
import type { Incarnation, VolumeModel } from "./model.js";
import type { Network } from "./network.js";
import type { Plan } from "./plan.js";
import { Machine, Process } from "./process.js";
import type { Trace } from "./trace.js";

const GUEST_ARENA_BYTES = 4 * 1024 * 1024;
const RETRY_MS = 100;

export interface GuestsParts {
  readonly world: World;
  readonly network: Network;
  readonly plan: Plan;
  readonly model: VolumeModel;
  readonly hosts: readonly HostBox[];
  readonly trace: Trace;
  readonly failed: (text: string) => void;
}

/**
 * Guests that keep a number of connections to whichever hosts serve the volume, and requests under way on them: bursts with
 * pauses in between, until the plan's number of requests was asked for.
 */
export class Guests implements GuestOwner {
  readonly model: VolumeModel;
  readonly trace: Trace;
  readonly #parts: GuestsParts;
  readonly #process: Process;
  readonly #sectors: number;
  #connections: GuestConnection[] = [];
  #dialing = 0;
  /** Requests asked for, answered, and lost with their connection. */
  asked = 0;
  answeredCount = 0;
  lost = 0;
  /** For whoever wants to strike right after a promise. */
  onPromise: (() => void) | null = null;
  #limit: number;
  #burst = 0;
  #isPausing = false;

  constructor(parts: GuestsParts, sectors: number) {
    this.#parts = parts;
    this.model = parts.model;
    this.trace = parts.trace;
    this.#sectors = sectors;
    this.#limit = parts.plan.requests;
    this.#process = new Process(parts.world, new Machine("10.0.2.1"), GUEST_ARENA_BYTES);
  }

  get machine(): string {
    return this.#process.machine.name;
  }
  get isDone(): boolean {
    return this.asked >= this.#limit && this.inFlight === 0;
  }
  get inFlight(): number {
    return this.#connections.reduce((sum, one) => sum + one.inFlight, 0);
  }
  get connections(): readonly GuestConnection[] {
    return this.#connections;
  }

  start(): void {
    for (let i = 0; i < this.#parts.plan.guests; i++) this.#connect();
  }
  /** More requests on top. */
  more(count: number): void {
    this.#limit = Math.max(this.#limit, this.asked) + count;
    for (const one of this.#connections) this.#pump(one);
  }

  #connect(): void {
    const { world, network, hosts } = this.#parts;
    const serving = hosts.filter((host) => host.isServing);
    if (serving.length === 0) {
      this.#retry();
      return;
    }
    const host = serving[Math.floor(world.chance() * serving.length)]!;
    const address: Address = host.nbd;
    this.#dialing += 1;
    network.dialer(this.#process).dial(address, 5000, (_, stream) => {
      this.#dialing -= 1;
      const life = host.life;
      if (stream === null || life === null) {
        stream?.start(DEAF);
        stream?.destroy();
        this.#retry();
        return;
      }
      this.#open(stream as FakeStream, life.incarnation);
    });
  }
  #retry(): void {
    this.#process.after(RETRY_MS, () => this.#connect());
  }
  #open(stream: FakeStream, host: Incarnation): void {
    const { world, plan } = this.#parts;
    const structured = world.chance() < 0.5;
    const depth = 1 + Math.floor(world.chance() * plan.depth);
    this.#connections.push(
      new GuestConnection(this, this.#process.arena, stream, host, { structured, depth }),
    );
  }

  ready(guest: GuestConnection): void {
    this.#pump(guest);
  }
  answered(guest: GuestConnection): void {
    this.answeredCount += 1;
    this.#pump(guest);
  }
  promised(): void {
    this.onPromise?.();
  }
  failed(text: string): void {
    this.#parts.failed(text);
  }
  gone(guest: GuestConnection, unanswered: number): void {
    this.lost += unanswered;
    this.#connections = this.#connections.filter((one) => one !== guest);
    this.#parts.trace.add("nbd", () => `${guest.host.name}: ended, ${unanswered} unanswered`);
    this.#retry();
  }
  dropOne(): void {
    const { world } = this.#parts;
    const one = this.#connections[Math.floor(world.chance() * this.#connections.length)];
    if (one?.isReady !== true) return;
    if (world.chance() < 0.5) one.disconnect();
    else one.drop();
  }

  #pump(guest: GuestConnection): void {
    while (guest.isReady && guest.inFlight < guest.depth && this.asked < this.#limit) {
      if (this.#isPausing) return;
      if (this.#burst === 0) {
        this.#pause();
        return;
      }
      this.#burst -= 1;
      this.#ask(guest);
    }
  }
  #pause(): void {
    const { world, plan } = this.#parts;
    this.#isPausing = true;
    const pauseMs = -Math.log(1 - world.chance()) * plan.pauseMs;
    this.#process.after(pauseMs, () => {
      this.#isPausing = false;
      this.#burst = 1 + Math.floor(world.chance() ** 2 * 120);
      for (const one of [...this.#connections]) this.#pump(one);
    });
  }
  #ask(guest: GuestConnection): void {
    const { world, plan } = this.#parts;
    this.asked += 1;
    const dice = world.chance();
    if (dice < plan.flushes) {
      guest.flush();
      return;
    }
    const size = world.chance();
    const most = size < 0.7 ? Math.min(3, plan.sectorsMax) : plan.sectorsMax;
    const count = Math.min(this.#sectors, 1 + Math.floor(world.chance() * most));
    // Half of all goes to a few places, so that requests meet.
    const range = world.chance() < 0.5 ? Math.min(12, this.#sectors) : this.#sectors;
    const sector = Math.min(Math.floor(world.chance() * range), this.#sectors - count);
    const kind = (dice - plan.flushes) / (1 - plan.flushes);
    const isFua = world.chance() < 0.06;
    if (kind < plan.reads) guest.read(sector, count);
    else if (world.chance() < 0.05) guest.zeroes(sector, count, isFua);
    else if (world.chance() < 0.02) guest.hint(isFua ? "cache" : "trim", sector, count);
    else guest.write(sector, count, isFua);
  }

  /** Reads everything there is, once each. */
  readAll(): void {
    const guest = this.#connections.find((one) => one.isReady)!;
    const step = 40;
    for (let sector = 0; sector < this.#sectors; sector += step) {
      this.asked += 1;
      guest.read(sector, Math.min(step, this.#sectors - sector));
    }
    this.#limit = Math.max(this.#limit, this.asked);
  }
  flushOnce(): void {
    this.asked += 1;
    this.#limit = Math.max(this.#limit, this.asked);
    this.#connections.find((one) => one.isReady)!.flush();
  }
}

const DEAF = {
  received: (at: number, end: number): number => end - at,
  filled() {},
  sent() {},
  drained() {},
  closed() {},
};
