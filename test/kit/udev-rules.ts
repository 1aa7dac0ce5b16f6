// Enough of udev(7) to judge our own rules where no udev runs: matches on keys and attributes, assignments, GOTO and LABEL.
// Whatever it does not know is an error, so that a rule never passes because it was not understood.

/** A device as rules see it. `parent` is what ATTRS also looks at. */
export interface Device {
  readonly action: string;
  readonly subsystem: string;
  readonly kernel: string;
  readonly devtype: string;
  /** Files in sysfs. */
  readonly attributes: Readonly<Record<string, string>>;
  readonly parent?: Device;
}

export interface Judged {
  readonly links: readonly string[];
  readonly properties: Readonly<Record<string, string>>;
}

interface Token {
  readonly key: string;
  readonly name: string;
  readonly operator: string;
  readonly value: string;
}
type Rule = readonly Token[];

const OPERATORS: Readonly<Record<string, readonly string[]>> = {
  ACTION: ["==", "!="],
  SUBSYSTEM: ["==", "!="],
  KERNEL: ["==", "!="],
  ENV: ["==", "!=", "="],
  ATTR: ["==", "!="],
  ATTRS: ["==", "!="],
  TEST: ["==", "!="],
  SYMLINK: ["+="],
  GOTO: ["="],
  LABEL: ["="],
};
const NAMED = ["ENV", "ATTR", "ATTRS"];

/** Throws an Error with the line that is no rule. */
export function parseRules(text: string): Rule[] {
  const rules: Rule[] = [];
  for (const line of text.replaceAll("\\\n", "").split("\n")) {
    if (/^\s*(?:#.*)?$/.test(line)) continue;
    const token = /\s*([A-Z]+)(?:\{([^}"]+)\})?(==|!=|\+=|=)"([^"]*)"\s*(,|$)/y;
    const rule: Token[] = [];
    let isLast = false;
    while (token.lastIndex < line.length) {
      const [, key = "", name = "", operator = "", value = "", end] = token.exec(line) ?? [];
      if (isLast || !OPERATORS[key]?.includes(operator)) throw new Error(`no rule: ${line}`);
      if (NAMED.includes(key) !== (name !== "")) throw new Error(`no rule: ${line}`);
      rule.push({ key, name, operator, value });
      isLast = end !== ",";
    }
    if (!isLast) throw new Error(`no rule: ${line}`);
    rules.push(rule);
  }
  const labels = rules.flat().filter(({ key }) => key === "LABEL");
  for (const { key, value } of rules.flat())
    if (key === "GOTO" && !labels.some((label) => label.value === value))
      throw new Error(`there is no label ${value}`);
  return rules;
}

export function judge(rules: readonly Rule[], device: Device): Judged {
  const links: string[] = [];
  const properties: Record<string, string> = { DEVTYPE: device.devtype };
  let label: string | undefined;
  for (const rule of rules) {
    if (label !== undefined && !rule.some(({ key, value }) => key === "LABEL" && value === label))
      continue;
    label = undefined;
    const attributes = rule.some(({ key }) => key === "ATTRS") ? holderOf(rule, device) : device;
    const matches = rule.every(({ key, name, operator, value }) => {
      if (operator !== "==" && operator !== "!=") return true;
      const found = lookUp(key, name || value, device, attributes ?? device, properties);
      const isMatch =
        key === "TEST" ? found !== undefined : found !== undefined && glob(value, found);
      // What is not there matches neither way, but for properties.
      if (found === undefined && key !== "ENV" && key !== "TEST") return false;
      return (operator === "==") === isMatch;
    });
    if (!matches) continue;
    for (const { key, name, operator, value } of rule) {
      const text = substitute(value, device, attributes ?? device, properties);
      if (key === "ENV" && operator === "=") properties[name] = text;
      if (key === "SYMLINK") links.push(...text.split(" "));
      if (key === "GOTO") label = value;
    }
  }
  return { links, properties };
}

/** The device, or the nearest parent, for which every ATTRS of a rule holds. */
function holderOf(rule: Rule, device: Device): Device | undefined {
  for (let at: Device | undefined = device; at !== undefined; at = at.parent) {
    const { attributes } = at;
    const holds = rule
      .filter(({ key }) => key === "ATTRS")
      .every(({ name, operator, value }) => {
        const found = attributes[name];
        return found !== undefined && (operator === "==") === glob(value, found);
      });
    if (holds) return at;
  }
  return undefined;
}

function lookUp(
  key: string,
  name: string,
  device: Device,
  holder: Device,
  properties: Readonly<Record<string, string>>,
): string | undefined {
  if (key === "ACTION") return device.action;
  if (key === "SUBSYSTEM") return device.subsystem;
  if (key === "KERNEL") return device.kernel;
  if (key === "ENV") return properties[name] ?? "";
  return (key === "ATTRS" ? holder : device).attributes[name];
}

function substitute(
  text: string,
  device: Device,
  holder: Device,
  properties: Readonly<Record<string, string>>,
): string {
  return text
    .replace(
      /\$attr\{([^}]+)\}/g,
      (_, name) => device.attributes[name] ?? holder.attributes[name] ?? "",
    )
    .replace(/\$env\{([^}]+)\}/g, (_, name) => properties[name] ?? "")
    .replaceAll("%n", /\d*$/.exec(device.kernel)?.[0] ?? "")
    .replaceAll("%k", device.kernel);
}

/** fnmatch(3) without flags, and alternatives: `*` matches slashes, too. */
function glob(pattern: string, text: string): boolean {
  return pattern.split("|").some((one) => {
    const expression = one
      .replaceAll(/[.+^${}()\\]/g, "\\$&")
      .replaceAll("*", "[^]*")
      .replaceAll("?", "[^]");
    return new RegExp(`^${expression}$`).test(text);
  });
}
