import t from "tap";
import { Grade, judgeClean, judgeDirty, judgeUnmapped } from "../../../src/region/judge-block.js";
import { SlotFit } from "../../../src/region/recovery.js";

const { empty, other, damaged, fits } = SlotFit;
const { bad, weak, good } = Grade;

t.test("a clean extent: the slot in use decides, and what contradicts it is noticed", async (t) => {
  // active, fit of A, fit of B, zeros → grade, written, array
  const rows = [
    [0, fits, other, false, good, true, 0],
    [1, other, fits, false, good, true, 1],
    [1, fits, fits, false, good, true, 1],
    [0, fits, empty, true, good, true, 0],
    [0, empty, empty, true, good, false, 0],
    // Zeros were written, or are still there: the same to a reader.
    [0, empty, fits, true, good, false, 0],
    // A write came or is lost.
    [0, empty, other, true, weak, false, 0],
    [1, other, empty, true, weak, false, 1],
    // Nobody ever made a slot in B active without filling it.
    [1, empty, empty, true, weak, false, 1],
    // The bitmap or the data is wrong.
    [0, other, fits, false, weak, true, 1],
    [1, fits, other, false, weak, true, 0],
    [0, empty, fits, false, weak, true, 1],
    [1, fits, empty, false, weak, true, 0],
    [0, damaged, other, false, weak, true, 0],
    [0, other, damaged, false, weak, true, 1],
    [0, damaged, fits, false, weak, true, 1],
    [0, empty, empty, false, bad, false, 0],
    [0, other, empty, false, bad, false, 0],
    [0, other, empty, true, bad, false, 0],
    [1, other, other, false, bad, false, 1],
    [0, empty, other, false, bad, false, 0],
  ] as const;
  for (const [active, a, b, zero, grade, written, array] of rows) {
    t.same(
      judgeClean(active, a, b, zero),
      { grade, written, array },
      `${active} ${a} ${b} ${zero}`,
    );
  }
});

t.test("a dirty extent: the slot that fits", async (t) => {
  const rows = [
    [empty, empty, true, good, false, 0],
    [empty, empty, false, bad, false, 0],
    [fits, other, false, good, true, 0],
    [other, fits, false, good, true, 1],
    [fits, fits, false, good, true, 1],
    [fits, empty, false, good, true, 0],
    [damaged, other, false, weak, true, 0],
    [empty, damaged, false, weak, true, 1],
    // The first write to the block never arrived, or its data is lost.
    [empty, other, true, weak, false, 0],
    [other, empty, true, weak, false, 1],
    [empty, other, false, bad, false, 0],
    [other, other, false, bad, false, 0],
  ] as const;
  for (const [a, b, zero, grade, written, array] of rows) {
    t.same(judgeDirty(a, b, zero), { grade, written, array }, `${a} ${b} ${zero}`);
  }
});

t.test(
  "an extent without a bitmap: the slot that fits, unless the other was written later",
  async (t) => {
    const rows = [
      [fits, other, 1, good, 0],
      [fits, other, 0, weak, 0],
      [fits, other, -1, weak, 0],
      [other, fits, -1, good, 1],
      [other, fits, 0, weak, 1],
      [other, fits, 1, weak, 1],
      [fits, empty, 0, good, 0],
      [empty, fits, 0, good, 1],
      [fits, fits, 1, good, 1],
      [other, damaged, -1, weak, 1],
    ] as const;
    for (const [a, b, lead, grade, array] of rows) {
      t.same(
        judgeUnmapped(a, b, false, lead),
        { grade, written: true, array },
        `${a} ${b} ${lead}`,
      );
    }
    t.same(judgeUnmapped(empty, empty, true, 0), { grade: good, written: false, array: 0 });
    t.equal(judgeUnmapped(other, other, false, 1).grade, bad);
  },
);
