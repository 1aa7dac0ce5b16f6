import { readFileSync } from "node:fs";
import { parse, TomlError } from "smol-toml";
import * as v from "valibot";
import { Fault } from "../../base/fault.js";
import { didYouMean } from "../cli/spelling.js";

/** A volume's file: the options of `trivet serve`, without their dashes. */
const natural = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const schema = v.strictObject({
  target: v.optional(v.pipe(v.array(v.string()), v.length(3))),
  memory: v.optional(v.union([v.string(), natural])),
  address: v.optional(v.union([v.string(), v.array(v.string())])),
  socket: v.optional(v.union([v.string(), v.array(v.string())])),
  export: v.optional(v.string()),
  gen: v.optional(v.union([v.string(), natural])),
  ack: v.optional(v.picklist(["quorum", "buffered"])),
  "read-only": v.optional(v.boolean()),
  "degraded-after": v.optional(v.string()),
  "accept-empty": v.optional(v.boolean()),
  "accept-foreign": v.optional(v.boolean()),
  "accept-older": v.optional(v.boolean()),
  "block-size": v.optional(v.union([v.string(), natural])),
  arena: v.optional(v.union([v.string(), natural])),
  engine: v.optional(v.picklist(["auto", "ring", "plain"])),
  "write-log": v.optional(v.string()),
  "state-dir": v.optional(v.string()),
  control: v.optional(v.string()),
  "repair-rate": v.optional(v.union([v.string(), natural])),
  "scrub-every": v.optional(v.string()),
  "scrub-rate": v.optional(v.union([v.string(), natural])),
  "log-level": v.optional(v.picklist(["trace", "debug", "info", "warn", "error"])),
});
const KEYS = Object.keys(schema.entries);

/** What a key says, in the form that options have, and where it says it. */
export interface ConfigValue {
  readonly texts: readonly string[];
  readonly isTrue: boolean;
  /** "photos.toml:3:1". */
  readonly place: string;
}

/** Throws TRIVET_E_CONFIG with file, line, column and key. */
export function readConfigFile(path: string): ReadonlyMap<string, ConfigValue> {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT") throw error;
    throw new Fault("TRIVET_E_CONFIG", `there is no file ${path}`);
  }
  return parseConfig(text, path);
}

export function parseConfig(text: string, path: string): ReadonlyMap<string, ConfigValue> {
  let table: Record<string, unknown>;
  try {
    table = parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const why = error.message.split("\n")[0]!.replace(/^Invalid TOML document: /, "");
    throw new Fault("TRIVET_E_CONFIG", `${path}:${error.line}:${error.column}: ${why}`);
  }
  const result = v.safeParse(schema, table);
  if (!result.success) {
    const issue = result.issues[0];
    const key = String(issue.path?.[0]?.key ?? "");
    const place = `${path}:${placeOf(text, key)}`;
    if (!KEYS.includes(key)) {
      throw new Fault(
        "TRIVET_E_CONFIG",
        `${place}: there is no key ${key}${didYouMean(key, KEYS)}`,
      );
    }
    throw new Fault("TRIVET_E_CONFIG", `${place}: ${key} ${explain(key, issue)}`);
  }
  const values = new Map<string, ConfigValue>();
  for (const [key, value] of Object.entries(result.output)) {
    const texts = Array.isArray(value) ? value : [`${value}`];
    values.set(key, { texts, isTrue: value === true, place: `${path}:${placeOf(text, key)}` });
  }
  return values;
}

function explain(key: string, issue: v.BaseIssue<unknown>): string {
  if (key === "target" && issue.type === "length") {
    return `lists ${(issue.input as unknown[]).length} addresses, expected 3`;
  }
  return `is ${issue.received}, expected ${issue.expected ?? "another value"}`;
}

/** "LINE:COLUMN" of a key at the beginning of a line, both from 1. The file has no tables, so that this finds it. */
function placeOf(text: string, key: string): string {
  const lines = text.split("\n");
  for (const [index, line] of lines.entries()) {
    const match = /^(\s*)(?:\[+\s*)?["']?([\w-]+)/.exec(line);
    if (match?.[2] === key) return `${index + 1}:${line.indexOf(key) + 1}`;
  }
  return "1:1";
}
