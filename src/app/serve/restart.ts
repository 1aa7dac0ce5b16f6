import { Fault } from "../../base/fault.js";
import type { Notes } from "../../ports/notes.js";
import { asFault } from "../report.js";
import { Successor } from "./successor.js";

// Restarts that are asked for over the control socket. Outlives the volume: a restart that failed is told by the server that went on.
//
//   idle ──begin()──► starting ──ready──► `wanted` resolves, the server leaves ──► the process ends
//    ▲                   └── ended before ──► failed              └── the successor ended ──► failed
//    └───────────────────────────────────────────┘ (may be asked for again)

export interface RestartReport {
  readonly state: "starting" | "leaving" | "failed";
  /** Process of the successor. */
  readonly pid: number;
  /** Why it failed. */
  readonly failed: string | null;
}

export class Restarts {
  report: RestartReport | null = null;
  readonly #notes: Notes;
  readonly #env: NodeJS.ProcessEnv;
  #resolve: (successor: Successor) => void = () => {};
  #wanted!: Promise<Successor>;
  /** Somebody may wait for the promise that there is. */
  #isWanted = false;

  constructor(notes: Notes, env: NodeJS.ProcessEnv) {
    this.#notes = notes;
    this.#env = env;
    this.#renew();
  }

  /** Resolves when a successor waits for what we have. Another promise after a failure later than that. */
  get wanted(): Promise<Successor> {
    return this.#wanted;
  }

  /** The process of a successor that is being started, or why there is none. */
  begin(program: readonly string[]): { readonly pid: number } | Fault {
    if (this.report !== null && this.report.state !== "failed")
      return new Fault(
        "TRIVET_E_REFUSED",
        `it is being restarted already, as process ${this.report.pid}`,
      );
    let successor: Successor;
    try {
      successor = Successor.start(program, this.#env);
    } catch (error) {
      const fault = asFault(error);
      if (fault === undefined) throw error;
      return fault;
    }
    const { pid } = successor;
    this.report = { state: "starting", pid, failed: null };
    this.#notes("info", "restart.begun", `process ${pid} is started to take over`);
    successor.ready().then(
      () => {
        this.report = { state: "leaving", pid, failed: null };
        this.#isWanted = true;
        this.#resolve(successor);
      },
      (error: unknown) => {
        successor.close();
        this.failed(pid, error instanceof Error ? error.message : `${error}`);
      },
    );
    return { pid };
  }

  /** The server goes on as it was. */
  failed(pid: number, why: string): void {
    this.report = { state: "failed", pid, failed: why };
    this.#notes("error", "restart.failed", `the restart failed, and this server goes on: ${why}`);
    if (this.#isWanted) this.#renew();
  }

  #renew(): void {
    this.#isWanted = false;
    this.#wanted = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }
}
