import { parseArgs } from "node:util";

// The command line of `npm run databases`.

export const NAMES = ["sqlite", "postgresql"] as const;
export type Name = (typeof NAMES)[number];

export interface Plan {
  readonly rounds: number;
  readonly seed: number;
  readonly names: readonly Name[];
}
export type Asked =
  | { readonly kind: "play"; readonly plan: Plan }
  | { readonly kind: "show"; readonly text: string }
  | { readonly kind: "wrong"; readonly text: string };

const ROUNDS_DEFAULT = 20;
const MAX = 999_999_999;

export const HELP = `npm run databases: SQLite and PostgreSQL on a volume while its programs are killed

Usage: npm run databases -- [ROUNDS] [options]

ROUNDS is how many rounds each database plays, ${ROUNDS_DEFAULT} unless told; one takes about half a minute.

Options:
      --seed N     Who is killed when; a random one unless told
      --only NAME  Only this database: ${NAMES.join(", ")}
  -h, --help       Print this text

Needs root, FUSE and loop devices, and Debian's packages sqlite3, postgresql,
qemu-system-common, libnbd-bin and e2fsprogs. A PostgreSQL that runs on this machine is left alone.

Ends with 0 when every round went well, 1 when one did not, 2 when the command is wrong, 4 when
something is missing on this machine.`;

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
  if (positionals.length > 1) return wrong(`one number of rounds, not ${positionals.join(" ")}`);
  const numbers = { ROUNDS: positionals[0], "--seed": values.seed };
  for (const [what, text] of Object.entries(numbers))
    if (text !== undefined && !isNumber(text))
      return wrong(`${what} must be a whole number from 1 to ${MAX}, not "${text}"`);
  const names = NAMES.filter((name) => values.only === undefined || values.only === name);
  if (names.length === 0)
    return wrong(`there is no database "${values.only}": ${NAMES.join(", ")}`);
  const rounds = Number(numbers.ROUNDS ?? ROUNDS_DEFAULT);
  const seed = Number(numbers["--seed"] ?? 1 + Math.floor(Math.random() * 1e6));
  return { kind: "play", plan: { rounds, seed, names } };
}

const isNumber = (text: string): boolean => /^[1-9]\d{0,8}$/.test(text);

function parse(args: readonly string[]) {
  return parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      seed: { type: "string" },
      only: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
}
