import type { XXHashAPI } from "xxhash-wasm";
import { FUA } from "../../src/ports/device.js";
import { Judge } from "./upstairs-judge.js";
import { Stage, type StageOptions } from "./upstairs-stage.js";
import { World } from "./world.js";

export interface Storm extends StageOptions {
  readonly seed: number;
  readonly requests?: number;
  /** Chance per request of something going wrong with a replica. */
  readonly mishaps?: number;
  /** Whether a crash takes what was not flushed. */
  readonly powerCuts?: boolean;
}

/** A seeded run of random requests and mishaps, until all is calm again; what was broken, in words. */
export function storm(
  hash: XXHashAPI,
  options: Storm,
): { broken: string[]; stage: Stage; judge: Judge } {
  const world = new World(options.seed);
  const stage = new Stage(world, hash, {
    manner: { jobMs: 3 },
    links: { latencyMs: 0.5 },
    ...options,
    tuning: {
      redialFirstMs: 20,
      redialMs: 50,
      dialTimeoutMs: 100,
      repairRetryMs: 10,
      repairRetryMsMax: 200,
      ...options.tuning,
    },
  });
  const broken: string[] = [];
  if (stage.activate() !== null)
    return { broken: ["no activation"], stage, judge: new Judge(stage) };
  const judge = new Judge(stage);
  const { region } = stage.replicas[0]!;
  const blocks = region.extentCount * region.extentSize;
  const chance = (): number => world.chance();
  const below = (n: number): number => Math.floor(chance() * n);

  for (let i = 0; i < (options.requests ?? 300); i++) {
    const count = 1 + below(chance() < 0.2 ? 60 : 4);
    const start = below(blocks - count);
    const kind = chance();
    if (kind < 0.5) judge.write(start, count, chance() < 0.1 ? FUA : 0);
    else if (kind < 0.93) judge.read(start, count);
    else judge.flush();
    if (chance() < (options.mishaps ?? 0)) mishap(stage, options.powerCuts === true);
    if (chance() < 0.4) world.advance(chance() * (chance() < 0.1 ? 200 : 3));
  }
  const asked = stage.guest.nextTag - 1;
  const isCalm = (): boolean =>
    stage.guest.answers.size === asked &&
    stage.upstairs.status().replicas.every(({ phase, jobs }) => phase === "active" && jobs === 0);
  if (!stage.pass(20_000, isCalm)) {
    const open = asked - stage.guest.answers.size;
    broken.push(`${open} requests were never answered`);
    broken.push(...stage.upstairs.status().replicas.map((r) => `${r.phase} ${r.mode} ${r.jobs}`));
  }
  judge.flush();
  stage.pass(2000, () => stage.upstairs.status().jobs === 0);
  if (stage.upstairs.status().jobs > 0) broken.push("jobs were never retired");
  const wanted = judge.image();
  for (const [index, replica] of stage.replicas.entries())
    if (!replica.image().equals(wanted)) broken.push(`replica ${index} differs in the end`);
  if (stage.stop() !== null) broken.push("it did not stop");
  if (stage.arena.allocations > 0) broken.push(`${stage.arena.allocations} allocations are left`);
  broken.push(...judge.broken, ...stage.violations);
  return { broken, stage, judge };
}

function mishap(stage: Stage, powerCuts: boolean): void {
  const { world, replicas, dialer } = stage;
  const index = Math.floor(world.chance() * 3);
  const replica = replicas[index]!;
  const forMs = world.chance() * 300;
  const kind = world.chance();
  if (kind < 0.4) replica.cut();
  else if (kind < 0.8) {
    replica.crash(powerCuts);
    world.after(forMs, () => replica.start());
  } else {
    dialer.unreachable.add(index);
    replica.cut();
    world.after(forMs, () => dialer.unreachable.delete(index));
  }
}
