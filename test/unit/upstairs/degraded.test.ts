import t from "tap";
import type { Generation } from "../../../src/base/ids.js";
import { DeviceStatus } from "../../../src/ports/device.js";
import { type Journal, LogKind, nullJournal } from "../../../src/ports/journal.js";
import { hashApi, type ModelReplica } from "../../kit/replica.js";
import { BLOCK, block, given, LAST, numbers, Play, serves, state } from "../../kit/sessions.js";

// A volume that begins with two of its three replicas, and the third, whatever it holds.

const hash = await hashApi();

t.test("two of three start when the third had its time", async (t) => {
  const play = new Play(hash).began();
  play.replicas[2]!.crash();
  const stage = play.session();
  t.equal(stage.activate(29_000), undefined, "the third is waited for");
  t.ok(stage.pass(2000, () => stage.upstairs.status().state === "active"));
  const status = stage.upstairs.status();
  t.equal(status.degraded, true);
  t.same(state(stage), ["new active", "new active", "faulted waitConnect"]);
  t.ok(stage.said("volume.degraded")[0]?.includes("started without replica 2"));
  const write = play.write(stage, 3, 9);
  const flush = stage.guest.flush();
  stage.world.advance(20);
  t.equal(stage.guest.status(write), DeviceStatus.ok);
  t.equal(stage.guest.status(flush), DeviceStatus.ok);
  serves(t, stage, 0, 1, "and what was there is there");
  t.same(
    play.record.last?.regions.map((known) => known?.behind),
    [false, false, true],
  );
  for (const replica of play.replicas.slice(0, 2))
    t.equal(replica.extents[7]!.generation, 2n, "both are marked as of this session");
  t.equal(play.replicas[2]!.extents[7]!.generation, 0n);
  play.replicas[2]!.start();
  t.ok(
    stage.pass(20_000, () => !stage.upstairs.status().degraded),
    "it is back, and repaired",
  );
  t.same(state(stage), ["new active", "new active", "new active"]);
  t.equal(numbers(play.replicas[2]!), numbers(play.replicas[0]!));
  t.same(play.replicas[2]!.image(), play.replicas[0]!.image());
  t.same(
    play.record.last?.regions.map((known) => known?.behind),
    [false, false, false],
  );
  // Now any two hold everything.
  play.replicas[0]!.crash();
  const after = play.write(stage, 9, 4);
  t.equal(stage.guest.status(after), DeviceStatus.ok);
  t.equal(stage.stop(), null);
  t.same(stage.violations, []);
  t.equal(stage.arena.allocations, 0);
});

t.test("with three there nobody waits, and with `never` two wait for ever", async (t) => {
  const play = new Play(hash).began();
  const three = play.session();
  t.equal(three.activate(1000), null);
  t.equal(three.upstairs.status().degraded, false);
  t.equal(three.stop(), null);
  play.replicas[0]!.crash();
  const never = play.session({ upstairs: { degradedAfterMs: null } });
  t.equal(never.activate(300_000), undefined);
  t.ok(never.said("volume.waiting")[0]?.startsWith("all three replicas are needed"));
  play.replicas[0]!.start();
  t.ok(never.pass(20_000, () => never.upstairs.status().state === "active"));
});

t.test("the time begins when two stand there, and anew when one of them leaves", async (t) => {
  const play = new Play(hash).began();
  play.replicas[2]!.crash();
  play.replicas[1]!.crash();
  const stage = play.session();
  t.equal(stage.activate(60_000), undefined, "one waits for ever");
  play.replicas[1]!.start();
  t.ok(stage.pass(15_000, () => state(stage)[1] === "new waitQuorum"));
  stage.world.advance(20_000);
  play.replicas[0]!.cut();
  stage.world.advance(15_000);
  t.equal(stage.upstairs.status().state, "activating");
  t.ok(stage.pass(30_000, () => stage.upstairs.status().state === "active"));
});

t.test("two that differ are made equal, and messages go to these two only", async (t) => {
  const play = new Play(hash).began();
  play.replicas[1]!.crash();
  // What a session that came to nothing left: a flush that one of them had, and a write that nobody flushed.
  const [first, , last] = play.replicas as [ModelReplica, ModelReplica, ModelReplica];
  first.write(41, block(7), first.hashOf(block(7)));
  first.flush(2 ** 31, 1n as Generation, 2);
  last.write(61, block(8), last.hashOf(block(8)));
  const stage = play.session();
  t.equal(stage.activate(40_000), null);
  t.equal(numbers(first), numbers(last));
  serves(t, stage, 41, 7, "the flush counts");
  serves(t, stage, 61, 8, "the newest of an extent counts");
  t.ok(
    play.replicas[1]!.heard.every(
      ({ message }) =>
        !message.kind.startsWith("Extent") || message.kind === "ExtentVersionsPlease",
    ),
  );
  t.same(stage.violations, []);
  t.equal(stage.stop(), null);
});

t.test("a third that comes while the two are made equal waits for its repair", async (t) => {
  const play = new Play(hash).began();
  const [first, second, third] = play.replicas as [ModelReplica, ModelReplica, ModelReplica];
  third.crash();
  for (const extent of [2, 3, 4])
    Object.assign(first.extents[extent]!, { generation: 1n, flushNumber: 9 });
  let isSlow = true;
  second.manner.deaf = (m) => isSlow && m.kind === "ExtentRepair";
  const stage = play.session();
  t.equal(stage.activate(45_000), undefined);
  t.equal(state(stage)[0], "new reconcile");
  third.start();
  t.ok(
    stage.pass(15_000, () => state(stage)[2] === "new waitQuorum"),
    "it stands by",
  );
  t.equal(stage.upstairs.status().state, "activating");
  isSlow = false;
  // The lost step is noticed by silence only, so the pair begins anew, now with the third.
  second.cut();
  t.ok(stage.pass(60_000, () => stage.upstairs.status().state === "active"));
  t.same(
    state(stage).map((words) => words.split(" ")[1]),
    ["active", "active", "active"],
  );
  t.equal(numbers(third), numbers(first));
  t.equal(stage.stop(), null);

  // And without a mishap: the two begin, the third is left to live repair.
  third.crash();
  first.manner.jobMs = 0;
  for (const extent of [2, 3])
    Object.assign(second.extents[extent]!, { generation: 2n, flushNumber: 99 });
  let delayed = false;
  first.manner.rewrite = (m) => {
    if (m.kind === "RepairAckId" && !delayed) {
      delayed = true;
      third.start();
    }
    return m;
  };
  const again = play.session();
  t.equal(again.activate(60_000), null);
  t.ok(again.said("volume.reconcile").length > 0);
  t.ok(again.pass(20_000, () => !again.upstairs.status().degraded));
  t.equal(numbers(third), numbers(first));
  t.same(again.violations, []);
});

/** Under a number above all others. */
const flushAlone = (third: ModelReplica, generation: bigint): void =>
  third.flush(Math.max(...third.extents.map((e) => e.flushNumber)) + 10, generation);

t.test("who was left out is no source, whatever it carries", async (t) => {
  // Each way in which the third may have gone ahead without anybody having been promised anything.
  const ways: [string, (third: ModelReplica) => void][] = [
    [
      "a write that was never flushed",
      (third) => third.write(41, block(66), third.hashOf(block(66))),
    ],
    [
      "a flush that nobody else did",
      (third) => {
        third.write(41, block(66), third.hashOf(block(66)));
        flushAlone(third, 1n);
      },
    ],
  ];
  for (const [name, way] of ways)
    for (const remembers of [true, false]) {
      const play = new Play(hash).began();
      const [first, second, third] = play.replicas as [ModelReplica, ModelReplica, ModelReplica];
      way(third);
      third.crash();
      const stage = play.session();
      t.equal(stage.activate(40_000), null);
      serves(t, stage, 41, 0, `${name}: not seen`);
      play.write(stage, 100, 5);
      t.equal(stage.stop(), null);
      // Next time all are there, or the third and one of the others.
      third.start();
      if (!remembers) play.record.last = null;
      else second.crash();
      const next = play.session();
      t.equal(next.activate(40_000), null);
      serves(t, next, 41, 0, `${name}: nor does it come true later`);
      serves(t, next, 100, 5, "and nothing is lost");
      t.same(next.violations, []);
      t.equal(third.blocks.get(41)?.data[0] ?? 0, 0);
      t.equal(numbers(third), numbers(first));
    }
});

t.test("whatever the third holds, it becomes like the other two", async (t) => {
  const put = (third: ModelReplica, at: number, fill: number): void =>
    third.write(at, block(fill), third.hashOf(block(fill)));
  const ways: [string, (third: ModelReplica) => void][] = [
    ["older", () => {}],
    ["written and not flushed", (third) => put(third, 41, 66)],
    [
      "flushed alone, under numbers above all others",
      (third) => {
        put(third, 41, 66);
        flushAlone(third, 1n);
      },
    ],
    [
      "flushed alone, in a session after this one",
      (third) => {
        put(third, 41, 66);
        put(third, LAST, 66);
        flushAlone(third, 900n);
      },
    ],
    [
      "dirty everywhere",
      (third) => {
        for (let at = 0; at <= LAST; at++) put(third, at, 66);
      },
    ],
  ];
  for (const [name, way] of ways) {
    const play = new Play(hash).began();
    const third = play.replicas[2]!;
    way(third);
    third.crash();
    const stage = play.session();
    t.equal(stage.activate(40_000), null);
    play.write(stage, 100, 5);
    third.start();
    t.ok(
      stage.pass(20_000, () => !stage.upstairs.status().degraded),
      name,
    );
    t.equal(numbers(third), numbers(play.replicas[0]!), name);
    t.same(third.image(), play.replicas[0]!.image(), name);
    t.same(stage.superseded, []);
    t.same(stage.violations, [], name);
    t.equal(stage.stop(), null);
  }
});

t.test("a reconciliation without the third does not use its numbers again", async (t) => {
  // Two were written to and not flushed; the one that is the source dies when it has flushed. The other is the source then, and
  // live repair takes equal numbers for equal content.
  const play = new Play(hash).began();
  const [third, source] = play.replicas as [ModelReplica, ModelReplica, ModelReplica];
  third.write(41, block(66), third.hashOf(block(66)));
  source.write(42, block(77), source.hashOf(block(77)));
  third.manner.rewrite = (m) => {
    if (m.kind === "RepairAckId") third.crash();
    return m;
  };
  const stage = play.session({ upstairs: { generation: given(9n) } });
  t.equal(stage.activate(60_000), null);
  t.same(state(stage)[0], "faulted waitConnect");
  serves(t, stage, 42, 77, "the second source counts");
  third.manner.rewrite = (m) => m;
  third.start();
  t.ok(stage.pass(20_000, () => !stage.upstairs.status().degraded));
  t.same(third.image(), source.image());
  t.same(stage.violations, []);
  t.equal(stage.stop(), null);
});

t.test("what a dead server had logged comes before the mark", async (t) => {
  const play = new Play(hash).began();
  const before = play.session();
  t.equal(before.activate(), null);
  play.write(before, LAST, 7);
  t.equal(before.stop(), null);
  play.replicas[2]!.crash();
  // The log of a server that died after it had acknowledged zeros for the last block.
  const marks: Buffer[] = [];
  const journal: Journal = {
    ...nullJournal,
    resume: {
      generation: 2n as Generation,
      explains: (generation) => generation <= 2n,
      regions: play.replicas.map(({ region }) => region.uuid),
      blockBytes: BLOCK,
      writes: [
        { row: 1, kind: LogKind.zeroes, start: LAST, blocks: 1, at: -1, tailAt: -1, tail: null },
      ],
    },
    wrote: (_id, _start, blocks, at) => {
      if (at >= 0) marks.push(Buffer.from(stage.arena.bytes.subarray(at, at + blocks * BLOCK)));
      return 2;
    },
  };
  const stage = play.session({ journal });
  t.equal(stage.activate(40_000), null);
  serves(t, stage, LAST, 0, "what was acknowledged is there");
  t.same(marks, [block(0)], "and dying once more would not put back what was there before");
  t.ok(play.replicas[0]!.extents[7]!.generation === 3n);
  t.equal(stage.stop(), null);
});

t.test(
  "with the third out, what is under way when a second one is lost is answered later",
  async (t) => {
    for (const thirdIsBack of [false, true]) {
      const play = new Play(hash).began();
      play.replicas[2]!.crash();
      const stage = play.session();
      t.equal(stage.activate(40_000), null);
      if (thirdIsBack) {
        // Under repair, and it does not get on.
        play.replicas[2]!.manner.trouble = (job) =>
          job.kind.startsWith("ExtentLive") ? "ignore" : null;
        play.replicas[2]!.start();
        t.ok(stage.pass(20_000, () => state(stage)[2]!.endsWith("liveRepair")));
      }
      play.replicas[1]!.manner.trouble = () => "ignore";
      const write = stage.guest.write(0, block(9));
      const flush = stage.guest.flush();
      stage.world.advance(50);
      play.replicas[1]!.crash();
      stage.world.advance(30_000);
      t.equal(stage.guest.status(write), undefined, "one alone acknowledges nothing");
      t.equal(stage.guest.status(flush), undefined);
      play.replicas[1]!.manner.trouble = () => null;
      play.replicas[1]!.start();
      t.ok(stage.pass(20_000, () => stage.guest.status(flush) === DeviceStatus.ok));
      t.equal(stage.guest.status(write), DeviceStatus.ok);
      t.same(play.replicas[1]!.blocks.get(0)?.data, block(9));
      play.replicas[2]!.manner.trouble = () => null;
      play.replicas[2]!.start();
      t.ok(stage.pass(120_000, () => !stage.upstairs.status().degraded));
      t.same(play.replicas[2]!.image(), play.replicas[0]!.image());
      t.same(stage.violations, []);
      t.equal(stage.stop(), null);
    }
  },
);
