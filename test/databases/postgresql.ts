import { chownSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isThere, kill } from "../acceptance/restart-scene.js";
import { until } from "../kit/until.js";
import { within } from "../kit/within.js";
import { type Database, Failure, type Found } from "./database.js";
import type { Account } from "./needs.js";
import { isSevere, Logbook, rateOf } from "./pgbench-log.js";
import { command, Daemon, type Settings } from "./programs.js";

// PostgreSQL, with pgbench as its client: several connections at work, whose log names every transaction whose commit has returned.

const SCALE = 2;
const CLIENTS = 4;
const START_MS = 60_000;
const DATABASE = "bench";

/** Little memory, little log: more for the volume to do. Whatever makes it safe is as it is by default. */
const SETTINGS: Readonly<Record<string, string>> = {
  listen_addresses: "",
  shared_buffers: "8MB",
  max_connections: "20",
  max_wal_size: "48MB",
  min_wal_size: "32MB",
  checkpoint_timeout: "30s",
  autovacuum_naptime: "5s",
  huge_pages: "off",
};

/** What pgbench does by itself, and an entry that tells which transaction of which client it was. */
const SCRIPT = `
\\set n :n + 1
\\set aid random(1, 100000 * ${SCALE})
\\set bid random(1, ${SCALE})
\\set tid random(1, 10 * ${SCALE})
\\set delta random(-5000, 5000)
\\set times random(1, 30)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);
INSERT INTO entry (run, client, n, delta, times, note) VALUES (:run, :client_id, :n, :delta, :times, repeat(md5(:run || '-' || :client_id || '-' || :n), :times));
COMMIT;
`;
const CREATE = `
CREATE EXTENSION amcheck;
CREATE TABLE entry (run int, client int, n int, delta int NOT NULL, times int NOT NULL, note text NOT NULL, PRIMARY KEY (run, client, n));
CREATE INDEX entry_note ON entry (md5(note));
`;
const NUMBERS =
  "SELECT run, client, count(*), min(n), max(n) FROM entry GROUP BY run, client ORDER BY run, client";
/** All five are equal, as each transaction adds the same to each. */
const SUMS = `SELECT (SELECT coalesce(sum(abalance), 0) FROM pgbench_accounts), (SELECT coalesce(sum(tbalance), 0) FROM pgbench_tellers),
  (SELECT coalesce(sum(bbalance), 0) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history), (SELECT coalesce(sum(delta), 0) FROM entry)`;
const ALTERED =
  "SELECT count(*) FROM entry WHERE note <> repeat(md5(run || '-' || client || '-' || n), times)";

export class Postgresql implements Database {
  readonly name = "postgresql";
  readonly about = `${CLIENTS} clients`;
  readonly #programs: string;
  readonly #data: string;
  /** On this machine's own disk: socket, script, pgbench's log. */
  readonly #folder: string;
  readonly #who: Settings;
  readonly #account: Account;
  readonly #root: string;
  readonly #failure = new Failure();
  readonly #logbook = new Logbook(CLIENTS);
  #server: Daemon | undefined;
  #bench: Daemon | undefined;
  #isOver = true;
  #round = 0;
  pulse = 0;

  constructor(programs: string, account: Account, root: string, folder: string) {
    this.#programs = programs;
    this.#account = account;
    this.#root = root;
    this.#data = join(root, "data");
    this.#folder = folder;
    const env = { PATH: process.env.PATH, LC_ALL: "C", PGHOST: folder, PGUSER: "postgres" };
    this.#who = { ...account, cwd: folder, env };
  }
  get committed(): number {
    return this.#logbook.committed;
  }
  get longestMs(): number {
    return this.#logbook.longestMs;
  }
  get failed(): Promise<never> {
    return this.#failure.promise;
  }

  async create(): Promise<void> {
    const { uid, gid } = this.#account;
    mkdirSync(this.#folder, { recursive: true });
    chownSync(this.#folder, uid, gid);
    chownSync(this.#root, uid, gid);
    writeFileSync(join(this.#folder, "script.sql"), SCRIPT);
    const options = ["--data-checksums", "--auth=trust", "--locale=C", "--encoding=UTF8"];
    await this.#run("initdb", ["-D", this.#data, "-U", "postgres", ...options]);
    const lines = Object.entries({ ...SETTINGS, unix_socket_directories: this.#folder });
    const text = lines.map(([key, value]) => `${key} = '${value}'\n`).join("");
    writeFileSync(join(this.#data, "postgresql.auto.conf"), text);
    await this.#start();
    await this.#run("psql", ["-q", "-d", "postgres", "-c", `CREATE DATABASE ${DATABASE}`]);
    await this.#run("pgbench", ["-q", "-i", "-s", `${SCALE}`, DATABASE]);
    await this.#ask(CREATE);
  }
  async #start(): Promise<void> {
    const server = new Daemon(join(this.#programs, "postgres"), ["-D", this.#data], {
      ...this.#who,
      onLine: (line) => {
        if (!this.#isOver && isSevere(line)) this.#failure.say(`PostgreSQL said: ${line}`);
      },
    });
    this.#server = server;
    this.#isOver = false;
    void server.ended.then((how) => {
      if (!this.#isOver) this.#failure.say(`PostgreSQL ended with ${how}: ${server.output}`);
    });
    const isReady = async (): Promise<boolean> => {
      try {
        await this.#run("psql", ["-At", "-d", "postgres", "-c", "SELECT 1"]);
        return true;
      } catch (error) {
        if (server.hasEnded) throw error;
        return false;
      }
    };
    await Promise.race([until("PostgreSQL's start", isReady, START_MS), this.failed]);
  }

  async begin(round: number): Promise<void> {
    this.#round = round;
    for (const name of readdirSync(this.#folder))
      if (name.startsWith("log.")) rmSync(join(this.#folder, name));
    const options = ["-n", "-c", `${CLIENTS}`, "-T", "3600", "-P", "1", "-l", "--log-prefix=log"];
    const variables = ["-D", `run=${round}`, "-D", "n=0", "-f", "script.sql"];
    const bench = new Daemon(
      join(this.#programs, "pgbench"),
      [...options, ...variables, DATABASE],
      {
        ...this.#who,
        // Its log comes in large pieces; this is only to see that work goes on.
        onLine: (line) => {
          this.pulse += rateOf(line) || 0;
        },
      },
    );
    this.#bench = bench;
    void bench.ended.then((how) => {
      if (!this.#isOver) this.#failure.say(`pgbench ended with ${how}: ${bench.output}`);
    });
  }

  async kill(): Promise<void> {
    await this.#killServer();
    // It loses its connections, and ends by itself, as it has a log to write.
    const bench = this.#bench!;
    await until("pgbench's end", () => bench.hasEnded, START_MS);
    const logs = readdirSync(this.#folder).filter((name) => name.startsWith("log."));
    const text = logs.map((name) => readFileSync(join(this.#folder, name), "utf8")).join("");
    this.#logbook.hear(this.#round, text);
  }
  /** From the moment of the call on it does nothing any more. */
  async #killServer(): Promise<void> {
    this.#isOver = true;
    const { pid, ended } = this.#server!;
    // It starts no more children.
    kill(pid, "SIGSTOP");
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8");
    const pids = [pid, ...children.split(" ").filter(Boolean).map(Number)];
    for (const one of pids) kill(one, "SIGKILL");
    await ended;
    await until("the end of PostgreSQL's processes", () => !pids.some(isThere), START_MS);
  }
  async recover(): Promise<Found> {
    await this.#start();
    const unheard = this.#logbook.judge(await this.#ask(NUMBERS));
    const sums = (await this.#ask(SUMS)).join();
    if (new Set(sums.split("|")).size !== 1) throw new Error(`the sums differ: ${sums}`);
    const altered = (await this.#ask(ALTERED)).join();
    if (altered !== "0") throw new Error(`${altered} entries are not what was written`);
    await this.#run("pg_amcheck", ["--heapallindexed", "--parent-check", "-d", DATABASE]);
    await this.stop();
    await this.#run("pg_checksums", ["--check", "-D", this.#data]);
    await this.#start();
    return {
      unheard,
      checks: `pg_amcheck and pg_checksums ok, ${this.#logbook.inAll} transactions in all`,
    };
  }
  async stop(): Promise<void> {
    this.#isOver = true;
    const status = await within("PostgreSQL's stop", START_MS, this.#server!.kill("SIGINT"));
    if (status !== 0) throw new Error(`PostgreSQL ended with ${status}: ${this.#server!.output}`);
  }
  async abandon(): Promise<void> {
    if (this.#server?.hasEnded === false) await this.#killServer();
    await this.#bench?.kill();
  }
  said(): string {
    const last = (daemon: Daemon | undefined): string => daemon?.output.slice(-2000) ?? "";
    return `--- PostgreSQL\n${last(this.#server)}\n--- pgbench\n${last(this.#bench)}`;
  }

  #run(program: string, args: readonly string[]): Promise<string> {
    return command(join(this.#programs, program), args, this.#who);
  }
  /** Rows, with their columns divided by bars. */
  async #ask(sql: string): Promise<string[]> {
    const text = await this.#run("psql", [
      "-At",
      "-v",
      "ON_ERROR_STOP=1",
      "-d",
      DATABASE,
      "-c",
      sql,
    ]);
    return text.split("\n").filter((line) => line !== "");
  }
}
