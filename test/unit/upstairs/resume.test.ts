import t from "tap";
import { type KeptStorm, keptStorm } from "../../kit/kept-storm.js";
import { hashApi } from "../../kit/replica.js";

// Servers that are killed at any moment, one after another: what was acknowledged is there each time, in order, whatever the replicas held.

const hash = await hashApi();

const campaign = (name: string, seeds: number, options: Omit<KeptStorm, "seed">): void => {
  t.test(name, async (t) => {
    const sums = { lives: 0, acknowledged: 0, resumed: 0, reissued: 0, killedEarly: 0 };
    const broken: string[] = [];
    for (let seed = 1; seed <= seeds && broken.length === 0; seed++) {
      const outcome = keptStorm(hash, { seed, ...options });
      broken.push(...outcome.broken.map((line) => `seed ${seed}: ${line}`));
      sums.lives += outcome.judge.counts.lives;
      sums.acknowledged += outcome.judge.counts.acknowledged;
      sums.resumed += outcome.resumed;
      sums.reissued += outcome.reissued;
      sums.killedEarly += outcome.killedEarly;
    }
    t.same(broken, [], JSON.stringify(sums));
    t.ok(sums.resumed > seeds && sums.reissued > 0, "there was something to resume");
  });
};

campaign("quorum", 12, { killBefore: 3000 });
campaign("quorum, and replicas that come and go", 20, { killBefore: 3000, mishaps: 0.03 });
campaign("buffered", 12, { killBefore: 3000, ack: "buffered" });
campaign("buffered, and replicas that come and go", 20, {
  killBefore: 3000,
  mishaps: 0.03,
  ack: "buffered",
});
campaign("killed again and again before the log is finished", 30, {
  killBefore: 250,
  lives: 14,
  ack: "buffered",
});
campaign("few rows: writes wait until a flush covers some", 15, {
  killBefore: 3000,
  rows: 32,
  ack: "buffered",
});
campaign("with two replicas", 20, {
  killBefore: 3000,
  mishaps: 0.05,
  degradedAfterMs: 300,
  ack: "buffered",
});

t.test("killed after each event of a life that resumes", async (t) => {
  const broken: string[] = [];
  let reissued = 0;
  const early = { events: 0 };
  for (let killAt = 1; killAt <= 260; killAt++) {
    const outcome = keptStorm(hash, { seed: 7, lives: 2, killAt: 400 + killAt, ack: "buffered" });
    const again = keptStorm(hash, { seed: 11, lives: 5, killAt, ack: "buffered" });
    broken.push(...[...outcome.broken, ...again.broken].map((line) => `${killAt}: ${line}`));
    reissued += outcome.reissued + again.reissued;
    early.events += again.killedEarly;
    if (broken.length > 0) break;
  }
  t.same(
    broken,
    [],
    `${reissued} writes written again, ${early.events} lives ended before they served`,
  );
});
