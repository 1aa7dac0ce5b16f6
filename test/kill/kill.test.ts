import { cpSync, rmSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { makeFolder, removeFolder } from "../kit/folders.js";
import { run } from "../kit/programs.js";
import { Ledger } from "./ledger.js";
import { killRounds, show } from "./rounds.js";

const ROUNDS = Number(process.env.ROUNDS ?? 100);
/** A few that are always the same, and others every time. */
const FIXED_ROUNDS = 20;
const SEED = Number(process.env.SEED ?? 1 + Math.floor(Math.random() * 1e6));

t.test(`nothing acknowledged is lost, whoever is killed (seeds 1 and ${SEED})`, async (t) => {
  t.comment(show(await killRounds(Math.min(FIXED_ROUNDS, ROUNDS), 1)));
  if (ROUNDS > FIXED_ROUNDS) t.comment(show(await killRounds(ROUNDS - FIXED_ROUNDS, SEED)));
  t.pass("and clients that come back see no error");
});

t.test("what is lost is noticed", async (t) => {
  const folder = makeFolder();
  let copied = false;
  const sabotage = (regions: readonly string[]): void => {
    // As they were when nothing was written yet: a flush that was answered and did nothing.
    copied = true;
    for (const [i, path] of regions.entries()) {
      rmSync(path, { recursive: true });
      cpSync(join(folder, `${i}`), path, { recursive: true });
    }
  };
  const prepare = (regions: readonly string[]): void => {
    for (const [i, path] of regions.entries())
      cpSync(path, join(folder, `${i}`), { recursive: true });
  };
  try {
    await killRounds(1, 3, { prepare, sabotage });
    t.ok(false, "nobody noticed");
  } catch (error) {
    const text = (error as Error).message;
    t.ok(copied);
    t.ok(/block \d+ shows write 0, expected \d+ to \d+/.test(text), text);
    t.ok(text.startsWith("seed 3: "), "the seed is named");
    const kept = /the regions are kept in (.*)$/.exec(text)?.[1];
    t.ok(kept !== undefined);
    removeFolder(kept!);
  }
  removeFolder(folder);
});

t.test("the ledger", async (t) => {
  const ledger = new Ledger(8);
  const older = ledger.write(2, 2);
  ledger.acknowledged(2, 2, older.number, false);
  const before = ledger.flushBegins();
  const newer = ledger.write(3, 1);
  const check = (first: number, data: Buffer): string[] => ledger.check(first, data, ledger.floor);
  t.same(check(2, older.data), [], "a write on its way may be there or not");
  t.same(check(3, newer.data), []);
  ledger.acknowledged(3, 1, newer.number, false);
  t.equal(check(2, older.data).length, 1, "acknowledged, it must be there");
  ledger.flushEnded(before);
  ledger.fallBack();
  t.same(check(2, older.data), [], "without a log only what was flushed counts");
  t.equal(check(2, Buffer.alloc(4096)).length, 1);
  t.equal(check(4, newer.data).length, 1, "a block in the wrong place is found");
  const torn = Buffer.concat([newer.data.subarray(0, 512), older.data.subarray(4608)]);
  t.equal(check(3, torn).length, 1, "so is half a block");
  t.equal(check(5, Buffer.alloc(4096)).length, 0);
});

t.test("the command says what it takes", async (t) => {
  const program = new URL("fixture/campaign.js", import.meta.url).pathname;
  const { status, stderr } = await run(process.execPath, [program, "many"]);
  t.equal(status, 2);
  t.ok(stderr.includes("usage: npm run kill -- [ROUNDS [SEED]]"), stderr);
});
