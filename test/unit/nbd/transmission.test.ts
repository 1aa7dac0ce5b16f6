import t from "tap";
import { MemoryDevice } from "../../../src/volume/memory.js";
import { CMD, request } from "../../kit/nbd-client.js";
import { NbdStage } from "../../kit/nbd-stage.js";

const MIB = 1024 * 1024;

function memoryStage(blockBytes = 1, sizeBytes = 4 * MIB) {
  const stage = new NbdStage();
  const device = new MemoryDevice(stage.arena, { sizeBytes, blockBytes });
  const baseline = stage.arena.allocations;
  const server = stage.serve({ exports: [{ name: "vol", device }] });
  return { stage, device, server, baseline };
}

for (const segmentBytes of [1, 7, 65536])
  t.test(`write, read, flush in segments of ${segmentBytes}`, async (t) => {
    const { stage, baseline } = memoryStage();
    const client = stage.connect({ segmentBytes }).negotiate("vol");
    const payload = Buffer.from("hello, trivet".repeat(100));
    client.send(
      request({ command: CMD.write, cookie: 0x1122334455667788n, offset: 5000, payload }),
    );
    t.same(client.simple(), { error: 0, cookie: 0x1122334455667788n });
    client.send(
      request({ command: CMD.read, cookie: 2, offset: 5000, length: payload.length }),
      request({ command: CMD.flush, cookie: 3 }),
    );
    t.same(client.simple(), { error: 0, cookie: 2n });
    t.same(client.take(payload.length), payload);
    t.same(client.simple(), { error: 0, cookie: 3n });
    client.send(request({ command: CMD.disc }));
    stage.world.settle();
    t.equal(client.isClosed, true);
    t.equal(stage.arena.allocations, baseline);
  });

t.test("a write and a read of many pieces", async (t) => {
  const { stage } = memoryStage(1, 8 * MIB);
  const client = stage.connect().negotiate("vol");
  const payload = Buffer.alloc(3 * MIB + 17, 1);
  payload[2 * MIB + 5] = 7;
  client.send(request({ command: CMD.write, offset: 1000, payload }));
  t.equal(client.error(), 0);
  client.send(request({ command: CMD.read, offset: 1000, length: payload.length }));
  t.equal(client.simple().error, 0);
  t.ok(client.take(payload.length).equals(payload));
});
