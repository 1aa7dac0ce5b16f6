import { cleanUp } from "../kit/programs.js";
import { openForReal, Sample } from "./sample.js";
import { examine, kept, SCENARIOS, summary } from "./suite.js";

// npm run power -- [SEED [STATES]]                  records and explores until so many states were seen
// npm run power -- replay RECORDING SEED DRAWS      explores a recording that was kept

const DRAWS = 40;
const STATES_DEFAULT = 100_000;
const SAMPLED = 10;
const print = (text: string): void => void process.stdout.write(`${text}\n`);

function replay(path: string, seed: number, draws: number): boolean {
  const outcome = examine(kept(path), { seed, draws });
  print(summary(path, outcome));
  if (outcome.wrong !== null) print(outcome.wrong);
  return outcome.wrong === null;
}

async function campaign(first: number, most: number): Promise<boolean> {
  let states = 0;
  for (let seed = first; states < most; seed++)
    for (const [name, record] of Object.entries(SCENARIOS)) {
      // Engines take turns; slow syncs leave more under way at a time.
      const engine = seed % 2 === 0 ? "ring" : "plain";
      const pauseUs = seed % 3 === 0 ? 500 : 0;
      const recording = await record(seed, { engine, pauseUs });
      const sample = new Sample(SAMPLED, seed);
      const outcome = examine(recording, { seed, draws: DRAWS, visit: sample.visit });
      states += outcome.states;
      print(`seed ${seed}, ${engine}, ${summary(name, outcome)}; ${states} in all`);
      const real = outcome.wrong === null ? await openForReal(recording, sample.kept) : [];
      for (const wrong of [outcome.wrong, ...real]) if (wrong !== null) print(wrong);
      if (outcome.wrong !== null || real.length > 0) return false;
    }
  return true;
}

const [first = "1", second, third, fourth] = process.argv.slice(2);
try {
  const good =
    first === "replay"
      ? replay(second!, Number(third), Number(fourth))
      : await campaign(Number(first), Number(second ?? STATES_DEFAULT));
  print(good ? "nothing was lost" : "something was LOST");
  process.exitCode = good ? 0 : 1;
} finally {
  await cleanUp();
}
