import t from "tap";
import { DeviceStatus, FUA } from "../../../src/ports/device.js";
import { hashApi, ModelReplica, regionOf } from "../../kit/replica.js";
import { FakeKeeper, Stage, type StageOptions } from "../../kit/upstairs-stage.js";
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
const modes = (stage: Stage): string[] =>
  stage.upstairs.status().replicas.map(({ mode, phase }) => `${mode} ${phase}`);

t.test("an offline replica with too many jobs waiting is given up; two go on", async (t) => {
  const record = new FakeKeeper();
  const stage = active({ tuning: { offlineJobsMax: 20 }, upstairs: { record } });
  stage.replicas[1]!.crash();
  stage.world.advance(10);
  const tags = Array.from({ length: 50 }, (_, i) => stage.guest.write(i * BLOCK, block(i)));
  stage.world.advance(100);
  for (const tag of tags) t.equal(stage.guest.status(tag), DeviceStatus.ok);
  t.same(modes(stage), ["new active", "faulted waitConnect", "new active"]);
  t.ok(stage.said("replica.faulted")[0]?.includes("goes on with two"));
  const flush = stage.guest.flush();
  stage.world.advance(10);
  t.equal(stage.guest.status(flush), DeviceStatus.ok);
  t.equal(stage.upstairs.status().jobs, 0, "and nothing is kept for it");
  stage.replicas[1]!.start();
  const heard = stage.replicas[1]!.heard.length;
  stage.pass(20_000, () => modes(stage)[1] === "new active");
  t.equal(stage.said("replica.needsRepair").length, 1, "it is said");
  t.ok(
    stage.replicas[1]!.heard.slice(heard).every(({ message: { kind } }) => kind !== "Write"),
    "none of those jobs is sent to it",
  );
  t.ok(stage.replicas[1]!.image().equals(stage.replicas[0]!.image()), "it got all by repair");
  t.equal(stage.stop(), null);
  t.equal(stage.arena.allocations, 0);

  // The next start finds three equal ones.
  const again = new Stage(stage.world, hash, {
    replicas: stage.replicas,
    upstairs: { generation: { kind: "given", value: 2n }, record },
  });
  t.equal(again.activate(), null);
  t.equal(again.said("volume.reconcile").length, 0);
  t.same(stage.replicas[1]!.image(), stage.replicas[0]!.image());
  t.equal(again.stop(), null);
});

t.test("an offline replica has a grace: memory and a stall, and then it is replayed", async (t) => {
  const stage = active({ tuning: { offlineJobsMax: 20, offlineGraceMs: 5000 } });
  stage.replicas[1]!.crash();
  stage.world.advance(10);
  const write = (i: number): number => stage.guest.write(i * BLOCK, block(i));
  const tags = Array.from({ length: 50 }, (_, i) => write(i));
  stage.world.advance(2000);
  for (const tag of tags) t.equal(stage.guest.status(tag), DeviceStatus.ok);
  t.same(stage.said("replica.faulted"), [], "far beyond the limit, and not given up");
  stage.replicas[1]!.start();
  stage.pass(10_000, () => modes(stage)[1] === "offline active");
  t.equal(modes(stage)[1], "offline active", "it was replayed");
  stage.replicas[1]!.crash();
  stage.world.advance(10);
  const more = Array.from({ length: 50 }, (_, i) => write(i));
  stage.world.advance(6000);
  for (const tag of more) t.equal(stage.guest.status(tag), DeviceStatus.ok);
  const last = write(0);
  stage.world.advance(100);
  t.equal(stage.guest.status(last), DeviceStatus.ok);
  t.equal(stage.said("replica.faulted").length, 1, "after its time it is given up");
  t.equal(stage.stop(), null);
});

t.test("memory is full, and the grace ends while another one is away for a moment", async (t) => {
  const stage = active({
    arenaBytes: 4 * 1024 * 1024,
    region: { extentSize: 2048 },
    tuning: { offlineGraceMs: 5000 },
  });
  stage.replicas[1]!.crash();
  stage.world.advance(10);
  for (let i = 0; i < 60; i++) stage.guest.write(i * 100 * BLOCK, block(i, 100));
  stage.world.advance(4900);
  t.ok(stage.guest.waitsForRoom, "there is no room for all");
  t.same(stage.said("replica.faulted"), [], "it still has time");
  // This one has everything on disk, so nothing is sent to it when it is back.
  stage.replicas[2]!.crash();
  stage.world.advance(500);
  stage.replicas[2]!.start();
  t.ok(
    stage.pass(20_000, () => !stage.guest.waitsForRoom),
    "nobody waits for ever",
  );
  t.equal(stage.said("replica.faulted").length, 1);
  t.same(stage.violations, []);
  t.equal(stage.stop(), null);
});

t.test("bytes count as well as jobs", async (t) => {
  const stage = active({ tuning: { offlineBytesMax: 10 * BLOCK } });
  stage.replicas[0]!.crash();
  stage.world.advance(10);
  for (let i = 0; i < 4; i++) stage.guest.write(i * 4 * BLOCK, block(i, 4));
  stage.world.advance(10);
  t.same(modes(stage)[0], "faulted waitConnect");
});

t.test("two offline replicas are waited for, however much waits", async (t) => {
  const stage = active({ tuning: { offlineJobsMax: 10 } });
  stage.replicas[0]!.crash();
  stage.replicas[1]!.crash();
  stage.world.advance(10);
  const tags = Array.from({ length: 30 }, (_, i) => stage.guest.write(i * BLOCK, block(i + 1)));
  const read = stage.guest.read(100 * BLOCK, BLOCK);
  const late = stage.guest.read(29 * BLOCK, BLOCK);
  const flush = stage.guest.flush();
  stage.world.advance(60_000);
  t.ok(
    tags.every((tag) => stage.guest.status(tag) === undefined),
    "nothing is acknowledged by one",
  );
  t.equal(stage.guest.status(read), DeviceStatus.ok, "reads go on with one");
  t.equal(stage.guest.status(late), undefined, "but not past a write that waits");
  stage.replicas[0]!.start();
  stage.world.advance(30_000);
  for (const tag of [...tags, flush, late]) t.equal(stage.guest.status(tag), DeviceStatus.ok);
  t.same(stage.guest.answers.get(late)!.data, block(30));
  stage.replicas[1]!.start();
  stage.world.advance(30_000);
  t.same(stage.violations, []);
  t.equal(stage.stop(), null);
});

t.test("a replica that only reports errors is given up after a while", async (t) => {
  const stage = active({ tuning: { reportsMax: 10 } });
  stage.replicas[2]!.manner.trouble = (job) => (job.kind === "Write" ? "report" : null);
  const write = stage.guest.write(0, block(1));
  stage.world.advance(100);
  t.equal(stage.guest.status(write), DeviceStatus.ok, "two are enough");
  t.same(modes(stage)[2], "new active", "patience first");
  stage.world.advance(2000);
  t.equal(stage.said("replica.faulted").length, 1);
  t.equal(stage.upstairs.status().replicas[2]!.errorReports, 10);
  const flush = stage.guest.flush();
  stage.world.advance(10);
  t.equal(stage.guest.status(flush), DeviceStatus.ok);
  t.equal(stage.stop(), null);
  t.equal(stage.arena.allocations, 0);
});

t.test("an error in an acknowledgement ends a replica's part", async (t) => {
  const stage = active();
  stage.replicas[0]!.manner.trouble = (job) => (job.kind === "Write" ? "fail" : null);
  const write = stage.guest.write(0, block(1), FUA);
  stage.world.advance(10);
  t.equal(stage.guest.status(write), DeviceStatus.ok);
  t.ok(modes(stage)[0]!.startsWith("faulted"));
});

t.test("with only two left, an error makes that one try anew instead", async (t) => {
  const stage = active({ tuning: { redialFirstMs: 100 } });
  stage.replicas[1]!.crash();
  stage.world.advance(10);
  let failures = 3;
  stage.replicas[0]!.manner.trouble = (job) =>
    job.kind === "Write" && failures-- > 0 ? "fail" : null;
  const write = stage.guest.write(0, block(1));
  stage.world.advance(20_000);
  t.equal(stage.guest.status(write), DeviceStatus.ok);
  t.same(modes(stage)[0], "offline active", "by replay");
});

t.test("a bad block is read from another replica", async (t) => {
  const stage = active();
  stage.guest.write(0, block(5, 4));
  stage.world.advance(10);
  for (const index of [0, 1]) {
    const found = stage.replicas[index]!.blocks.get(2)!;
    stage.replicas[index]!.blocks.set(2, { data: block(6), hash: found.hash });
  }
  const tags = Array.from({ length: 6 }, () => stage.guest.read(0, 4 * BLOCK));
  stage.world.advance(100);
  for (const tag of tags) t.same(stage.guest.answers.get(tag)!.data, block(5, 4));
  const { replicas, counts } = stage.upstairs.status();
  t.ok(replicas[0]!.badBlocks + replicas[1]!.badBlocks > 0);
  t.ok(counts.readRetries! > 0);
  t.ok(stage.said("replica.badBlock")[0]?.includes("block 2"));
  // Data that its hash does not fit is not given to anybody.
  for (const replica of stage.replicas) replica.blocks.set(2, { data: block(6), hash: 0n });
  const hopeless = stage.guest.read(2 * BLOCK, BLOCK);
  stage.world.advance(100);
  t.equal(stage.guest.status(hopeless), DeviceStatus.io, "when nobody has a good one");
  stage.guest.flush();
  stage.world.advance(10);
  t.equal(stage.stop(), null);
  t.equal(stage.arena.allocations, 0);
});

t.test("a read that a replica reports errors for is asked elsewhere", async (t) => {
  const stage = active();
  stage.guest.write(0, block(5));
  stage.world.advance(10);
  stage.replicas[0]!.manner.trouble = (job) => (job.kind === "ReadRequest" ? "report" : null);
  const tags = Array.from({ length: 5 }, () => stage.guest.read(0, BLOCK));
  const after = stage.guest.write(0, block(6));
  const flush = stage.guest.flush();
  stage.world.advance(200);
  for (const tag of tags) {
    // Asked again after the second write was submitted, it may see that one.
    const data = stage.guest.answers.get(tag)?.data;
    t.ok(data?.equals(block(5)) || data?.equals(block(6)), "one of the two");
  }
  for (const tag of [after, flush]) t.equal(stage.guest.status(tag), DeviceStatus.ok);
  const more = Array.from({ length: 200 }, () => stage.guest.read(BLOCK, BLOCK));
  stage.world.advance(20);
  for (const tag of more) t.equal(stage.guest.status(tag), DeviceStatus.ok, "nobody hangs behind");
  stage.world.advance(5000);
  t.same(
    modes(stage),
    ["offline active", "new active", "new active"],
    "a new connection is rid of it",
  );
  t.equal(stage.upstairs.status().jobs, 0, "and its flushes are done");
  t.same(stage.violations, []);
  t.equal(stage.stop(), null);
  t.equal(stage.arena.allocations, 0, "late answers leave nothing behind");
});

t.test("a silent replica is dropped after 45 s, and requests go on meanwhile", async (t) => {
  const stage = active();
  stage.replicas[1]!.manner.deaf = () => true;
  const write = stage.guest.write(0, block(1));
  const reads = Array.from({ length: 6 }, () => stage.guest.read(BLOCK, BLOCK));
  stage.world.advance(100);
  t.equal(stage.guest.status(write), DeviceStatus.ok);
  stage.world.advance(44_000);
  t.same(modes(stage)[1], "new active");
  stage.world.advance(11_000);
  for (const tag of reads) t.equal(stage.guest.status(tag), DeviceStatus.ok, "asked elsewhere");
  t.ok(modes(stage)[1]!.startsWith("offline"));
  stage.replicas[1]!.manner.deaf = () => false;
  stage.world.advance(120_000);
  t.same(modes(stage)[1], "offline active");
});

t.test("memory: writes wait for room, a flush of our own makes it", async (t) => {
  const stage = active({
    arenaBytes: 4 * 1024 * 1024,
    tuning: { autoFlushMs: 1e9 },
    region: { extentSize: 2048 },
  });
  const tags: number[] = [];
  for (let i = 0; i < 100; i++) tags.push(stage.guest.write((i % 50) * 200 * BLOCK, block(i, 200)));
  t.ok(stage.guest.waitsForRoom);
  t.ok(
    stage.pass(5000, () => !stage.guest.waitsForRoom),
    "everybody got room in the end",
  );
  stage.world.advance(100);
  for (const tag of tags) t.equal(stage.guest.status(tag), DeviceStatus.ok);
  t.ok(stage.upstairs.status().counts.flushesSubmitted! > 3);
  const reads = Array.from({ length: 40 }, (_, i) =>
    stage.guest.read(i * 200 * BLOCK, 200 * BLOCK),
  );
  stage.world.advance(200);
  for (const tag of reads) t.equal(stage.guest.status(tag), DeviceStatus.ok);
  t.same(stage.violations, []);
  t.equal(stage.stop(), null);
  t.equal(stage.arena.allocations, 0);
});

t.test("memory: reads not released hold up reads only", async (t) => {
  const stage = active({ arenaBytes: 4 * 1024 * 1024, region: { extentSize: 2048 } });
  stage.guest.holds = [];
  const reads = Array.from({ length: 40 }, () => stage.guest.read(0, 200 * BLOCK));
  stage.world.advance(100);
  const waiting = reads.filter((tag) => stage.guest.status(tag) === undefined).length;
  t.ok(waiting > 0, `${waiting} wait`);
  const write = stage.guest.write(0, block(1, 200), FUA);
  stage.world.advance(100);
  t.equal(stage.guest.status(write), DeviceStatus.ok);
  while (stage.guest.holds.length > 0) {
    stage.upstairs.release(stage.guest.holds.shift()!);
    stage.world.advance(10);
  }
  for (const tag of reads) t.equal(stage.guest.status(tag), DeviceStatus.ok);
});

t.test("memory: an absent replica does not hold it all for ever", async (t) => {
  const stage = active({ arenaBytes: 4 * 1024 * 1024, region: { extentSize: 2048 } });
  stage.replicas[0]!.crash();
  stage.world.advance(10);
  for (let i = 0; i < 60; i++) stage.guest.write(i * 100 * BLOCK, block(i, 100));
  t.ok(stage.pass(5000, () => !stage.guest.waitsForRoom));
  t.same(modes(stage)[0], "faulted waitConnect");
  t.ok(stage.said("replica.faulted")[0]?.includes("memory"));
});

t.test("barriers free memory and give up replay", async (t) => {
  const stage = active({
    arenaBytes: 4 * 1024 * 1024,
    tuning: { relief: "barrier", autoFlushMs: 1e9 },
    region: { extentSize: 2048 },
  });
  for (let i = 0; i < 60; i++) stage.guest.write(i * 100 * BLOCK, block(i, 100));
  t.ok(stage.pass(5000, () => !stage.guest.waitsForRoom));
  stage.world.advance(100);
  t.ok(stage.upstairs.status().counts.barriersSubmitted! > 0);
  t.same(stage.violations, []);
  stage.replicas[1]!.cut();
  stage.world.advance(10);
  t.ok(modes(stage)[1]!.startsWith("faulted"), "what was freed cannot be sent again");
});

t.test("after a barrier too, the last two are not given up", async (t) => {
  const stage = active({
    arenaBytes: 4 * 1024 * 1024,
    tuning: { relief: "barrier", autoFlushMs: 1e9 },
    region: { extentSize: 2048 },
  });
  for (let i = 0; i < 60; i++) stage.guest.write(i * 100 * BLOCK, block(i, 100));
  t.ok(stage.pass(5000, () => !stage.guest.waitsForRoom));
  stage.world.advance(100);
  t.ok(stage.upstairs.status().counts.barriersSubmitted! > 0);
  for (const replica of stage.replicas) replica.cut();
  const write = stage.guest.write(0, block(77));
  stage.world.advance(10);
  t.ok(
    stage.pass(60_000, () => !stage.upstairs.status().degraded),
    "somebody is left to repair from",
  );
  t.equal(stage.guest.status(write), DeviceStatus.ok);
  for (const replica of stage.replicas) t.same(replica.image(), stage.replicas[0]!.image());
  t.same(stage.violations, []);
  t.equal(stage.stop(), null);
});

t.test("zeros of any length, with other requests in between", async (t) => {
  const region = { blockSize: 4096, shift: 12, extentSize: 256, extentCount: 40 };
  const stage = active({ arenaBytes: 16 * 1024 * 1024, region, links: { latencyMs: 1 } });
  const bs = 4096;
  stage.guest.write(5 * bs, Buffer.alloc(3 * bs, 9));
  stage.guest.write(6000 * bs, Buffer.alloc(bs, 9));
  stage.world.advance(10);
  const zeroes = stage.guest.zeroes(6 * bs, 5000 * bs, FUA);
  stage.world.advance(2);
  const write = stage.guest.write(8000 * bs, Buffer.alloc(bs, 3));
  stage.world.advance(8);
  t.equal(stage.guest.status(write), DeviceStatus.ok, "a small write does not wait for all of it");
  t.equal(stage.guest.status(zeroes), undefined);
  stage.pass(5000, () => stage.guest.status(zeroes) !== undefined);
  t.equal(stage.guest.status(zeroes), DeviceStatus.ok);
  const left = stage.guest.read(5 * bs, 3 * bs);
  const right = stage.guest.read(6000 * bs, bs);
  stage.world.advance(20);
  t.same(
    stage.guest.answers.get(left)!.data,
    Buffer.concat([Buffer.alloc(bs, 9), Buffer.alloc(2 * bs)]),
  );
  t.same(stage.guest.answers.get(right)!.data, Buffer.alloc(bs, 9));
  t.same(stage.violations, []);
  t.equal(stage.stop(), null);
  t.equal(stage.arena.allocations, 0);
});

t.test("requests that cannot be are answered, never thrown", async (t) => {
  const stage = active();
  const { guest } = stage;
  const size = 160 * BLOCK;
  const tags: [number, DeviceStatus][] = [
    [guest.read(1, BLOCK), DeviceStatus.invalid],
    [guest.read(0, 100), DeviceStatus.invalid],
    [guest.read(size, BLOCK), DeviceStatus.invalid],
    [guest.read(0, 0), DeviceStatus.ok],
    [guest.write(size, block(1)), DeviceStatus.noSpace],
    [guest.write(3, block(1)), DeviceStatus.invalid],
    [guest.zeroes(0, size + BLOCK), DeviceStatus.noSpace],
    [guest.zeroes(0, 0), DeviceStatus.ok],
    [guest.trim(0, size), DeviceStatus.ok],
    [guest.trim(0, size + BLOCK), DeviceStatus.noSpace],
    [guest.flush(), DeviceStatus.ok],
  ];
  for (const [tag, status] of tags) t.equal(guest.status(tag), status, `request ${tag}`);
  t.equal(stage.stop(), null);
  t.equal(guest.status(guest.read(0, BLOCK)), DeviceStatus.shutdown);
  t.equal(guest.status(guest.flush()), DeviceStatus.shutdown);
  t.equal(stage.arena.allocations, 0);
});

t.test("buffered: a write is answered before anybody has it, a flush is not", async (t) => {
  const stage = active({ upstairs: { ack: "buffered" }, links: { latencyMs: 5 } });
  const write = stage.guest.write(0, block(1));
  t.equal(stage.guest.status(write), DeviceStatus.ok);
  const flush = stage.guest.flush();
  const fua = stage.guest.write(BLOCK, block(1), FUA);
  t.equal(stage.guest.status(flush), undefined);
  t.equal(stage.guest.status(fua), undefined);
  stage.world.advance(60);
  t.equal(stage.guest.status(flush), DeviceStatus.ok);
  t.equal(stage.guest.status(fua), DeviceStatus.ok);
});

t.test("what is quiet for half a second is flushed", async (t) => {
  const stage = active();
  stage.guest.write(0, block(1));
  stage.world.advance(450);
  t.equal(stage.upstairs.status().counts.flushesSubmitted, 0);
  stage.world.advance(100);
  t.equal(stage.upstairs.status().counts.flushesSubmitted, 1);
  t.equal(stage.upstairs.status().jobs, 0);
  stage.world.advance(5000);
  t.equal(stage.upstairs.status().counts.flushesSubmitted, 1, "once");
});

t.test("flushes and writes with FUA that come together share", async (t) => {
  const stage = active({ links: { latencyMs: 5 } });
  const tags: number[] = [];
  for (let i = 0; i < 20; i++)
    tags.push(stage.guest.write(i * BLOCK, block(1), FUA), stage.guest.flush());
  stage.world.advance(100);
  for (const tag of tags) t.equal(stage.guest.status(tag), DeviceStatus.ok);
  t.ok(stage.upstairs.status().counts.flushesSubmitted! <= 2);
});

t.test("permits: a slow replica holds writes back, not its own death", async (t) => {
  const stage = active({ tuning: { jobsMax: 10 } });
  stage.replicas[1]!.manner.deaf = (message) => message.kind === "Write";
  const tags = Array.from({ length: 30 }, (_, i) => stage.guest.write(i * BLOCK, block(1)));
  stage.world.advance(1000);
  t.equal(tags.filter((tag) => stage.guest.status(tag) === DeviceStatus.ok).length, 10);
  t.equal(stage.upstairs.status().waitingWrites, 20);
  stage.replicas[1]!.manner.deaf = () => false;
  stage.replicas[1]!.cut();
  stage.world.advance(5000);
  for (const tag of tags) t.equal(stage.guest.status(tag), DeviceStatus.ok);
  t.same(stage.violations, []);
});

t.test("before activation requests are refused, and give their memory back", async (t) => {
  const stage = new Stage(new World(1), hash);
  const { guest } = stage;
  for (const tag of [
    guest.read(0, BLOCK),
    guest.write(0, block(1)),
    guest.flush(),
    guest.zeroes(0, BLOCK),
  ])
    t.equal(guest.status(tag), DeviceStatus.shutdown);
  t.equal(stage.arena.allocations, 0);
});

t.test("read-only: the first replica is enough, writes are refused", async (t) => {
  const world = new World(4);
  const replicas = [0, 1, 2].map(
    (i) => new ModelReplica(world, regionOf(i), hash, { readOnly: true }),
  );
  replicas[0]!.crash();
  replicas[2]!.crash();
  const data = block(4);
  replicas[1]!.blocks.set(0, { data, hash: replicas[1]!.hashOf(data) });
  const stage = new Stage(world, hash, { replicas, upstairs: { readOnly: true } });
  t.equal(stage.activate(1000), null);
  const { guest } = stage;
  const read = guest.read(0, BLOCK);
  t.equal(guest.status(guest.write(0, block(1))), DeviceStatus.readOnly);
  t.equal(guest.status(guest.zeroes(0, BLOCK)), DeviceStatus.readOnly);
  t.equal(guest.status(guest.flush()), DeviceStatus.ok);
  world.advance(10);
  t.same(guest.answers.get(read)!.data, data);
  replicas[0]!.start();
  world.advance(20_000);
  t.same(modes(stage)[0], "new active", "others join");
  t.equal(stage.stop(), null);
  t.equal(stage.arena.allocations, 0);
});
