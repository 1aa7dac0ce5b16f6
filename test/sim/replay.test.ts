import { execFileSync } from "node:child_process";
import t from "tap";
import { runCommand } from "./command.js";
import { parseOptions } from "./options.js";
import { MIX_NAMES } from "./plan.js";
import { runJob, runSeed } from "./worker.js";

// That a seed is the same story every time, and what a person types.

const COMMAND = new URL("./command.js", import.meta.url).pathname;

t.test("a seed gives the same run again", async (t) => {
  for (const mix of MIX_NAMES) {
    const [first, second] = [1, 2].map(() => runSeed(7, { mix, requests: 200 }));
    t.same(first, second, mix);
    t.ok(first!.answered > 100, `${first!.answered} requests of ${mix} were answered`);
    t.same(first!.broken, []);
  }
  const options = { requests: 100 };
  const [three, four] = [3, 4].map((seed) => runSeed(seed, options));
  t.ok(three!.virtualMs !== four!.virtualMs, "seeds differ");
  const result = runJob({ kind: "seeds", from: 3, count: 2, options });
  t.same(result, { kind: "seeds", results: [three, four] });
});

t.test("what is typed is understood, or it is said what is wrong", async (t) => {
  const of = (...args: string[]): string => JSON.stringify(parseOptions(args));
  t.ok(of("20", "--from", "5", "--seconds=9").includes('"from":5,"count":20,"seconds":9'));
  t.ok(of("--seed", "4294967295").includes('"seed":4294967295'));
  t.equal(parseOptions(["--seed"]), "--seed needs a value");
  t.equal(parseOptions(["--seed", "x"]), '--seed: "x" is no number');
  t.ok(of("--mix", "x").includes("there is no"));
  t.equal(parseOptions(["--wrong"]), '"--wrong" is not understood');
  t.equal(await runCommand(["--mutant", "x"]), 2);
  t.equal(await runCommand(["--wrong"]), 2);
});

t.test("the command", async (t) => {
  const run = (...args: string[]): string =>
    `${execFileSync(process.execPath, [COMMAND, ...args], { stdio: ["ignore", "pipe", "pipe"] })}`;
  t.ok(/^seed 3 \(.*\): \d+ requests in/.test(run("--seed", "3", "--requests", "50")));
  t.ok(/^2 seeds, 0 failed: 2\d\d requests/.test(run("2", "--requests", "50", "--jobs", "1")));
  t.ok(run("--help").includes("--seconds T"));
});
