import t, { type Test } from "tap";
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
/** Changes the data of a block and leaves its hash. */
function flip(stage: Stage, index: number, at: number): void {
  const replica = stage.replicas[index]!;
  const found = replica.blocks.get(at)!;
  const data = Buffer.from(found.data);
  data[7]! ^= 0x40;
  replica.blocks.set(at, { data, hash: found.hash });
}
const image = (stage: Stage, index: number): Buffer => stage.replicas[index]!.image();
function ended(t: Test, stage: Stage): void {
  t.same(stage.violations, []);
  t.equal(stage.stop(), null);
  t.equal(stage.arena.allocations, 0, "no memory is left behind");
}

t.test("a damaged block is served from elsewhere, noted once, and rewritten", async (t) => {
  const stage = active();
  stage.guest.write(0, block(5, 4));
  stage.world.advance(10);
  for (const index of [0, 1]) flip(stage, index, 2);
  const tags = Array.from({ length: 6 }, () => stage.guest.read(0, 4 * BLOCK));
  stage.world.advance(100);
  for (const tag of tags) t.same(stage.guest.answers.get(tag)!.data, block(5, 4));
  for (const index of [0, 1, 2]) t.same(image(stage, index), image(stage, 2));
  const { heal, replicas } = stage.upstairs.status();
  t.equal(heal.healed, 1);
  t.equal(replicas[0]!.badBlocks + replicas[1]!.badBlocks, stage.said("replica.badBlock").length);
  t.ok(stage.said("replica.badBlock").length <= 2, "once per block and replica");
  const more = stage.guest.read(0, 4 * BLOCK);
  stage.world.advance(20);
  t.equal(stage.guest.status(more), DeviceStatus.ok);
  t.equal(stage.upstairs.status().heal.waiting, 0);
  ended(t, stage);
});

t.test("a guest's write that comes between wins", async (t) => {
  const stage = active({ links: { latencyMs: 5 } });
  stage.guest.write(0, block(5));
  stage.world.advance(30);
  flip(stage, 0, 0);
  stage.guest.read(0, BLOCK);
  const before = stage.said("replica.badBlock").length;
  stage.pass(100, () => stage.said("replica.badBlock").length > before);
  // The mend is about to read, is reading, or has read: at each of these moments a write comes.
  for (let i = 0; i < 12; i++) {
    stage.guest.write(0, block(100 + i));
    stage.world.advance(3);
    flip(stage, i % 3, 0);
    stage.guest.read(0, BLOCK);
    stage.world.advance(4);
  }
  stage.guest.write(0, block(200));
  stage.world.advance(300);
  for (const index of [0, 1, 2]) t.same(stage.replicas[index]!.blocks.get(0)!.data, block(200));
  ended(t, stage);
});

t.test("a read whose blocks are bad at different replicas is put together", async (t) => {
  const stage = active();
  stage.guest.write(0, block(5, 8));
  stage.world.advance(10);
  flip(stage, 0, 1);
  flip(stage, 1, 4);
  flip(stage, 2, 6);
  const tag = stage.guest.read(0, 8 * BLOCK);
  stage.world.advance(100);
  t.equal(stage.guest.status(tag), DeviceStatus.ok);
  t.same(stage.guest.answers.get(tag)!.data, block(5, 8));
  t.equal(stage.upstairs.status().heal.assembled, 1);
  for (const index of [0, 1, 2]) t.same(image(stage, index).subarray(0, 8 * BLOCK), block(5, 8));
  ended(t, stage);
});

t.test(
  "bad on all three: an error for that block, not for others, until it is written",
  async (t) => {
    const stage = active();
    stage.guest.write(0, block(5, 8));
    stage.world.advance(10);
    for (const index of [0, 1, 2]) flip(stage, index, 3);
    const wide = stage.guest.read(0, 8 * BLOCK);
    const narrow = stage.guest.read(3 * BLOCK, BLOCK);
    const beside = [stage.guest.read(2 * BLOCK, BLOCK), stage.guest.read(4 * BLOCK, 4 * BLOCK)];
    stage.world.advance(200);
    t.equal(stage.guest.status(wide), DeviceStatus.io);
    t.equal(stage.guest.status(narrow), DeviceStatus.io);
    for (const tag of beside) t.equal(stage.guest.status(tag), DeviceStatus.ok);
    t.equal(stage.upstairs.status().heal.lost, 1);
    t.equal(stage.said("block.lost").length, 1);
    for (const { phase } of stage.upstairs.status().replicas) t.equal(phase, "active");
    stage.guest.write(3 * BLOCK, block(9));
    const again = stage.guest.read(3 * BLOCK, BLOCK);
    stage.world.advance(100);
    t.same(stage.guest.answers.get(again)!.data, block(9));
    t.equal(stage.upstairs.status().heal.lost, 0);
    ended(t, stage);
  },
);

t.test(
  "what one replica lost is not taken for never written where another has it damaged",
  async (t) => {
    const stage = active();
    stage.guest.write(0, block(5, 2));
    stage.world.advance(10);
    flip(stage, 0, 0);
    stage.replicas[1]!.blocks.delete(0);
    // Until the damage is known nobody can tell; a read that met it first gets no zeros for it.
    for (let i = 0; i < 6; i++) {
      const tag = stage.guest.read(0, BLOCK);
      stage.world.advance(1);
      const data = stage.guest.answers.get(tag)?.data;
      if (data !== undefined && stage.said("replica.badBlock").length > 0) t.same(data, block(5));
    }
    flip(stage, 0, 1);
    stage.replicas[1]!.blocks.delete(1);
    stage.replicas[2]!.blocks.set(1, { data: block(1), hash: 5n });
    stage.upstairs.scrub({ bytesPerSecond: 0 }, () => {});
    stage.world.advance(500);
    const lost = stage.guest.read(BLOCK, BLOCK);
    stage.world.advance(50);
    t.equal(stage.guest.status(lost), DeviceStatus.io, "an error rather than zeros");
    t.equal(stage.upstairs.status().heal.lost, 1);
    ended(t, stage);
  },
);

t.test("an unreadable range is rewritten without asking for it again", async (t) => {
  const stage = active();
  const data = Buffer.concat([block(5, 4), block(6, 4)]);
  stage.guest.write(0, data);
  stage.world.advance(700);
  let isBroken = true;
  let asked = 0;
  stage.replicas[1]!.manner.trouble = (job) => {
    if (job.kind === "Write") isBroken = false;
    if (job.kind !== "ReadRequest" || !isBroken) return null;
    asked += 1;
    return "report";
  };
  const tags = Array.from({ length: 9 }, () => stage.guest.read(0, 8 * BLOCK));
  stage.world.advance(15_000);
  for (const tag of tags) t.same(stage.guest.answers.get(tag)!.data, data);
  t.ok(asked > 0, "it was met");
  t.equal(isBroken, false, "and written");
  t.equal(stage.upstairs.status().heal.healed, 8);
  t.same(image(stage, 1), image(stage, 0));
  stage.pass(20_000, () => stage.upstairs.status().replicas.every((r) => r.phase === "active"));
  ended(t, stage);
});

t.test("unreadable on all three ends with an error, not with waiting", async (t) => {
  const stage = active();
  stage.guest.write(0, block(5, 4));
  stage.world.advance(10);
  for (const replica of stage.replicas)
    replica.manner.trouble = (job) =>
      job.kind === "ReadRequest" && job.start <= 1 && job.start + job.count > 1 ? "report" : null;
  const single = stage.guest.read(BLOCK, BLOCK);
  stage.world.advance(3000);
  t.equal(stage.guest.status(single), DeviceStatus.io);
  for (const replica of stage.replicas) replica.manner.trouble = () => null;
  stage.pass(30_000, () => stage.upstairs.status().replicas.every((r) => r.phase === "active"));
  const after = stage.guest.read(0, 4 * BLOCK);
  stage.world.advance(40_000);
  t.equal(stage.guest.status(after), DeviceStatus.ok, "it was not the disk");
  ended(t, stage);
});

t.test("with one replica away nothing is decided that it might decide", async (t) => {
  const stage = active({ tuning: { offlineGraceMs: 60_000 } });
  stage.guest.write(0, block(5, 2));
  stage.world.advance(600);
  stage.replicas[2]!.crash();
  stage.world.advance(10);
  for (const index of [0, 1]) flip(stage, index, 1);
  const tag = stage.guest.read(0, 2 * BLOCK);
  stage.world.advance(3000);
  t.equal(stage.guest.status(tag), undefined, "it waits for the one that may have it");
  t.equal(stage.upstairs.status().heal.lost, 0);
  stage.replicas[2]!.start();
  stage.world.advance(40_000);
  t.same(stage.guest.answers.get(tag)!.data, block(5, 2));
  t.same(image(stage, 0), image(stage, 2));
  t.same(image(stage, 1), image(stage, 2));
  ended(t, stage);
});

t.test("too many bad blocks end a replica's part; the second time it has to rest", async (t) => {
  const stage = active({ tuning: { badBlocksMax: 5 } });
  const mode = (): string => {
    const { mode, phase } = stage.upstairs.status().replicas[1]!;
    return `${mode} ${phase}`;
  };
  stage.guest.write(0, block(5, 20));
  stage.world.advance(700);
  const spoil = (): void => {
    for (let at = 0; at < 20; at++) flip(stage, 1, at);
    // Some of these go to that replica.
    for (let i = 0; i < 600; i++) {
      stage.guest.read((i % 20) * BLOCK, BLOCK);
      stage.guest.read(((i * 7) % 20) * BLOCK, 3 * (i % 20 < 17 ? BLOCK : 0));
    }
    stage.pass(2000, () => mode().startsWith("faulted"));
  };
  spoil();
  t.match(mode(), /faulted/);
  t.ok(stage.said("replica.faulted")[0]?.includes("failed to give"));
  t.ok(
    stage.pass(60_000, () => mode().endsWith("active")),
    "it is repaired at once",
  );
  stage.world.advance(60_000);
  spoil();
  t.match(mode(), /faulted/);
  t.ok(stage.said("replica.faulted")[1]?.includes("only another disk helps"));
  stage.world.advance(3_500_000);
  t.match(mode(), /faulted/, "for an hour it is left alone");
  t.ok(
    stage.pass(400_000, () => mode().endsWith("active")),
    "and then tried again",
  );
  ended(t, stage);
});

t.test("a read-only volume puts reads together, and writes nothing", async (t) => {
  const world = new World(4);
  const maker = new Stage(world, hash);
  maker.activate();
  maker.guest.write(0, block(5, 4));
  world.advance(10);
  maker.stop();
  for (const replica of maker.replicas) replica.manner.readOnly = true;
  flip(maker, 0, 0);
  flip(maker, 1, 1);
  flip(maker, 2, 2);
  const stage = new Stage(world, hash, {
    replicas: maker.replicas,
    upstairs: { readOnly: true, generation: { kind: "given", value: 2n } },
  });
  t.equal(stage.activate(), null);
  world.advance(2000);
  const heard = stage.replicas.map((replica) => replica.heard.length);
  const tag = stage.guest.read(0, 4 * BLOCK);
  world.advance(2000);
  t.same(stage.guest.answers.get(tag)!.data, block(5, 4));
  for (const [i, replica] of stage.replicas.entries())
    t.ok(replica.heard.slice(heard[i]).every(({ message }) => message.kind !== "Write"));
  ended(t, stage);
});
