import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Rig, run, trivet } from "../acceptance/rig.js";
import { prng } from "../kit/world.js";
import { BLOCK_BYTES, Ledger } from "./ledger.js";
import { Workload } from "./workload.js";

const BLOCKS = 2048;
const GEOMETRY = { blockSize: BLOCK_BYTES, extentSize: 256, extentCount: 8 };
const CLIENTS = 2;
const DEPTH = 8;
/** How long a round lets the programs work, and how long it leaves each of its victims dead. */
const WORK_MS = 400;
const DEAD_MS = 400;
/** Within this after the last restart, a flush must be answered. */
const RECOVERY_MS = 60_000;

/** Who dies in a round, and how likely that is. */
const A_DOWNSTAIRS = { name: "a downstairs", server: false, downstairs: 1, part: 0.3 };
const EVERYTHING = { name: "everything", server: true, downstairs: 3, part: 0.1 };
const VICTIMS = [
  A_DOWNSTAIRS,
  { name: "the server", server: true, downstairs: 0, part: 0.25 },
  { name: "the server and a downstairs", server: true, downstairs: 1, part: 0.2 },
  { name: "two downstairs", server: false, downstairs: 2, part: 0.15 },
  EVERYTHING,
];

export interface Report {
  readonly rounds: number;
  readonly kills: Readonly<Record<string, number>>;
  readonly writes: number;
  readonly flushes: number;
  readonly reads: number;
  /** Writes that servers found in the log of one that was killed. */
  readonly again: number;
  /** Connections that clients lost. */
  readonly losses: number;
  readonly seconds: number;
}

export interface Options {
  readonly tell?: (line: string) => void;
  /** More options for the server. */
  readonly serve?: readonly string[];
  /** Before anything is started. */
  readonly prepare?: (regions: readonly string[]) => void;
  /** In the last round everything dies, and this is done to what was left. */
  readonly sabotage?: (regions: readonly string[]) => void;
}

/**
 * Real programs, killed at random moments under load and started again. Rejects with what went wrong, the seed and what led to
 * it, and then keeps the regions.
 */
export async function killRounds(
  rounds: number,
  seed: number,
  options: Options = {},
): Promise<Report> {
  const play = new Play(seed, options);
  try {
    const report = await play.run(rounds);
    await play.remove();
    return report;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    await play.killAll();
    throw new Error(`seed ${seed}: ${why}\n${play.trace()}`, { cause: error });
  }
}

class Play {
  readonly #rig = new Rig();
  readonly #chance: () => number;
  readonly #seed: number;
  readonly #options: Options;
  readonly #ledger = new Ledger(BLOCKS);
  readonly #started = performance.now();
  readonly #lines: string[] = [];
  readonly #kills: Record<string, number> = {};
  #again = 0;
  #workload: Workload | undefined;

  constructor(seed: number, options: Options) {
    this.#seed = seed;
    this.#chance = prng(seed);
    this.#options = options;
  }

  async run(rounds: number): Promise<Report> {
    const rig = this.#rig;
    await rig.create(GEOMETRY);
    this.#options.prepare?.(this.#regions);
    await rig.startAll();
    await this.#serve();
    // Chance of its own: what a client does depends on how fast answers come, what is killed must not.
    const workload = new Workload(this.#ledger, prng(this.#seed + 1), rig.nbdPort, CLIENTS);
    this.#workload = workload;
    workload.start(DEPTH);
    for (let round = 1; round <= rounds; round++) {
      const sabotage = round === rounds ? this.#options.sabotage : undefined;
      const name = await Promise.race([this.#round(round, sabotage), workload.failed]);
      this.#kills[name] = (this.#kills[name] ?? 0) + 1;
      if (round % 20 === 0)
        this.#options.tell?.(`${round} rounds, ${this.#seconds().toFixed(0)} s`);
    }
    await this.#end(workload);
    return {
      rounds,
      kills: this.#kills,
      writes: this.#ledger.writes,
      flushes: workload.flushes,
      reads: workload.reads,
      again: this.#again,
      losses: workload.losses,
      seconds: this.#seconds(),
    };
  }

  async #round(round: number, sabotage: Options["sabotage"]): Promise<string> {
    const rig = this.#rig;
    await sleep(this.#chance() * WORK_MS);
    let dice = this.#chance();
    const drawn = VICTIMS.find(({ part }) => {
      dice -= part;
      return dice < 0;
    });
    const victims = sabotage === undefined ? (drawn ?? A_DOWNSTAIRS) : EVERYTHING;
    const order = [0, 1, 2].sort(() => this.#chance() - 0.5).slice(0, victims.downstairs);
    this.#note(`round ${round}: ${victims.name} (${order.join(", ")})`);
    const gone: Promise<unknown>[] = [];
    if (victims.server) {
      gone.push(rig.server!.stop("SIGKILL"));
      this.#ledger.serverDied();
    }
    for (const i of order) gone.push(rig.downstairs[i]!.stop("SIGKILL"));
    await Promise.all(gone);
    sabotage?.(this.#regions);
    const later = async (what: string, start: () => Promise<void>): Promise<void> => {
      await sleep(this.#chance() * DEAD_MS);
      await start();
      this.#note(`round ${round}: ${what} is back`);
    };
    const back = order.map((i) => later(`downstairs ${i}`, () => rig.startDownstairs(i)));
    if (victims.server) back.push(later("the server", () => this.#serve()));
    await Promise.all(back);
    await this.#within(RECOVERY_MS, "a flush after the restart", this.#workload!.flush());
    return victims.name;
  }
  async #serve(): Promise<void> {
    const ack = this.#chance() < 0.5 ? "quorum" : "buffered";
    const memory = ["--arena", "64M"];
    const { output } = await this.#rig.serve([
      "--ack",
      ack,
      ...memory,
      ...(this.#options.serve ?? []),
    ]);
    const again = Number(/"message":"(\d+) writes are written again"/.exec(output)?.[1] ?? 0);
    this.#again += again;
    this.#note(`the server acknowledges ${ack}, and has written ${again} writes again`);
  }

  /** Everything stops in order; then the regions are equal, and hold what was promised. */
  async #end(workload: Workload): Promise<void> {
    const rig = this.#rig;
    await this.#within(RECOVERY_MS, "the workload's end", workload.stop());
    if (workload.failure !== undefined) throw workload.failure;
    await this.#within(RECOVERY_MS, "the last flush", workload.flush());
    // Started anew, so that all three replicas are there, and reconciled, whatever was killed last.
    await this.#stopped("the server", rig.server!.stop("SIGTERM"));
    await this.#serve();
    await this.#within(RECOVERY_MS, "reading it all", workload.readAll());
    workload.leave();
    await this.#stopped("the server", rig.server!.stop("SIGTERM"));
    for (const [i, program] of rig.downstairs.entries())
      await this.#stopped(`downstairs ${i}`, program!.stop("SIGTERM"));
    const [first, ...others] = rig.exports().map((path) => readFileSync(path));
    for (const [i, other] of others.entries())
      if (!other.equals(first!)) throw new Error(`regions 0 and ${i + 1} differ`);
    const dirs = [0, 1, 2].flatMap((i) => ["-d", rig.region(i)]);
    run("build/bin/crucible-downstairs", ["dump", ...dirs]);
    for (const i of [0, 1, 2]) trivet(["region", "verify", rig.region(i)]);
    const wrong = this.#ledger.check(0, first!);
    if (wrong.length > 0) throw new Error(`the image of the regions: ${wrong.join("\n")}`);
  }
  async #stopped(what: string, status: Promise<number | string>): Promise<void> {
    const got = await this.#within(RECOVERY_MS, `the end of ${what}`, status);
    if (got !== 0) throw new Error(`${what} ended with ${got}`);
  }

  async #within<T>(ms: number, what: string, work: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, fail) => {
      timer = setTimeout(() => fail(new Error(`${what} took more than ${ms / 1000} s`)), ms);
    });
    try {
      return await Promise.race([work, late]);
    } finally {
      clearTimeout(timer);
    }
  }
  get #regions(): string[] {
    return [0, 1, 2].map((i) => this.#rig.region(i));
  }
  #seconds(): number {
    return (performance.now() - this.#started) / 1000;
  }
  #note(text: string): void {
    this.#lines.push(`${this.#seconds().toFixed(3)} ${text}`);
  }
  /** The last events, and what the programs that were running last have said. */
  trace(): string {
    const rig = this.#rig;
    const said = (name: string, output = ""): string =>
      `--- ${name}\n${output.split("\n").slice(-25).join("\n")}`;
    return [
      ...this.#lines.slice(-20),
      said("server", rig.server?.output),
      ...rig.downstairs.map((program, i) => said(`downstairs ${i}`, program?.output)),
      `the regions are kept in ${rig.dir}`,
    ].join("\n");
  }
  async killAll(): Promise<void> {
    this.#workload?.leave();
    for (const program of [this.#rig.server, ...this.#rig.downstairs])
      await program?.stop("SIGKILL");
  }
  remove(): Promise<void> {
    return this.#rig.remove();
  }
}

/** For a person or a log. */
export function show(report: Report): string {
  const { rounds, kills, writes, flushes, reads, again, losses, seconds } = report;
  const killed = Object.entries(kills).map(([name, count]) => `${name} ${count} times`);
  return [
    `${rounds} rounds in ${seconds.toFixed(0)} s: killed ${killed.join(", ")}`,
    `${writes} writes, ${reads} reads, ${flushes} flushes; ${losses} connections lost and made again; ${again} writes finished by successors`,
  ].join("\n");
}
