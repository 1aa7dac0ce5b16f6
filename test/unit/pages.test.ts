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

t.test("a run that fits is always found, whatever the free runs look like", async (t) => {
  const chance = prng(11);
  const total = 5000;
  for (let round = 0; round < 20; round++) {
    const pages = new PageAllocator(total * 4096);
    const used = new Uint8Array(total);
    const held: { start: number; count: number }[] = [];
    const longestGap = () => {
      let longest = 0;
      let gap = 0;
      for (const one of used) {
        gap = one === 0 ? gap + 1 : 0;
        if (gap > longest) longest = gap;
      }
      return longest;
    };
    for (let step = 0; step < 400; step++) {
      if (chance() < 0.6) {
        const count = 1 + Math.floor(chance() ** 3 * 300);
        const at = pages.alloc(count * 4096 - Math.floor(chance() * 4096));
        if (at < 0) {
          if (longestGap() >= count)
            t.fail(`no room for ${count} pages, longest gap ${longestGap()}`);
          continue;
        }
        used.fill(1, at / 4096, at / 4096 + count);
        held.push({ start: at / 4096, count });
      } else if (held.length > 0) {
        const [one] = held.splice(Math.floor(chance() * held.length), 1);
        pages.free(one!.start * 4096);
        used.fill(0, one!.start, one!.start + one!.count);
      }
      const gap = longestGap();
      const probe = gap > 0 ? pages.alloc(gap * 4096) : 0;
      if (probe < 0) t.fail(`the longest gap of ${gap} pages was not found`);
      if (gap > 0) pages.free(probe);
    }
    t.equal(pages.freeBytes, used.reduce((sum, one) => sum + (1 - one), 0) * 4096);
  }
  const one = new PageAllocator(4096);
  t.equal(one.alloc(1), 0);
  t.equal(one.alloc(1), -1);
  t.throws(() => one.free(8192), /allocated/);
  t.throws(() => one.free(100), /allocated/);
  t.throws(() => one.free(-4096), /allocated/);
});

t.test("exactly the runs that a dead process left are taken, whatever their order", async (t) => {
  const chance = prng(13);
  for (let round = 0; round < 50; round++) {
    const before = new PageAllocator(600 * 4096);
    const held: { at: number; length: number }[] = [];
    for (let step = 0; step < 120; step++) {
      const length = 1 + Math.floor(chance() ** 3 * 120_000);
      const at = before.alloc(length);
      if (at >= 0) held.push({ at, length });
      if (chance() < 0.4 && held.length > 0)
        before.free(held.splice(Math.floor(chance() * held.length), 1)[0]!.at);
    }
    const after = new PageAllocator(600 * 4096);
    if (chance() < 0.5) held.sort((a, b) => a.at - b.at);
    for (const { at, length } of held)
      if (!after.reserve(at, length)) t.fail(`${at} could not be reserved`);
    if (after.freeBytes !== before.freeBytes) t.fail("as much is free as before");
    for (const { at } of held) if (after.reserve(at, 1)) t.fail(`${at} was reserved twice`);
    for (const { at } of held) after.free(at);
    if (after.alloc(600 * 4096) !== 0) t.fail("in the end everything is one run again");
  }
  const pages = new PageAllocator(10 * 4096);
  t.equal(pages.reserve(100, 1), false, "inside a page");
  t.equal(pages.reserve(-4096, 1), false, "before the arena");
  t.equal(pages.reserve(9 * 4096, 8192), false, "past its end");
  t.equal(pages.reserve(10 * 4096, 1), false, "behind it");
  t.equal(pages.reserve(4 * 4096, 8192), true);
  t.equal(pages.reserve(3 * 4096, 8192), false, "partly taken");
  t.equal(pages.freeBytes, 8 * 4096, "what was refused took nothing");
});
