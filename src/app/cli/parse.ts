import { parseArgs } from "node:util";

import { invariant } from "../../base/invariant.js";
import { type Command, type Group, type Input, isGroup, type OptionSpecs } from "./command.js";
import { didYouMean } from "./spelling.js";
import { usage } from "./usage.js";

/** What a command line asks for. `path` are the names that led there, the program's first. */
export type Request =
  | { readonly kind: "help"; readonly path: readonly string[]; readonly entry: Command | Group }
  | { readonly kind: "version" }
  | {
      readonly kind: "run";
      readonly path: readonly string[];
      readonly command: Command;
      readonly input: Input;
    };

/** Options that every command has. */
export const COMMON_OPTIONS: OptionSpecs = {
  help: { short: "h", help: "Print this text" },
  version: { short: "V", help: "Print the version" },
};

/** Throws TRIVET_E_USAGE. */
export function parseCommandLine(root: Command | Group, argv: readonly string[]): Request {
  const path = [root.name];
  let entry = root;
  let at = 0;
  let wantsHelp = false;
  while (isGroup(entry)) {
    const word = argv[at++];
    if (word === undefined && wantsHelp) return { kind: "help", path, entry };
    if (word === undefined) throw usage(`${path.join(" ")} needs a command: ${names(entry)}`);
    if (word === "--help" || word === "-h") return { kind: "help", path, entry };
    if (word === "--version" || word === "-V") return { kind: "version" };
    if (word === "help") {
      wantsHelp = true;
      continue;
    }
    if (word.startsWith("-")) {
      const hint = didYouMean(word, ["--help", "--version"]);
      throw usage(`${path.join(" ")} has no option ${word} before the command${hint}`);
    }
    const found: Command | Group | undefined = entry.commands.find((c) => c.name === word);
    if (found === undefined) {
      const hint = didYouMean(
        word,
        entry.commands.map((c) => c.name),
      );
      throw usage(`${path.join(" ")} has no command "${word}"${hint}`);
    }
    path.push(found.name);
    entry = found;
  }
  if (wantsHelp) return { kind: "help", path, entry };
  return parseCommand(path, entry, argv.slice(at));
}

const names = (group: Group): string => group.commands.map((c) => c.name).join(", ");

function parseCommand(path: readonly string[], command: Command, argv: readonly string[]): Request {
  const specs = { ...COMMON_OPTIONS, ...command.options };
  const { tokens } = parseArgs({
    args: [...argv],
    strict: false,
    tokens: true,
    allowPositionals: true,
    options: Object.fromEntries(
      Object.entries(specs).map(([name, spec]) => [
        name,
        {
          type: spec.value === undefined ? ("boolean" as const) : ("string" as const),
          ...(spec.short === undefined ? {} : { short: spec.short }),
        },
      ]),
    ),
  });
  const values = new Map<string, string[]>();
  const operands: string[] = [];
  for (const token of tokens) {
    if (token.kind === "positional") operands.push(token.value);
    if (token.kind !== "option") continue;
    const spec = Object.hasOwn(specs, token.name) ? specs[token.name] : undefined;
    if (spec === undefined) {
      const known = Object.keys(specs).map((name) => `--${name}`);
      const hint = token.rawName.startsWith("--") ? didYouMean(token.rawName, known) : "";
      throw usage(`${path.join(" ")} has no option ${token.rawName}${hint}`);
    }
    if (token.name === "help") return { kind: "help", path, entry: command };
    if (token.name === "version") return { kind: "version" };
    const { value, inlineValue } = token;
    if (spec.value === undefined && value !== undefined) {
      throw usage(`${token.rawName} takes no value`);
    }
    if (spec.value !== undefined) {
      const taken = value !== undefined && value !== "" && (inlineValue || !/^-./.test(value));
      if (!taken) throw usage(`${token.rawName} needs a value: ${token.rawName} ${spec.value}`);
    }
    const list = values.get(token.name) ?? [];
    if (list.length > 0 && !spec.multiple) throw usage(`${token.rawName} is given twice`);
    list.push(value ?? "");
    values.set(token.name, list);
  }
  checkOperands(path, command, operands);
  return { kind: "run", path, command, input: makeInput(specs, values, operands) };
}

function checkOperands(
  path: readonly string[],
  command: Command,
  operands: readonly string[],
): void {
  const missing = command.operands[operands.length];
  if (missing?.required) throw usage(`${path.join(" ")} needs ${missing.name}`);
  const most = command.operands.some((o) => o.multiple)
    ? Number.POSITIVE_INFINITY
    : command.operands.length;
  const surplus = operands[most];
  if (surplus !== undefined) throw usage(`${path.join(" ")} does not take "${surplus}"`);
}

function makeInput(
  specs: OptionSpecs,
  values: ReadonlyMap<string, readonly string[]>,
  operands: readonly string[],
): Input {
  const get = (name: string): readonly string[] => {
    invariant(Object.hasOwn(specs, name), `the command table has the option ${name}`);
    return values.get(name) ?? [];
  };
  return {
    operands,
    flag: (name) => get(name).length > 0,
    text: (name) => get(name)[0],
    list: get,
  };
}
