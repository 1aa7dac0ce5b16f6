import xxhash from "xxhash-wasm";
import { episode, type Outcome } from "./episode.js";
import { MUTANTS } from "./mutants/index.js";
import { type PlanOptions, planOf } from "./plan.js";

// What one process of a campaign does. The seeds of a job run one after the other; nothing is shared between two seeds.

export type Job =
  | {
      readonly kind: "seeds";
      readonly from: number;
      readonly count: number;
      readonly options: PlanOptions;
    }
  | { readonly kind: "mutant"; readonly name: string };

export interface SeedResult {
  readonly seed: number;
  readonly mixName: string;
  readonly answered: number;
  readonly lost: number;
  readonly virtualMs: number;
  readonly counts: Readonly<Record<string, number>>;
  readonly broken: readonly string[];
  /** How it came to that; empty when nothing is broken. */
  readonly report: string;
}
export interface MutantResult {
  readonly name: string;
  /** The seed that found it, counted from 1; null: none within the bound. */
  readonly foundBy: number | null;
  readonly text: string;
  readonly answered: number;
}
export type Result =
  | { readonly kind: "seeds"; readonly results: readonly SeedResult[] }
  | { readonly kind: "mutant"; readonly result: MutantResult };

const hash = await xxhash();

/** Runs a seed; when something is broken, once more with its trace. */
export function runSeed(seed: number, options: PlanOptions, lines = 120): SeedResult {
  const plan = planOf(seed, options);
  const outcome = episode(plan, hash);
  const { mixName, answered, lost, virtualMs, counts, broken } = outcome;
  const report = broken.length === 0 ? "" : reportOf(episode(plan, hash, lines));
  return { seed, mixName, answered, lost, virtualMs, counts, broken, report };
}

function reportOf({ broken, trace }: Outcome): string {
  return [
    "broken:",
    ...broken.slice(0, 8).map((line) => `  ${line}`),
    "what was done to it:",
    ...trace.faults,
    "what happened last:",
    ...trace.lines,
  ].join("\n");
}

/** Breaks the code in one way and looks for the first seed that notices. */
export function runMutant(name: string): MutantResult {
  const { mutate, seeds, mix, from = 1 } = MUTANTS[name]!;
  const restore = mutate();
  let answered = 0;
  try {
    for (let i = 0; i < seeds; i++) {
      const options = { mix };
      const outcome = episode(planOf(from + i, options), hash);
      answered += outcome.answered;
      const [text] = outcome.broken;
      if (text !== undefined) return { name, foundBy: i + 1, text: text.split("\n")[0]!, answered };
    }
    return { name, foundBy: null, text: "", answered };
  } finally {
    restore();
  }
}

export function runJob(job: Job): Result {
  if (job.kind === "mutant") return { kind: "mutant", result: runMutant(job.name) };
  const results: SeedResult[] = [];
  for (let i = 0; i < job.count; i++) results.push(runSeed(job.from + i, job.options));
  return { kind: "seeds", results };
}

if (process.argv[1] === import.meta.filename)
  process.on("message", (job: Job) => {
    process.send!(runJob(job));
  });
