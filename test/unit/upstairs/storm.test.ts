import t from "tap";
import { hashApi } from "../../kit/replica.js";
import { storm } from "../../kit/upstairs-storm.js";

const hash = await hashApi();

t.test("calm network, many requests at once", async (t) => {
  for (let seed = 1; seed <= 10; seed++) t.same(storm(hash, { seed }).broken, [], `seed ${seed}`);
});
t.test("replicas that come and go", async (t) => {
  for (let seed = 1; seed <= 25; seed++)
    t.same(storm(hash, { seed, mishaps: 0.05 }).broken, [], `seed ${seed}`);
});
t.test("replicas that lose what was not flushed, one at a time", async (t) => {
  for (let seed = 1; seed <= 25; seed++)
    t.same(storm(hash, { seed, mishaps: 0.03, powerCuts: true }).broken, [], `seed ${seed}`);
});
t.test("little memory, small windows, bytes in small pieces", async (t) => {
  for (let seed = 1; seed <= 8; seed++)
    t.same(
      storm(hash, {
        seed,
        mishaps: 0.03,
        powerCuts: true,
        requests: 200,
        arenaBytes: 2 * 1024 * 1024,
        links: { latencyMs: 0.3, segmentBytes: 1 + (seed % 4) * 97, windowBytes: 4096 },
        tuning: { jobsMax: 12, bytesMax: 40_000, offlineBytesMax: 1e9, offlineJobsMax: 1e9 },
      }).broken,
      [],
      `seed ${seed}`,
    );
});
t.test("jobs and reads that fail now and then", async (t) => {
  for (let seed = 1; seed <= 8; seed++) {
    let n = seed;
    t.same(
      storm(hash, {
        seed,
        mishaps: 0.02,
        manner: { jobMs: 3, trouble: () => (n++ % 17 === 0 ? "report" : null) },
      }).broken,
      [],
      `seed ${seed}`,
    );
  }
});
