import t from "tap";
import { cleanUp } from "../kit/programs.js";
import { openForReal, Sample } from "./sample.js";
import { examine, SCENARIOS, summary } from "./suite.js";

// Power cuts of a real downstairs, at every moment of its life and in many ways each (README.md).

const SEED = Number(process.env.SEED ?? 1);
const DRAWS = Number(process.env.DRAWS ?? 8);
const STATES_MIN = 10_000;
/** Opened by the real program as well, of each scenario. */
const SAMPLED = 8;

t.teardown(cleanUp);

let states = 0;
for (const [name, record] of Object.entries(SCENARIOS))
  t.test(`no power cut loses what was flushed: ${name}`, async (t) => {
    const recording = await record(SEED);
    const sample = new Sample(SAMPLED, SEED);
    const started = performance.now();
    const outcome = examine(recording, { seed: SEED, draws: DRAWS, visit: sample.visit });
    t.equal(outcome.wrong, null);
    t.comment(summary(name, outcome), Math.round(performance.now() - started));
    states += outcome.states;
    t.same(await openForReal(recording, sample.kept), [], "the program finds the same");
  });

t.test("there were enough", async (t) => {
  t.ok(states >= STATES_MIN, `${states} states that differ`);
});
