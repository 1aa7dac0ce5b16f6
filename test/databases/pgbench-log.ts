// What pgbench heard, and what the database must have: transactions of numbered runs, and in each of numbered clients, which count from 1.

export class Logbook {
  readonly #clients: number;
  /** Per run and client, how many there are. */
  readonly #settled = new Map<string, number>();
  #run = 0;
  #heard: number[] = [];
  longestMs = 0;

  constructor(clients: number) {
    this.#clients = clients;
  }
  get committed(): number {
    return this.#heard.reduce((sum, count) => sum + count, 0);
  }
  get inAll(): number {
    return [...this.#settled.values()].reduce((sum, count) => sum + count, 0);
  }

  /** pgbench's log of a run: a line per commit that has returned, with client, number, microseconds and more. */
  hear(run: number, log: string): void {
    this.#run = run;
    this.#heard = Array.from({ length: this.#clients }, () => 0);
    this.longestMs = 0;
    for (const line of log.split("\n").filter((one) => one !== "")) {
      const [, client, time] = /^(\d+) \d+ (\d+) \d+ \d+ \d+$/.exec(line) ?? [];
      if (client === undefined || !(Number(client) < this.#clients))
        throw new Error(`pgbench has logged "${line}"`);
      this.#heard[Number(client)]! += 1;
      this.longestMs = Math.max(this.longestMs, Number(time) / 1000);
    }
  }

  /**
   * Rows "run|client|count|first|last" of what is there. Of each client's last transaction nobody may have heard; from now on they count. Answers
   * how many such there are, and rejects by throwing.
   */
  judge(rows: readonly string[]): number {
    const wrong: string[] = [];
    const found = new Map<string, number>();
    for (const row of rows) {
      const [run, client, count, first, last] = row.split("|").map(Number);
      if (first !== 1 || last !== count) wrong.push(`not without a gap: ${row}`);
      found.set(`${run} ${client}`, count!);
    }
    let unheard = 0;
    for (const [client, heard] of this.#heard.entries()) {
      const name = `${this.#run} ${client}`;
      const count = found.get(name) ?? 0;
      if (count === heard + 1) unheard += 1;
      else if (count !== heard) wrong.push(`${name} has ${count}, and ${heard} were committed`);
      this.#settled.set(name, count);
    }
    for (const [name, count] of this.#settled) {
      const there = found.get(name) ?? 0;
      if (there !== count) wrong.push(`${name} has ${there}, and ${count} were there before`);
      found.delete(name);
    }
    for (const name of found.keys()) wrong.push(`${name} was never played`);
    if (wrong.length > 0)
      throw new Error(
        `${wrong.length} wrong, by run and client:\n${wrong.slice(0, 10).join("\n")}`,
      );
    return unheard;
  }
}

/** Whether a line of PostgreSQL's log says that its disk failed it. */
export const isSevere = (line: string): boolean =>
  /\bPANIC: |could not (?:read|write|fsync|fdatasync|extend|open|truncate) |Input\/output error|invalid page|page verification failed|No space left/.test(
    line,
  );

/** Transactions of the last second, of a line that pgbench prints each second; NaN for others. */
export const rateOf = (line: string): number =>
  Number(/^progress: [\d.]+ s, ([\d.]+) tps/.exec(line)?.[1] ?? Number.NaN);
