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
