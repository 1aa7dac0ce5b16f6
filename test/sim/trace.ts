import type { Notes } from "../../src/ports/notes.js";
import type { World } from "../kit/world.js";

/** What happened, for people: the last lines, and everything that went wrong by plan. Costs nothing while it is off. */
export class Trace {
  readonly #world: World;
  readonly #most: number;
  #lines: string[] = [];
  readonly faults: string[] = [];

  /** `lines`: how many of the last are kept; 0 is off. */
  constructor(world: World, lines: number) {
    this.#world = world;
    this.#most = lines;
  }

  add(who: string, what: () => string): void {
    if (this.#most === 0) return;
    this.#lines.push(this.#line(who, what()));
    if (this.#lines.length > 2 * this.#most) this.#lines = this.#lines.slice(-this.#most);
  }
  fault(what: () => string): void {
    if (this.#most === 0) return;
    const line = this.#line("***", what());
    this.faults.push(line);
    this.#lines.push(line);
  }
  notes(who: string): Notes {
    if (this.#most === 0) return () => {};
    return (level, event, text) => {
      if (level !== "trace") this.add(who, () => `${level} ${event}: ${text}`);
    };
  }
  get lines(): readonly string[] {
    return this.#lines.slice(-this.#most);
  }
  #line(who: string, what: string): string {
    return `${this.#world.nowMs().toFixed(3).padStart(12)} ${who.padEnd(4)} ${what}`;
  }
}
