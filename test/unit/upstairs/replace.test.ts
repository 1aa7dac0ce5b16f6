import t from "tap";
import type { Uuid } from "../../../src/base/ids.js";
import { DeviceStatus } from "../../../src/ports/device.js";
import type { ReplaceAnswer } from "../../../src/upstairs/replacing.js";
import { hashApi, ModelReplica, regionOf } from "../../kit/replica.js";
import { FakeKeeper, Stage, type StageOptions } from "../../kit/upstairs-stage.js";
import { World } from "../../kit/world.js";

const hash = await hashApi();
const BLOCK = 512;
const block = (fill: number): Buffer => Buffer.alloc(BLOCK, fill);
const at = (port: number) => ({ host: "10.0.0.1", port: 9000 + port });
const SPARE = "12345678-1111-2222-3333-00000000000d" as Uuid;

interface Play {
  readonly stage: Stage;
  readonly record: FakeKeeper;
  readonly spare: ModelReplica;
  replace(from: number, to: number, acceptsForeign?: boolean): string;
}
/** Three replicas in use, and a fourth, empty, that nobody knows of. */
function play(options: StageOptions = {}, activates = true): Play {
  const world = new World(7);
  const record = new FakeKeeper();
  const three = new Stage(world, hash).replicas;
  const spare = new ModelReplica(world, regionOf(0, { uuid: SPARE }), hash);
  const stage = new Stage(world, hash, {
    replicas: [...three, spare],
    ...options,
    upstairs: { record, ...options.upstairs },
  });
  if (activates && stage.activate() !== null) throw new Error("no activation");
  const words = (answer: ReplaceAnswer): string =>
    typeof answer === "string" ? answer : answer.code;
  return {
    stage,
    record,
    spare,
    replace: (from, to, acceptsForeign) =>
      words(stage.upstairs.replace(at(from), at(to), acceptsForeign)),
  };
}
const state = (stage: Stage): string[] =>
  stage.upstairs.status().replicas.map(({ address, phase }) => `${address.slice(-1)} ${phase}`);

t.test("what is answered", async (t) => {
  const { stage, replace } = play();
  t.equal(replace(0, 1), "TRIVET_E_REPLACE", "both are ours");
  t.equal(replace(0, 0), "TRIVET_E_REPLACE");
  t.equal(replace(7, 8), "missing");
  t.equal(replace(7, 1), "completedAlready");
  stage.replicas[1]!.crash();
  stage.world.advance(10);
  t.equal(replace(0, 3), "TRIVET_E_REPLACE", "the others have to be in step");
  t.same(state(stage), ["0 active", "1 waitConnect", "2 active"], "nothing was changed");
  t.equal(replace(1, 3), "started", "the one that is gone may be replaced");
  t.equal(replace(1, 3), "startedAlready");
  t.equal(replace(0, 4), "TRIVET_E_REPLACE", "one at a time");
  t.equal(replace(3, 5), "started", "and again, elsewhere");
  t.equal(stage.stop(), null);
  t.equal(replace(0, 4), "TRIVET_E_REPLACE", "too late");
});

t.test("another region at another address", async (t) => {
  const { stage, record, spare, replace } = play();
  const before = stage.guest.write(0, block(1));
  stage.world.advance(10);
  t.equal(stage.guest.status(before), DeviceStatus.ok);
  t.equal(replace(2, 3), "started");
  t.equal(stage.upstairs.status().replicas[2]!.mode, "replaced");
  t.equal(stage.upstairs.status().degraded, true);
  const write = stage.guest.write(BLOCK, block(2));
  const flush = stage.guest.flush();
  t.ok(
    stage.pass(100, () => stage.guest.status(flush) === DeviceStatus.ok),
    "two go on",
  );
  t.equal(stage.guest.status(write), DeviceStatus.ok);
  t.same(stage.replicas[2]!.connections, [], "the old one is let go");
  t.equal(stage.replicas[2]!.blocks.has(1), false);
  t.ok(
    stage.pass(5000, () => !stage.upstairs.status().degraded),
    "it is repaired at once",
  );
  t.equal(spare.active?.generation, 1n);
  t.same(spare.image(), stage.replicas[0]!.image());
  t.equal(stage.upstairs.status().degraded, false);
  t.equal(stage.upstairs.status().replicas[2]!.mode, "new");
  const { regions, former, targets } = record.last!;
  t.same(regions[2], { uuid: SPARE, behind: false });
  t.same(former, [regionOf(2).uuid]);
  t.same(targets, [at(0), at(1), at(3)]);
  t.equal(stage.stop(), null);

  // The next start finds the region that was replaced: it counts for nothing, and may be written over.
  const next = new Stage(stage.world, hash, {
    replicas: stage.replicas,
    upstairs: { record, generation: { kind: "given", value: 2n } },
  });
  stage.replicas[1]!.crash();
  t.equal(next.activate(60_000), undefined, "one of ours and a former one are not two");
  t.ok(next.said("volume.waiting")[0]?.includes("none of this volume's"));
  stage.replicas[1]!.start();
  t.ok(next.pass(20_000, () => next.upstairs.status().state === "active"));
  t.ok(next.pass(5000, () => next.said("replica.needsRepair").length > 0));
  t.ok(next.said("replica.needsRepair")[0]?.includes("former region"));
  t.ok(next.pass(5000, () => !next.upstairs.status().degraded));
  t.same(next.replicas[2]!.image(), next.replicas[0]!.image());
  t.equal(next.stop(), null);
});

t.test("the same region at another address", async (t) => {
  const { stage, record, replace } = play({ tuning: { redialFirstMs: 100 } });
  const moved = stage.replicas as ModelReplica[];
  moved[3] = moved[2]!;
  const gone = new ModelReplica(stage.world, regionOf(1), hash);
  gone.isDown = true;
  moved[2] = gone;
  t.equal(replace(2, 3), "started");
  t.ok(stage.pass(5000, () => !stage.upstairs.status().degraded));
  t.same(record.last?.former, [], "no region was replaced");
  t.equal(record.last?.regions[2]?.uuid, regionOf(2).uuid);
  t.equal(stage.stop(), null);
});

t.test("a region that holds something else is not written over unless told", async (t) => {
  const { stage, spare, replace } = play();
  spare.write(5, block(9), spare.hashOf(block(9)));
  spare.flush(3, 9n);
  t.equal(replace(2, 3), "started");
  t.ok(stage.pass(5000, () => stage.upstairs.status().replicas[2]!.refused !== null));
  t.ok(stage.upstairs.status().replicas[2]!.refused!.includes(SPARE));
  stage.world.advance(120_000);
  t.same(spare.blocks.get(5)?.data, block(9));
  // Back to where it was: the old region is still one of ours.
  t.equal(replace(3, 2), "started");
  t.ok(stage.pass(5000, () => !stage.upstairs.status().degraded));
  t.equal(stage.upstairs.status().replicas[2]!.refused, null);
  t.equal(stage.stop(), null);

  const told = play();
  told.spare.write(5, block(9), told.spare.hashOf(block(9)));
  told.spare.flush(3, 9n);
  t.equal(told.replace(2, 3, true), "started");
  t.ok(told.stage.pass(5000, () => !told.stage.upstairs.status().degraded));
  t.same(told.spare.image(), told.stage.replicas[0]!.image(), "and nothing of it is left");
  t.equal(told.stage.stop(), null);
});

t.test("before the volume is in use", async (t) => {
  const idle = play({}, false);
  t.equal(idle.replace(2, 3), "started");
  t.equal(idle.stage.activate(), null, "three empty regions");
  t.same(state(idle.stage), ["0 active", "1 active", "3 active"]);
  t.equal(idle.stage.stop(), null);

  const waiting = play({ upstairs: { degradedAfterMs: null } }, false);
  waiting.stage.replicas[1]!.isDown = true;
  t.equal(waiting.stage.activate(20_000), undefined);
  t.equal(waiting.replace(1, 3), "started");
  t.ok(waiting.stage.pass(2000, () => waiting.stage.upstairs.status().state === "active"));
  t.same(waiting.record.last?.targets, [at(0), at(3), at(2)]);
  t.equal(waiting.stage.stop(), null);
});

t.test("another volume that uses the new region does not end this one", async (t) => {
  const { stage, spare, replace } = play();
  spare.manner.deaf = (m) => m.kind.startsWith("ExtentLive");
  t.equal(replace(2, 3), "started");
  t.ok(stage.pass(5000, () => state(stage)[2] === "3 liveRepair"));
  // Its own upstairs comes back with a higher generation.
  const foreign = new Stage(stage.world, hash, {
    replicas: [spare, spare, spare],
    upstairs: { generation: { kind: "given", value: 99n }, degradedAfterMs: null },
  });
  Object.assign(spare.region, { uuid: "12345678-1111-2222-3333-00000000000e" });
  foreign.upstairs.activate(() => {});
  stage.world.advance(20_000);
  t.equal(stage.said("replica.taken").length, 1);
  t.same(stage.superseded, []);
  t.equal(stage.upstairs.status().state, "active");
});
