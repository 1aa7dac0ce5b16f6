import t from "tap";
import { DeviceStatus, FUA } from "../../../src/ports/device.js";
import { hashApi } from "../../kit/replica.js";
import { Stage } from "../../kit/upstairs-stage.js";
import { World } from "../../kit/world.js";

const hash = await hashApi();
const BLOCK = 512;

t.test("activation, write, read, flush, stop", async (t) => {
  const stage = new Stage(new World(1), hash, { links: { latencyMs: 1 } });
  t.equal(stage.activate(), null);
  t.equal(stage.upstairs.sizeBytes, 160 * BLOCK);
  const data = Buffer.alloc(3 * BLOCK, 7);
  const { guest, world } = stage;
  const write = guest.write(BLOCK, data);
  const read = guest.read(0, 5 * BLOCK);
  const flush = guest.flush();
  const fua = guest.write(20 * BLOCK, data, FUA);
  world.advance(50);
  for (const tag of [write, read, flush, fua])
    t.equal(guest.status(tag), DeviceStatus.ok, `${tag}`);
  t.same(
    guest.answers.get(read)!.data,
    Buffer.concat([Buffer.alloc(BLOCK), data, Buffer.alloc(BLOCK)]),
  );
  for (const replica of stage.replicas)
    t.same(replica.image(), stage.replicas[0]!.image(), "the same everywhere");
  t.same(stage.violations, []);
  world.advance(1000);
  t.equal(stage.upstairs.status().jobs, 0, "everything retired");
  t.equal(stage.stop(), null);
  t.equal(stage.arena.allocations, 0, "no memory is left over");
});

t.test("a stop asked for from within an answer still waits for everybody", async (t) => {
  const stage = new Stage(new World(1), hash, { links: { latencyMs: 1 } });
  t.equal(stage.activate(), null);
  const { guest, replicas, upstairs } = stage;
  const slow = replicas[2]!;
  slow.manner.jobMs = 500;
  let dirtyAtTheEnd: boolean | undefined;
  guest.onAnswer = (tag) => {
    if (tag === 2)
      upstairs.stop(() => {
        dirtyAtTheEnd = slow.extents.some(({ dirty }) => dirty) || slow.blocks.size === 0;
      });
  };
  guest.write(0, Buffer.alloc(BLOCK, 7));
  stage.world.advance(50);
  t.equal(guest.flush(), 2);
  stage.pass(5000, () => dirtyAtTheEnd !== undefined);
  t.equal(dirtyAtTheEnd, false, "the slowest replica had flushed when the stop was over");
  t.equal(stage.arena.allocations, 0, "no memory is left over");
});
