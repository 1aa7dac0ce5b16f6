import { spawnSync } from "node:child_process";
import { join } from "node:path";
import t from "tap";
import { ACCOUNTS, Book, KEPT, transaction } from "./book.js";
import { CUT_EVERY, planRounds } from "./incidents.js";
import { read } from "./options.js";
import { isSevere, Logbook, rateOf } from "./pgbench-log.js";

// What can be judged without a database and a volume.

t.test("the command line", async (t) => {
  t.same(read(["3", "--seed", "7"]), {
    kind: "play",
    plan: { rounds: 3, seed: 7, names: ["sqlite", "postgresql"] },
  });
  const only = read(["--only", "postgresql"]);
  t.ok(only.kind === "play" && only.plan.rounds === 20 && only.plan.seed > 0);
  t.ok(only.kind === "play" && only.plan.names.join() === "postgresql");
  const campaign = join(import.meta.dirname, "fixture", "campaign.js");
  for (const [args, word] of [
    [["many"], 'ROUNDS must be a whole number from 1 to 999999999, not "many"'],
    [["0"], "ROUNDS must be"],
    [["1", "2"], "one number of rounds"],
    [["--seed", "x"], "--seed must be"],
    [["--only", "mysql"], "sqlite, postgresql"],
    [["--frob"], "--frob"],
  ] as const) {
    const answer = read(args);
    t.ok(answer.kind === "wrong" && answer.text.includes(word), JSON.stringify(answer));
  }
  const wrong = spawnSync(process.execPath, [campaign, "many"], { encoding: "utf8" });
  t.equal(wrong.status, 2);
  t.ok(wrong.stderr.includes("npm run databases -- --help"), wrong.stderr);
  const help = spawnSync(process.execPath, [campaign, "--help"], { encoding: "utf8" });
  t.equal(help.status, 0);
  t.ok(/Usage: npm run databases -- \[ROUNDS\]/.test(help.stdout));
});

t.test("the same seed gives the same rounds, and each has everything", async (t) => {
  const rounds = planRounds(5, 2 * CUT_EVERY);
  t.same(planRounds(5, 2 * CUT_EVERY), rounds);
  t.notOk(JSON.stringify(planRounds(6, 2 * CUT_EVERY)) === JSON.stringify(rounds));
  for (const [i, { incidents, end }] of rounds.entries()) {
    t.ok(incidents.some(({ server, replicas }) => server && replicas.length === 0));
    t.ok(incidents.some(({ server, replicas }) => !server && replicas.length === 1));
    t.ok(incidents.some(({ server, replicas }) => !server && replicas.length === 3));
    t.ok(incidents.some(({ restart }) => restart));
    t.equal(end, i % CUT_EVERY === CUT_EVERY - 1 ? "power cut" : "crash");
  }
});

/** What a database would answer that has everything of a book. */
function answers(book: Book, count: number): { entries: string[]; values: string[] } {
  const values = Array.from({ length: ACCOUNTS }, () => [0, 0]);
  const entries: string[] = [];
  for (let i = 0; i < count; i++) {
    const entry = book.next();
    entries.push(`${entry.number} ${entry.contents} ${entry.sum}`);
    for (const id of entry.accounts) values[id] = [values[id]![0]! + 1, entry.number];
    book.committed(entry);
  }
  return { entries: entries.slice(-KEPT), values: values.map((pair) => pair.join(" ")) };
}

t.test("SQLite's book", async (t) => {
  const book = new Book(9);
  const { entries, values } = answers(book, KEPT + 5);
  t.equal(book.judge(entries, values), 0);
  t.equal(new Book(9).judge([], Array(ACCOUNTS).fill("0 0")), 0, "nothing yet");
  t.throws(() => book.judge(entries.slice(0, -1), values), /newest transaction is/);
  t.throws(() => book.judge(entries.toSpliced(7, 1), values), /2999 entries/);
  t.throws(() => book.judge(entries.with(7, `${entries[7]}0`), values), /entry 13 shows/);
  t.throws(() => book.judge(entries, values.with(3, "0 0")), /account 3 shows 0 0/);

  const more = new Book(9);
  const next = answers(more, KEPT + 6);
  t.throws(() => book.judge(next.entries, values), /account/, "half of a transaction");
  const heard = new Book(9);
  answers(heard, KEPT + 5);
  t.equal(heard.judge(next.entries, next.values), 1, "the commit that nobody heard of");
  t.equal(heard.newest, KEPT + 6);
  t.throws(() => heard.judge(entries, values), /newest transaction is 3005, and 3006/);
  t.equal(transaction(book.next()).split("\n").length, 2, "one line");
});

t.test("pgbench's logbook", async (t) => {
  const logbook = new Logbook(2);
  logbook.hear(1, "0 1 2500 0 1700000000 1\n1 1 9000 0 1700000000 2\n0 2 100 0 1700000000 3\n");
  t.equal(logbook.committed, 3);
  t.equal(logbook.longestMs, 9);
  t.equal(logbook.judge(["1|0|2|1|2", "1|1|2|1|2"]), 1);
  t.equal(logbook.inAll, 4);
  logbook.hear(2, "1 1 50 0 1700000000 1\n");
  const rows = ["1|0|2|1|2", "1|1|2|1|2", "2|1|1|1|1"];
  t.throws(() => logbook.judge(rows.slice(0, 2)), /2 1 has 0, and 1 were committed/);
  logbook.hear(2, "1 1 50 0 1700000000 1\n");
  t.equal(logbook.judge(rows), 0);
  t.throws(() => logbook.judge(rows.with(1, "1|1|1|1|1")), /1 1 has 1, and 2 were there before/);
  t.throws(() => logbook.judge(rows.with(0, "1|0|2|1|3")), /without a gap/);
  t.throws(() => logbook.judge([...rows, "3|0|1|1|1"]), /3 0 was never played/);
  t.throws(() => logbook.judge(rows.with(2, "2|1|3|1|3")), /2 1 has 3/, "two more than heard");
  t.throws(() => logbook.hear(3, "0 1 failed 0 1700000000 1\n"), /logged "0 1 failed/);
  t.throws(() => logbook.hear(3, "7 1 20 0 1700000000 1\n"), /logged "7 1/);
  t.equal(rateOf("progress: 3.0 s, 95.5 tps, lat 42.0 ms stddev 3.1, 0 failed"), 95.5);
  t.ok(Number.isNaN(rateOf("pgbench (15.18)")));
});

t.test("PostgreSQL's complaints about its disk", async (t) => {
  for (const line of [
    'PANIC:  could not fsync file "pg_wal/000000010000000000000001": Input/output error',
    'ERROR:  could not read block 3 in file "base/5/16384": Input/output error',
    "ERROR:  invalid page in block 0 of relation base/5/16384",
  ])
    t.ok(isSevere(line), line);
  for (const line of [
    "LOG:  database system was interrupted; last known up at 2026-01-01 00:00:00 UTC",
    "LOG:  could not receive data from client: Connection reset by peer",
    "LOG:  invalid record length at 0/1F2A3B8: wanted 24, got 0",
  ])
    t.notOk(isSevere(line), line);
});
