import t from "tap";
import type { Core } from "../../../src/upstairs/core.js";
import { TUNING } from "../../../src/upstairs/options.js";
import { Strikes } from "../../../src/upstairs/strikes.js";

t.test("each time doubles the pause, up to an hour; an hour at work forgets them", async (t) => {
  const strikes = new Strikes({ tuning: TUNING } as Core);
  const pauses = Array.from({ length: 10 }, () => strikes.add(1) / 1000);
  t.same(pauses, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]);
  t.equal(strikes.add(0), 30_000, "each replica has its own");
  strikes.seenActive(1, 1_000_000);
  strikes.seenActive(1, 4_500_000);
  t.equal(strikes.count(1), 10);
  t.equal(strikes.add(1), 3_600_000);
  strikes.seenActive(1, 5_000_000);
  strikes.seenActive(1, 8_600_000);
  t.equal(strikes.count(1), 0);
  t.equal(strikes.add(1), 30_000);
});
