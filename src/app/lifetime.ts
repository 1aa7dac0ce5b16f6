import { notifyManager } from "../host/notify.js";

/** Signals that come within this time belong together: a terminal, npm and a shell may each pass one on. */
const SAME_STOP_MS = 1_000;
const SIGNALS = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1 } as const;
type Signal = keyof typeof SIGNALS;

/**
 * When a server is to end: a signal asks for an orderly stop, a second one later on ends the process at once; a
 * failure inside ends it with an error.
 */
export class Lifetime {
  /** Resolves when an orderly stop is wanted; rejects when something failed. */
  readonly ended: Promise<string>;
  readonly #resolve: (why: string) => void;
  readonly #reject: (error: unknown) => void;
  readonly #onSignal = (signal: Signal) => this.#signalled(signal);
  #stoppingSince: number | undefined;
  #watchdog: NodeJS.Timeout | undefined;

  constructor() {
    let resolve!: (why: string) => void;
    let reject!: (error: unknown) => void;
    this.ended = new Promise((a, b) => {
      resolve = a;
      reject = b;
    });
    this.#resolve = resolve;
    this.#reject = reject;
    // Whoever waits hears of it; until somebody does, it is no unhandled rejection.
    this.ended.catch(() => {});
    for (const signal of Object.keys(SIGNALS) as Signal[]) process.on(signal, this.#onSignal);
  }

  stop(why: string): void {
    this.#stoppingSince ??= performance.now();
    this.#resolve(why);
  }
  fail(error: unknown): void {
    this.#stoppingSince ??= performance.now();
    this.#reject(error);
  }

  /** Resolves with what `work` gives, unless the end comes first: then `undefined`, or a rejection. */
  async until<T>(work: Promise<T>): Promise<T | undefined> {
    return await Promise.race([work, this.ended.then(() => undefined)]);
  }

  /** Asks for an orderly stop when standard input ends: whoever started us is gone. */
  stopWithStdin(): void {
    process.stdin.on("end", () => this.stop("standard input ended"));
    process.stdin.on("error", () => this.stop("standard input ended"));
    process.stdin.resume();
  }

  /** Tells the service manager twice per interval that the event loop turns. */
  keepWatchdog(env: Readonly<Record<string, string | undefined>>): void {
    const { NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID } = env;
    const micros = Number(WATCHDOG_USEC);
    if (NOTIFY_SOCKET === undefined || !(micros > 0)) return;
    if (WATCHDOG_PID !== undefined && WATCHDOG_PID !== `${process.pid}`) return;
    const tell = () => notifyManager(NOTIFY_SOCKET, "WATCHDOG=1");
    tell();
    clearInterval(this.#watchdog);
    this.#watchdog = setInterval(tell, micros / 2000);
  }

  /** Signals have their usual effect again. */
  dispose(): void {
    clearInterval(this.#watchdog);
    for (const signal of Object.keys(SIGNALS) as Signal[]) process.off(signal, this.#onSignal);
  }

  #signalled(signal: Signal): void {
    const since = this.#stoppingSince;
    if (since === undefined) this.stop(signal);
    else if (performance.now() - since > SAME_STOP_MS) process.exit(128 + SIGNALS[signal]);
  }
}
