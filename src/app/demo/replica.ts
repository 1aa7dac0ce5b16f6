import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync, renameSync, statSync } from "node:fs";
import { connect } from "node:net";
import { fileURLToPath } from "node:url";
import { Fault } from "../../base/fault.js";
import type { Notes } from "../../ports/notes.js";

const RESTART_MS = 3_000;
const START_MS_MAX = 30_000;
const POLL_MS = 20;
const STOP_MS_MAX = 5_000;
const LOG_BYTES_MAX = 1 << 20;
const LOG_TAIL_LINES = 3;
const LOOPBACK = "127.0.0.1";

/**
 * One downstairs of a demo: a child process that is started again when it dies, as a service manager would.
 *
 *   stopped ──start()──▶ running ──(dies)──▶ waiting RESTART_MS ──▶ running
 *      ▲──────────────────stop()──────────────┴─────────────────────────┘
 *
 * The child leads a session of its own, so that ctrl-C reaches only us and we stop things in order; and
 * it ends when its standard input does, so that it never outlives us.
 */
export class Replica {
  readonly index: number;
  readonly region: string;
  readonly port: number;
  readonly logPath: string;
  readonly #engine: string;
  readonly #notes: Notes;
  #child: ChildProcess | undefined;
  #timer: NodeJS.Timeout | undefined;
  #stopping = false;

  constructor(index: number, region: string, port: number, engine: string, notes: Notes) {
    this.index = index;
    this.region = region;
    this.port = port;
    this.logPath = `${region}.log`;
    this.#engine = engine;
    this.#notes = notes;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** Resolves when it accepts connections. Throws a Fault with the end of its log when it does not come up. */
  async start(): Promise<void> {
    this.#rotateLog();
    this.#spawn();
    const deadline = performance.now() + START_MS_MAX;
    while (!(await this.#answers())) {
      const exited = this.#child === undefined;
      if (exited || performance.now() > deadline) {
        const why = exited ? "ended" : "did not answer";
        throw new Fault(
          "TRIVET_E_DIAL",
          `the downstairs of ${this.region} ${why}; the end of ${this.logPath}: ${this.#logTail()}`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    clearTimeout(this.#timer);
    const child = this.#child;
    if (child === undefined) return;
    await new Promise<void>((resolve) => {
      const patience = setTimeout(() => child.kill("SIGKILL"), STOP_MS_MAX);
      child.once("exit", () => {
        clearTimeout(patience);
        resolve();
      });
      child.kill("SIGTERM");
    });
  }

  #spawn(): void {
    const log = openSync(this.logPath, "a", 0o644);
    const program = fileURLToPath(new URL("../trivet.js", import.meta.url));
    const args = ["region", "run", this.region, "--address", LOOPBACK, "--port", `${this.port}`];
    args.push("--engine", this.#engine, "--until-stdin-ends");
    const child = spawn(process.execPath, ["--enable-source-maps", program, ...args], {
      stdio: ["pipe", log, log],
      detached: true,
    });
    closeSync(log);
    // Its end is reported by `exit`; a closed pipe alone is no news.
    child.stdin?.on("error", () => {});
    this.#child = child;
    child.once("error", (error) => this.#ended(child, error.message));
    child.once("exit", (status, signal) => this.#ended(child, signal ?? `status ${status}`));
  }

  #ended(child: ChildProcess, how: string): void {
    if (this.#child !== child) return;
    this.#child = undefined;
    if (this.#stopping) return;
    this.#notes(
      "warn",
      "demo.replica-ended",
      `downstairs ${this.index} ended (${how}); it is started again in ${RESTART_MS / 1000} s`,
    );
    this.#timer = setTimeout(() => {
      this.#spawn();
      this.#notes(
        "info",
        "demo.replica-started",
        `downstairs ${this.index} runs again, process ${this.pid}`,
      );
    }, RESTART_MS);
  }

  #answers(): Promise<boolean> {
    return new Promise((resolve) => {
      const socket = connect(this.port, LOOPBACK);
      const end = (answer: boolean) => {
        socket.destroy();
        resolve(answer);
      };
      socket.once("connect", () => end(true));
      socket.once("error", () => end(false));
    });
  }

  #rotateLog(): void {
    if (!existsSync(this.logPath) || statSync(this.logPath).size < LOG_BYTES_MAX) return;
    renameSync(this.logPath, `${this.logPath}.old`);
  }

  #logTail(): string {
    const lines = readFileSync(this.logPath, "utf8").trim().split("\n");
    return lines.slice(-LOG_TAIL_LINES).join(" / ");
  }
}
