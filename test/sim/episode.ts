import type { XXHashAPI } from "xxhash-wasm";
import type { Uuid } from "../../src/base/ids.js";
import type { RegionDefinition } from "../../src/crucible/region-definition.js";
import type { Address } from "../../src/ports/stream.js";
import { World } from "../kit/world.js";
import { compareReplicas } from "./compare.js";
import { Faults } from "./faults.js";
import { Guests } from "./guests.js";
import { HostBox } from "./host.js";
import { VolumeModel } from "./model.js";
import { Network } from "./network.js";
import { SECTOR_BYTES } from "./pattern.js";
import type { Plan } from "./plan.js";
import { ReplicaBox } from "./replica.js";
import { Trace } from "./trace.js";

/** Virtual time within which something is answered once faults have stopped, and within which the replicas are equal again. */
const RECOVERY_MS = 300_000;
/** Virtual time after which the faults stop, however many requests are left to ask. */
const FAULTS_MS_MAX = 3_600_000;

export interface Outcome {
  readonly seed: number;
  readonly mixName: string;
  /** What promises were broken, in words. */
  readonly broken: readonly string[];
  readonly answered: number;
  readonly lost: number;
  readonly virtualMs: number;
  readonly counts: Readonly<Record<string, number>>;
  readonly trace: Trace;
}

/** How often the operator looks. */
const WATCH_MS = 20_000;

/** Thrown when what was found is written down. */
const FOUND = new Error("something is broken");

/** One seed from its start to its end. The same plan gives the same outcome. */
export function episode(plan: Plan, hash: XXHashAPI, traceLines = 0): Outcome {
  return new Episode(plan, hash, traceLines).run();
}

class Episode {
  readonly #plan: Plan;
  readonly #world: World;
  readonly #trace: Trace;
  readonly #broken: string[] = [];
  readonly #model: VolumeModel;
  readonly #replicas: ReplicaBox[];
  readonly #hosts: HostBox[];
  readonly #guests: Guests;
  readonly #faults: Faults;
  readonly #hash: XXHashAPI;
  #isEnding = false;

  constructor(plan: Plan, hash: XXHashAPI, traceLines: number) {
    this.#plan = plan;
    this.#hash = hash;
    const world = new World(plan.seed);
    const trace = new Trace(world, traceLines);
    this.#world = world;
    this.#trace = trace;
    const sectors = (plan.extentSize * plan.extentCount * plan.blockSize) / SECTOR_BYTES;
    const model = new VolumeModel(sectors);
    this.#model = model;
    const network = new Network(world, plan);
    const failed = (text: string): void => this.#note(text);
    const boxes: ReplicaBox[] = [];
    const services = {
      find: ({ host }: Address) =>
        boxes.find(({ repair }) => repair.host === host)?.service ?? undefined,
    };
    const { diskMs, heldBytesMax } = plan;
    const { rot, misdirect, diskErrors } = plan.mix;
    const disksAreSound = [rot, misdirect, diskErrors].every((weight) => weight === undefined);
    const wires = { world, network, services, hash, trace, failed };
    const around = { ...wires, diskMs, heldBytesMax, disksAreSound };
    const box = (): ReplicaBox => {
      const one = new ReplicaBox(boxes.length, regionOf(plan, world.uuid()), around);
      boxes.push(one);
      return one;
    };
    const replicas = [box(), box(), box()];
    const targets = replicas.map(({ data }) => data);
    const newBox = (place: number): ReplicaBox => {
      const one = box();
      replicas[place] = one;
      targets[place] = one.data;
      return one;
    };
    const { arenaBytes, ack, tuning, degradedAfterMs, logRows } = plan;
    const ways = { arenaBytes, ack, tuning, degradedAfterMs, logRows };
    const parts = { world, network, hash, trace, model, targets, failed, ...ways };
    const hosts = [new HostBox(0, parts), new HostBox(1, parts)];
    const guests = new Guests({ world, network, plan, model, hosts, trace, failed }, sectors);
    this.#replicas = replicas;
    this.#hosts = hosts;
    this.#guests = guests;
    this.#faults = new Faults({ world, network, plan, replicas, hosts, guests, trace, newBox });
  }

  run(): Outcome {
    try {
      this.#live();
      this.#recover();
      this.#finish();
    } catch (error) {
      if (error !== FOUND)
        this.#note(error instanceof Error ? (error.stack ?? error.message) : String(error));
    }
    const { answeredCount, lost } = this.#guests;
    return {
      seed: this.#plan.seed,
      mixName: this.#plan.mixName,
      broken: this.#broken,
      answered: answeredCount,
      lost,
      virtualMs: this.#world.nowMs(),
      counts: { ...this.#model.counts, ...this.#faults.scene.counts },
      trace: this.#trace,
    };
  }

  #note(text: string): void {
    this.#trace.add("!!!", () => text);
    if (this.#broken.length < 20) this.#broken.push(text);
  }
  #fail(text: string): never {
    this.#note(text);
    throw FOUND;
  }
  /** Lets time pass until `done`; false: not within `limitMs`. Whatever is found to be broken ends the run. */
  #pass(limitMs: number, done: () => boolean): boolean {
    const until = this.#world.nowMs() + limitMs;
    while (this.#world.nowMs() < until && !done()) {
      this.#world.advance(Math.min(50, until - this.#world.nowMs()));
      for (const text of this.#model.broken.splice(0)) this.#note(text);
      if (this.#broken.length > 0) throw FOUND;
    }
    return done();
  }

  #live(): void {
    const guests = this.#guests;
    for (const replica of this.#replicas) replica.start();
    this.#hosts[0]!.start();
    guests.start();
    if (!this.#pass(60_000, () => this.#hosts[0]!.isServing)) this.#fail("never activated");
    this.#faults.start();
    this.#pass(FAULTS_MS_MAX, () => guests.isDone || this.#faults.isSpent);
    this.#faults.stop();
  }

  /** Liveness: with nothing going wrong any more everything is answered, and three replicas take part. */
  #recover(): void {
    const guests = this.#guests;
    this.#world.after(WATCH_MS, () => this.#watch());
    guests.more(50);
    for (let before = -1; !guests.isDone && before !== guests.answeredCount; ) {
      before = guests.answeredCount;
      this.#pass(RECOVERY_MS, () => guests.isDone);
    }
    if (!guests.isDone) this.#fail(`not live again: ${this.#state()}`);
    if (!this.#pass(RECOVERY_MS, () => this.#isWhole() || this.#isForeign()))
      this.#fail(`not whole again: ${this.#state()}`);
    if (!this.#isWhole()) this.#restart();
    if (this.#plan.mix.rot !== undefined) this.#scrub();
    guests.readAll();
    guests.flushOnce();
    if (!this.#pass(RECOVERY_MS, () => guests.isDone))
      this.#fail(`reading everything: ${this.#state()}`);
  }
  /**
   * The operator sees to it that some host serves, though one that was superseded stays down by itself, and does what a refusal asks for
   * when all replicas are up and that has not helped.
   */
  #watch(): void {
    if (this.#isEnding) return;
    // Whoever had it last knows the regions best.
    const last = this.#hosts.reduce((a, b) => (b.activeMs > a.activeMs ? b : a));
    if (!this.#hosts.some((host) => host.process !== null)) last.start();
    for (const host of this.#hosts) {
      const code = host.refusal?.code;
      if (code === "TRIVET_E_REGION_OLDER") host.accept = { older: true };
      if (code === "TRIVET_E_LOG_FOREIGN") host.putsLogAside = true;
      if (code !== "TRIVET_E_REGION_FOREIGN" && code !== "TRIVET_E_REGION_EMPTY") continue;
      if (last === host) host.accept = { foreign: true };
      else {
        host.kill();
        last.start();
      }
    }
    this.#world.after(WATCH_MS, () => this.#watch());
  }
  get #host(): HostBox | undefined {
    return this.#hosts.find((host) => host.isServing);
  }
  #isWhole(): boolean {
    const replicas = this.#host?.upstairs?.status().replicas;
    return (
      this.#guests.connections.some((one) => one.isReady) &&
      replicas?.every(({ phase, jobs }) => phase === "active" && jobs === 0) === true
    );
  }
  /** A region that this host cannot know, because another one used the volume before. */
  #isForeign(): boolean {
    const replicas = this.#host?.upstairs?.status().replicas;
    return replicas?.some(({ refused }) => refused?.includes("--accept-foreign")) === true;
  }
  /** What the operator does then. */
  #restart(): void {
    const host = this.#host!;
    let stopped = false;
    host.stop(() => {
      stopped = true;
      host.accept = { foreign: true };
      host.start();
    });
    if (!this.#pass(RECOVERY_MS, () => stopped && this.#isWhole()))
      this.#fail(`not whole after a restart: ${this.#state()}`);
  }

  /** What nobody has read is still damaged. */
  #scrub(): void {
    let ended: string | undefined;
    const upstairs = this.#host!.life!.upstairs;
    upstairs.stopScrub();
    const isRunning = (): boolean =>
      ["running", "waiting"].includes(upstairs.scrubStatus?.state ?? "");
    this.#pass(RECOVERY_MS, () => !isRunning());
    upstairs.scrub({ bytesPerSecond: 0 }, (fault) => {
      ended = fault?.line ?? "";
    });
    if (!this.#pass(RECOVERY_MS, () => ended !== undefined)) this.#fail("the scrub does not end");
    const lost = upstairs.scrubStatus?.lost ?? 0;
    if (ended !== "" || lost > 0) this.#fail(`the scrub ended with ${lost} lost, ${ended}`);
  }

  #finish(): void {
    const host = this.#host!;
    this.#isEnding = true;
    for (const one of [...this.#hosts, ...this.#replicas]) one.isOver = true;
    let ended: string | undefined;
    host.stop((fault) => {
      ended = fault?.line ?? "";
    });
    if (!this.#pass(RECOVERY_MS, () => ended !== undefined)) this.#fail("the host does not stop");
    if (ended !== "") this.#fail(`the host stopped with ${ended}`);
    let left = 3;
    for (const replica of this.#replicas)
      replica.stop((fault) => {
        left -= 1;
        if (fault !== null) this.#note(`${replica.name} stopped with ${fault.line}`);
      });
    if (!this.#pass(60_000, () => left === 0)) this.#fail("replicas do not stop");
    this.#broken.push(...compareReplicas(this.#replicas, this.#hash));
  }

  #state(): string {
    const host = this.#host ?? this.#hosts.find((one) => one.process !== null);
    const status = host?.upstairs?.status();
    const replicas = status?.replicas.map(
      ({ phase, mode, jobs, heldJobs, trouble }) =>
        `${phase}/${mode} ${jobs}+${heldJobs}${trouble === null ? "" : ` (${trouble})`}`,
    );
    const boxes = this.#replicas.map((one) => `${one.name} ${one.isServing ? "up" : "down"}`);
    const waiting = this.#guests.connections.map((one) => `[${one.unanswered}]`);
    return `${host?.name ?? "no host"} ${status?.state ?? ""} ${replicas?.join(", ") ?? ""}; ${boxes.join(", ")}; ${this.#guests.inFlight} under way ${waiting.join(" ").slice(0, 300)}`;
  }
}

function regionOf(plan: Plan, uuid: Uuid): RegionDefinition {
  const { blockSize, extentSize, extentCount } = plan;
  return {
    blockSize,
    extentSize,
    extentCount,
    shift: Math.log2(blockSize),
    uuid,
    encrypted: false,
    databaseReadVersion: 1,
    databaseWriteVersion: 1,
  };
}
