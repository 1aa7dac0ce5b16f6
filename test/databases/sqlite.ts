import { join } from "node:path";
import { within } from "../kit/within.js";
import { Book, CREATE, ENTRIES, receipt, transaction, VALUES } from "./book.js";
import { type Database, Failure, type Found } from "./database.js";
import { command, Daemon } from "./programs.js";

// SQLite by its own shell: one transaction after the other, each committed when the shell has said so.

const START_MS = 60_000;
/** Few pages in memory, and the log into the database often: more for the volume to do. */
const SETTINGS = "PRAGMA cache_size = 50; PRAGMA wal_autocheckpoint = 100;";

export class Sqlite implements Database {
  readonly name = "sqlite";
  readonly #path: string;
  readonly #book: Book;
  readonly #failure = new Failure();
  #shell: Daemon | undefined;
  #isOver = true;
  #before = 0;
  #commits = 0;
  about = "";
  longestMs = 0;

  constructor(root: string, seed: number) {
    this.#path = join(root, "ledger.db");
    this.#book = new Book(seed);
  }
  get failed(): Promise<never> {
    return this.#failure.promise;
  }
  get pulse(): number {
    return this.#book.newest;
  }
  get committed(): number {
    return this.#commits;
  }

  async create(): Promise<void> {
    await this.#ask(CREATE);
  }
  async begin(round: number, isCut: boolean): Promise<void> {
    const mode = round % 2 === 1 ? "WAL" : "DELETE";
    // What a power cut leaves of a deleted journal is only certain with EXTRA, says SQLite's manual.
    const sync = isCut && mode === "DELETE" ? "EXTRA" : "FULL";
    this.about = `${mode}, ${sync}`;
    this.#isOver = false;
    this.#before = this.#book.newest;
    this.#commits = 0;
    this.longestMs = 0;
    const ready = new Promise<readonly string[]>((resolve) => {
      const lines: string[] = [];
      let hear = (line: string): void => {
        lines.push(line);
        if (line !== "ready") return;
        hear = this.#load();
        resolve(lines);
      };
      this.#shell = new Daemon("sqlite3", ["-batch", "-bail", this.#path], {
        onLine: (line) => hear(line),
      });
    });
    void this.#shell!.ended.then((how) => {
      if (!this.#isOver) this.#failure.say(`sqlite3 ended with ${how}: ${this.#shell!.output}`);
    });
    this.#shell!.tell(
      `PRAGMA journal_mode = ${mode}; PRAGMA synchronous = ${sync}; ${SETTINGS} SELECT 'ready';\n`,
    );
    const [got] = await Promise.race([
      within("the start of sqlite3", START_MS, ready),
      this.failed,
    ]);
    if (got !== mode.toLowerCase()) throw new Error(`SQLite's journal mode is ${got}, not ${mode}`);
  }
  /** Sends the first transaction; answers who hears what the shell says then. */
  #load(): (line: string) => void {
    let entry = this.#book.next();
    let sentMs = 0;
    const send = (): void => {
      sentMs = performance.now();
      this.#shell!.tell(transaction(entry));
    };
    send();
    return (line) => {
      if (line !== receipt(entry.number)) {
        if (!this.#isOver) this.#failure.say(`sqlite3 said "${line}" to ${entry.number}`);
        return;
      }
      // Also when it was killed meanwhile: it has said so before.
      this.#book.committed(entry);
      this.#commits += 1;
      this.longestMs = Math.max(this.longestMs, performance.now() - sentMs);
      if (this.#isOver) return;
      entry = this.#book.next();
      send();
    };
  }

  async kill(): Promise<void> {
    this.#isOver = true;
    await this.#shell!.kill();
  }
  async recover(): Promise<Found> {
    const said = (await this.#ask("PRAGMA integrity_check;")).trim();
    if (said !== "ok") throw new Error(`SQLite's integrity check: ${said}`);
    const entries = await this.#lines(ENTRIES);
    const unheard = this.#book.judge(entries, await this.#lines(VALUES));
    return {
      unheard,
      checks: `integrity_check ok, ${this.#book.newest} transactions in all, ${entries.length} entries compared`,
    };
  }
  /** Between rounds nothing of it runs. */
  async stop(): Promise<void> {}
  async abandon(): Promise<void> {
    if (this.#shell?.hasEnded === false) await this.kill();
  }
  said(): string {
    return `--- sqlite3, which committed ${this.#before + 1} to ${this.#book.newest}\n${this.#shell?.output.slice(-500)}`;
  }

  async #lines(sql: string): Promise<string[]> {
    return (await this.#ask(sql)).split("\n").filter((line) => line !== "");
  }
  async #ask(sql: string): Promise<string> {
    return await command("sqlite3", ["-batch", "-bail", this.#path, sql]);
  }
}
