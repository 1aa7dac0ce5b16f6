import t from "tap";
import { UnalignedDevice } from "../../../src/volume/unaligned.js";
import { CMD, type NbdClient, request } from "../../kit/nbd-client.js";
import { NbdStage } from "../../kit/nbd-stage.js";
import { SlowDevice } from "../../kit/slow-device.js";

const FUA = 1;

function stageOf(seed: number) {
  const stage = new NbdStage(seed);
  const slow = new SlowDevice(stage.world, stage.arena, { sizeBytes: 1 << 20, delayMs: 20 });
  const device = new UnalignedDevice(stage.arena, slow);
  stage.serve({ exports: [{ name: "vol", device, blockBytes: 4096 }] });
  return { stage, slow };
}

/** Advances until the client has an answer. */
function awaitAnswer(stage: NbdStage, client: NbdClient): number {
  for (let i = 0; client.pending === 0 && i < 1000; i++) stage.world.advance(1);
  return client.error();
}

t.test("FLUSH covers what was answered before it on all connections (trap 16)", async (t) => {
  for (let seed = 1; seed <= 40; seed++) {
    const { stage, slow } = stageOf(seed);
    const clients = [0, 1, 2].map(() => stage.connect().negotiate("vol"));
    for (const [i, client] of clients.entries()) {
      const payload = Buffer.alloc(1000, i + 1);
      client.send(request({ command: CMD.write, offset: 1000 * i, payload }));
    }
    for (const client of clients)
      if (awaitAnswer(stage, client) !== 0) t.fail(`seed ${seed}: a write failed`);
    // One more that is not answered yet: it may be covered or not.
    clients[1]!.send(request({ command: CMD.write, offset: 50_000, payload: Buffer.alloc(9) }));
    clients[0]!.send(request({ command: CMD.flush }));
    if (awaitAnswer(stage, clients[0]!) !== 0) t.fail(`seed ${seed}: the flush failed`);
    for (let i = 0; i < 3; i++)
      if (!slow.stable.subarray(1000 * i, 1000 * i + 1000).every((byte) => byte === i + 1))
        t.fail(`seed ${seed}: write ${i} is not stable`);
  }
  t.pass("40 seeds");
});

t.test("without a flush nothing is stable, so the test above can fail", async (t) => {
  const { stage, slow } = stageOf(1);
  const client = stage.connect().negotiate("vol");
  client.send(request({ command: CMD.write, payload: Buffer.alloc(1000, 1) }));
  t.equal(awaitAnswer(stage, client), 0);
  t.equal(slow.current[0], 1);
  t.equal(slow.stable[0], 0);
});

t.test("FUA is answered when the data is stable (trap 17)", async (t) => {
  for (let seed = 1; seed <= 20; seed++) {
    const { stage, slow } = stageOf(seed);
    const client = stage.connect().negotiate("vol", { structured: seed % 2 === 0 });
    client.send(
      request({ command: CMD.write, flags: FUA, offset: 100, payload: Buffer.alloc(9000, 5) }),
    );
    t.equal(awaitAnswer(stage, client), 0);
    t.ok(
      slow.stable.subarray(100, 9100).every((byte) => byte === 5),
      `seed ${seed}`,
    );
    client.send(request({ command: CMD.zeroes, flags: FUA, offset: 4000, length: 5000 }));
    t.equal(awaitAnswer(stage, client), 0);
    t.ok(
      slow.stable.subarray(4000, 9000).every((byte) => byte === 0),
      `seed ${seed}`,
    );
  }
});

t.test("a write answered on one connection is read on another", async (t) => {
  const { stage } = stageOf(3);
  const [one, two] = [stage.connect().negotiate("vol"), stage.connect().negotiate("vol")];
  for (let i = 1; i < 50; i++) {
    const payload = Buffer.alloc(700, i);
    one.send(request({ command: CMD.write, offset: 300 * i, payload }));
    t.equal(awaitAnswer(stage, one), 0);
    two.send(request({ command: CMD.read, offset: 300 * i, length: 700 }));
    t.equal(awaitAnswer(stage, two), 0);
    t.same(two.take(700), payload);
  }
});
