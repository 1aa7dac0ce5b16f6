import { cpSync, rmSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { makeFolder, removeFolder } from "../kit/folders.js";
import { run } from "../kit/programs.js";
import { Ledger } from "./ledger.js";
import { killRounds, type Options, type Report, show } from "./rounds.js";

const ROUNDS = Number(process.env.ROUNDS ?? 100);
/** A few that are always the same, and others every time. */
const FIXED_ROUNDS = 20;
const SEED = Number(process.env.SEED ?? 1 + Math.floor(Math.random() * 1e6));

t.test(`nothing acknowledged is lost, whoever is killed (seeds 1 and ${SEED})`, async (t) => {
  const reports: Report[] = [await killRounds(Math.min(FIXED_ROUNDS, ROUNDS), 1)];
  if (ROUNDS > FIXED_ROUNDS) reports.push(await killRounds(ROUNDS - FIXED_ROUNDS, SEED));
  for (const report of reports) t.comment(show(report));
  t.ok(
    ROUNDS < FIXED_ROUNDS || reports.some(({ again }) => again > 0),
    "clients that come back see no error, and successors had something to finish",
  );
});

/** Plays a few rounds that must end badly; answers what was said then. */
async function noticed(rounds: number, options: Options): Promise<string> {
  try {
    await killRounds(rounds, 3, options);
    return "nobody noticed";
  } catch (error) {
    const text = (error as Error).message;
    removeFolder(/the regions are kept in (.*)$/.exec(text)![1]!);
    return text;
  }
}

t.test("regions that went back in time are noticed", async (t) => {
  const folder = makeFolder();
  const prepare = (regions: readonly string[]): void => {
    for (const [i, path] of regions.entries())
      cpSync(path, join(folder, `${i}`), { recursive: true });
  };
  const sabotage = (regions: readonly string[]): void => {
    // As they were when nothing was written yet: flushes that were answered and did nothing.
    for (const [i, path] of regions.entries()) {
      rmSync(path, { recursive: true });
      cpSync(join(folder, `${i}`), path, { recursive: true });
    }
  };
  const text = await noticed(1, { prepare, sabotage });
  removeFolder(folder);
  t.ok(/block \d+ shows write 0, expected \d+ to \d+, of which \d+ is flushed/.test(text), text);
  t.ok(text.startsWith("seed 3: "), "the seed is named");
});

t.test("what was only acknowledged and is lost is noticed", async (t) => {
  const text = await noticed(12, { serve: ["--write-log", "none"], sabotage: () => {} });
  const said = /block \d+ shows write \d+, expected (\d+) to \d+, of which (\d+) is flushed/;
  const [, acknowledged, flushed] = said.exec(text) ?? [];
  t.ok(Number(acknowledged) > Number(flushed), text);
});

t.test("the ledger", async (t) => {
  const ledger = new Ledger(8);
  const older = ledger.write(2, 2);
  ledger.acknowledged(2, 2, older.number, false);
  const newer = ledger.write(3, 1);
  t.equal(ledger.acknowledgedNow()[2], older.number);
  ledger.serverDied();
  t.equal(ledger.acknowledgedNow()[2], 0, "a flush does not bring back what may be lost");
  t.same(ledger.check(2, older.data), [], "a write on its way may be there or not");
  t.same(ledger.check(3, newer.data), []);
  ledger.acknowledged(3, 1, newer.number, false);
  t.equal(ledger.check(2, older.data).length, 1, "acknowledged, it must be there");
  t.equal(ledger.check(2, Buffer.alloc(4096)).length, 1);
  t.equal(ledger.check(4, newer.data).length, 1, "a block in the wrong place is found");
  const torn = Buffer.concat([newer.data.subarray(0, 512), older.data.subarray(4608)]);
  t.equal(ledger.check(3, torn).length, 1, "so is half a block");
  t.equal(ledger.check(5, Buffer.alloc(4096)).length, 0);
});

t.test("the command says what it takes", async (t) => {
  const program = new URL("fixture/campaign.js", import.meta.url).pathname;
  const { status, stderr } = await run(process.execPath, [program, "many"]);
  t.equal(status, 2);
  t.ok(stderr.includes("usage: npm run kill -- [ROUNDS [SEED]]"), stderr);
});
