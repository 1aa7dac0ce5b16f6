import fc from "fast-check";
import t from "tap";
import { Copy, judgeCopies, LOST, SAME, UNSURE } from "../../../src/upstairs/heal-judge.js";

const { none, unreadable, damaged, empty, good } = Copy;

/** A copy and, of good ones, which content it has. */
type One = readonly [copy: number, content?: string];
const judge = (...copies: One[]): number =>
  judgeCopies(
    copies.map(([copy]) => copy),
    (a, b) => copies[a]![1] === copies[b]![1],
  );
const A: One = [good, "a"];
const B: One = [good, "b"];
const C: One = [good, "c"];
const E: One = [empty];
const D: One = [damaged];
const U: One = [unreadable];
const N: One = [none];

t.test("which copy is kept", async (t) => {
  const table: readonly [string, readonly One[], number][] = [
    ["all the same", [A, A, A], SAME],
    ["all never written", [E, E, E], SAME],
    ["two the same, one not asked", [A, N, A], SAME],
    ["one alone", [N, A, N], SAME],
    ["a damaged one", [D, A, A], 1],
    ["two damaged ones", [D, U, A], 2],
    ["one that could not be read", [A, U, A], 0],
    ["a good one is kept against one that does not agree with its hash", [N, D, B], 2],
    ["a lost write", [A, E, A], 0],
    ["two lost writes: what was written is kept", [E, B, E], 1],
    ["an old version on one", [B, A, A], 1],
    ["an old version on two: nobody can tell", [B, B, A], 0],
    ["two that differ", [N, A, B], 1 + UNSURE],
    ["three that differ", [A, B, C], 0 + UNSURE],
    ["two that differ, and one damaged", [D, A, B], 1 + UNSURE],
    ["nobody has a good one", [D, D, U], LOST],
    ["nobody could be read", [U, U, U], LOST],
    ["never written against damaged: nobody knows", [E, D, U], LOST],
    ["never written twice against damaged", [E, D, E], 0],
    ["never written against one that could not be read", [U, N, E], 2],
    ["never written, but data elsewhere under no context", [E, U, E], 0],
  ];
  for (const [name, copies, wanted] of table) t.equal(judge(...copies), wanted, name);
});

t.test(
  "for all three copies: what is kept is good, and the order of replicas matters in ties only",
  async (t) => {
    const one = fc.constantFrom<One>(A, B, C, E, D, U, N);
    fc.assert(
      fc.property(fc.tuple(one, one, one), (copies) => {
        const verdict = judge(...copies);
        const asked = copies.filter(([copy]) => copy !== none);
        if (verdict === LOST) return asked.every(([copy]) => copy !== good);
        const kept = verdict === SAME ? asked[0]! : copies[verdict & ~UNSURE]!;
        if (kept[0] !== good && kept[0] !== empty) return false;
        // Written data is never given up for "never written".
        if (kept[0] === empty && copies.some(([copy]) => copy === good)) return false;
        if (verdict === SAME) return asked.every((o) => o[0] === kept[0] && o[1] === kept[1]);
        if ((verdict & UNSURE) !== 0) return true;
        const turned = judge(copies[1], copies[2], copies[0]);
        const other = [copies[1], copies[2], copies[0]][turned & ~UNSURE]!;
        return other[0] === kept[0] && other[1] === kept[1];
      }),
      { numRuns: 2000 },
    );
    t.pass("2000 triples");
  },
);
