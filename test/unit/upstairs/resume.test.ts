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

campaign("quorum", 8, { killBefore: 3000 });
campaign("quorum, and replicas that come and go", 12, { killBefore: 3000, mishaps: 0.03 });
campaign("buffered", 8, { killBefore: 3000, ack: "buffered" });
campaign("buffered, and replicas that come and go", 12, {
  killBefore: 3000,
  mishaps: 0.03,
  ack: "buffered",
});
campaign("killed again and again before the log is finished", 15, {
  killBefore: 250,
  lives: 14,
  ack: "buffered",
});
campaign("few rows: writes wait until a flush covers some", 8, {
  killBefore: 3000,
  rows: 32,
  ack: "buffered",
});
campaign("abandoned instead of killed, as in a hand-over that does not wait", 12, {
  killBefore: 3000,
  mishaps: 0.03,
  ack: "buffered",
  abandons: true,
});
campaign("with two replicas", 10, {
  killBefore: 3000,
  mishaps: 0.05,
  degradedAfterMs: 300,
  ack: "buffered",
});
