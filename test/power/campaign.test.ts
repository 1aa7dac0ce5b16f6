import { rmSync } from "node:fs";
import { dirname } from "node:path";
import t from "tap";
import { cleanUp, type Outcome, run } from "../kit/programs.js";
import { corners } from "./scenarios.js";
import { keep, SMALL } from "./suite.js";

// The command that a failing test tells its reader to type.

t.teardown(cleanUp);
const PROGRAM = new URL("fixture/campaign.js", import.meta.url).pathname;
const campaign = (...args: string[]): Promise<Outcome> => run(process.execPath, [PROGRAM, ...args]);

t.test("a recording that was kept is explored again", async (t) => {
  const recording = await corners(SMALL);
  const advice = keep(recording, { seed: 7, draws: 2 });
  const args = /npm run power -- (.*)$/.exec(advice)![1]!.split(" ");
  t.teardown(() => rmSync(dirname(args[1]!), { recursive: true }));
  const { status, stdout, stderr } = await campaign(...args);
  t.equal(status, 0, stderr);
  t.ok(/\d+ states that differ .* 6 writes, 6 flushes/.test(stdout), stdout);
  t.ok(stdout.endsWith("nothing was lost\n"));
});

t.test("what cannot be understood is said, with what could be", async (t) => {
  for (const args of [["x"], ["1", "-5"], ["replay", "/nowhere", "1", "1"], ["replay"]]) {
    const { status, stderr } = await campaign(...args);
    t.equal(status, 2, stderr);
    t.ok(stderr.includes("usage: npm run power"), stderr);
    t.equal(stderr.includes("    at "), false, "no stack trace");
  }
});
