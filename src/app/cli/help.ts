import { type Command, type Group, isGroup, type OptionSpecs } from "./command.js";
import { COMMON_OPTIONS } from "./parse.js";

/** Lines of help for a command or a group of commands. */
export function helpText(path: readonly string[], entry: Command | Group): string {
  const lines = [`${path.join(" ")}: ${entry.summary}`, ""];
  if (isGroup(entry)) {
    lines.push(`Usage: ${path.join(" ")} COMMAND [options]`, "", "Commands:");
    lines.push(...columns(entry.commands.map((c) => [c.name, c.summary])));
    lines.push("", `${path.join(" ")} COMMAND --help tells more.`);
  } else {
    const operands = entry.operands.map((o) => {
      const name = o.multiple ? `${o.name} …` : o.name;
      return o.required ? ` ${name}` : ` [${name}]`;
    });
    lines.push(`Usage: ${path.join(" ")}${operands.join("")} [options]`, "", "Options:");
    lines.push(...columns(optionRows({ ...entry.options, ...COMMON_OPTIONS })));
  }
  if (entry.details !== undefined) lines.push("", ...entry.details);
  return lines.join("\n");
}

const optionRows = (specs: OptionSpecs): [string, string][] =>
  Object.entries(specs).map(([name, spec]) => [
    `${spec.short === undefined ? "    " : `-${spec.short}, `}--${name}${spec.value === undefined ? "" : ` ${spec.value}`}`,
    `${spec.help}${spec.shownDefault === undefined ? "" : ` (default ${spec.shownDefault})`}${spec.multiple ? " (may be repeated)" : ""}`,
  ]);

function columns(rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`.trimEnd());
}
