// The upstairs' job table and the map of last writers: what a 4 KiB write costs in bookkeeping, from its slot to its
// retirement, against the obvious way with objects and Maps.
// Run: node dist/bench/micro/job-table.js

import { IdList } from "../../src/upstairs/id-list.js";
import { JobTable, Kind, NONE } from "../../src/upstairs/job-table.js";
import { WriterMap } from "../../src/upstairs/writer-map.js";
import { prng } from "../../test/kit/world.js";
import { suite } from "../kit.js";

const ROUND = 1000;
const BLOCKS = 131_072;
const chance = prng(1);
const places = Array.from({ length: 1 << 14 }, () => Math.floor(chance() * BLOCKS));

const table = new JobTable();
const writers = new WriterMap();
const dependencies = new IdList();
let id = 1000;
let turn = 0;

/** ROUND random writes, then a flush that retires them. */
function arrays(): void {
  for (let i = 0; i < ROUND; i++) {
    const slot = table.take(Kind.write);
    table.start[slot] = places[turn++ & (places.length - 1)]!;
    table.blocks[slot] = 1;
    table.admit(slot, id);
    dependencies.clear();
    writers.replace(table.start[slot]!, 1, id++, dependencies);
    dependencies.settle();
  }
  writers.raise(id++);
  while (table.head !== NONE) {
    const slot = table.head;
    table.retire(slot);
    table.drop(slot);
  }
}

interface Job {
  readonly id: number;
  readonly start: number;
  readonly dependencies: readonly number[];
}
const jobs = new Map<number, Job>();
const last = new Map<number, number>();
function objects(): void {
  const floor = id;
  for (let i = 0; i < ROUND; i++) {
    const start = places[turn++ & (places.length - 1)]!;
    const before = last.get(start) ?? floor;
    jobs.set(id, { id, start, dependencies: [before] });
    last.set(start, id++);
  }
  last.clear();
  for (const job of [...jobs.values()]) jobs.delete(job.id);
}

suite("a 4 KiB write, slot to retirement", { arrays, "objects and Maps": objects }, ROUND);
