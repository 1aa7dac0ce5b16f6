import fc from "fast-check";
import t from "tap";
import { guessGeometry } from "../../../src/region/guess-geometry.js";
import { extentLayout } from "../../../src/region/layout.js";

t.test("the length of an extent file tells its geometry", async (t) => {
  t.same(guessGeometry(12195), [{ blockSize: 512, extentSize: 20 }]);
  t.same(guessGeometry(68_683_808)[0], { blockSize: 4096, extentSize: 16384 });
  t.same(guessGeometry(0), []);
  t.same(guessGeometry(32), []);
  t.same(guessGeometry(12196), []);
  fc.assert(
    fc.property(fc.integer({ min: 9, max: 15 }), fc.integer({ min: 1, max: 16384 }), (shift, n) => {
      const geometry = { blockSize: 2 ** shift, extentSize: n };
      const all = guessGeometry(extentLayout(geometry).fileBytes);
      return all.some((g) => g.blockSize === 2 ** shift && g.extentSize === n);
    }),
    { seed: 4, numRuns: 2000 },
  );
});
