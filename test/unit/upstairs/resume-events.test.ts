import t from "tap";
import { keptStorm } from "../../kit/kept-storm.js";
import { hashApi } from "../../kit/replica.js";

const hash = await hashApi();

t.test("killed after each event of a life that resumes", async (t) => {
  const broken: string[] = [];
  let reissued = 0;
  let killedEarly = 0;
  // The first life is the same each time and dies with a full log; the second one dies one event later each time.
  for (let second = 1; second <= 160 && broken.length === 0; second++) {
    const outcome = keptStorm(hash, { seed: 27, lives: 2, killAt: [650, second], ack: "buffered" });
    broken.push(...outcome.broken.map((line) => `${second}: ${line}`));
    reissued += outcome.reissued;
    killedEarly += outcome.killedEarly;
  }
  t.same(
    broken,
    [],
    `${reissued} writes written again, ${killedEarly} lives ended before they served`,
  );
  t.ok(killedEarly > 100 && reissued > 2000, `${killedEarly}, ${reissued}`);
});
