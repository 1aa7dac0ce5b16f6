import type { XXHashAPI } from "xxhash-wasm";
import { Engine } from "../../src/upstairs/engine.js";
import type { Tuning } from "../../src/upstairs/options.js";
import type { Manner } from "./replica.js";
import { Judge } from "./upstairs-judge.js";
import { Stage, type StageOptions } from "./upstairs-stage.js";
import { World } from "./world.js";

export const QUICK: Partial<Tuning> = {
  offlineJobsMax: 3,
  redialFirstMs: 20,
  redialMs: 50,
  dialTimeoutMs: 100,
  repairRetryMs: 10,
  repairRetryMsMax: 100,
};

/** A volume in use whose replicas can be made to need repair, with a judge watching. */
export class RepairStage {
  readonly stage: Stage;
  readonly judge: Judge;
  readonly extentBlocks: number;
  readonly blocks: number;

  constructor(hash: XXHashAPI, options: StageOptions & { readonly seed?: number } = {}) {
    this.stage = new Stage(new World(options.seed ?? 1), hash, {
      links: { latencyMs: 0.5 },
      manner: { jobMs: 1 },
      ...options,
      tuning: { ...QUICK, ...options.tuning },
    });
    const engines: Engine[] = [];
    const { open } = Engine.prototype;
    Engine.prototype.open = function (...args) {
      engines.push(this);
      return open.apply(this, args);
    };
    const fault = this.stage.activate();
    Engine.prototype.open = open;
    this.engine = engines[0]!;
    if (fault !== null) throw new Error(`no activation: ${fault?.line}`);
    this.judge = new Judge(this.stage);
    const { region } = this.stage.replicas[0]!;
    this.extentBlocks = region.extentSize;
    this.blocks = region.extentCount * region.extentSize;
    // Every extent holds something.
    for (let start = 0; start < this.blocks; start += this.extentBlocks) this.judge.write(start, 3);
    this.flush();
  }

  /** For what no event from outside brings about. */
  readonly engine: Engine;

  get world(): World {
    return this.stage.world;
  }
  manner(index: number): Manner {
    return this.stage.replicas[index]!.manner;
  }
  phase(index: number): string {
    return this.stage.upstairs.status().replicas[index]!.phase;
  }
  mode(index: number): string {
    return this.stage.upstairs.status().replicas[index]!.mode;
  }
  flush(): void {
    const tag = this.judge.flush();
    this.stage.pass(5000, () => this.stage.guest.status(tag) !== undefined);
  }

  /** It goes away, and misses writes to these extents. */
  fault(index: number, extents: readonly number[] = [...Array(8).keys()]): void {
    this.stage.replicas[index]!.crash();
    this.world.advance(2);
    for (let i = 0; i < 8; i++)
      this.judge.write(extents[i % extents.length]! * this.extentBlocks + 1 + i, 2);
    if (!this.stage.pass(5000, () => this.mode(index) === "faulted"))
      throw new Error("it was not given up");
    this.flush();
  }
  start(index: number): void {
    this.stage.replicas[index]!.start();
  }
  /** Lets time pass until its repair is over. */
  repaired(index: number, limitMs = 20_000): boolean {
    return this.stage.pass(limitMs, () => this.phase(index) === "active");
  }
  reached(index: number, kind: string, extentId: number | null = null): boolean {
    return this.stage.pass(20_000, () => this.heard(index, kind, extentId));
  }
  heard(index: number, kind: string, extentId: number | null = null): boolean {
    const { heard } = this.stage.replicas[index]!;
    const last = heard.at(-1)?.conn;
    return heard.some(
      ({ conn, message }) =>
        conn === last &&
        message.kind === kind &&
        (extentId === null || ("extentId" in message && message.extentId === extentId)),
    );
  }

  /**
   * Everybody is there again, nothing waits, all hold the same, and no promise was broken: what is wrong with that, in words. Numbers of extents
   * may differ after a replay: what is done once more is flushed once more.
   */
  wrong(sameNumbers = true): readonly string[] {
    const { stage, judge } = this;
    const asked = stage.guest.nextTag - 1;
    const wrong: string[] = [];
    const isCalm = (): boolean =>
      stage.guest.answers.size === asked &&
      stage.upstairs.status().replicas.every(({ phase, jobs }) => phase === "active" && jobs === 0);
    if (!stage.pass(60_000, isCalm)) {
      const { replicas } = stage.upstairs.status();
      wrong.push(`${asked - stage.guest.answers.size} requests are open`);
      wrong.push(replicas.map(({ phase, jobs }) => `${phase} ${jobs}`).join(", "));
    }
    this.flush();
    stage.pass(5000, () => stage.upstairs.status().jobs === 0);
    if (stage.upstairs.status().jobs > 0)
      wrong.push(`${stage.upstairs.status().jobs} jobs are kept`);
    const image = judge.image();
    for (const [index, replica] of stage.replicas.entries())
      if (!replica.image().equals(image)) wrong.push(`replica ${index} differs`);
    const numbers = stage.replicas.map(({ extents }) =>
      extents.map((e) => `${e.generation}/${e.flushNumber}/${e.dirty}/${e.closed}`).join(" "),
    );
    if (sameNumbers && new Set(numbers).size > 1)
      wrong.push(`numbers differ: ${numbers.join(" | ")}`);
    return [...wrong, ...judge.broken, ...stage.violations];
  }
  end(): readonly string[] {
    const { stage } = this;
    const wrong = stage.stop() === null ? [] : ["it did not stop"];
    if (stage.arena.allocations > 0) wrong.push(`${stage.arena.allocations} allocations are left`);
    return wrong;
  }
}
