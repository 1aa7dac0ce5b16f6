import { closeSync, openSync, readSync, writeFileSync } from "node:fs";
import type { Program } from "../acceptance/rig.js";
import type { Book } from "./book.js";
import { SOCKET } from "./documented.js";
import type { Machine } from "./machine.js";
import { type Kind, type Note, noteOf, nowMs } from "./notes.js";

const PROGRAM = new URL("fixture/writer.js", import.meta.url).pathname;

/** How a writer works. */
export interface Plan {
  readonly session: number;
  readonly seed: number;
  /** The blocks that it writes: from the first on, so many. */
  readonly first: number;
  readonly count: number;
  readonly depth: number;
  /** How long each of them pauses between requests, on average. */
  readonly pauseMs: number;
}

/** The writer in a host, and its journal as far as it was read. */
export class Writer {
  readonly plan: Plan;
  readonly program: Program;
  readonly #file: number;
  readonly #open = new Map<number, { readonly ms: number; readonly kind: Kind }>();
  #book: Book | undefined;
  #at = 0;
  #rest = "";
  #longestMs = 0;
  writes = 0;
  flushes = 0;
  reads = 0;
  /** Of requests of any kind. */
  answers = 0;
  readonly errors: string[] = [];
  firstAnswerMs = Number.NaN;
  lastAnswerMs = Number.NaN;

  /** What it notes goes into the book, until `part`. */
  constructor(host: Machine, journal: string, plan: Plan, book: Book) {
    this.plan = plan;
    this.#book = book;
    writeFileSync(journal, "");
    this.#file = openSync(journal, "r");
    const told = JSON.stringify({ ...plan, socket: SOCKET, journal });
    this.program = host.start([process.execPath, PROGRAM, told]);
  }
  close(): void {
    closeSync(this.#file);
  }

  /** Reads what was noted since. */
  catchUp(): this {
    const piece = Buffer.alloc(1 << 20);
    for (;;) {
      const bytes = readSync(this.#file, piece, 0, piece.length, this.#at);
      if (bytes === 0) return this;
      this.#at += bytes;
      const lines = (this.#rest + piece.toString("latin1", 0, bytes)).split("\n");
      this.#rest = lines.pop() ?? "";
      for (const line of lines) this.#take(noteOf(line));
    }
  }
  #take(note: Note): void {
    this.#book?.take(note);
    if (note.what === "asked") {
      this.#open.set(note.id, note);
      return;
    }
    const asked = this.#open.get(note.id);
    this.#open.delete(note.id);
    if (note.what === "failed") {
      this.errors.push(note.text);
      return;
    }
    if (asked === undefined) return;
    this.answers += 1;
    if (asked.kind === "flush") this.flushes += 1;
    else if (asked.kind === "read") this.reads += 1;
    else this.writes += 1;
    if (Number.isNaN(this.firstAnswerMs)) this.firstAnswerMs = note.ms;
    this.lastAnswerMs = note.ms;
    this.#longestMs = Math.max(this.#longestMs, note.ms - asked.ms);
  }

  /** The longest of the requests that ended since this was asked last, those under way included. */
  takeLongestMs(): number {
    const now = nowMs();
    this.catchUp();
    let longest = this.#longestMs;
    for (const { ms } of this.#open.values()) longest = Math.max(longest, now - ms);
    this.#longestMs = 0;
    return longest;
  }
  /** Of requests that were asked and have had no answer of any kind. */
  get open(): number {
    return this.#open.size;
  }
  /** Its host has lost the volume: what it notes from now on counts for nothing. */
  part(): void {
    this.catchUp();
    this.#book = undefined;
  }
  /** What was asked is answered first, and then flushed. Resolves with the exit status. */
  async stop(): Promise<number | string> {
    const status = await this.program.stop("SIGTERM");
    this.catchUp();
    return status;
  }
}
