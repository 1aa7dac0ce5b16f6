import t, { type Test } from "tap";
import type { Generation } from "../../../src/base/ids.js";
import { DeviceStatus } from "../../../src/ports/device.js";
import type { GenerationSource } from "../../../src/upstairs/options.js";
import { hashApi, type ModelReplica } from "../../kit/replica.js";
import { FakeKeeper, Stage, type StageOptions } from "../../kit/upstairs-stage.js";
import { World } from "../../kit/world.js";

// A volume that begins with two of its three replicas, and the third, whatever it holds.

const hash = await hashApi();
const BLOCK = 512;
const LAST = 8 * 20 - 1;
const block = (fill: number): Buffer => Buffer.alloc(BLOCK, fill);
const given = (value: bigint): GenerationSource => ({ kind: "given", value });

class Play {
  readonly world = new World(11);
  readonly record = new FakeKeeper();
  readonly replicas: readonly ModelReplica[];
  #generation = 0n;

  constructor() {
    this.replicas = new Stage(this.world, hash).replicas;
  }
  session(options: StageOptions = {}): Stage {
    this.#generation += 1n;
    return new Stage(this.world, hash, {
      replicas: this.replicas,
      ...options,
      upstairs: {
        generation: given(this.#generation),
        record: this.record,
        ...options.upstairs,
      },
    });
  }
  /** One session with all three that writes and flushes this everywhere. */
  began(fill = 1): this {
    const stage = this.session();
    if (stage.activate() !== null) throw new Error("no activation");
    this.write(stage, 0, fill);
    this.write(stage, 50, fill);
    stage.stop();
    return this;
  }
  write(stage: Stage, at: number, fill: number): number {
    const tag = stage.guest.write(at * BLOCK, block(fill));
    stage.world.advance(20);
    return tag;
  }
}
const state = (stage: Stage): string[] =>
  stage.upstairs.status().replicas.map(({ mode, phase }) => `${mode} ${phase}`);
const numbers = ({ extents }: ModelReplica): string =>
  extents.map((e) => `${e.generation}.${e.flushNumber}${e.dirty ? "d" : ""}`).join(" ");

function serves(t: Test, stage: Stage, at: number, fill: number, what: string): void {
  const read = stage.guest.read(at * BLOCK, BLOCK);
  stage.world.advance(20);
  t.same(stage.guest.answers.get(read)?.data, block(fill), what);
}

t.test("two of three start when the third had its time", async (t) => {
  const play = new Play().began();
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
  const play = new Play().began();
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
  const play = new Play().began();
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
  const play = new Play().began();
  play.replicas[1]!.crash();
  // What a session that came to nothing left: a flush that one of them had, and a write that nobody flushed.
  const [first, , last] = play.replicas as [ModelReplica, ModelReplica, ModelReplica];
  first.write(41, block(7), first.hashOf(block(7)));
  first.flush(8, 1n as Generation, 2);
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
  const play = new Play().began();
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
        third.flush(50, 1n);
      },
    ],
  ];
  for (const [name, way] of ways)
    for (const remembers of [true, false]) {
      const play = new Play().began();
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
        third.flush(5000, 1n);
      },
    ],
    [
      "flushed alone, in a session after this one",
      (third) => {
        put(third, 41, 66);
        put(third, LAST, 66);
        third.flush(5000, 900n);
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
    const play = new Play().began();
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

t.test("a session without the third does not use its numbers again", async (t) => {
  // The third has flushed something else under the numbers that come next.
  for (let seed = 0; seed < 20; seed++) {
    const play = new Play().began();
    const third = play.replicas[2]!;
    third.write(41, block(66), third.hashOf(block(66)));
    const { flushNumber } = third.extents[0]!;
    third.flush(flushNumber + 1, 2n);
    third.crash();
    const stage = play.session();
    t.equal(stage.activate(40_000), null);
    play.write(stage, 41, 5);
    t.equal(stage.stop(), null);
    const [first] = play.replicas;
    t.ok(numbers(first!).split(" ")[2] !== numbers(third).split(" ")[2], "told apart by numbers");
  }
});

t.test("a clock that is behind the regions wants all three", async (t) => {
  const play = new Play();
  const now = BigInt(play.world.wallSeconds());
  for (const replica of play.replicas)
    for (const extent of replica.extents)
      Object.assign(extent, { generation: now + 1000n, flushNumber: 1 });
  play.replicas[2]!.crash();
  const clock: GenerationSource = { kind: "clock", lastUsed: 0n, save: (_, then) => then(null) };
  const stage = play.session({ upstairs: { generation: clock } });
  t.equal(stage.activate(100_000), undefined);
  t.ok(stage.said("volume.waiting").some((text) => text.includes("Check the clock")));
  play.replicas[2]!.start();
  t.ok(stage.pass(30_000, () => stage.upstairs.status().state === "active"));
  t.equal(stage.upstairs.status().generation, now + 1001n);
  const low = new Play().began();
  low.replicas[2]!.crash();
  const stale = low.session({ upstairs: { generation: given(1n) } });
  t.equal(stale.activate(60_000)?.code, "TRIVET_E_GENERATION_TOO_LOW");
});

t.test("what stands in the third's place", async (t) => {
  const foreign = (replica: ModelReplica): void => {
    Object.assign(replica.region, { uuid: "12345678-9999-9999-9999-999999999999" });
    replica.write(3, block(99), replica.hashOf(block(99)));
    replica.flush(77, 55n);
  };
  const empty = (replica: ModelReplica): void => {
    Object.assign(replica.region, { uuid: "12345678-8888-8888-8888-888888888888" });
    replica.blocks.clear();
    for (const extent of replica.extents)
      Object.assign(extent, { generation: 0n, flushNumber: 0, dirty: false });
  };
  const refused = async (setUp: (replica: ModelReplica) => void, options: StageOptions = {}) => {
    const play = new Play().began();
    setUp(play.replicas[2]!);
    const stage = play.session(options);
    t.equal(stage.activate(40_000), null);
    stage.world.advance(5000);
    return { play, stage };
  };

  const empties = await refused(empty);
  t.equal(empties.stage.upstairs.status().replicas[2]!.refused, null);
  t.equal(state(empties.stage)[2], "new active", "an empty one is repaired");
  t.same(empties.play.replicas[2]!.image(), empties.play.replicas[0]!.image());
  t.ok(empties.stage.said("replica.needsRepair")[0]?.includes("is empty"));
  t.equal(empties.play.record.last?.regions[2]?.uuid, "12345678-8888-8888-8888-888888888888");

  const { stage, play } = await refused(foreign);
  const why = stage.upstairs.status().replicas[2]!.refused!;
  t.ok(why.includes("12345678-9999-9999-9999-999999999999"));
  t.ok(why.includes("--accept-foreign"));
  t.equal(state(stage)[2], "faulted waitConnect");
  t.equal(stage.said("replica.refused").length, 1);
  const dials = stage.dialer.dials;
  stage.world.advance(50_000);
  t.equal(stage.dialer.dials, dials, "it is left alone");
  stage.world.advance(60_000);
  t.ok(stage.dialer.dials > dials, "and looked at again after a minute");
  t.equal(stage.said("replica.refused").length, 1, "without saying it again");
  t.same(play.replicas[2]!.blocks.get(3)?.data, block(99), "nothing was written to it");
  serves(t, stage, 0, 1, "the volume goes on");
  t.equal(play.record.last?.regions[2]?.uuid, "12345678-1111-2222-3333-000000000002");
  t.equal(stage.stop(), null);

  const accepted = await refused(foreign, { upstairs: { accept: { foreign: true } } });
  t.equal(accepted.stage.upstairs.status().replicas[2]!.refused, null);
  t.ok(accepted.stage.said("replica.needsRepair")[0]?.includes("given up"));
  t.same(accepted.play.replicas[2]!.image(), accepted.play.replicas[0]!.image());

  // A replica that cannot be used at all is no reason to do without the other two, once the volume has been in use.
  for (const [name, setUp] of [
    ["encrypted", (replica: ModelReplica) => Object.assign(replica.manner, { encrypted: true })],
    ["version", (replica: ModelReplica) => Object.assign(replica.manner, { version: 12 })],
    ["read-only", (replica: ModelReplica) => Object.assign(replica.manner, { readOnly: true })],
    [
      "barred",
      (replica: ModelReplica) => Object.assign(replica.manner, { refusesPromotion: true }),
    ],
    [
      "same",
      (replica: ModelReplica) =>
        Object.assign(replica.region, { uuid: "12345678-1111-2222-3333-000000000000" }),
    ],
    ["geometry", (replica: ModelReplica) => Object.assign(replica.region, { extentSize: 30 })],
    ["silent", (replica: ModelReplica) => Object.assign(replica.manner, { deaf: () => true })],
  ] as const) {
    const odd = await refused(setUp);
    serves(t, odd.stage, 0, 1, name);
    t.equal(odd.stage.upstairs.status().degraded, true, name);
    t.same(odd.stage.superseded, [], name);
    t.equal(odd.stage.stop(), null, name);
  }
});

t.test("regions that prove nothing are refused, and the flag named helps", async (t) => {
  const wipe = (replica: ModelReplica, uuid: string): void => {
    Object.assign(replica.region, { uuid });
    replica.blocks.clear();
    for (const extent of replica.extents)
      Object.assign(extent, { generation: 0n, flushNumber: 0, dirty: false });
  };
  const play = new Play().began();
  wipe(play.replicas[0]!, "12345678-8888-8888-8888-888888888880");
  wipe(play.replicas[1]!, "12345678-8888-8888-8888-888888888881");
  const refused = play.session();
  const fault = refused.activate(40_000);
  t.equal(fault?.code, "TRIVET_E_REGION_EMPTY");
  t.ok(fault?.message.includes("--accept-empty"));
  t.equal(play.replicas[0]!.blocks.size, 0);
  const accepted = play.session({ upstairs: { accept: { empty: true } } });
  t.equal(accepted.activate(40_000), null);
  serves(t, accepted, 0, 1, "the one with data is the source");
  t.equal(numbers(play.replicas[0]!), numbers(play.replicas[2]!));
});

t.test("when it cannot be written down it is said, and the volume goes on", async (t) => {
  const play = new Play();
  const { Fault } = await import("../../../src/base/fault.js");
  play.record.fault = new Fault("TRIVET_E_FILE", "disk full");
  const stage = play.session();
  t.equal(stage.activate(), null);
  t.ok(stage.said("record.unsaved")[0]?.includes("disk full"));
});
