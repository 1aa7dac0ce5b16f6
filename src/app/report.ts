import { EXIT_BUG, Fault } from "../base/fault.js";
import { InvariantError } from "../base/invariant.js";
import type { ProgramStyle } from "./cli/command.js";

// How a process ends badly: one line and an exit status for what others cause, a request for a report for
// what we cause.

export interface Ending {
  readonly text: string;
  readonly status: number;
}

export function endingFor(error: unknown, style: ProgramStyle): Ending {
  const fault = asFault(error);
  if (fault === undefined) return bug(error);
  // The program stood in for knows one status only, and agents test for it.
  const status = style === "crucible-downstairs" ? 1 : fault.exitStatus;
  return { text: style === "trivet" ? fault.line : `Error: ${fault.line}`, status };
}

function bug(error: unknown): Ending {
  const kind = error instanceof InvariantError ? "a broken invariant" : "an unexpected error";
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return {
    text: `TRIVET_BUG: stopped by ${kind}, which is a mistake in trivet itself. Please report it with the lines below.\n${stack}`,
    status: EXIT_BUG,
  };
}

/** Failed system calls of the slow path as faults; undefined when it is none. */
export function asFault(error: unknown): Fault | undefined {
  if (error instanceof Fault) return error;
  if (!(error instanceof Error)) return undefined;
  const { code, errno, syscall, path } = error as NodeJS.ErrnoException;
  if (typeof code !== "string" || typeof syscall !== "string") return undefined;
  const detail = `${path ?? ""}${path === undefined ? "" : ": "}${describe(code)} (${syscall})`;
  const options = { cause: error, errno: errno ?? 0 };
  switch (code) {
    case "EACCES":
    case "EPERM":
      return new Fault("TRIVET_E_PERMISSION", detail, options);
    case "ENOSPC":
    case "EDQUOT":
      return new Fault("TRIVET_E_NO_SPACE", detail, options);
    case "EIO":
      return new Fault("TRIVET_E_IO", detail, options);
    default:
      return new Fault("TRIVET_E_FILE", detail, options);
  }
}

const WORDS: Readonly<Record<string, string>> = {
  ENOENT: "no such file or directory",
  EACCES: "permission denied",
  EPERM: "not permitted",
  ENOSPC: "no space left",
  EDQUOT: "disk quota exceeded",
  EIO: "input/output error",
  EEXIST: "exists already",
  ENOTDIR: "not a directory",
  EISDIR: "is a directory",
  EROFS: "read-only file system",
  EMFILE: "too many open files",
  ENAMETOOLONG: "the name is too long",
};
const describe = (code: string): string => WORDS[code] ?? code;
