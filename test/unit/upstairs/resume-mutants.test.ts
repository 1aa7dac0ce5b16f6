import t from "tap";
import type { Uuid } from "../../../src/base/ids.js";
import { HEADER_BYTES, ROW_WORDS, RowState } from "../../../src/journal/layout.js";
import { WriteLog } from "../../../src/journal/log.js";
import { LogMemory } from "../../../src/journal/memory.js";
import { DeviceStatus } from "../../../src/ports/device.js";
import type { Journal, Resume } from "../../../src/ports/journal.js";
import { Engine } from "../../../src/upstairs/engine.js";
import { Reissue } from "../../../src/upstairs/reissue.js";
import { FakeArena } from "../../kit/arena.js";
import { KeptHost, KeptVolume, type Life } from "../../kit/kept.js";
import { keptStorm } from "../../kit/kept-storm.js";
import { hashApi } from "../../kit/replica.js";
import { World } from "../../kit/world.js";

// Mistakes planted on purpose, one at a time; the storms of servers that die, or the visits of another host, must notice each.

const hash = await hashApi();
const SEEDS = 12;

type Tamper = (journal: Journal, world: World) => void;
const ofResume =
  (change: (resume: { -readonly [K in keyof Resume]: Resume[K] }, world: World) => void): Tamper =>
  (journal, world) => {
    if (journal.resume !== null) change(journal.resume, world);
  };

/** Until something is found: how many seeds it took. */
function storms(tamper: Tamper = () => {}): { seeds: number; broken: string[] } {
  for (let seed = 1; seed <= SEEDS; seed++) {
    const settings = { seed, killBefore: 1500, lives: 5, mishaps: 0.03, tamper };
    const ack = seed % 2 === 0 ? "buffered" : "quorum";
    try {
      // Only what a guest would notice counts.
      const { broken: all } = keptStorm(hash, { ...settings, ack });
      const broken = all.filter((line) => !/left a log|allocations are left/.test(line));
      if (broken.length > 0) return { seeds: seed, broken };
    } catch (error) {
      // A damaged payload, or an invariant.
      return { seeds: seed, broken: [`${error}`] };
    }
  }
  return { seeds: SEEDS, broken: [] };
}

/** Another host comes while the server here is dead, and stays or goes. What it wrote has to be there afterwards. */
function visits(tamper: Tamper = () => {}): { seeds: number; broken: string[] } {
  const broken: string[] = [];
  let seeds = 0;
  for (const stays of [true, false])
    for (const clockOffset of [0, -1_000_000]) {
      seeds += 1;
      const world = new World(seeds);
      const volume = new KeptVolume(world, hash, {
        ack: "buffered",
        tamper,
        tuning: { autoFlushMs: 3_600_000, refusalsMs: 3_000 },
      });
      const here = new KeptHost(volume);
      const dead = here.start();
      dead.up();
      ask(dead, dead.guest.write(0, Buffer.alloc(512, 0xaa)));
      dead.kill();
      world.advance(2000);
      const there = new KeptHost(volume, "00000000-0000-4000-8000-00000000000b" as Uuid);
      // A host that is there and whose clock is behind cannot be told from one of ours that has just begun.
      there.clockOffset = stays ? 0 : clockOffset;
      const visitor = there.start();
      visitor.up();
      ask(visitor, visitor.guest.write(0, Buffer.alloc(512, 0xbb)));
      if (!stays) visitor.stop();
      here.start().up(20_000);
      world.advance(1000);
      if (volume.replicas.some((replica) => replica.blocks.get(0)?.data[0] !== 0xbb))
        broken.push(`visit ${seeds}: what the other host wrote was written over`);
    }
  return { seeds, broken };
}
function ask(life: Life, tag: number): void {
  life.pass(5000, () => life.guest.answers.has(tag));
  if (life.guest.status(tag) !== DeviceStatus.ok) throw new Error("not done");
}

t.test("without a mistake nothing is found", async (t) => {
  t.same(storms().broken, []);
  t.same(visits().broken, []);
});

interface Mutant {
  readonly by: typeof storms;
  readonly tamper?: Tamper;
  /** Returns how to take it back. */
  readonly plant?: () => () => void;
}

/** Replaces a method for a while. */
function replace<T extends object, K extends keyof T>(of: T, name: K, make: (was: T[K]) => T[K]) {
  return (): (() => void) => {
    const was = of[name];
    of[name] = make(was);
    return () => {
      of[name] = was;
    };
  };
}

const MUTANTS: Readonly<Record<string, Mutant>> = {
  "a row is forgotten when its write is answered": {
    by: storms,
    plant: replace(
      WriteLog.prototype,
      "answered",
      () =>
        function (this: WriteLog, row: number) {
          this.covered(row);
        },
    ),
  },
  "a flush covers what was written after it": {
    by: storms,
    plant: replace(
      WriteLog.prototype,
      "covered",
      (was) =>
        function (this: WriteLog) {
          was.call(this, (this.lastCovered + this.rows) | 0);
        },
    ),
  },
  "a row is complete only after its write was sent": {
    by: storms,
    plant: replace(LogMemory.prototype, "publish", (was) => {
      const late = new WeakMap<LogMemory, number>();
      return function (this: LogMemory, at: number, word: number) {
        const due = late.get(this);
        late.delete(this);
        if (due !== undefined) was.call(this, due, RowState.complete);
        const isRow = at >= HEADER_BYTES / 4 && (at - HEADER_BYTES / 4) % ROW_WORDS === 0;
        if (isRow && word === RowState.complete) late.set(this, at);
        else was.call(this, at, word);
      };
    }),
  },
  "written again in another order": {
    by: storms,
    plant: replace(
      Reissue.prototype,
      "start",
      (was) =>
        function (this: Reissue, entries, then) {
          return was.call(this, [...entries].reverse(), then);
        },
    ),
  },
  "served without being written again": {
    by: storms,
    plant: replace(Engine.prototype, "reissue", () => (_, then) => {
      then();
      return null;
    }),
  },
  "the newest of them is left out": {
    by: storms,
    tamper: ofResume((resume) => {
      resume.writes = resume.writes.slice(0, -1);
    }),
  },
  "the payload of what is left is not reserved": {
    by: storms,
    plant: replace(FakeArena.prototype, "reserve", () => () => true),
  },
  "a generation is used before the log knows it": {
    by: storms,
    plant: replace(WriteLog.prototype, "claimed", () => () => {}),
  },
  "resumes with the clock's generation": {
    by: visits,
    tamper: ofResume((resume, world) => {
      resume.generation = BigInt(world.wallSeconds()) as typeof resume.generation;
    }),
  },
  "does not look for strangers": {
    by: visits,
    tamper: ofResume((resume) => {
      resume.explains = () => true;
    }),
  },
  "takes every generation below its own for known": {
    by: visits,
    tamper: ofResume((resume) => {
      const { generation } = resume;
      resume.explains = (found) => found <= generation;
    }),
  },
};

for (const [name, { by, tamper, plant }] of Object.entries(MUTANTS))
  t.test(`noticed: ${name}`, async (t) => {
    const takeBack = plant?.();
    try {
      const { seeds, broken } = by(tamper);
      t.ok(broken.length > 0, `after ${seeds}: ${broken[0] ?? "nothing was found"}`);
    } finally {
      takeBack?.();
    }
  });
