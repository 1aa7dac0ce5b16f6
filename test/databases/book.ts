import { createHash } from "node:crypto";
import { prng } from "../kit/world.js";

// What SQLite is given, and must have: numbered transactions, each of which adds an entry with random contents, counts up some accounts, and
// takes the oldest entry away.

export const ACCOUNTS = 500;
/** Entries that are there at a time, so that a long run stays as quick as a short one. */
export const KEPT = 3000;
const CONTENTS_MAX = 1500;
const TOUCHED_MAX = 6;

export interface Entry {
  readonly number: number;
  /** Hexadecimal. */
  readonly contents: string;
  readonly sum: string;
  readonly accounts: readonly number[];
}

const sumOf = (hex: string): string => createHash("sha256").update(hex).digest("hex").slice(0, 16);

export const CREATE = `
CREATE TABLE entry (n INTEGER PRIMARY KEY, contents BLOB NOT NULL, sum TEXT NOT NULL);
CREATE INDEX entry_sum ON entry (sum);
CREATE TABLE account (id INTEGER PRIMARY KEY, value INTEGER NOT NULL, last INTEGER NOT NULL, filler BLOB NOT NULL);
WITH RECURSIVE ids(id) AS (VALUES (0) UNION ALL SELECT id + 1 FROM ids WHERE id + 1 < ${ACCOUNTS})
  INSERT INTO account SELECT id, 0, 0, randomblob(1000) FROM ids;
`;
export const ENTRIES =
  "SELECT n || ' ' || lower(hex(contents)) || ' ' || sum FROM entry ORDER BY n;";
export const VALUES = "SELECT value || ' ' || last FROM account ORDER BY id;";

/** One line. */
export function transaction({ number, contents, sum, accounts }: Entry): string {
  return [
    "BEGIN IMMEDIATE",
    `INSERT INTO entry VALUES (${number}, x'${contents}', '${sum}')`,
    `UPDATE account SET value = value + 1, last = ${number} WHERE id IN (${accounts.join(", ")})`,
    `DELETE FROM entry WHERE n = ${number - KEPT}`,
    "COMMIT",
    `SELECT '${receipt(number)}';\n`,
  ].join("; ");
}
/** Printed after the commit has returned. */
export const receipt = (number: number): string => `committed ${number}`;

/** One transaction at a time. */
export class Book {
  readonly #seed: number;
  /** The newest whose commit has returned, or that was found afterwards. */
  #newest = 0;
  readonly #values = new Uint32Array(ACCOUNTS);
  readonly #last = new Uint32Array(ACCOUNTS);

  constructor(seed: number) {
    this.#seed = seed;
  }
  get newest(): number {
    return this.#newest;
  }
  next(): Entry {
    return this.#entry(this.#newest + 1);
  }
  #entry(number: number): Entry {
    const chance = prng(this.#seed + number);
    const below = (count: number): number => Math.floor(chance() * count);
    const contents = createHash("shake256", { outputLength: below(CONTENTS_MAX) })
      .update(`${this.#seed} ${number}`)
      .digest("hex");
    const accounts = new Set(Array.from({ length: 1 + below(TOUCHED_MAX) }, () => below(ACCOUNTS)));
    return { number, contents, sum: sumOf(contents), accounts: [...accounts] };
  }
  committed(entry: Entry): void {
    this.#newest = entry.number;
    for (const id of entry.accounts) {
      this.#values[id]! += 1;
      this.#last[id] = entry.number;
    }
  }

  /**
   * Compares with what was read by ENTRIES and VALUES. The transaction after the newest may be there as well: whole, and then it counts from now on.
   * Answers how many such there were, and rejects by throwing.
   */
  judge(entries: readonly string[], values: readonly string[]): number {
    const found = Number(entries.at(-1)?.split(" ")[0] ?? 0);
    const unheard = found === this.#newest + 1 ? 1 : 0;
    if (unheard === 1) this.committed(this.next());
    const wrong: string[] = [];
    if (found !== this.#newest)
      wrong.push(`the newest transaction is ${found}, and ${this.#newest} was committed`);
    const first = Math.max(1, this.#newest - KEPT + 1);
    const wanted = this.#newest - first + 1;
    if (entries.length !== wanted) wrong.push(`${entries.length} entries, expected ${wanted}`);
    for (let i = 0; i < Math.min(wanted, entries.length); i++) {
      const { number, contents, sum } = this.#entry(first + i);
      if (entries[i] !== `${number} ${contents} ${sum}`)
        wrong.push(`entry ${number} shows ${entries[i]!.slice(0, 40)}`);
    }
    if (values.length !== ACCOUNTS) wrong.push(`${values.length} accounts, expected ${ACCOUNTS}`);
    for (let id = 0; id < Math.min(ACCOUNTS, values.length); id++) {
      const expected = `${this.#values[id]} ${this.#last[id]}`;
      if (values[id] !== expected)
        wrong.push(`account ${id} shows ${values[id]}, expected ${expected}`);
    }
    if (wrong.length > 0)
      throw new Error(`${wrong.length} wrong:\n${wrong.slice(0, 10).join("\n")}`);
    return unheard;
  }
}
