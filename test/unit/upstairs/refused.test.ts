import t from "tap";
import type { GenerationSource } from "../../../src/upstairs/options.js";
import { hashApi, type ModelReplica } from "../../kit/replica.js";
import { block, given, numbers, Play, serves, state } from "../../kit/sessions.js";
import type { StageOptions } from "../../kit/upstairs-stage.js";

// What stands in a replica's place and is not used, or not before somebody says so.

const hash = await hashApi();

t.test("a clock that is behind the regions wants all three", async (t) => {
  const play = new Play(hash);
  const now = BigInt(play.world.wallSeconds());
  for (const replica of play.replicas)
    for (const extent of replica.extents)
      Object.assign(extent, { generation: now + 1000n, flushNumber: 1 });
  play.replicas[2]!.crash();
  const clock: GenerationSource = { kind: "clock", lastUsed: 0n, save: (_, then) => then(null) };
  const stage = play.session({ upstairs: { generation: clock } });
  t.equal(stage.activate(100_000), undefined);
  t.ok(stage.said("volume.waiting").some((text) => text.includes("Check the clock")));
  t.ok(stage.upstairs.status().waitsBecause?.includes("Check the clock"));
  play.replicas[2]!.start();
  t.ok(stage.pass(30_000, () => stage.upstairs.status().state === "active"));
  t.equal(stage.upstairs.status().generation, now + 2001n);
  const low = new Play(hash).began();
  low.replicas[2]!.crash();
  const stale = low.session({ upstairs: { generation: given(1n) } });
  t.equal(stale.activate(60_000)?.code, "TRIVET_E_GENERATION_TOO_LOW");
});

t.test("whoever is left out carries nothing above the session", async (t) => {
  const begin = (theirs: bigint) => {
    const play = new Play(hash);
    const now = BigInt(play.world.wallSeconds());
    for (const [i, { extents }] of play.replicas.entries())
      for (const extent of extents)
        Object.assign(extent, { generation: i === 2 ? theirs || now + 500n : 5n, flushNumber: 1 });
    const clock: GenerationSource = { kind: "clock", lastUsed: 0n, save: (_, then) => then(null) };
    const stage = play.session({ upstairs: { generation: clock } });
    t.equal(stage.activate(100_000), null);
    t.ok(stage.upstairs.status().replicas[2]!.refused?.includes("--accept-foreign"));
    return stage.upstairs.status().generation - now;
  };
  t.equal(begin(0n), 1501n, "a host that knows it would take the other two for older");
  t.ok(begin(3n) < 100n, "with a lower number it does not matter");
  t.ok(begin(2n ** 63n) < 100n, "and none that is not a time");
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
    const play = new Play(hash).began();
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
  const play = new Play(hash).began();
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
  const play = new Play(hash);
  const { Fault } = await import("../../../src/base/fault.js");
  play.record.fault = new Fault("TRIVET_E_FILE", "disk full");
  const stage = play.session();
  t.equal(stage.activate(), null);
  t.ok(stage.said("record.unsaved")[0]?.includes("disk full"));
});
