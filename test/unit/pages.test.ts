import t from "tap";
import { PageAllocator } from "../../src/base/pages.js";
import { prng } from "../kit/world.js";

t.test("runs never overlap, and everything comes back as one gap", async (t) => {
  const chance = prng(7);
  const pages = new PageAllocator(1024 * 4096);
  const held = new Map<number, number>();
  for (let step = 0; step < 20_000; step++) {
    if (chance() < 0.5) {
      const length = 1 + Math.floor(chance() * (chance() < 0.1 ? 200_000 : 9000));
      const at = pages.alloc(length);
      if (at < 0) continue;
      for (const [other, size] of held)
        if (at < other + size && other < at + length) t.fail(`${at} overlaps ${other}`);
      held.set(at, length);
    } else {
      const [at] = held.keys();
      if (at === undefined) continue;
      held.delete(at);
      pages.free(at);
    }
  }
  for (const at of held.keys()) pages.free(at);
  t.equal(pages.freeBytes, 1024 * 4096);
  t.equal(pages.alloc(1024 * 4096), 0, "the whole arena is one run again");
  t.throws(() => pages.free(4096), /allocated/, "freeing twice is a broken invariant");
});
