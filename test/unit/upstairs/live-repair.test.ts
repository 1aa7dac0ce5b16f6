import t from "tap";
import { FUA } from "../../../src/ports/device.js";
import { RepairStage } from "../../kit/repair-stage.js";
import { hashApi } from "../../kit/replica.js";
import { Stage } from "../../kit/upstairs-stage.js";

const hash = await hashApi();

t.test("a replica that missed too much is repaired while the guest works on", async (t) => {
  const it = new RepairStage(hash, { manner: { jobMs: 1, copyMs: 15 } });
  it.fault(0);
  it.start(0);
  t.ok(it.reached(0, "ExtentLiveRepair"));
  t.equal(it.phase(0), "liveRepair");
  for (let i = 0; it.phase(0) !== "active"; i++) {
    it.judge.write((i * 7) % (it.blocks - 6), 6, i % 9 === 0 ? FUA : 0);
    it.judge.read((i * 13) % (it.blocks - 4), 4);
    if (i % 11 === 0) it.judge.flush();
    it.world.advance(4);
  }
  t.same(it.wrong(), []);
  t.equal(it.stage.said("repair.started").length, 1);
  t.match(it.stage.said("repair.done")[0], /replica 0 is repaired: 8 extents copied, 0 were equal/);
  t.same(it.end(), []);
});

t.test("only extents that differ are copied", async (t) => {
  const it = new RepairStage(hash);
  it.fault(2, [1, 6]);
  it.start(2);
  t.ok(it.repaired(2));
  t.match(it.stage.said("repair.done")[0], /2 extents copied, 6 were equal/);
  t.equal(it.mode(2), "new");
  t.same(it.wrong(), []);
  t.same(it.end(), []);
});

t.test(
  "what a session writes after a reconciliation does not look like what that wrote",
  async (t) => {
    const first = new RepairStage(hash);
    first.judge.write(25, 2);
    first.world.advance(50);
    // Extent 1 is dirty everywhere: the next session flushes and copies it, with a generation that is also its own.
    const { replicas } = first.stage;
    for (const replica of replicas) replica.crash();
    for (const replica of replicas) replica.start();
    const stage = new Stage(first.world, hash, {
      replicas,
      upstairs: { generation: { kind: "given", value: 2n } },
      tuning: { offlineJobsMax: 3, redialFirstMs: 20, redialMs: 50, repairRetryMs: 10 },
    });
    t.equal(stage.activate(), null);
    t.equal(stage.said("volume.reconcile").length, 1, "it was made equal");
    replicas[1]!.crash();
    stage.world.advance(5);
    for (let i = 0; i < 8; i++) stage.guest.write((20 + i) * 512, Buffer.alloc(512, 77));
    stage.world.advance(20);
    stage.guest.flush();
    stage.world.advance(20);
    replicas[1]!.start();
    t.ok(stage.pass(5000, () => stage.upstairs.status().replicas[1]!.phase === "active"));
    t.equal(stage.said("repair.done").length, 1);
    t.ok(replicas[1]!.image().equals(replicas[0]!.image()), "nothing old was taken for new");
  },
);
