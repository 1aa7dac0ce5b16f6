import t from "tap";
import { hashApi } from "../../kit/replica.js";
import type { StageOptions } from "../../kit/upstairs-stage.js";
import { storm } from "../../kit/upstairs-storm.js";

// Replicas that are given up again and again while a guest works, with a quick way to be faulted: a few jobs missed. At the end all must be
// equal. The strict models notice a job in a closed extent, beyond what is repaired, or with a dependency that is never met.

const hash = await hashApi();

const TUNING = {
  offlineJobsMax: 3,
  repairStepMs: 3000,
  repairPatienceMs: 2000,
  repairRetryMs: 10,
  repairRetryMsMax: 100,
};

interface Weather {
  readonly seeds: number;
  readonly options: (seed: number) => StageOptions;
}
const WEATHERS: Readonly<Record<string, Weather>> = {
  "repair after repair": { seeds: 12, options: () => ({}) },
  "small extents, so that many writes lie in several": {
    seeds: 8,
    options: () => ({ region: { extentSize: 7, extentCount: 23 } }),
  },
  "small windows and little room": {
    seeds: 6,
    options: (seed) => ({
      arenaBytes: 4 * 1024 * 1024,
      links: { latencyMs: 0.3, segmentBytes: 1 + (seed % 4) * 97, windowBytes: 4096 },
      tuning: { ...TUNING, jobsMax: 12, bytesMax: 40_000 },
    }),
  },
  "jobs that fail now and then": {
    seeds: 6,
    options: (seed) => {
      let n = seed;
      return {
        manner: { jobMs: 3, copyMs: 10, trouble: () => (n++ % 97 === 0 ? "report" : null) },
      };
    },
  },
  "barriers instead of flushes": {
    seeds: 6,
    options: () => ({ tuning: { ...TUNING, relief: "barrier" } }),
  },
  "a limited rate": {
    seeds: 4,
    options: () => ({ tuning: { ...TUNING, repairBytesPerSecond: 200_000 } }),
  },
};

for (const [name, { seeds, options }] of Object.entries(WEATHERS))
  t.test(name, async (t) => {
    let repairs = 0;
    for (let seed = 1; seed <= seeds; seed++) {
      const { broken, stage } = storm(hash, {
        seed,
        mishaps: 0.06,
        powerCuts: seed % 2 === 0,
        manner: { jobMs: 3, copyMs: 10 },
        tuning: TUNING,
        ...options(seed),
      });
      t.same(broken, [], `seed ${seed}`);
      repairs += stage.said("repair.done").length;
    }
    t.ok(repairs >= seeds, `${repairs} repairs`);
  });
