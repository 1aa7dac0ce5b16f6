import t from "tap";
import { DeviceStatus } from "../../../src/ports/device.js";
import { hashApi } from "../../kit/replica.js";
import { Stage, type StageOptions } from "../../kit/upstairs-stage.js";
import { World } from "../../kit/world.js";

const hash = await hashApi();
const BLOCK = 512;
const block = (fill: number, count = 1): Buffer => Buffer.alloc(count * BLOCK, fill);

function active(options: StageOptions = {}): Stage {
  const stage = new Stage(new World(3), hash, options);
  const fault = stage.activate();
  if (fault !== null) throw new Error(`no activation: ${fault?.line}`);
  return stage;
}

t.test("stopping with a replica away does not wait for it", async (t) => {
  const stage = active();
  stage.replicas[0]!.crash();
  stage.world.advance(10);
  stage.guest.write(0, block(1));
  t.equal(stage.stop(), null);
  for (const index of [1, 2]) t.ok(stage.replicas[index]!.extents[0]!.dirty === false);
  t.equal(stage.arena.allocations, 0);
});

t.test("a replica that leaves during the last flush is not waited for", async (t) => {
  const stage = active();
  stage.guest.write(0, block(1));
  stage.world.advance(10);
  stage.replicas[2]!.manner.deaf = (message) => message.kind === "Flush";
  stage.world.after(100, () => stage.replicas[2]!.cut());
  t.equal(stage.stop(10_000), null);
  for (const index of [0, 1]) t.ok(stage.replicas[index]!.extents[0]!.dirty === false);
  t.equal(stage.arena.allocations, 0);
});

t.test("nor is one that dies during the last flush, and stays away", async (t) => {
  const stage = active();
  stage.guest.write(0, block(1));
  stage.world.advance(10);
  stage.replicas[2]!.manner.deaf = (message) => message.kind === "Flush";
  stage.world.after(100, () => stage.replicas[2]!.crash());
  t.equal(stage.stop(10_000), null);
  for (const index of [0, 1]) t.ok(stage.replicas[index]!.extents[0]!.dirty === false);
  t.equal(stage.arena.allocations, 0);
});

t.test("nor is one that died with nothing left to do, while another is still behind", async (t) => {
  const stage = active();
  stage.replicas[2]!.manner.jobMs = 200;
  stage.guest.write(0, block(1));
  const flush = stage.guest.flush();
  t.ok(stage.pass(100, () => stage.guest.status(flush) === DeviceStatus.ok));
  stage.replicas[0]!.crash();
  stage.world.advance(1);
  t.equal(stage.stop(10_000), null);
  t.ok(stage.replicas[2]!.extents[0]!.dirty === false, "the one behind is waited for");
  t.equal(stage.arena.allocations, 0);
});

t.test("after a stop no timer is left that would keep the process", async (t) => {
  const stage = active();
  const { world } = stage;
  const after = world.after.bind(world);
  const pending = new Set<object>();
  world.after = (delayMs, run) => {
    const key = { delayMs };
    if (delayMs > 0) pending.add(key);
    const timer = after(delayMs, () => {
      pending.delete(key);
      run();
    });
    return {
      cancel: () => {
        pending.delete(key);
        timer.cancel();
      },
    };
  };
  stage.replicas[0]!.crash();
  world.advance(10);
  stage.guest.write(0, block(1));
  world.advance(10);
  t.ok(pending.size > 0);
  t.equal(stage.stop(), null);
  t.same([...pending], []);
});

t.test("stopping with two away says that the last flush is missing", async (t) => {
  const stage = active();
  stage.replicas[0]!.crash();
  stage.replicas[1]!.crash();
  stage.world.advance(10);
  const write = stage.guest.write(0, block(1));
  const before = stage.world.nowMs();
  const fault = stage.stop();
  t.equal(fault?.code, "TRIVET_E_TIMEOUT");
  t.ok(fault?.message.includes("fewer than two replicas are there"));
  t.ok(stage.world.nowMs() - before < 16_000, "it is not waited for long");
  t.equal(stage.guest.status(write), DeviceStatus.shutdown, "it was never acknowledged");
  t.equal(stage.arena.allocations, 0);
});

t.test("stopping waits for replicas that come back, and for slow ones", async (t) => {
  const stage = active();
  stage.replicas[0]!.crash();
  stage.replicas[1]!.crash();
  stage.world.advance(10);
  const write = stage.guest.write(0, block(1));
  stage.world.after(12_000, () => stage.replicas[0]!.start());
  t.equal(stage.stop(), null);
  t.equal(stage.guest.status(write), DeviceStatus.ok);

  const slow = active();
  const late = slow.guest.write(0, block(1));
  slow.world.advance(10);
  let isStuck = true;
  for (const replica of slow.replicas)
    replica.manner.trouble = (job) => (isStuck && job.kind === "Flush" ? "report" : null);
  slow.world.after(40_000, () => {
    isStuck = false;
  });
  t.equal(slow.stop(), null);
  t.equal(slow.guest.status(late), DeviceStatus.ok);
});
