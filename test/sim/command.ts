import xxhash from "xxhash-wasm";
import { episode } from "./episode.js";
import { planOf } from "./plan.js";

const hash = await xxhash();
const from = Number(process.argv[3] ?? 1);
const count = Number(process.argv[2] ?? 10);
const mix = process.argv[4];
const started = performance.now();
let ops = 0;
let bad = 0;
const totals: Record<string, number> = {};
for (let seed = from; seed < from + count; seed++) {
  const plan = planOf(seed, mix === undefined ? {} : { mix });
  const t0 = performance.now();
  const outcome = episode(plan, hash, count === 1 ? Number(process.env.LINES ?? 400) : 0);
  ops += outcome.answered;
  for (const [k, v] of Object.entries(outcome.counts)) totals[k] = (totals[k] ?? 0) + v;
  if (outcome.broken.length > 0) {
    bad += 1;
    console.log(`seed ${seed} ${outcome.mixName}: ${outcome.broken.slice(0, 3).join("\n   ")}`);
    if (count === 1 ? Number(process.env.LINES ?? 400) : 0) console.log(outcome.trace.faults.join("\n"), "\n----\n", outcome.trace.lines.join("\n"));
  } 
  if (process.env.V) console.log(seed, outcome.mixName, outcome.answered, outcome.lost, (outcome.virtualMs / 1000).toFixed(0) + "s", (performance.now() - t0).toFixed(0) + "ms");
}
const s = (performance.now() - started) / 1000;
console.log(`${count} seeds, ${bad} bad, ${ops} ops, ${s.toFixed(1)} s, ${(ops / s).toFixed(0)} ops/s`, JSON.stringify(totals));
