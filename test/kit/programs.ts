import { type ChildProcess, execFile, spawn } from "node:child_process";
import { createServer } from "node:net";
import { join } from "node:path";
import { makeFolder, makeRuntimeFolder, removeFolder } from "./folders.js";

/** The built programs, run as users run them. Called before a test ends, `cleanUp` ends what still runs. */

const BIN = new URL("../../../build/bin/", import.meta.url).pathname;
const REPAIR_PORT_OFFSET = 4000;

export interface Outcome {
  /** Exit status; 128 + its number for a signal. */
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

/** State and sockets must not go where the user's own are. */
const stateFolder = makeFolder();
const runtimeFolder = makeRuntimeFolder();
process.on("exit", () => {
  removeFolder(stateFolder);
  removeFolder(runtimeFolder);
});
const environment = (more: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv => {
  const env = { ...process.env };
  // tap's own settings would be applied to the programs, too.
  delete env.NODE_OPTIONS;
  return { ...env, STATE_DIRECTORY: stateFolder, RUNTIME_DIRECTORY: runtimeFolder, ...more };
};

export const programPath = (name: string): string =>
  name.startsWith("trivet") || name.startsWith("crucible-") ? join(BIN, name) : name;

/** Runs a program to its end. Ours by their names, others from the PATH. */
export function run(
  name: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      programPath(name),
      args,
      { env: environment(options.env), cwd: options.cwd, maxBuffer: 1 << 28 },
      (error, stdout, stderr) => {
        if (error !== null && child.exitCode === null && child.signalCode === null) reject(error);
        else resolve({ status: child.exitCode ?? 128, stdout, stderr });
      },
    );
    child.stdin?.end();
  });
}

export const trivet = (...args: string[]): Promise<Outcome> => run("trivet", args);

/** A server in the background. */
export class Server {
  readonly child: ChildProcess;
  /** Standard output and error together, in order of arrival. */
  output = "";
  readonly #ended: Promise<number>;
  #changed: (() => void) | undefined;

  constructor(name: string, args: readonly string[], options: RunOptions = {}) {
    this.child = spawn(programPath(name), args, {
      env: environment(options.env),
      cwd: options.cwd,
      stdio: ["pipe", "pipe", "pipe"],
    });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.on("data", (chunk: Buffer) => {
        this.output += chunk.toString();
        this.#changed?.();
      });
    }
    this.#ended = new Promise((resolve) => {
      this.child.once("error", () => resolve(127));
      this.child.once("close", (status) => {
        resolve(status ?? 128);
        this.#changed?.();
      });
    });
    running.add(this);
    void this.#ended.then(() => running.delete(this));
  }

  get hasEnded(): boolean {
    return !running.has(this);
  }

  /** Resolves with the match once the output has it; rejects when the program ends before, or after `seconds`. */
  async says(pattern: RegExp, seconds = 30): Promise<RegExpExecArray> {
    const deadline = performance.now() + seconds * 1000;
    for (;;) {
      const match = pattern.exec(this.output);
      if (match !== null) return match;
      const left = deadline - performance.now();
      if (this.hasEnded || left <= 0) {
        throw new Error(
          `${this.hasEnded ? "ended" : "took too long"} without saying ${pattern}:\n${this.output}`,
        );
      }
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
        setTimeout(resolve, Math.min(left, 250));
      });
    }
  }

  async ended(seconds = 60): Promise<number> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`still runs:\n${this.output}`)), seconds * 1000);
    });
    try {
      return await Promise.race([this.#ended, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<number> {
    this.child.kill(signal);
    return await this.ended();
  }
}

const running = new Set<Server>();

export async function cleanUp(): Promise<void> {
  for (const server of [...running]) {
    server.child.kill("SIGKILL");
    await server.ended();
  }
}

const isFree = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });

/**
 * Test programs run side by side, and a server that is killed wants its port again: so every process takes ports from a slice of its own, below
 * those that the kernel gives to outgoing connections. It has a slice while it listens on the first port of it.
 */
const PORTS_FROM = 11_000;
const SLICES = 64;
const SLICE_PORTS = Math.floor(REPAIR_PORT_OFFSET / SLICES);
let slice: Promise<number> | undefined;
let taken = 0;

async function claimSlice(): Promise<number> {
  for (let i = 0; i < SLICES; i++) {
    const first = PORTS_FROM + ((process.pid + i) % SLICES) * SLICE_PORTS;
    const server = createServer().unref();
    const isOurs = await new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false));
      server.listen(first, "127.0.0.1", () => resolve(true));
    });
    if (isOurs) return first;
  }
  throw new Error("no slice of ports is free");
}

/** A free port on loopback; the one for repair above it is free, too. */
export async function freePort(): Promise<number> {
  slice ??= claimSlice();
  const first = await slice;
  for (let i = 1; i < SLICE_PORTS; i++) {
    const port = first + 1 + (taken++ % (SLICE_PORTS - 1));
    if ((await isFree(port)) && (await isFree(port + REPAIR_PORT_OFFSET))) return port;
  }
  throw new Error("no port of this process's slice is free");
}

/** Serves a region on a free port and waits until it does. */
export async function serveRegion(
  directory: string,
  ...more: string[]
): Promise<{ server: Server; port: number; target: string }> {
  const port = await freePort();
  const server = new Server("trivet", ["region", "run", directory, "--port", `${port}`, ...more]);
  await server.says(/is served on/);
  return { server, port, target: `127.0.0.1:${port}` };
}

export const targetOptions = (targets: readonly string[]): string[] =>
  targets.flatMap((target) => ["--target", target]);
