import fc from "fast-check";
import t from "tap";
import { type Generation, NIL_UUID } from "../../../src/base/ids.js";
import { decode, type MessageOf } from "../../../src/crucible/messages.js";
import { SessionIds } from "../../../src/crucible/session-ids.js";
import { nullJournal } from "../../../src/ports/journal.js";
import type { Stream } from "../../../src/ports/stream.js";
import { Core } from "../../../src/upstairs/core.js";
import { Flag, Kind, NONE, Part } from "../../../src/upstairs/job-table.js";
import { TUNING } from "../../../src/upstairs/options.js";
import { replay } from "../../../src/upstairs/replay.js";
import { FakeArena } from "../../kit/arena.js";
import { FakeHasher } from "../../kit/hasher.js";
import { hashApi } from "../../kit/replica.js";
import { prng, World } from "../../kit/world.js";

// What is named to a replica, compared with the plainest possible model: every job, in order, with its blocks.

const hash = await hashApi();

/** A stream that only collects bytes. */
class Sink implements Stream {
  readonly peer = "";
  readonly local = "";
  readonly queuedBytes = 0;
  readonly #arena: FakeArena;
  #pieces: { at: number; length: number; own: boolean }[] = [];
  constructor(arena: FakeArena) {
    this.#arena = arena;
  }
  start(): void {}
  compose(length: number): number {
    const at = this.#arena.alloc(length);
    this.#pieces.push({ at, length, own: true });
    return at;
  }
  attach(at: number, length: number): void {
    this.#pieces.push({ at, length, own: false });
  }
  receiveInto(): void {}
  pause(): void {}
  resume(): void {}
  end(): void {}
  destroy(): void {}
  detach(): null {
    return null;
  }
  unread(): void {}
  /** The one job that was sent. */
  take(): MessageOf<"Write" | "Flush" | "ReadRequest"> {
    const frame = Buffer.concat(
      this.#pieces.map(({ at, length }) =>
        Buffer.from(this.#arena.bytes.subarray(at, at + length)),
      ),
    );
    for (const { at, own } of this.#pieces) if (own) this.#arena.free(at);
    this.#pieces = [];
    return decode(frame) as MessageOf<"Write" | "Flush" | "ReadRequest">;
  }
}

interface Known {
  readonly id: number;
  readonly slot: number;
  readonly kind: number;
  readonly start: number;
  readonly end: number;
  /** Where it was sent on the connection that there is. */
  readonly sent: Set<number>;
  readonly acked: Set<number>;
  /** What was named to each replica. */
  readonly named: Map<number, readonly number[]>;
}

class Rig {
  readonly arena = new FakeArena(4 * 1024 * 1024);
  readonly core: Core;
  readonly sinks: Sink[];
  readonly jobs: Known[] = [];
  readonly payload: number;

  constructor() {
    const world = new World(1);
    const { arena } = this;
    this.core = new Core(
      {
        dialer: { dial: () => ({ cancel() {} }) },
        arena,
        hasher: new FakeHasher(arena, hash),
        clock: world,
        random: world,
        notes: () => {},
        journal: nullJournal,
      },
      TUNING,
      new SessionIds(NIL_UUID, NIL_UUID),
      {
        givenUp: () => {},
        dropConnection: () => {},
        repairStarted: () => {},
        repaired: () => {},
        repairFailed: () => {},
      },
    );
    this.core.begin(
      { blockSize: 512, extentSize: 1000, extentCount: 1 } as never,
      1n as Generation,
      1,
    );
    this.payload = arena.alloc(64 * 512);
    this.sinks = [0, 1, 2].map(() => new Sink(arena));
    for (const [i, lane] of this.core.lanes.entries()) {
      lane.standing = "active";
      lane.stream = this.sinks[i]!;
    }
  }

  submit(kind: number, start = 0, count = 0, readFrom = 0): Known {
    const { core } = this;
    const { table } = core;
    const slot = table.take(kind);
    const isAll = kind === Kind.flush || kind === Kind.barrier;
    table.start[slot] = start;
    table.blocks[slot] = count;
    table.bytes[slot] = count * 512;
    table.at[slot] = this.payload;
    table.flags[slot] = Flag.answered;
    core.admit(slot);
    const id = table.id[slot]!;
    const job: Known = {
      id,
      slot,
      kind,
      start: isAll ? 0 : start,
      end: isAll ? Number.POSITIVE_INFINITY : start + count,
      sent: new Set(),
      acked: new Set(),
      named: new Map(),
    };
    if (!isAll) core.sender.depend(slot, core.writers, null);
    if (kind === Kind.read) {
      const lane = core.lanes[readFrom]!;
      lane.addRead(table, slot);
      core.sender.send(slot, lane, core.writers.floor, core.generation);
    } else core.spread(slot);
    if (isAll) core.writers.raise(id);
    for (let r = 0; r < 3; r++) if (table.part[slot * 3 + r] === Part.sent) this.note(job, r);
    this.jobs.push(job);
    return job;
  }
  note(job: Known, r: number): void {
    job.sent.add(r);
    job.named.set(r, this.sinks[r]!.take().dependencies);
  }
  ack(job: Known, r: number): void {
    const { core } = this;
    job.acked.add(r);
    const lane = core.lanes[r]!;
    if (job.kind === Kind.read) {
      lane.removeRead(core.table, job.slot);
      core.finish(job.slot, lane, Part.none);
      core.table.retire(job.slot);
    } else core.finish(job.slot, lane, Part.done);
    if (job.kind === Kind.flush) lane.lastFlush = job.id;
  }
  /** Whether the replica has done all that the job was told to wait for. */
  mayAck(job: Known, r: number): boolean {
    if (!job.sent.has(r) || job.acked.has(r)) return false;
    return job.named.get(r)!.every((id) => this.jobs.find((j) => j.id === id)!.acked.has(r));
  }
}

const conflict = (a: Known, b: Known): boolean =>
  (a.kind !== Kind.read || b.kind !== Kind.read) && a.start < b.end && b.start < a.end;

/** What is wrong with what was named to `r` when `job` was sent. */
function problems(rig: Rig, job: Known, r: number): string[] {
  const wrong: string[] = [];
  const byId = new Map(rig.jobs.map((j) => [j.id, j]));
  const named = job.named.get(r)!;
  const earlier = rig.jobs.filter((j) => j.id < job.id && j.sent.has(r));
  const floor = earlier.findLast((j) => j.kind === Kind.flush)?.id ?? -1;
  for (const [i, id] of named.entries()) {
    const on = byId.get(id);
    if (on === undefined || !on.sent.has(r)) wrong.push(`${id} was never sent`);
    if (id >= job.id || id < floor) wrong.push(`${id} is not between the flush and ${job.id}`);
    if (i > 0 && named[i - 1]! >= id) wrong.push("not ascending");
  }
  const reached = new Set<number>();
  const todo = [...named];
  for (let id = todo.pop(); id !== undefined; id = todo.pop()) {
    if (reached.has(id)) continue;
    reached.add(id);
    todo.push(...(byId.get(id)?.named.get(r) ?? []));
  }
  for (const j of earlier)
    if (!j.acked.has(r) && conflict(j, job) && !reached.has(j.id))
      wrong.push(`${job.id} does not wait for ${j.id}`);
  return wrong.map((text) => `job ${job.id} to ${r}: ${text}`);
}

t.test("the worked example of the reference", async (t) => {
  const rig = new Rig();
  const jobs = [
    rig.submit(Kind.read, 95, 2),
    rig.submit(Kind.flush),
    rig.submit(Kind.write, 96, 2),
    rig.submit(Kind.read, 97, 1),
    rig.submit(Kind.read, 97, 2),
    rig.submit(Kind.write, 97, 1),
    rig.submit(Kind.flush),
  ];
  const first = jobs[0]!.id;
  const named = (r: number) => jobs.map((job) => job.named.get(r)?.map((id) => id - first));
  // Where the reads go: as in the reference, and besides the writer behind a reader (2 for the fifth), and for the flush what
  // was written over (3). Both are waited for anyway.
  t.same(named(0), [[], [0], [1], [2], [1, 2], [2, 3, 4], [1, 2, 3, 4, 5]]);
  // Elsewhere the reads do not exist.
  t.same(named(1), [undefined, [], [1], undefined, undefined, [2], [1, 2, 5]]);
  for (const job of jobs)
    for (let r = 0; r < 3; r++) if (job.sent.has(r)) t.same(problems(rig, job, r), []);
});

t.test("what is done is not named, and nothing before the last flush", async (t) => {
  const rig = new Rig();
  const write = rig.submit(Kind.write, 5, 3);
  rig.ack(write, 1);
  const flush = rig.submit(Kind.flush);
  t.same(flush.named.get(0), [write.id]);
  t.same(flush.named.get(1), []);
  const next = rig.submit(Kind.write, 5, 1);
  t.same(next.named.get(2), [flush.id]);
});

t.test("any order of jobs, acknowledgements and reconnections", async (t) => {
  const run = (seed: number): string[] => {
    const chance = prng(seed);
    const below = (n: number): number => Math.floor(chance() * n);
    const rig = new Rig();
    const { core } = rig;
    const wrong: string[] = [];
    for (let step = 0; step < 120; step++) {
      const what = chance();
      const [start, count] = [below(60), 1 + below(chance() < 0.2 ? 30 : 4)];
      let job: Known | undefined;
      if (what < 0.3) job = rig.submit(Kind.write, start, count);
      else if (what < 0.5) job = rig.submit(Kind.read, start, count, below(3));
      else if (what < 0.57) job = rig.submit(Kind.flush);
      else if (what < 0.97) {
        const r = below(3);
        const ready = rig.jobs.filter((j) => rig.mayAck(j, r));
        const one = ready[below(ready.length)];
        if (one !== undefined) rig.ack(one, r);
      } else {
        // The replica comes back on a new connection; reads that it had are asked elsewhere.
        const r = below(3);
        const lane = core.lanes[r]!;
        for (const j of rig.jobs) {
          if (j.kind === Kind.read && j.sent.has(r) && !j.acked.has(r)) rig.ack(j, r);
          j.sent.delete(r);
          j.named.delete(r);
          if (j.kind === Kind.read || core.table.find(j.id) === NONE) continue;
          const part = core.table.part[j.slot * 3 + r];
          if (part === Part.sent) core.finish(j.slot, lane, Part.none);
          else if (j.id <= lane.lastFlush) continue;
          j.acked.delete(r);
          core.hold(j.slot, lane);
        }
        const sent: ReturnType<Sink["take"]>[] = [];
        const { send } = core.sender;
        core.sender.send = (...args) => {
          send.apply(core.sender, args);
          sent.push(rig.sinks[r]!.take());
        };
        replay(core, lane);
        core.sender.send = send;
        for (const message of sent) {
          const j = rig.jobs.find((other) => other.id === message.jobId)!;
          j.sent.add(r);
          j.named.set(r, message.dependencies);
          wrong.push(...problems(rig, j, r));
        }
        const missing = rig.jobs.filter(
          (j) => j.kind !== Kind.read && j.id > lane.lastFlush && !j.sent.has(r),
        );
        if (missing.length > 0) wrong.push(`${missing[0]!.id} was not sent again`);
      }
      if (job !== undefined) for (const r of job.sent) wrong.push(...problems(rig, job, r));
    }
    return wrong;
  };
  fc.assert(
    fc.property(fc.integer(), (seed) => {
      const wrong = run(seed);
      if (wrong.length > 0) throw new Error(wrong.slice(0, 3).join("\n"));
    }),
    { numRuns: 150 },
  );
  t.pass();
});
