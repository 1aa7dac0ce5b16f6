import type { Command, Group, ProgramStyle, Shell } from "./cli/command.js";
import { helpText } from "./cli/help.js";
import { parseCommandLine } from "./cli/parse.js";
import { CRUCIBLE_DOWNSTAIRS } from "./commands/crucible-downstairs.js";
import { CRUCIBLE_NBD_SERVER } from "./commands/crucible-nbd-server.js";
import { TRIVET } from "./commands/trivet.js";
import { endingFor } from "./report.js";
import { programVersion } from "./version.js";

/**
 * The one way in, for all three program names: looks the command up in the table, runs it, and turns
 * however it ends into a line and an exit status. The process ends with it.
 */
export async function main(style: ProgramStyle, argv: readonly string[]): Promise<never> {
  const shell = processShell(style);
  const stop = (error: unknown): never => {
    const ending = endingFor(error, style);
    shell.warn(ending.text);
    process.exit(ending.status);
  };
  process.on("uncaughtException", stop);
  process.on("unhandledRejection", stop);
  // `trivet … | head`: nobody reads on, so there is nothing left to do.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(0);
    stop(error);
  });
  process.stderr.on("error", () => {});
  try {
    const status = await dispatch(shell, argv);
    process.exit(status);
  } catch (error) {
    return stop(error);
  }
}

const TABLES: Readonly<Record<ProgramStyle, Command | Group>> = {
  trivet: TRIVET,
  "crucible-nbd-server": CRUCIBLE_NBD_SERVER,
  "crucible-downstairs": CRUCIBLE_DOWNSTAIRS,
};

/** A shell that remembers how the command wants to end. */
interface ProcessShell extends Shell {
  readonly status: number;
}

async function dispatch(shell: ProcessShell, argv: readonly string[]): Promise<number> {
  const request = parseCommandLine(TABLES[shell.style], argv);
  switch (request.kind) {
    case "help":
      if (shell.style === "crucible-downstairs") {
        // As the original: help is an error of the parser there.
        shell.warn(`Error: ${helpText(request.path, request.entry)}`);
        return 1;
      }
      shell.print(helpText(request.path, request.entry));
      return 0;
    case "version":
      shell.print(`${shell.style} ${programVersion()}`);
      return 0;
    case "run":
      await request.command.run(request.input, shell);
      return shell.status;
  }
}

function processShell(style: ProgramStyle): ProcessShell {
  let status = 0;
  return {
    get status() {
      return status;
    },
    endWith: (wanted) => {
      status = wanted;
    },
    style,
    env: process.env,
    print: (line) => {
      process.stdout.write(`${line}\n`);
    },
    warn: (line) => {
      process.stderr.write(`${line}\n`);
    },
  };
}
