import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeRuntimeFolder, removeFolder } from "../kit/folders.js";
import { freePort } from "../kit/programs.js";

// Three downstairs and a server as real processes on loopback, in a directory of their own.

const BIN = join(process.cwd(), "build", "bin");

export interface Geometry {
  readonly blockSize: number;
  readonly extentSize: number;
  readonly extentCount: number;
}

/** A child whose output is kept, and whose end can be waited for. */
export class Program {
  readonly child: ChildProcess;
  output = "";
  readonly exited: Promise<number | string>;
  #watchers: (() => void)[] = [];

  constructor(command: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env) {
    this.child = spawn(command, args, { env, stdio: ["ignore", "pipe", "pipe"] });
    const keep = (data: Buffer): void => {
      this.output += data.toString();
      for (const watcher of this.#watchers) watcher();
    };
    this.child.stdout?.on("data", keep);
    this.child.stderr?.on("data", keep);
    this.exited = new Promise((resolve) => {
      this.child.on("error", (error) => {
        this.output += `${error}\n`;
        resolve("spawn");
      });
      this.child.on("close", (code, signal) => {
        resolve(code ?? signal ?? "unknown");
        for (const watcher of this.#watchers) watcher();
      });
    });
  }

  /** Resolves when `text` has been printed `times` times. */
  async prints(text: string, times = 1, timeoutMs = 60_000): Promise<void> {
    const count = (): number => this.output.split(text).length - 1;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(
        () => done(new Error(`no "${text}" within ${timeoutMs} ms in:\n${this.output}`)),
        timeoutMs,
      );
      const done = (error?: Error): void => {
        clearTimeout(timer);
        this.#watchers = this.#watchers.filter((one) => one !== check);
        if (error) reject(error);
        else resolve();
      };
      const check = (): void => {
        if (count() >= times) done();
        else if (this.child.exitCode !== null || this.child.signalCode !== null)
          done(new Error(`ended before printing "${text}":\n${this.output}`));
      };
      this.#watchers.push(check);
      check();
    });
  }

  async stop(signal: NodeJS.Signals): Promise<number | string> {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill(signal);
    return this.exited;
  }
}

/** Runs a program to its end; throws with its output when the status is not as wanted. */
export function run(
  command: string,
  args: readonly string[],
  options: { status?: number; env?: NodeJS.ProcessEnv; timeoutMs?: number } = {},
): string {
  const done = spawnSync(command, args, {
    env: options.env ?? process.env,
    encoding: "utf8",
    timeout: options.timeoutMs ?? 120_000,
    maxBuffer: 64 * 1024 * 1024,
  });
  const shown = `${done.stdout}${done.stderr}`;
  if (done.error !== undefined || done.status !== (options.status ?? 0))
    throw new Error(
      `${command} ${args.join(" ")}: status ${done.status ?? done.signal}, ${done.error ?? ""}\n${shown}`,
    );
  return shown;
}
export const trivet = (args: readonly string[], status = 0): string =>
  run(join(BIN, "trivet"), args, { status });

export class Rig {
  readonly dir: string;
  /** What servers keep over a restart, in memory. */
  readonly runtime = makeRuntimeFolder();
  readonly ports: number[] = [];
  /** Where a server is told that a replica is, when something stands between them. */
  readonly detours = new Map<number, number>();
  nbdPort = 0;
  readonly downstairs: (Program | undefined)[] = [];
  server: Program | undefined;
  readonly #extra: Program[] = [];

  constructor(base = tmpdir()) {
    this.dir = mkdtempSync(join(base, "trivet-"));
  }
  get socket(): string {
    return join(this.dir, "nbd.sock");
  }
  get uri(): string {
    return `nbd://127.0.0.1:${this.nbdPort}/`;
  }
  get unixUri(): string {
    return `nbd+unix:///?socket=${this.socket}`;
  }
  region(i: number): string {
    return join(this.dir, `region${i}`);
  }

  async create({ blockSize, extentSize, extentCount }: Geometry): Promise<void> {
    for (let i = 0; i < 3; i++) {
      const size = ["--block-size", `${blockSize}`, "--extent-size", `${extentSize}`];
      trivet(["region", "create", this.region(i), ...size, "--extent-count", `${extentCount}`]);
      this.ports.push(await freePort());
    }
    this.nbdPort = await freePort();
  }

  async startDownstairs(i: number): Promise<void> {
    const address = ["--address", "127.0.0.1", "--port", `${this.ports[i]}`];
    const program = new Program(join(BIN, "trivet"), ["region", "run", this.region(i), ...address]);
    this.downstairs[i] = program;
    await program.prints(`${this.ports[i]}`);
  }
  async startAll(): Promise<void> {
    await Promise.all([0, 1, 2].map((i) => this.startDownstairs(i)));
  }

  /** Starts a server; the one on the usual port is `this.server`. */
  async serve(
    args: readonly string[] = [],
    env: NodeJS.ProcessEnv = process.env,
  ): Promise<Program> {
    const program = this.launch(
      ["--address", `127.0.0.1:${this.nbdPort}`, "--socket", this.socket, ...args],
      env,
    );
    this.server = program;
    await program.prints(READY);
    return program;
  }
  /** RUNTIME_DIRECTORY in `env` makes it a server of another host. */
  launch(args: readonly string[], env: NodeJS.ProcessEnv = process.env): Program {
    const targets = this.ports.flatMap((port, i) => [
      "--target",
      `127.0.0.1:${this.detours.get(i) ?? port}`,
    ]);
    const state = ["--state-dir", join(this.dir, "state")];
    const program = new Program(join(BIN, "trivet"), ["serve", ...targets, ...state, ...args], {
      RUNTIME_DIRECTORY: this.runtime,
      ...env,
    });
    this.#extra.push(program);
    return program;
  }

  async stopServer(): Promise<number | string | undefined> {
    const status = await this.server?.stop("SIGTERM");
    this.server = undefined;
    return status;
  }
  /** Orderly: server first. */
  async stopAll(): Promise<void> {
    await this.stopServer();
    for (const program of this.downstairs) await program?.stop("SIGTERM");
  }
  async remove(): Promise<void> {
    for (const program of [...this.#extra, ...this.downstairs]) await program?.stop("SIGKILL");
    rmSync(this.dir, { recursive: true, force: true });
    removeFolder(this.runtime);
  }

  /** The images of the three regions, by `trivet region export`. */
  exports(): string[] {
    return [0, 1, 2].map((i) => {
      const image = join(this.dir, `image${i}`);
      rmSync(image, { force: true });
      trivet(["region", "verify", this.region(i)]);
      trivet(["region", "export", this.region(i), image]);
      return image;
    });
  }
}

/** What `trivet serve` prints when clients are let in. */
export const READY = "serving";
