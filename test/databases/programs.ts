import { type ChildProcess, execFile, spawn } from "node:child_process";

// Programs of other people, run as whom and where is needed.

export interface Settings {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly uid?: number;
  readonly gid?: number;
  readonly timeoutMs?: number;
  /** Exit statuses that are no failure; 0 unless told. */
  readonly statuses?: readonly number[];
}

/** Runs a program to its end; answers its standard output, rejects with all that it said. */
export function command(
  program: string,
  args: readonly string[],
  settings: Settings = {},
): Promise<string> {
  const { timeoutMs = 120_000, statuses = [0], ...where } = settings;
  return new Promise((resolve, reject) => {
    const child = execFile(
      program,
      args,
      { ...where, timeout: timeoutMs, killSignal: "SIGKILL", maxBuffer: 1 << 29 },
      (error, stdout, stderr) => {
        if (child.exitCode !== null && statuses.includes(child.exitCode)) return resolve(stdout);
        const how = child.exitCode ?? child.signalCode ?? error?.message;
        reject(new Error(`${program} ${args.join(" ")}: ${how}\n${stdout}${stderr}`.trim()));
      },
    );
    child.stdin?.end();
  });
}

const OUTPUT_KEPT = 64 * 1024;

/** A program in the background, in a group of its own, so that a ctrl-C meant for us does not end it before its turn. */
export class Daemon {
  readonly child: ChildProcess;
  readonly name: string;
  /** The end of what it said. */
  output = "";
  readonly ended: Promise<number | string>;
  hasEnded = false;

  constructor(
    program: string,
    args: readonly string[],
    settings: Settings & { readonly onLine?: (line: string) => void } = {},
  ) {
    const { onLine, cwd, env, uid, gid } = settings;
    this.name = program.split("/").at(-1)!;
    this.child = spawn(program, args, {
      cwd,
      env,
      ...(uid === undefined ? {} : { uid }),
      ...(gid === undefined ? {} : { gid }),
      detached: true,
      stdio: ["pipe", "pipe", "pipe"],
    });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      let rest = "";
      stream?.setEncoding("utf8").on("data", (text: string) => {
        this.output = (this.output + text).slice(-OUTPUT_KEPT);
        const lines = (rest + text).split("\n");
        rest = lines.pop()!;
        if (onLine !== undefined) for (const line of lines) onLine(line);
      });
    }
    // What it is told after its death goes nowhere.
    this.child.stdin?.on("error", () => {});
    this.ended = new Promise((resolve) => {
      const end = (how: number | string): void => {
        this.hasEnded = true;
        resolve(how);
      };
      this.child.once("error", (error) => end(error.message));
      this.child.once("close", (status, signal) => end(status ?? signal ?? "unknown"));
    });
  }
  get pid(): number {
    return this.child.pid ?? 0;
  }
  tell(text: string): void {
    this.child.stdin?.write(text);
  }
  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<number | string> {
    if (!this.hasEnded) this.child.kill(signal);
    return await this.ended;
  }
}

export const pause = (ms: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, ms));
