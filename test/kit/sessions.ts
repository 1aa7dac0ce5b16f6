import type { Test } from "tap";
import type { XXHashAPI } from "xxhash-wasm";
import type { GenerationSource } from "../../src/upstairs/options.js";
import type { ModelReplica } from "./replica.js";
import { FakeKeeper, Stage, type StageOptions } from "./upstairs-stage.js";
import { World } from "./world.js";

export const BLOCK = 512;
export const LAST = 8 * 20 - 1;
export const block = (fill: number): Buffer => Buffer.alloc(BLOCK, fill);
export const given = (value: bigint): GenerationSource => ({ kind: "given", value });

/** One volume in one session after the other, on the same replicas. */
export class Play {
  readonly world = new World(11);
  readonly record = new FakeKeeper();
  readonly replicas: readonly ModelReplica[];
  #generation = 0n;

  readonly #hash: XXHashAPI;
  constructor(hash: XXHashAPI) {
    this.#hash = hash;
    this.replicas = new Stage(this.world, hash).replicas;
  }
  session(options: StageOptions = {}): Stage {
    this.#generation += 1n;
    return new Stage(this.world, this.#hash, {
      replicas: this.replicas,
      ...options,
      upstairs: {
        generation: given(this.#generation),
        record: this.record,
        ...options.upstairs,
      },
    });
  }
  /** One session with all three that writes and flushes this everywhere. */
  began(fill = 1): this {
    const stage = this.session();
    if (stage.activate() !== null) throw new Error("no activation");
    this.write(stage, 0, fill);
    this.write(stage, 50, fill);
    stage.stop();
    return this;
  }
  write(stage: Stage, at: number, fill: number): number {
    const tag = stage.guest.write(at * BLOCK, block(fill));
    stage.world.advance(20);
    return tag;
  }
}
export const state = (stage: Stage): string[] =>
  stage.upstairs.status().replicas.map(({ mode, phase }) => `${mode} ${phase}`);
export const numbers = ({ extents }: ModelReplica): string =>
  extents.map((e) => `${e.generation}.${e.flushNumber}${e.dirty ? "d" : ""}`).join(" ");

export function serves(t: Test, stage: Stage, at: number, fill: number, what: string): void {
  const read = stage.guest.read(at * BLOCK, BLOCK);
  stage.world.advance(20);
  t.same(stage.guest.answers.get(read)?.data, block(fill), what);
}
