import { campaign } from "./campaign.js";
import { runCi } from "./ci.js";
import { MUTANTS } from "./mutants/index.js";
import { type CommandOptions, HELP, parseOptions } from "./options.js";
import type { PlanOptions } from "./plan.js";
import { Totals } from "./totals.js";
import { runSeed } from "./worker.js";

// npm run sim: one seed again, or many new ones.

const SEEDS_PER_JOB = 4;

const print = (text: string): void => {
  process.stdout.write(`${text}\n`);
};

/** Answers the exit status. */
export async function runCommand(args: readonly string[]): Promise<number> {
  if (args.includes("--help") || args.includes("-h")) {
    print(HELP);
    return 0;
  }
  if (args.length === 1 && args[0] === "--ci") return runCi();
  const options = parseOptions(args);
  if (typeof options === "string") {
    process.stderr.write(`${options}\n\n${HELP}\n`);
    return 2;
  }
  const { mutant } = options;
  if (mutant !== undefined && MUTANTS[mutant] === undefined) {
    process.stderr.write(
      `there is no mutant "${mutant}"; there are ${Object.keys(MUTANTS).join(", ")}\n`,
    );
    return 2;
  }
  const plan: PlanOptions = {
    ...(options.mix === undefined ? {} : { mix: options.mix }),
    ...(options.requests === undefined ? {} : { requests: options.requests }),
  };
  if (options.seed !== null || mutant !== undefined) return one(options, plan);
  return many(options, plan);
}

function one(options: CommandOptions, plan: PlanOptions): number {
  const { mutant, seed, from, count, lines } = options;
  const found = mutant === undefined ? undefined : MUTANTS[mutant]!;
  found?.mutate();
  const mix = plan.mix ?? found?.mix;
  const first = seed ?? found?.from ?? from;
  const last = seed ?? first + Math.min(count, found?.seeds ?? count) - 1;
  for (let next = first; next <= last; next++) {
    const result = runSeed(next, mix === undefined ? plan : { ...plan, mix }, lines);
    const seconds = (result.virtualMs / 1000).toFixed(1);
    print(
      `seed ${next} (${result.mixName}): ${result.answered} requests in ${seconds} s of its time`,
    );
    if (result.broken.length === 0) continue;
    print(result.report);
    return 1;
  }
  return 0;
}

async function many(options: CommandOptions, plan: PlanOptions): Promise<number> {
  const totals = new Totals();
  let next = options.from;
  const end = options.from + options.count;
  const job = () => {
    if (next >= end || totals.seconds > options.seconds) return null;
    const count = Math.min(SEEDS_PER_JOB, end - next);
    const from = next;
    next += count;
    return { kind: "seeds" as const, from, count, options: plan };
  };
  await campaign(options.jobs, job, (result) => {
    if (result.kind !== "seeds") return;
    for (const one of result.results) {
      totals.add(one);
      if (one.broken.length === 0) continue;
      print(`seed ${one.seed} (${one.mixName}) FAILED: ${one.broken[0]!.split("\n")[0]}`);
    }
  });
  print(totals.line());
  for (const { seed } of totals.failed.slice(0, 5)) print(`again: ${totals.again(seed, plan)}`);
  return totals.failed.length > 0 ? 1 : 0;
}

if (process.argv[1] === import.meta.filename)
  process.exitCode = await runCommand(process.argv.slice(2));
