import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, writeSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { Fault } from "../../base/fault.js";
import {
  memoryFile,
  receiveDescriptors,
  sendDescriptors,
  socketPair,
} from "../../host/descriptors.js";
import { openHost } from "../../host/open.js";
import {
  closeDescriptors,
  descriptorsOf,
  type Inheritance,
  inheritanceBytes,
  readInheritance,
  readMemoryFile,
} from "./inheritance.js";

// The process that takes over from this one, seen from both sides. It is started before this one stops anything, loads everything, and
// waits; whatever it then needs is passed as open descriptors. Until it serves, this one keeps its own copies and can go on instead.
//
//   started ──"ready"──► (this one lets go of everything) ──passed──► "serving": this one ends
//      └──────ended───────────────────────────────────────────┴─────► this one goes on
//
// Two channels: a pipe for its words, and a socket pair for descriptors, which Node's own would lose.

const VARIABLE = "TRIVET_SUCCESSOR";
/** Where the channels are in the successor. */
const WORDS = 3;
const DESCRIPTORS = 4;
/** Long, since nobody waits meanwhile: a machine without memory or processor time to spare shall be upgraded as well. */
const READY_MS_MAX = 300_000;
const WARM_UP_BYTES = 1024 * 1024;

export class Successor {
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #socket: number;
  #said = "";
  #hasEnded = false;
  #changed: () => void = () => {};

  private constructor(child: ChildProcess, pid: number, socket: number) {
    this.pid = pid;
    this.#child = child;
    this.#socket = socket;
    child.stdio[WORDS]?.on("data", (chunk: Buffer) => {
      this.#said += chunk.toString("latin1");
      this.#changed();
    });
    const ended = (): void => {
      this.#hasEnded = true;
      this.#changed();
    };
    // Not at its exit: its last word may come after that, and it counts.
    child.once("close", ended);
    child.once("error", ended);
  }

  /** `program`: Node, its options, and a script of the version that is to be run. Throws a Fault when it cannot be started at all. */
  static start(program: readonly string[], env: NodeJS.ProcessEnv): Successor {
    const [command, ...rest] = program as [string, ...string[]];
    const script = rest.pop()!;
    // The same of our programs that this process is, with the same arguments.
    const ours = join(dirname(script), basename(process.argv[1]!));
    const [near, far] = socketPair();
    try {
      const child = spawn(command, [...rest, ours, ...process.argv.slice(2)], {
        env: successorEnvironment(env),
        stdio: ["inherit", "inherit", "inherit", "pipe", far],
      });
      if (child.pid === undefined) {
        child.once("error", () => {});
        throw new Fault("TRIVET_E_HAND_OVER", `${command} ${ours} cannot be started`);
      }
      return new Successor(child, child.pid, near);
    } catch (error) {
      closeSync(near);
      throw error;
    } finally {
      closeSync(far);
    }
  }

  /** Resolves when it has loaded everything and waits; rejects with a Fault when it ended, or takes too long. */
  async ready(): Promise<void> {
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      this.kill();
    }, READY_MS_MAX);
    try {
      if (await this.#says("ready\n")) return;
      const late = `was not ready after ${READY_MS_MAX / 1000} s`;
      throw new Fault(
        "TRIVET_E_HAND_OVER",
        `the successor ${isLate ? late : "ended before it was ready"}`,
      );
    } finally {
      clearTimeout(timer);
    }
  }

  /** Gives it everything. Throws a Fault. */
  pass(volume: string, left: Pick<Inheritance, "listeners" | "clients" | "log">): void {
    const state = memoryFile("trivet-state", inheritanceBytes(volume, left));
    try {
      sendDescriptors(this.#socket, [state]);
      sendDescriptors(this.#socket, descriptorsOf(left));
    } finally {
      closeSync(state);
    }
  }
  /** Resolves with true when it is about to serve, with false when it ended before and never will. */
  serves(): Promise<boolean> {
    return this.#says("serving\n");
  }

  /** Not needed, or not answering. */
  kill(): void {
    this.#child.kill("SIGKILL");
  }
  close(): void {
    closeDescriptors([this.#socket]);
  }

  async #says(words: string): Promise<boolean> {
    while (!this.#said.includes(words)) {
      if (this.#hasEnded) return false;
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
    return true;
  }
}

/** What was meant for our process is not for the next one. */
function successorEnvironment(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const next: NodeJS.ProcessEnv = { ...env, [VARIABLE]: "1" };
  delete next.WATCHDOG_PID;
  return next;
}

/**
 * In a process that was started to take over: says that it is ready, and waits, doing nothing else, until it is given everything. Null: this
 * one was started in the usual way. Throws a Fault.
 */
export async function inheritFromPredecessor(
  env: Record<string, string | undefined>,
  volume: string,
): Promise<Inheritance | null> {
  if (env[VARIABLE] === undefined) return null;
  delete env[VARIABLE];
  // What is done for the first time takes longest, and would be done while clients wait.
  await openHost({ arenaBytes: WARM_UP_BYTES }).close();
  writeSync(WORDS, "ready\n");
  const [state] = receive();
  const told = readInheritance(readMemoryFile(state!), volume);
  const descriptors: number[] = [];
  while (descriptors.length < told.descriptors) descriptors.push(...receive());
  closeDescriptors([state, DESCRIPTORS]);
  return {
    ...told.with(descriptors),
    taken: () => {
      writeSync(WORDS, "serving\n");
      closeDescriptors([WORDS]);
    },
  };
}

function receive(): number[] {
  const found = receiveDescriptors(DESCRIPTORS);
  if (found === undefined || found.length === 0)
    throw new Fault(
      "TRIVET_E_HAND_OVER",
      "the server that was to be succeeded did not come so far",
    );
  return found;
}
