import { MIX_NAMES } from "./plan.js";

export interface CommandOptions {
  /** One seed, with its trace when it fails. */
  readonly seed: number | null;
  readonly from: number;
  readonly count: number;
  readonly seconds: number;
  readonly jobs: number;
  readonly mix: string | undefined;
  readonly requests: number | undefined;
  readonly lines: number;
  /** Break the code in this way first. */
  readonly mutant: string | undefined;
}

export const HELP = `npm run sim -- [N] [options]     N seeds, default 100
npm run sim -- --seed S           one seed again, with the end of its trace if it fails

  --from S        first seed (default 1)
  --seconds T     begin no further seed after so long
  --jobs J        processes (default 2)
  --mix NAME      only this mix of faults: ${MIX_NAMES.join(", ")}
  --requests R    requests per seed (default 2000)
  --lines L       lines of trace (default 200)
  --mutant NAME   with this mistake planted (test/sim/README.md)
  --ci            what npm test runs`;

/** A text is what is wrong with the arguments. */
export function parseOptions(args: readonly string[]): CommandOptions | string {
  const numbers: Record<string, number> = {};
  const texts: Record<string, string> = {};
  let count: number | undefined;
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!;
    const [name, inline] = arg.split("=", 2) as [string, string | undefined];
    const isNumber = ["--seed", "--from", "--seconds", "--jobs", "--requests", "--lines"].includes(
      name,
    );
    if (isNumber || name === "--mix" || name === "--mutant") {
      const value = inline ?? args[++i];
      if (value === undefined) return `${name} needs a value`;
      if (!isNumber) texts[name] = value;
      else if (/^\d{1,10}$/.test(value)) numbers[name] = Number(value);
      else return `${name}: "${value}" is no number`;
    } else if (/^\d{1,8}$/.test(arg) && count === undefined) count = Number(arg);
    else return `"${arg}" is not understood`;
  }
  const mix = texts["--mix"];
  if (mix !== undefined && !MIX_NAMES.includes(mix))
    return `--mix: there is no "${mix}"; there are ${MIX_NAMES.join(", ")}`;
  return {
    seed: numbers["--seed"] ?? null,
    from: numbers["--from"] ?? 1,
    count: count ?? 100,
    seconds: numbers["--seconds"] ?? Number.POSITIVE_INFINITY,
    jobs: Math.max(1, numbers["--jobs"] ?? 2),
    mix,
    requests: numbers["--requests"],
    lines: numbers["--lines"] ?? 200,
    mutant: texts["--mutant"],
  };
}
