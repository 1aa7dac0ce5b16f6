import t from "tap";
import { hostClock } from "../../../src/host/clock.js";

const TIMERS = 3000;
const DELAY_MS_MAX = 250;

/** Keeps the loop from noticing that time goes by. */
function work(ms: number): void {
  const until = hostClock.nowMs() + ms;
  while (hostClock.nowMs() < until);
}

t.test("no timer is early, however busy the loop was when it was set", async (t) => {
  const early = await new Promise<number[]>((resolve) => {
    const found: number[] = [];
    let left = TIMERS;
    for (let i = 0; i < TIMERS; i++) {
      if (i % 100 === 0) work(5);
      const delayMs = 1 + ((i * 7.3) % DELAY_MS_MAX);
      const dueMs = hostClock.nowMs() + delayMs;
      hostClock.after(delayMs, () => {
        if (hostClock.nowMs() < dueMs) found.push(dueMs - hostClock.nowMs());
        left -= 1;
        if (left === 0) resolve(found);
      });
    }
  });
  t.equal(early.length, 0, `early by up to ${Math.max(0, ...early)} ms`);
});

t.test("a timer can be cancelled, also one that was put off", async (t) => {
  let fired = 0;
  const cancels = Array.from({ length: 100 }, () => {
    const cancel = hostClock.after(20, () => (fired += 1));
    work(0.2);
    return cancel;
  });
  // Half of them would be early now.
  work(15);
  await new Promise((resolve) => setTimeout(resolve, 5));
  const before = fired;
  for (const cancel of cancels) cancel.cancel();
  await new Promise((resolve) => setTimeout(resolve, 60));
  t.equal(fired, before);
});
