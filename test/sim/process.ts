import type { Uuid } from "../../src/base/ids.js";
import type { Clock } from "../../src/ports/clock.js";
import type { Random } from "../../src/ports/random.js";
import type { Cancel } from "../../src/ports/stream.js";
import { FakeArena } from "../kit/arena.js";
import type { Death, FakeStream } from "../kit/link.js";
import type { World } from "../kit/world.js";

/** A replay composes a thousand jobs at once, a page each. */
const STREAM_BYTES = 24 * 1024 * 1024;

/** Memory of dead processes, by size: making it anew for each would take more time than all the rest. */
const memories = new Map<number, Buffer[]>();

/** A computer: processes run on it, its wall clock may be wrong, its power may fail. */
export class Machine {
  /** Also its address. */
  readonly name: string;
  isPowered = true;
  /** Seconds by which its wall clock is off. */
  clockOffset = 0;

  constructor(name: string) {
    this.name = name;
  }
}

/**
 * One life of a program: its memory, its timers, its connections. From the moment it is killed nothing of it
 * runs any more, whatever was under way.
 */
export class Process implements Clock, Random {
  readonly machine: Machine;
  readonly world: World;
  readonly arena: FakeArena;
  isAlive = true;
  #streams: FakeStream[] = [];

  constructor(world: World, machine: Machine, arenaBytes: number) {
    this.world = world;
    this.machine = machine;
    const inAll = arenaBytes + STREAM_BYTES;
    const bytes = memories.get(inAll)?.pop() ?? Buffer.alloc(inAll);
    this.arena = new FakeArena(arenaBytes, STREAM_BYTES, bytes);
    this.arena.poisons = true;
  }

  nowMs(): number {
    return this.world.nowMs();
  }
  wallSeconds(): number {
    return this.world.wallSeconds() + this.machine.clockOffset;
  }
  uuid(): Uuid {
    return this.world.uuid();
  }
  chance(): number {
    return this.world.chance();
  }
  after(delayMs: number, run: () => void): Cancel {
    return this.world.after(delayMs, () => {
      if (this.isAlive) run();
    });
  }

  owns(stream: FakeStream): void {
    if (this.#streams.length >= 32) this.#streams = this.#streams.filter((one) => !one.isClosed);
    this.#streams.push(stream);
  }
  /** Answers what has to be reset when the machine is back, after `silence`. */
  kill(how: Death): FakeStream[] {
    this.isAlive = false;
    const open = this.#streams.filter((stream) => !stream.isClosed);
    for (const stream of this.#streams) stream.die(how);
    this.#streams = [];
    this.arena.retire();
    const { bytes } = this.arena;
    const free = memories.get(bytes.length);
    if (free === undefined) memories.set(bytes.length, [bytes]);
    else free.push(bytes);
    return open;
  }
}
