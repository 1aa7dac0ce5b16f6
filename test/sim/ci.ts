import { campaign } from "./campaign.js";
import { MUTANTS } from "./mutants/index.js";
import { Totals } from "./totals.js";
import type { Job } from "./worker.js";

// What `npm test` runs of the simulator: planted mistakes, a fixed list of seeds, and new seeds if too few requests
// were answered by those. New seeds by the thousand are for campaigns. Prints a line for each part; the runner counts those that begin with "ok: ".

const FIXED = 300;
const REQUESTS = 1_000_000;
const SEEDS_PER_JOB = 5;
const PROCESSES = 2;
/** However slow the machine is, it ends. */
const SECONDS_MAX = 1500;

const print = (text: string): void => {
  process.stdout.write(`${text}\n`);
};

/** Answers the exit status. */
export async function runCi(): Promise<number> {
  const fixed = new Totals();
  const random = new Totals();
  const first = 1_000_000 + Math.floor(Math.random() * 1e9);
  print(`new seeds begin with ${first}`);
  const mutants = Object.keys(MUTANTS);
  let nextFixed = 1;
  let nextRandom = first;
  let failed = 0;

  const seeds = (from: number, count: number): Job => ({ kind: "seeds", from, count, options: {} });
  function next(): Job | null {
    const name = mutants.shift();
    if (name !== undefined) return { kind: "mutant", name };
    if (nextFixed <= FIXED) {
      nextFixed += SEEDS_PER_JOB;
      return seeds(nextFixed - SEEDS_PER_JOB, SEEDS_PER_JOB);
    }
    if (fixed.answered + random.answered >= REQUESTS || random.seconds > SECONDS_MAX) return null;
    nextRandom += SEEDS_PER_JOB;
    return seeds(nextRandom - SEEDS_PER_JOB, SEEDS_PER_JOB);
  }

  await campaign(PROCESSES, next, (result) => {
    if (result.kind === "mutant") {
      const { name, foundBy, text, answered } = result.result;
      const bound = MUTANTS[name]!.seeds;
      if (foundBy !== null)
        print(
          `ok: mutant "${name}" is found by seed ${foundBy} of ${bound} (${answered} requests): ${text.slice(0, 120)}`,
        );
      else {
        failed += 1;
        print(`not ok: mutant "${name}" is not found by ${bound} seeds`);
      }
      return;
    }
    for (const one of result.results) {
      (one.seed < first ? fixed : random).add(one);
      if (one.broken.length > 0)
        print(
          `not ok: seed ${one.seed} (${one.mixName}), again: ${fixed.again(one.seed)}\n${one.report}`,
        );
    }
  });
  failed += fixed.failed.length + random.failed.length;
  const inAll = fixed.answered + random.answered;
  print(`fixed seeds: ${fixed.line()}`);
  print(`new seeds: ${random.line()}`);
  if (fixed.failed.length === 0) print(`ok: ${fixed.seeds} fixed seeds`);
  if (random.failed.length === 0) print(`ok: ${random.seeds} new seeds from ${first}`);
  if (inAll >= REQUESTS) print(`ok: ${inAll} requests were answered and judged`);
  else {
    failed += 1;
    print(`not ok: only ${inAll} requests in ${SECONDS_MAX} s`);
  }
  return failed > 0 ? 1 : 0;
}
