import t from "tap";
import type { Generation } from "../../../src/base/ids.js";
import { areOf, type LogLife, withLife } from "../../../src/journal/lives.js";

const life = (generation: bigint, first: number, last: number, reconciled = 0n): LogLife => ({
  from: generation as Generation,
  generation: generation as Generation,
  reconciled: reconciled as Generation,
  first,
  last,
});

t.test("generation and flush number together tell a session from others", async (t) => {
  const lives = [life(7n, 10, 12), life(9n, 500, 499)];
  for (const [generation, flush, expected] of [
    [7n, 10, true],
    [7n, 12, true],
    [7n, 9, false],
    [7n, 13, false],
    [8n, 11, false],
    [9n, 500, false],
    [0n, 11, false],
  ] as const)
    t.equal(areOf(lives, generation, flush), expected, `${generation}, ${flush}`);
  t.equal(areOf([life(7n, 10, 10, 3n)], 3n, 10), true, "what reconciliation wrote");
  t.equal(areOf([life(7n, 10, 10, 3n)], 3n, 11), false);
});

t.test("one that begins anew, since reconciliation failed, is the same one", async (t) => {
  const lives = withLife([life(7n, 10, 10, 3n)], life(7n, 40, 39));
  t.equal(lives.length, 1);
  t.ok(areOf(lives, 3n, 10));
  t.ok(areOf(lives, 7n, 40) === false, "nothing was sent with that yet");
  const more = withLife([life(7n, 40, 39)], life(7n, 20, 20, 3n));
  t.ok(areOf(more, 3n, 20));
});

t.test("however often it dies, nothing that it did becomes a stranger's", async (t) => {
  let lives: readonly LogLife[] = [];
  const all = Array.from({ length: 20 }, (_, i) =>
    life(BigInt(100 + i), 1000 * (i + 1), 1000 * (i + 1) + i),
  );
  for (const one of all) lives = withLife(lives, one);
  t.equal(lives.length, 4);
  for (const one of all)
    for (const flush of [one.first, one.last])
      t.ok(areOf(lives, one.generation, flush), `${one.generation}, ${flush}`);
  t.notOk(areOf(lives, 119n, 19_000), "the newest ones are told apart");
  t.notOk(areOf(lives, 120n, 20_020));
});
