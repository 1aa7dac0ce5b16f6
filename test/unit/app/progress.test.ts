import t from "tap";
import { showBytes, showSeconds, startProgress } from "../../../src/app/progress.js";

function rig(isTerminal: boolean) {
  const written: string[] = [];
  let now = 1000;
  const output = { isTerminal, columns: 100, write: (text: string) => void written.push(text) };
  const progress = startProgress("verifying", 100 * 2 ** 20, output, () => now);
  return {
    written,
    progress,
    wait: (ms: number) => {
      now += ms;
    },
  };
}

t.test("a terminal sees a bar after two seconds, and it goes away", async (t) => {
  const { written, progress, wait } = rig(true);
  wait(1900);
  progress.advance(10 * 2 ** 20);
  t.same(written, [], "short work shows nothing");
  wait(100);
  progress.advance(10 * 2 ** 20);
  t.equal(written.length, 1);
  t.ok(
    /^\rverifying \[#{8}\.{32}\] 20 % of 100 MiB, 10 MiB\/s, 8 s left/.test(written[0]!),
    `${written[0]}`,
  );
  wait(50);
  progress.advance(1);
  t.equal(written.length, 1, "not drawn more often than anyone can read");
  progress.done();
  t.equal(written[1], "\r\x1b[K");
});

t.test("elsewhere there is a plain line every ten seconds", async (t) => {
  const { written, progress, wait } = rig(false);
  for (let i = 0; i < 25; i++) {
    wait(1000);
    progress.advance(2 * 2 ** 20);
  }
  progress.done();
  t.same(written, [
    "verifying: 20 % of 100 MiB, 2 MiB/s, 40 s left\n",
    "verifying: 40 % of 100 MiB, 2 MiB/s, 30 s left\n",
  ]);
});

t.test("numbers for people", async (t) => {
  t.equal(showBytes(0), "0 B");
  t.equal(showBytes(1023), "1023 B");
  t.equal(showBytes(1024), "1 KiB");
  t.equal(showBytes(1536), "1.50 KiB");
  t.equal(showBytes(2 ** 40), "1 TiB");
  t.equal(showSeconds(59.2), "1 min 0 s");
  t.equal(showSeconds(7), "7 s");
  t.equal(showSeconds(3700), "1 h 1 min");
});
