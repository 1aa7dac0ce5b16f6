import t from "tap";
import type { RegionDefinition } from "../../../src/crucible/region-definition.js";
import { regionOf } from "../../kit/store.js";
import { prng } from "../../kit/world.js";
import { Model, Work } from "./history.js";
import { freshDisk, plain, Rig, readForm } from "./rig.js";

// Random jobs, many at a time, against a model that is an array of values.

const SHAPES: [string, RegionDefinition, number | undefined][] = [
  ["much memory", regionOf(512, 50, 4), undefined],
  ["little memory", regionOf(512, 50, 4), 5 * 4096],
  ["no memory", regionOf(4096, 33, 3), 1],
  ["blocks of 32 KiB", regionOf(32_768, 8, 3), 300_000],
];

for (const [name, region, heldBytesMax] of SHAPES)
  t.test(`what is read is what was last written: ${name}`, async (t) => {
    for (let seed = 1; seed <= 6; seed++) {
      const chance = prng(seed);
      const disk = freshDisk(region);
      const model = new Model(region);
      const options = {
        seed,
        arenaBytes: 32 * 1024 * 1024,
        ...(heldBytesMax === undefined ? {} : { heldBytesMax }),
      };
      let number = 0;
      for (let life = 0; life < 3; life++) {
        const rig = Rig.open(disk, { ...options, latencyMs: chance() * 4 });
        const work = new Work(model, rig, chance, number);
        for (let i = 0; i < 150; i++) {
          work.step();
          if (chance() < 0.7) rig.world.advance(chance() * 4);
        }
        rig.world.advance(10_000);
        t.ok(work.idle, "every job was answered");
        t.same(work.faults, []);
        number = work.flushNumber;
        t.equal(rig.close(), null);
        t.equal(rig.arena.allocations, 0, "all memory was given back");
        t.equal(rig.files.openFiles, 0);
        const result = model.check(disk.copy(), options);
        if ("wrong" in result) t.ok(false, `seed ${seed}, life ${life}: ${result.wrong}`);
        for (const [block, known] of model.blocks.entries())
          if (known.done !== known.versions.length - 1) t.ok(false, `block ${block}`);
        if ("found" in result)
          for (const [block, value] of result.found.entries())
            if (value !== model.current(block))
              t.ok(false, `seed ${seed}: block ${block} is not the last`);
      }
    }
  });

t.test("jobs larger than any scratch memory, and over many extents", async (t) => {
  const region = regionOf(512, 3000, 3);
  const rig = Rig.open(freshDisk(region), { arenaBytes: 64 * 1024 * 1024, seed: 3 });
  const values = Array.from({ length: 8000 }, (_, i) => plain(Buffer.alloc(512, `${i} `)));
  t.equal(rig.write(500, values), null);
  const check = (when: string): void => {
    for (const [i, { data, context }] of rig.read(0, 9000).entries()) {
      const value = values[i - 500];
      if (!context.equals(readForm(value))) t.ok(false, `${when}: context of ${i}`);
      if (!data.equals(value?.data ?? Buffer.alloc(512))) t.ok(false, `${when}: block ${i}`);
    }
  };
  check("from memory");
  t.equal(rig.flush(1), null);
  check("from the files");
  for (let i = 0; i < 8000; i += 3) {
    values[i] = plain(Buffer.alloc(512, `again ${i}`));
    if (rig.write(500 + i, [values[i]!]) !== null) t.ok(false, "write");
  }
  check("some from memory");
  t.equal(rig.flush(2), null);
  check("with alternating slots");
  const half = rig.write(
    0,
    Array.from({ length: 9000 }, () => plain(Buffer.alloc(512, "u"))),
    true,
  );
  t.equal(half, null);
  const blocks = rig.read(0, 9000);
  t.ok(blocks.slice(0, 500).every(({ data }) => data.every((byte) => byte === 0x75)));
  t.ok(blocks[500]!.data.equals(values[0]!.data), "only blocks that were never written");
  t.equal(rig.close(), null);
  t.equal(rig.arena.allocations, 0);
});

t.test("memory stays within its limit and comes back", async (t) => {
  const region = regionOf(4096, 64, 8);
  const limit = 64 * 4096;
  const rig = Rig.open(freshDisk(region), { latencyMs: 2, heldBytesMax: limit });
  let answered = 0;
  let most = 0;
  const total = 300;
  for (let i = 0; i < total; i++) {
    rig.submitWrite((i * 37) % 512, [plain(Buffer.alloc(4096, `${i}`))], false, (fault) => {
      if (fault === null) answered += 1;
    });
    most = Math.max(most, rig.store.heldBytes);
    if (i % 40 === 39) rig.world.advance(1);
  }
  rig.world.advance(5000);
  t.equal(answered, total, "writes wait, they do not fail");
  t.ok(most <= limit + 8192, `${most} bytes held at most`);
  t.ok(rig.store.heldBytes <= limit / 2, "from half of the limit on it is written out");
  t.equal(rig.flush(1), null);
  t.equal(rig.store.heldBytes, 0);
});

t.test("a write out for want of memory is no flush", async (t) => {
  const rig = Rig.open(freshDisk(regionOf(512, 20, 1)), { heldBytesMax: 1 });
  t.equal(rig.write(0, [plain(Buffer.alloc(512, 1))]), null);
  rig.world.advance(100);
  t.equal(rig.store.heldBytes, 0);
  t.ok(rig.store.isDirty(0));
  t.equal(rig.store.flushNumber(0), 0);
});
