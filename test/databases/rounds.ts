import { chmodSync } from "node:fs";
import { join } from "node:path";
import { until } from "../kit/until.js";
import type { Database } from "./database.js";
import { Disk } from "./disk.js";
import { planRounds, type Round } from "./incidents.js";
import { account, postgresqlFolder } from "./needs.js";
import type { Name } from "./options.js";
import { Postgresql } from "./postgresql.js";
import { command, pause } from "./programs.js";
import { Sqlite } from "./sqlite.js";
import { Volume } from "./volume.js";

// A database on a volume, round after round.

/** After the last incident of a round transactions are committed again within this. */
const RECOVERY_MS = 120_000;
const SYNCS = 20;

export interface Report {
  readonly rounds: number;
  readonly committed: number;
  readonly unheard: number;
  readonly longestMs: number;
  /** How often each kind of thing was done. */
  readonly incidents: Readonly<Record<string, number>>;
  readonly seconds: number;
}

export class Play {
  readonly #name: Name;
  readonly #volume = new Volume();
  readonly #disk: Disk;
  readonly #database: Database;
  readonly #plan: readonly Round[];
  readonly #tell: (line: string) => void;
  readonly #started = performance.now();
  readonly #incidents: Record<string, number> = {};
  #events: string[] = [];
  #attached = 0;
  #suffering: Promise<void> = Promise.resolve();
  #ending: Promise<void> | undefined;

  constructor(name: Name, rounds: number, seed: number, tell: (line: string) => void) {
    this.#name = name;
    this.#plan = planRounds(seed, rounds);
    this.#tell = tell;
    const { dir } = this.#volume.rig;
    // Databases come by here as a user of their own.
    chmodSync(dir, 0o755);
    this.#disk = new Disk(join(dir, "disk"));
    this.#database =
      name === "sqlite"
        ? new Sqlite(this.#disk.root, seed)
        : new Postgresql(postgresqlFolder()!, account()!, this.#disk.root, join(dir, "postgresql"));
  }

  /** Rejects with what went wrong and what led to it. Call `end` afterwards in any case. */
  async run(): Promise<Report> {
    const database = this.#database;
    await this.#volume.start();
    await this.#attach();
    await this.#disk.format();
    await this.#disk.mount();
    await this.#assertFlushes();
    await database.create();
    let committed = 0;
    let unheard = 0;
    let longestMs = 0;
    for (const [i, round] of this.#plan.entries()) {
      unheard += await this.#round(i + 1, round);
      committed += database.committed;
      longestMs = Math.max(longestMs, database.longestMs);
    }
    await database.stop();
    this.#disk.assertSound();
    await this.#disk.unmount();
    await this.#disk.check();
    await this.#disk.detach();
    await this.#volume.finish();
    return {
      rounds: this.#plan.length,
      committed,
      unheard,
      longestMs,
      incidents: this.#incidents,
      seconds: this.#seconds(),
    };
  }

  /** A stack that swallowed syncs would prove nothing. */
  async #assertFlushes(): Promise<void> {
    const before = await this.#volume.flushes();
    const target = `of=${join(this.#disk.root, "synced")}`;
    await command("dd", ["if=/dev/zero", target, "bs=4096", `count=${SYNCS}`, "oflag=dsync"]);
    const flushes = (await this.#volume.flushes()) - before;
    if (flushes < SYNCS) throw new Error(`${SYNCS} syncs were ${flushes} flushes for the server`);
  }

  async #round(number: number, round: Round): Promise<number> {
    const database = this.#database;
    const started = performance.now();
    this.#events = [];
    const isCut = round.end === "power cut";
    this.#note(`round ${number} begins`);
    await database.begin(number, isCut);
    this.#suffering = this.#suffer(round);
    await Promise.race([this.#suffering, database.failed]);
    this.#note(round.end);
    if (isCut) await this.#cut(round);
    else await database.kill();
    this.#incidents[round.end] = (this.#incidents[round.end] ?? 0) + 1;
    const { unheard, checks } = await Promise.race([database.recover(), database.failed]);
    this.#disk.assertSound();
    this.#volume.assertAlive();
    const end = isCut
      ? `a power cut (${["the server", ...round.replicas.map((i) => `replica ${i}`)].join(", ")})`
      : "the database killed";
    const seconds = ((performance.now() - started) / 1000).toFixed(0);
    const longest = (database.longestMs / 1000).toFixed(1);
    this.#tell(
      [
        `${this.#name} ${number}/${this.#plan.length} (${database.about})`,
        `${round.incidents.map(({ name }) => name).join(", ")}; then ${end}`,
        `${database.committed} committed, ${unheard} more found, longest ${longest} s`,
        `${checks} (${seconds} s)`,
      ].join(": "),
    );
    return unheard;
  }
  async #suffer(round: Round): Promise<void> {
    for (const incident of round.incidents) {
      await pause(incident.afterMs);
      this.#assertGoingOn();
      this.#note(incident.name);
      await this.#volume.suffer(incident);
      this.#note(`${incident.name}: all is started again`);
      const kind = incident.name.replace(/ \d.*/, "");
      this.#incidents[kind] = (this.#incidents[kind] ?? 0) + 1;
    }
    const { pulse } = this.#database;
    const goesOn = (): boolean => {
      this.#assertGoingOn();
      return this.#database.pulse > pulse;
    };
    await until("the next transaction", goesOn, RECOVERY_MS);
    this.#note("transactions are committed");
    await pause(round.afterMs);
    this.#disk.assertSound();
  }
  /** The database, what it was attached by, the server and its write log are gone at once; of some replicas the processes. */
  async #cut(round: Round): Promise<void> {
    const dead = this.#database.kill();
    await Promise.all([this.#volume.cut(round.replicas), this.#disk.cut(), dead]);
    await this.#disk.forget();
    await this.#volume.resume(round.replicas, round.incidents[0]!.ack);
    await this.#attach();
    // The kernel brings its journal into the file system; then there is nothing to mend.
    await this.#disk.mount();
    await this.#disk.unmount();
    await this.#disk.check();
    await this.#disk.mount();
  }
  /** By turns over TCP and a unix socket. */
  async #attach(): Promise<void> {
    const { nbdPort, socket } = this.#volume.rig;
    const tcp = `server.type=inet,server.host=127.0.0.1,server.port=${nbdPort}`;
    const unix = `server.type=unix,server.path=${socket}`;
    await this.#disk.attach(this.#attached++ % 2 === 0 ? tcp : unix);
  }

  #seconds(): number {
    return (performance.now() - this.#started) / 1000;
  }
  #note(text: string): void {
    this.#events.push(`${this.#seconds().toFixed(3)} ${text}`);
  }
  /** For whoever looks for the reason of a failure. */
  trace(): string {
    return [
      ...this.#events,
      this.#database.said(),
      this.#volume.said(),
      `the regions are kept in ${this.#volume.rig.dir}`,
    ].join("\n");
  }
  #assertGoingOn(): void {
    if (this.#ending !== undefined) throw new Error("the end was asked for");
  }
  /** Nothing runs or is mounted any more. `keep`: the regions stay. */
  end(keep: boolean): Promise<void> {
    this.#ending ??= this.#end(keep);
    return this.#ending;
  }
  async #end(keep: boolean): Promise<void> {
    // Nobody is started any more.
    await Promise.allSettled([this.#suffering]);
    // First the disk: who waits for it gets errors then.
    await this.#disk.cut();
    await this.#database.abandon();
    await this.#disk.abandon();
    await this.#volume.end();
    if (!keep) await this.#volume.remove();
  }
}

export function show(name: Name, report: Report): string {
  const { rounds, committed, unheard, longestMs, incidents, seconds } = report;
  const done = Object.entries(incidents).map(([what, count]) => `${what} ${count}`);
  return [
    `${name}: ${rounds} rounds in ${seconds.toFixed(0)} s; ${committed} transactions committed, ${unheard} more found, none missing`,
    `  ${done.join(", ")}; longest transaction ${(longestMs / 1000).toFixed(1)} s; e2fsck clean, regions equal`,
  ].join("\n");
}
