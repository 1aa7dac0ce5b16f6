import { parseArgs } from "node:util";
import { ACTS } from "./acts.js";

// The command line of `npm run namespaces`.

export interface Plan {
  /** Of what the writers do. */
  readonly seed: number;
  /** Also write the report here. */
  readonly out: string | undefined;
  /** Leave regions, state and journals. */
  readonly keep: boolean;
}
export type Asked =
  | { readonly kind: "play"; readonly plan: Plan }
  | { readonly kind: "show"; readonly text: string }
  | { readonly kind: "wrong"; readonly text: string };

export const HELP = `npm run namespaces: three storage boxes and two hosts on one machine, and what can happen to them

Usage: npm run namespaces -- [options]

Options:
      --out FILE  Write the report into FILE as well
      --seed N    Chance of what the writers do (1 without)
      --keep      Leave the regions, the state of the hosts and what the writers noted
      --list      Print the acts
  -h, --help      Print this text

Every box and host is a network namespace with folders of its own, so root and the program ip
(iproute2) are needed. Nothing of this machine's network is touched, and all is taken away at the end.
Takes about five minutes.

Ends with 0 when all held, 1 when something did not, 2 when the command is wrong, 4 when this
machine cannot play it.`;

const SEED_MAX = 1e9;

export function read(args: readonly string[]): Asked {
  const wrong = (text: string): Asked => ({ kind: "wrong", text });
  let parsed: ReturnType<typeof parse>;
  try {
    parsed = parse(args);
  } catch (error) {
    return wrong((error as Error).message);
  }
  const { help, list, out, keep, seed = "1" } = parsed.values;
  if (help) return { kind: "show", text: HELP };
  if (list) {
    const lines = ACTS.map(({ title }, i) => `${`${i + 1}`.padStart(2)} ${title}`);
    return { kind: "show", text: lines.join("\n") };
  }
  if (!/^\d{1,10}$/.test(seed) || Number(seed) > SEED_MAX)
    return wrong(`--seed: "${seed}" is no whole number up to ${SEED_MAX}`);
  if (out === "") return wrong("--out: the name of a file is missing");
  return { kind: "play", plan: { seed: Number(seed), out, keep: keep === true } };
}

function parse(args: readonly string[]) {
  return parseArgs({
    args: [...args],
    options: {
      out: { type: "string" },
      seed: { type: "string" },
      keep: { type: "boolean" },
      list: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
}
