import { parseArgs } from "node:util";
import { CLIENTS } from "./clients.js";
import { isLine, LINES, type Line } from "./kernels.js";
import { ROUNDS } from "./rounds.js";
import { SCENARIOS } from "./scenarios.js";

// The command line of `npm run vm`.

export interface Plan {
  readonly scenarios: readonly string[];
  readonly lines: readonly Line[];
  /** Undefined: all that this tree has. */
  readonly clients: readonly string[] | undefined;
  readonly refresh: boolean;
  readonly rounds: number;
}
export type Asked =
  | { readonly kind: "play"; readonly plan: Plan }
  | { readonly kind: "show"; readonly text: string }
  | { readonly kind: "wrong"; readonly text: string };

const ROUNDS_MAX = 1000;
const LINE_NAMES = Object.keys(LINES).join(", ");
const CLIENT_NAMES = CLIENTS.map(({ name }) => name).join(", ");

export const HELP = `npm run vm: volumes attached to real Linux kernels, under emulation

Usage: npm run vm -- [SCENARIO...] [options]

Options:
      --kernel LINE   Only this line of kernels: ${LINE_NAMES} (may be repeated)
      --client NAME   Only attached in this way: ${CLIENT_NAMES} (may be repeated)
      --rounds N      How often unit-reboots starts its system again (${ROUNDS})
      --refresh       Ask Debian's archive for newer kernels than those in the cache
      --list          Print the scenarios
  -h, --help          Print this text

Without SCENARIO all are played. Kernels come from Debian's packages and are kept in
$TRIVET_VM_CACHE, or ~/.cache/trivet-vm.

Ends with 0 when all went well, 1 when something did not, 2 when the command is wrong.`;

const list = (): string => {
  const width = Math.max(...SCENARIOS.map(({ name }) => name.length));
  return SCENARIOS.map(({ name, about }) => `${name.padEnd(width)}  ${about}`).join("\n");
};

export function read(args: readonly string[]): Asked {
  const wrong = (text: string): Asked => ({ kind: "wrong", text });
  let parsed: ReturnType<typeof parse>;
  try {
    parsed = parse(args);
  } catch (error) {
    return wrong((error as Error).message);
  }
  const { values, positionals } = parsed;
  if (values.help) return { kind: "show", text: HELP };
  if (values.list) return { kind: "show", text: list() };
  const known = SCENARIOS.map(({ name }) => name);
  for (const name of positionals)
    if (!known.includes(name)) return wrong(`there is no scenario ${name}: ${known.join(", ")}`);
  const lines: Line[] = [];
  for (const line of values.kernel ?? Object.keys(LINES)) {
    if (!isLine(line)) return wrong(`there is no line of kernels ${line}: ${LINE_NAMES}`);
    lines.push(line);
  }
  for (const name of values.client ?? [])
    if (!CLIENTS.some((client) => client.name === name))
      return wrong(`there is no client ${name}: ${CLIENT_NAMES}`);
  const rounds = Number(values.rounds ?? ROUNDS);
  if (!Number.isInteger(rounds) || rounds < 1 || rounds > ROUNDS_MAX)
    return wrong(`--rounds is "${values.rounds}", expected a number from 1 to ${ROUNDS_MAX}`);
  const scenarios = positionals.length > 0 ? positionals : known;
  const refresh = values.refresh === true;
  return { kind: "play", plan: { scenarios, lines, clients: values.client, refresh, rounds } };
}

function parse(args: readonly string[]) {
  return parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      kernel: { type: "string", multiple: true },
      client: { type: "string", multiple: true },
      refresh: { type: "boolean" },
      rounds: { type: "string" },
      list: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
}
