import { clone, corners, repair, work } from "./scenarios.js";
import { explore, regionIn } from "./states.js";
import { REASONS, reasonOf } from "./syncs.js";
const shape = { blockSize: 512, extentSize: 20, extentCount: 3 };
const seed = Number(process.argv[2] ?? 1);
let total = 0;
const t0 = performance.now();
for (const [name, make] of Object.entries({
  work: () => work(shape, seed, 15),
  corners: () => corners(shape), repair: () => repair(shape, seed), clone: () => clone(shape, seed),
  torn: () => work({ blockSize: 512, extentSize: 37, extentCount: 2 }, seed, 15),
  large: () => work({ blockSize: 4096, extentSize: 9, extentCount: 3 }, seed, 15),
  sealed: () => work({ blockSize: 512, extentSize: 20, extentCount: 3, encrypted: true }, seed, 15),
})) {
const t0 = performance.now();
const r = await make();
const t1 = performance.now();
const region = regionIn(r);
const counts: Record<string, number> = {};
const o = explore(r, region, { seed: 1, draws: 5, lies: (call, disk) => { const x = reasonOf(call, disk, region) ?? "none"; counts[x] = (counts[x] ?? 0) + 1; return false; } });
console.log(name, r.moments.length, "moments", t1 - t0, "ms", JSON.stringify(counts), o.states, o.looked, o.wrong, o.promises.flushes, o.promises.writes, o.promises.repairs, performance.now() - t1);
total += o.states;
if (process.argv[3] !== undefined)
for (const reason of Object.keys(REASONS)) {
  if (!counts[reason]) continue;
  const t2 = performance.now();
  const o = explore(r, region, { seed: 1, draws: 5, lies: (call, disk) => reasonOf(call, disk, region) === reason });
  console.log("  ", reason, o.states, o.wrong, performance.now() - t2);
}
}
console.log(total, performance.now() - t0);
process.exit(0);
