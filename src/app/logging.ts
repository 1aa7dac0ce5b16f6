import { type Log, openLog } from "../host/log.js";
import type { Level } from "../ports/notes.js";
import type { ProgramStyle } from "./cli/command.js";
import { programVersion } from "./version.js";

/**
 * Text on a terminal or where only people read, JSON lines elsewhere. On standard error, so that output stays output; the program that
 * `crucible-downstairs` stands in for logs to standard output.
 */
export function processLog(style: ProgramStyle, level: Level, forPeople = false): Log {
  const file = style === "crucible-downstairs" ? 1 : 2;
  const isTerminal = (file === 1 ? process.stdout : process.stderr).isTTY === true;
  return openLog({
    level,
    format: isTerminal || forPeople ? "text" : "json",
    file,
    service: style,
    version: programVersion(),
  });
}
