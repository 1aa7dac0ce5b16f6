import { invariant } from "../base/invariant.js";
import type { Arena } from "../ports/arena.js";
import type { Clock } from "../ports/clock.js";
import type { Notes } from "../ports/notes.js";
import type { Random } from "../ports/random.js";
import type { RegionStore } from "./region-store.js";
import { Statistics } from "./statistics.js";
import type { TestModes } from "./test-modes.js";

/** What a region needs from the outside to be served. */
export interface Surroundings {
  readonly store: RegionStore;
  readonly arena: Arena;
  readonly clock: Clock;
  readonly random: Random;
  readonly notes: Notes;
  readonly testModes: TestModes;
}

/** What the connections of one region share. */
export class Service {
  readonly store: RegionStore;
  readonly arena: Arena;
  readonly clock: Clock;
  readonly random: Random;
  readonly notes: Notes;
  readonly testModes: TestModes;
  readonly statistics = new Statistics();
  /** Payload memory there is when nothing is going on. */
  readonly memoryBytes: number;
  /** Extents that are closed, so that jobs need not ask about each of theirs. */
  readonly closedExtents = new Set<number>();
  #operations = 0;
  readonly #idle: () => void;

  /** `idle` is called whenever the last operation in the store has ended. */
  constructor(from: Surroundings, idle: () => void) {
    this.store = from.store;
    this.arena = from.arena;
    this.memoryBytes = from.arena.freeBytes;
    this.clock = from.clock;
    this.random = from.random;
    this.notes = from.notes;
    this.testModes = from.testModes;
    this.#idle = idle;
  }

  /** Operations of all connections, also of those that are gone, in progress in the store. */
  get operations(): number {
    return this.#operations;
  }
  began(): void {
    this.#operations += 1;
  }
  ended(): void {
    invariant(this.#operations > 0, "an operation that ends has begun");
    this.#operations -= 1;
    if (this.#operations === 0) this.#idle();
  }
}
