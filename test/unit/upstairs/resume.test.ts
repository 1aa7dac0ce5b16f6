import t from "tap";
import { keptStorm } from "../../kit/kept-storm.js";
import { hashApi } from "../../kit/replica.js";

const hash = await hashApi();

t.test("a few", async (t) => {
  for (let seed = 1; seed <= 10; seed++) {
    const { broken, judge, resumed, reissued, killedEarly } = keptStorm(hash, {
      seed,
      killBefore: 3000,
      mishaps: 0.02,
    });
    t.same(
      broken,
      [],
      `${seed} ${JSON.stringify(judge.counts)} ${resumed} ${reissued} ${killedEarly}`,
    );
  }
});
