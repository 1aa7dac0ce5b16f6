import t from "tap";
import {
  BACKLOG_BYTES_MAX,
  NBD_REQUESTS_PER_CONNECTION_MAX,
  NBD_STALL_MS_MAX,
  NBD_STOP_MS_MAX,
} from "../../../src/base/limits.js";
import { MemoryDevice } from "../../../src/volume/memory.js";
import { UnalignedDevice } from "../../../src/volume/unaligned.js";
import { CMD, NbdClient, request } from "../../kit/nbd-client.js";
import { NbdStage } from "../../kit/nbd-stage.js";
import { SlowDevice, type SlowOptions } from "../../kit/slow-device.js";

const MIB = 1024 * 1024;

function slowStage(options: Partial<SlowOptions> = {}, readBytesMax?: number) {
  const stage = new NbdStage();
  const slow = new SlowDevice(stage.world, stage.arena, { sizeBytes: 4 * MIB, ...options });
  const device = new UnalignedDevice(stage.arena, slow);
  const server = stage.serve({
    exports: [{ name: "vol", device, blockBytes: 4096 }],
    ...(readBytesMax === undefined ? {} : { readBytesMax }),
  });
  return { stage, slow, server };
}

t.test("as many requests as there are slots are in flight, the rest waits", async (t) => {
  const { stage, slow, server } = slowStage();
  slow.isStuck = true;
  const client = stage.connect({ segmentBytes: 1000 }).negotiate("vol");
  const most = NBD_REQUESTS_PER_CONNECTION_MAX;
  const all = Array.from({ length: 2 * most }, (_, i) =>
    request({ command: CMD.flush, cookie: i }),
  );
  client.send(...all);
  stage.world.advance(1000);
  t.equal(slow.inFlight, most);
  t.equal(server.clients[0]!.requestsInFlight, most);
  slow.unstick();
  stage.world.advance(1000);
  const seen = new Set(all.map(() => client.simple().cookie));
  t.equal(seen.size, 2 * most, "every one is answered once");
  t.equal(client.pending, 0);
});

t.test("a write waits for room and other connections go on", async (t) => {
  const { stage, slow } = slowStage({ roomBytes: MIB });
  const one = stage.connect({ segmentBytes: 70_000 }).negotiate("vol");
  const two = stage.connect().negotiate("vol");
  one.send(request({ command: CMD.write, offset: 100, payload: Buffer.alloc(3 * MIB, 7) }));
  two.send(request({ command: CMD.read, offset: 3 * MIB + 4096, length: 10 }));
  stage.world.advance(1000);
  t.equal(one.error(), 0);
  t.equal(two.error(), 0);
  t.ok(slow.current.subarray(100, 3 * MIB + 100).every((byte) => byte === 7));
  t.equal(slow.heldPieces, 0);
});

t.test("many writers share little room, and all get on", async (t) => {
  const { stage, slow } = slowStage({ roomBytes: 300_000 });
  const clients = Array.from({ length: 8 }, () => stage.connect({ segmentBytes: 5000 }));
  for (const [i, client] of clients.entries()) {
    client.negotiate("vol");
    for (let k = 0; k < 5; k++)
      client.send(
        request({ command: CMD.write, offset: i * 500_000, payload: Buffer.alloc(200_001, i + 1) }),
      );
  }
  stage.world.advance(10_000);
  for (const [i, client] of clients.entries()) {
    for (let k = 0; k < 5; k++) t.equal(client.error(), 0);
    t.equal(slow.current[i * 500_000 + 200_000], i + 1);
  }
});

t.test("a client that vanishes while it waits for room", async (t) => {
  const { stage, slow } = slowStage({ roomBytes: 8192 });
  slow.isStuck = true;
  const one = stage.connect().negotiate("vol");
  one.send(request({ command: CMD.write, payload: Buffer.alloc(8192, 1) }));
  one.send(request({ command: CMD.write, offset: 8192, payload: Buffer.alloc(8192, 2) }));
  stage.world.advance(10);
  one.stream.destroy();
  stage.world.advance(10);
  slow.unstick();
  stage.world.advance(1000);
  t.equal(slow.current[0], 1);
  t.equal(slow.current[8192], 0);
  t.equal(stage.arena.allocations, 0);
});

t.test("large simple reads together ask for more than there is, and all end", async (t) => {
  const { stage } = slowStage({}, 2 * MIB);
  const clients = Array.from({ length: 4 }, () => stage.connect({ windowBytes: 300_000 }));
  for (const [i, client] of clients.entries()) {
    client.negotiate("vol", { structured: i === 3 });
    for (let k = 0; k < 4; k++)
      client.send(request({ command: CMD.read, offset: 1000 * k, length: 2 * MIB - 7, cookie: k }));
  }
  stage.world.advance(10_000);
  for (const [i, client] of clients.entries()) {
    if (i === 3) {
      let dones = 0;
      while (client.pending > 0) dones += client.chunk().flags;
      t.equal(dones, 4);
      continue;
    }
    for (let k = 0; k < 4; k++) {
      t.equal(client.simple().error, 0);
      client.take(2 * MIB - 7);
    }
  }
  t.equal(stage.arena.allocations, 4, "inboxes only");
});

t.test("a client that does not read is not listened to for long", async (t) => {
  const stage = new NbdStage();
  const device = new MemoryDevice(stage.arena, { sizeBytes: 4 * MIB });
  const server = stage.serve({ exports: [{ name: "vol", device }] });
  const [near, far] = stage.link({ windowBytes: 100_000 });
  server.accept(far);
  const client = new NbdClient(stage.world, stage.clientArena, near).negotiate("vol");
  near.pause();
  for (let i = 0; i < 500; i++) client.send(request({ command: CMD.read, length: 100_000 }));
  stage.world.advance(1000);
  t.ok(far.queuedBytes > BACKLOG_BYTES_MAX / 2, `${far.queuedBytes} bytes are queued`);
  t.ok(far.queuedBytes < BACKLOG_BYTES_MAX + 200_000, `no more than ${far.queuedBytes}`);
  near.resume();
  for (let i = 0; i < 500; i++) {
    if (client.simple().error !== 0) t.fail("a read failed");
    client.take(100_000);
  }
  t.equal(client.pending, 0);
});

t.test("stalled readers cannot keep all memory: they are cut off when others wait", async (t) => {
  const { stage } = slowStage({}, 2 * MIB);
  const stalled = [0, 1].map(() => stage.connect({ windowBytes: 1000 }).negotiate("vol"));
  for (const one of stalled) {
    one.stream.pause();
    one.send(request({ command: CMD.read, length: 2000 }));
    stage.world.advance(100);
    one.send(request({ command: CMD.read, length: MIB }));
  }
  stage.world.advance(NBD_STALL_MS_MAX * 3);
  t.ok(
    stalled.every((one) => !one.isClosed),
    "nobody minds as long as nobody waits",
  );
  const waiting = stage.connect().negotiate("vol");
  waiting.send(request({ command: CMD.read, length: MIB }));
  stage.world.advance(NBD_STALL_MS_MAX - 1000);
  t.equal(waiting.pending, 0);
  stage.world.advance(2000);
  t.equal(waiting.simple().error, 0);
  waiting.take(MIB);
  t.ok(stalled.some((one) => one.isClosed));
  t.ok(stage.notes.some((one) => one.text.startsWith("TRIVET_E_NBD_STALLED")));
});

t.test("a slow reader that takes something is not cut off", async (t) => {
  const { stage } = slowStage({}, 2 * MIB);
  const slowly = stage.connect({ windowBytes: 1000 }).negotiate("vol", { structured: true });
  slowly.stream.pause();
  for (let i = 0; i < 8; i++) slowly.send(request({ command: CMD.read, length: MIB / 4 }));
  const waiting = stage.connect().negotiate("vol");
  waiting.send(request({ command: CMD.read, length: 2 * MIB }));
  for (let i = 0; i < 8; i++) {
    stage.world.advance(NBD_STALL_MS_MAX - 5000);
    slowly.stream.resume();
    stage.world.advance(1);
    slowly.stream.pause();
  }
  t.equal(slowly.isClosed, false);
  stage.world.advance(1000);
  t.equal(waiting.simple().error, 0);
});

t.test("stop: what is under way is answered, then everything is closed", async (t) => {
  const { stage, slow, server } = slowStage({ delayMs: 100 });
  const [busy, idle, sending] = [0, 1, 2].map(() => stage.connect().negotiate("vol"));
  busy!.send(request({ command: CMD.write, payload: Buffer.alloc(5000, 3), cookie: 1 }));
  busy!.send(request({ command: CMD.read, length: 10, cookie: 2 }));
  sending!.send(request({ command: CMD.write, offset: 99, length: 3 * MIB }), Buffer.alloc(100));
  stage.world.settle();
  let stopped = 0;
  server.stop(() => {
    stopped += 1;
  });
  busy!.send(request({ command: CMD.flush, cookie: 3 }));
  stage.world.settle();
  t.same(
    [busy, idle, sending].map((one) => one!.isClosed),
    [false, true, true],
  );
  stage.world.advance(1000);
  t.same(busy!.simple(), { error: 0, cookie: 1n });
  t.same(busy!.simple(), { error: 0, cookie: 2n });
  t.equal(busy!.take(10)[0], 3);
  t.equal(busy!.pending, 0, "nothing new is taken, and no error is sent");
  t.equal(busy!.isClosed, true);
  t.equal(stopped, 1);
  t.equal(slow.heldPieces, 0);
  t.equal(stage.arena.allocations, 0);
  stage.world.advance(NBD_STOP_MS_MAX * 2);
  t.equal(stopped, 1);
});

t.test(
  "stop in the middle of a payload: it is not written, whether the rest comes or not",
  async (t) => {
    const { stage, slow, server } = slowStage({ delayMs: 100 });
    const client = stage.connect().negotiate("vol");
    client.send(request({ command: CMD.read, length: 10, cookie: 1 }));
    client.send(request({ command: CMD.write, offset: 99, length: 5000 }), Buffer.alloc(100, 1));
    stage.world.settle();
    let stopped = false;
    server.stop(() => {
      stopped = true;
    });
    client.send(Buffer.alloc(4900, 1));
    stage.world.advance(1000);
    t.same(client.simple(), { error: 0, cookie: 1n });
    t.equal(client.take(10).length, 10);
    t.equal(client.pending, 0);
    t.equal(
      slow.carriedOut.some((one) => one.kind === "write"),
      false,
    );
    t.equal(slow.heldPieces, 0);
    t.equal(stopped, true);
    t.equal(stage.arena.allocations, 0);
  },
);

t.test("stop does not wait for ever for a client that does not read", async (t) => {
  const { stage, server } = slowStage();
  const client = stage.connect({ windowBytes: 1000 }).negotiate("vol");
  client.stream.pause();
  client.send(request({ command: CMD.read, length: 2000 }));
  stage.world.advance(100);
  client.send(request({ command: CMD.read, length: MIB }));
  stage.world.advance(100);
  let stopped = false;
  server.stop(() => {
    stopped = true;
  });
  stage.world.advance(NBD_STOP_MS_MAX - 1000);
  t.equal(stopped, false);
  stage.world.advance(2000);
  t.equal(stopped, true);
  t.equal(stage.arena.allocations, 0);
});

t.test("stop waits for the device, even without its clients", async (t) => {
  const { stage, slow, server } = slowStage();
  slow.isStuck = true;
  const client = stage.connect().negotiate("vol");
  client.send(request({ command: CMD.write, payload: Buffer.alloc(4096, 1) }));
  stage.world.advance(100);
  let stopped = false;
  server.stop(() => {
    stopped = true;
  });
  stage.world.advance(NBD_STOP_MS_MAX * 2);
  t.equal(client.isClosed, true);
  t.equal(stopped, false);
  slow.unstick();
  stage.world.advance(100);
  t.equal(stopped, true);
});
