import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "../test/kit/programs.js";

// A whole volume of real processes on loopback, for measurements that kill and replace replicas.

const TRIVET = join(process.cwd(), "build", "bin", "trivet");
const START_MS_MAX = 60_000;

/** What is read of `trivet status --json`; keys may be missing in versions that do not have them yet. */
export interface VolumeStatus {
  readonly health: string;
  readonly problems: readonly string[];
  readonly server: { readonly pid: number };
  readonly replicas: readonly {
    readonly state: string;
    readonly about: string;
    readonly refused: string | null;
  }[];
  readonly repair: {
    readonly repaired: number;
    readonly confirmed: number;
    readonly copied_bytes: number;
  } | null;
  readonly memory: {
    readonly writes: { readonly used_bytes: number };
    readonly reads: { readonly used_bytes: number };
  };
}

interface Replica {
  readonly directory: string;
  readonly port: number;
  child: ChildProcess | undefined;
}

export class BenchVolume {
  readonly #replicas: Replica[] = [];
  readonly #folder: string;
  readonly #sizeBytes: number;
  /** The server's write log has to lie in memory. */
  readonly #memory = mkdtempSync("/dev/shm/trivet-bench-");
  #server: ChildProcess | undefined;
  /** The process that took the server's place, nobody's child. */
  #successor: number | undefined;
  #port = 0;
  /** What the server's log told, in order. */
  readonly events: { readonly action: string; readonly atMs: number; readonly text: string }[] = [];

  private constructor(folder: string, sizeBytes: number) {
    this.#folder = folder;
    this.#sizeBytes = sizeBytes;
  }

  /** Three fresh regions below `folder`, served. `serve`: further options of the server. */
  static async start(
    folder: string,
    sizeBytes: number,
    serve: readonly string[],
  ): Promise<BenchVolume> {
    const volume = new BenchVolume(folder, sizeBytes);
    mkdirSync(folder, { recursive: true });
    for (const signal of ["SIGINT", "SIGTERM"] as const)
      process.once(signal, () => volume.#abandon());
    try {
      for (let i = 0; i < 3; i++) {
        const replica = {
          directory: join(folder, `region${i}`),
          port: await freePort(),
          child: undefined,
        };
        volume.#replicas.push(replica);
        await volume.createRegion(i);
        await volume.runReplica(i);
      }
      await volume.#serve(serve);
      return volume;
    } catch (error) {
      await volume.stop();
      throw error;
    }
  }

  get uri(): string {
    return `nbd://127.0.0.1:${this.#port}/`;
  }
  get serverPid(): number {
    return this.#successor ?? this.#server!.pid!;
  }
  directory(index: number): string {
    return this.#replicas[index]!.directory;
  }

  async createRegion(index: number): Promise<void> {
    const size = ["--size", `${this.#sizeBytes}`, "--block-size", "4096"];
    await command("region", "create", this.directory(index), ...size);
  }
  async runReplica(index: number): Promise<void> {
    const replica = this.#replicas[index]!;
    const address = ["--address", "127.0.0.1", "--port", `${replica.port}`];
    replica.child = await started(["region", "run", replica.directory, ...address], /is served on/);
  }
  /** As a power cut of its host would: at once, without a word. */
  async killReplica(index: number): Promise<void> {
    const { child } = this.#replicas[index]!;
    this.#replicas[index]!.child = undefined;
    if (child !== undefined) await ended(child, "SIGKILL");
  }
  removeRegion(index: number): void {
    rmSync(this.directory(index), { recursive: true, force: true });
  }

  async #serve(more: readonly string[]): Promise<void> {
    this.#port = await freePort();
    const args = [
      "serve",
      ...this.#replicas.flatMap(({ port }) => ["--target", `127.0.0.1:${port}`]),
      ...["--address", `127.0.0.1:${this.#port}`],
      ...["--state-dir", join(this.#folder, "state")],
      ...["--control", this.#control],
      ...["--write-log", join(this.#memory, "write-log")],
      ...more,
    ];
    this.#server = await started(args, /"server\.ready"/, (line) => {
      const event = JSON.parse(line) as Record<string, string>;
      const { "event.action": action, "@timestamp": at, message } = event;
      if (action === undefined || at === undefined) return;
      this.events.push({ action, atMs: Date.parse(at), text: message ?? "" });
    });
  }

  get #control(): string {
    return join(this.#folder, "control");
  }
  async status(): Promise<VolumeStatus> {
    return JSON.parse(
      await command("status", "--json", "--control", this.#control),
    ) as VolumeStatus;
  }
  /** Another process takes the server's place; `event` knows nothing of what it notes. */
  async restart(): Promise<void> {
    const text = await command("restart", "--json", "--control", this.#control);
    this.#successor = (JSON.parse(text) as { readonly pid: number }).pid;
  }

  /** Waits for an event of the log that comes after the first `from`. */
  async event(
    actions: readonly string[],
    from: number,
    limitMs: number,
  ): Promise<(typeof this.events)[number]> {
    const deadline = performance.now() + limitMs;
    for (;;) {
      const found = this.events.slice(from).find(({ action }) => actions.includes(action));
      if (found !== undefined) return found;
      if (this.#server?.exitCode !== null || performance.now() > deadline) {
        const last = this.events.slice(-10).map(({ text }) => text);
        throw new Error(`no ${actions.join(" or ")}; the log ended with:\n${last.join("\n")}`);
      }
      await sleep(10);
    }
  }

  /** Asks for the status until `good` likes it. */
  async until(
    what: string,
    good: (status: VolumeStatus) => boolean,
    limitMs: number,
    everyMs = 250,
  ): Promise<VolumeStatus> {
    const deadline = performance.now() + limitMs;
    for (;;) {
      const status = await this.status();
      if (good(status)) return status;
      if (performance.now() > deadline) {
        throw new Error(
          `${what}: not after ${limitMs / 1000} s; ${JSON.stringify(status.replicas)}`,
        );
      }
      await sleep(everyMs);
    }
  }

  /** Somebody has no patience: nothing that was started, and nothing that was written, stays. */
  #abandon(): never {
    this.#server?.kill("SIGKILL");
    if (this.#successor !== undefined) signal(this.#successor, "SIGKILL");
    for (const { child } of this.#replicas) child?.kill("SIGKILL");
    for (const path of [this.#memory, this.#folder]) rmSync(path, { recursive: true, force: true });
    process.exit(1);
  }

  async stop(): Promise<void> {
    const successor = this.#successor;
    if (successor !== undefined) {
      signal(successor, "SIGTERM");
      while (signal(successor, 0)) await sleep(20);
    }
    if (this.#server !== undefined) await ended(this.#server, "SIGTERM");
    for (const { child } of this.#replicas) {
      if (child !== undefined) await ended(child, "SIGTERM");
    }
    rmSync(this.#memory, { recursive: true, force: true });
  }
}

/** Runs a command to its end. `trivet status` ends with 8 or 9 when something needs attention. */
function command(...args: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(TRIVET, args, { maxBuffer: 1 << 26 }, (error, stdout, stderr) => {
      const code = error?.code;
      if (error === null || (args[0] === "status" && (code === 8 || code === 9))) resolve(stdout);
      else reject(new Error(`trivet ${args.join(" ")}: ${stderr.trim()}`));
    });
  });
}

/** Resolves when a line says that it is ready; `hear` gets every line of its log. */
async function started(
  args: readonly string[],
  ready: RegExp,
  hear: (line: string) => void = () => {},
): Promise<ChildProcess> {
  const child = spawn(TRIVET, args, { stdio: ["ignore", "pipe", "pipe"] });
  let last = "";
  let isReady = false;
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on("line", (line) => {
      last = line;
      isReady ||= ready.test(line);
      if (line.startsWith("{")) hear(line);
    });
  }
  const deadline = performance.now() + START_MS_MAX;
  while (!isReady) {
    if (child.exitCode !== null || performance.now() > deadline) {
      child.kill("SIGKILL");
      throw new Error(`trivet ${args.slice(0, 2).join(" ")} did not start: ${last}`);
    }
    await sleep(20);
  }
  return child;
}

async function ended(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once("close", resolve));
  child.kill(signal);
  await gone;
}

/** False: there is no such process any more. */
function signal(pid: number, what: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, what);
  } catch {
    return false;
  }
}
