/**
 * The shape of the command table. One table gives parsing, help and `--version` of every command; what a
 * command does is loaded only when it is run, so that help works on a machine where nothing else does.
 */

export interface OptionSpec {
  /** Placeholder of the value in help; absent: a switch. */
  readonly value?: string;
  readonly short?: string;
  readonly multiple?: boolean;
  /** Shown in help only; whoever reads the option applies it. */
  readonly shownDefault?: string;
  readonly help: string;
}
export type OptionSpecs = Readonly<Record<string, OptionSpec>>;

export interface OperandSpec {
  readonly name: string;
  readonly required: boolean;
  /** Takes everything that is left. */
  readonly multiple?: boolean;
}

export interface Command {
  readonly name: string;
  readonly summary: string;
  /** Further lines of help. */
  readonly details?: readonly string[];
  readonly operands: readonly OperandSpec[];
  readonly options: OptionSpecs;
  /** Throws a Fault when it failed. */
  run(input: Input, shell: Shell): Promise<void>;
}

/** Exit statuses of commands that succeeded and have bad news; those of failures are in the fault table. */
export const EXIT = { ok: 0, degraded: 8, down: 9 } as const;

export interface Group {
  readonly name: string;
  readonly summary: string;
  readonly details?: readonly string[];
  readonly commands: readonly (Command | Group)[];
}

export const isGroup = (entry: Command | Group): entry is Group => "commands" in entry;

/** What was typed, checked against the command's table. Names that the table lacks are a bug of ours. */
export interface Input {
  readonly operands: readonly string[];
  flag(name: string): boolean;
  text(name: string): string | undefined;
  list(name: string): readonly string[];
}

/** How errors and help of a program look: our own style, or that of the program it stands in for. */
export type ProgramStyle = "trivet" | "crucible-nbd-server" | "crucible-downstairs";

/** The process as commands see it. */
export interface Shell {
  readonly style: ProgramStyle;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** A line on standard output. */
  print(line: string): void;
  /** A line on standard error. */
  warn(line: string): void;
  /** The exit status when nothing is thrown; 0 unless told. */
  endWith(status: number): void;
}
