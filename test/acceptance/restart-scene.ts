import { type ChildProcess, execFile, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Test } from "tap";
import { NbdClient } from "./client.js";
import { Ledger } from "./ledger.js";
import { Program, READY, Rig } from "./rig.js";
import { Steady } from "./steady.js";

// A volume with real processes whose server is another process after each restart.

const GEOMETRY = { blockSize: 4096, extentSize: 64, extentCount: 16 };
export const BLOCKS = 512;
/** Where the second client's part of the volume begins. */
export const HALF = BLOCKS * 4096;
const TRIVET = join(process.cwd(), "build", "bin", "trivet");

export interface Outcome {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export class Scene {
  readonly rig = new Rig();
  readonly #pids: number[] = [];
  readonly #managed: Managed[] = [];
  /** The server that serves. */
  pid = 0;

  async open(t: Test, ...more: string[]): Promise<void> {
    await this.prepare(t);
    await this.serve(...more);
  }
  /** All but the server. */
  async prepare(t: Test): Promise<void> {
    t.teardown(async () => {
      for (const one of this.#managed) await one.end();
      for (const pid of this.#pids) kill(pid, "SIGKILL");
      await this.rig.remove();
    });
    await this.rig.create(GEOMETRY);
    await this.rig.startAll();
  }
  /** A server under a service manager. */
  async manage(...more: string[]): Promise<Managed> {
    const managed = new Managed(this.rig, more);
    this.#managed.push(managed);
    await managed.isReady();
    return managed;
  }
  async serve(...more: string[]): Promise<void> {
    const program = await this.rig.serve(["--arena", "32M", "--degraded-after", "1s", ...more]);
    this.pid = program.child.pid!;
    this.#pids.push(this.pid);
  }
  trivet(...args: string[]): Promise<Outcome> {
    return new Promise((resolve) => {
      const env = { ...process.env, RUNTIME_DIRECTORY: this.rig.runtime };
      const child = execFile(TRIVET, args, { env }, (_, stdout, stderr) =>
        resolve({ status: child.exitCode ?? 128, stdout, stderr }),
      );
    });
  }
  async restart(): Promise<Outcome> {
    const outcome = await this.trivet("restart", "--json");
    if (outcome.status === 0) {
      this.pid = JSON.parse(outcome.stdout).pid;
      this.#pids.push(this.pid);
    }
    return outcome;
  }
  /** The volume of a file, on a unix socket only. */
  async serveFile(file: string): Promise<void> {
    await this.#begin(["serve", file]);
  }
  async serveMemory(): Promise<void> {
    await this.#begin(["serve", "--memory", "4M", "--socket", this.rig.socket]);
  }
  async #begin(args: readonly string[]): Promise<void> {
    const env = { ...process.env, RUNTIME_DIRECTORY: this.rig.runtime };
    const program = new Program(TRIVET, args, env);
    this.rig.server = program;
    this.pid = program.child.pid!;
    this.#pids.push(this.pid);
    await program.prints(READY);
  }
  /** To be ended with the test. */
  found(pid: number): void {
    this.#pids.push(pid);
  }
  tcp(): Promise<NbdClient> {
    return NbdClient.connect({ port: this.rig.nbdPort });
  }
  unix(path = this.rig.socket): Promise<NbdClient> {
    return NbdClient.connect({ path });
  }
  /** A client over TCP and one over a unix socket, each with half of the volume. */
  async load(ledgers: readonly Ledger[]): Promise<Steady[]> {
    return [
      new Steady(await this.tcp(), 0, ledgers[0]!),
      new Steady(await this.unix(), HALF, ledgers[1]!),
    ];
  }
  /** Two clients over a unix socket. */
  async loadAt(path: string, books: readonly Ledger[]): Promise<Steady[]> {
    return [
      new Steady(await this.unix(path), 0, books[0]!),
      new Steady(await this.unix(path), HALF, books[1]!),
    ];
  }
  async stop(): Promise<void> {
    kill(this.pid, "SIGTERM");
    for (let i = 0; i < 600 && isThere(this.pid); i++) await sleep(50);
  }
}

/** A server, and a service manager that keeps descriptors for it (`fixture/manager.py`). */
export class Managed {
  readonly #child: ChildProcess;
  output = "";
  #words = "";
  #starts = 1;
  readonly #ended: Promise<unknown>;

  constructor(rig: Rig, more: readonly string[]) {
    const targets = rig.ports.flatMap((port) => ["--target", `127.0.0.1:${port}`]);
    const where = ["--address", `127.0.0.1:${rig.nbdPort}`, "--socket", rig.socket];
    const state = ["--state-dir", join(rig.dir, "state"), "--arena", "32M"];
    const manager = join(process.cwd(), "test", "acceptance", "fixture", "manager.py");
    this.#child = spawn(
      "/usr/bin/python3",
      [manager, join(rig.dir, "notify"), TRIVET, "serve", ...targets, ...where, ...state, ...more],
      { env: { ...process.env, RUNTIME_DIRECTORY: rig.runtime }, stdio: ["pipe", "pipe", "pipe"] },
    );
    this.#child.stdout?.on("data", (data: Buffer) => {
      this.#words += data.toString();
    });
    this.#child.stderr?.on("data", (data: Buffer) => {
      this.output += data.toString();
    });
    this.#ended = new Promise((resolve) => this.#child.once("exit", resolve));
  }

  get pid(): number {
    return Number(this.#all(/^started (\d+)$/gm).at(-1) ?? 0);
  }
  /** Descriptors in the store. */
  get stored(): number {
    return Number(this.#all(/^stored (\d+)$/gm).at(-1) ?? 0);
  }
  send(command: string): void {
    this.#child.stdin?.write(`${command}\n`);
  }
  async isReady(): Promise<void> {
    await this.#until(() => this.#all(/^(ready)$/gm).length >= this.#starts);
  }
  async start(): Promise<void> {
    this.#starts = this.#all(/^(ready)$/gm).length + 1;
    this.send("start");
    await this.isReady();
  }
  /** Its exit status; negative: the signal that ended it. */
  stop(): Promise<number> {
    return this.#end("stop");
  }
  kill(): Promise<number> {
    return this.#end("kill");
  }
  async end(): Promise<void> {
    this.send("quit");
    await this.#ended;
  }

  async #end(command: string): Promise<number> {
    const before = this.#all(/^ended (-?\d+)$/gm).length;
    this.send(command);
    await this.#until(() => this.#all(/^ended (-?\d+)$/gm).length > before);
    return Number(this.#all(/^ended (-?\d+)$/gm).at(-1));
  }
  #all(pattern: RegExp): string[] {
    return [...this.#words.matchAll(pattern)].map((one) => one[1]!);
  }
  async #until(done: () => boolean): Promise<void> {
    for (const end = performance.now() + 40_000; !done(); await sleep(5))
      if (performance.now() > end || this.#child.exitCode !== null)
        throw new Error(`waited in vain:\n${this.#words}\n${this.output}`);
  }
}

export function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It is gone.
  }
}
/** Also false for one that has ended and that nobody has waited for. */
export function isThere(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) Z/s.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

export const ledgers = (chance: () => number): Ledger[] =>
  [0, 1].map(() => new Ledger(BLOCKS, chance));

export const run = (command: string, ...args: string[]): Promise<Outcome> =>
  new Promise((resolve) => {
    const child = execFile(command, args, (_, stdout, stderr) =>
      resolve({ status: child.exitCode ?? 128, stdout, stderr }),
    );
  });
