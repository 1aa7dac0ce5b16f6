import t, { type Test } from "tap";
import { DeviceStatus, FUA } from "../../../src/ports/device.js";
import type { Accept } from "../../../src/upstairs/quorum.js";
import type { RecordKeeper } from "../../../src/upstairs/record.js";
import { hashApi, type ModelReplica } from "../../kit/replica.js";
import { FakeKeeper, Stage } from "../../kit/upstairs-stage.js";
import { World } from "../../kit/world.js";

// Two hosts, three replicas, and networks that let each host see some of them.

const hash = await hashApi();
const BLOCK = 512;
const BLOCKS = 8 * 20;
const block = (fill: number): Buffer => Buffer.alloc(BLOCK, fill);

function host(
  world: World,
  replicas: readonly ModelReplica[],
  generation: number,
  sees: readonly number[],
  options: { readonly record?: RecordKeeper; readonly accept?: Accept } = {},
): Stage {
  const stage = new Stage(world, hash, {
    replicas,
    upstairs: {
      generation: { kind: "given", value: BigInt(generation) },
      ...options,
    },
    tuning: { redialFirstMs: 200, redialMs: 2000, dialTimeoutMs: 500 },
  });
  for (const place of [0, 1, 2]) if (!sees.includes(place)) stage.dialer.unreachable.add(place);
  return stage;
}
/** The host sees these from now on; connections to the others break. */
function partition(stage: Stage, sees: readonly number[]): void {
  stage.dialer.unreachable.clear();
  for (const [place, replica] of stage.replicas.entries()) {
    if (sees.includes(place)) continue;
    stage.dialer.unreachable.add(place);
    for (const connection of [...replica.connections])
      if (connection.sessionId === stage.upstairs.status().sessionId) connection.stream.destroy();
  }
}
const fresh = (): { world: World; replicas: readonly ModelReplica[] } => {
  const world = new World(9);
  const first = new Stage(world, hash);
  if (first.activate() !== null) throw new Error("no activation");
  for (let at = 0; at < BLOCKS; at += 20) first.guest.write(at * BLOCK, block(1));
  world.advance(20);
  first.stop();
  return { world, replicas: first.replicas };
};
function writes(t: Test, stage: Stage, at: number, fill: number): void {
  const tag = stage.guest.write(at * BLOCK, block(fill), FUA);
  stage.pass(200, () => stage.guest.status(tag) !== undefined);
  t.equal(stage.guest.status(tag), DeviceStatus.ok);
}
function reads(t: Test, stage: Stage, at: number, fill: number): void {
  const tag = stage.guest.read(at * BLOCK, BLOCK);
  stage.pass(200, () => stage.guest.status(tag) !== undefined);
  t.same(stage.guest.answers.get(tag)?.data, block(fill));
}
const isActive = (stage: Stage): boolean => stage.upstairs.status().state === "active";

t.test("each sees another pair: the higher generation has the volume, alone", async (t) => {
  const { world, replicas } = fresh();
  const x = host(world, replicas, 5, [0, 1]);
  t.equal(x.activate(40_000), null);
  writes(t, x, 3, 33);
  // The third was left out, and the other host cannot know whether it was replaced.
  const careful = host(world, replicas, 6, [1, 2]);
  t.equal(careful.activate(60_000), undefined);
  t.ok(careful.said("volume.waiting")[0]?.includes("--accept-older"));
  careful.stop();
  const y = host(world, replicas, 7, [1, 2], { accept: { older: true } });
  t.equal(y.activate(40_000), null);
  t.equal(x.superseded.length, 1, "the replica that both see tells the first");
  t.equal(isActive(x), false);
  reads(t, y, 3, 33);
  reads(t, y, 0, 1);
  writes(t, y, 3, 44);
  world.advance(60_000);
  t.equal(isActive(y), true);
  t.equal(y.stop(), null);
});

t.test("each sees another pair: the lower generation gets nowhere", async (t) => {
  const { world, replicas } = fresh();
  const x = host(world, replicas, 5, [0, 1]);
  t.equal(x.activate(40_000), null);
  const y = host(world, replicas, 4, [1, 2], { accept: { older: true } });
  t.equal(y.activate(300_000), undefined, "one that lets it in is not two");
  t.equal(isActive(x), true);
  t.same(x.superseded, []);
  writes(t, x, 3, 33);
  // It may wait until the other is gone.
  t.equal(x.stop(), null);
  world.advance(60_000);
  t.equal(y.upstairs.status().state, "ended", "and then finds that it is too late");
  t.ok(y.said("volume.ended")[0]?.includes("TRIVET_E_GENERATION_TOO_LOW"));
});

t.test("cut off from two while another takes them: nothing is acknowledged any more", async (t) => {
  const { world, replicas } = fresh();
  const x = host(world, replicas, 5, [0, 1, 2]);
  t.equal(x.activate(40_000), null);
  writes(t, x, 3, 33);
  partition(x, [0]);
  const late = x.guest.write(4 * BLOCK, block(55), FUA);
  const y = host(world, replicas, 6, [1, 2]);
  t.equal(y.activate(40_000), null);
  writes(t, y, 4, 66);
  reads(t, y, 3, 33);
  world.advance(30_000);
  t.equal(x.guest.status(late), undefined, "it waits");
  partition(x, [0, 1, 2]);
  world.advance(20_000);
  t.equal(x.superseded.length, 1);
  t.equal(x.guest.status(late), DeviceStatus.shutdown);
  // What it left on the one that it kept never comes true.
  partition(y, [0, 1, 2]);
  t.ok(y.pass(30_000, () => y.said("replica.needsRepair").length > 0));
  reads(t, y, 4, 66);
  t.equal(y.stop(), null);
  const z = host(world, replicas, 7, [0, 1], { accept: { older: true } });
  t.equal(z.activate(100_000), null);
  reads(t, z, 4, 66);
  t.equal(z.stop(), null);
});

// Hosts that come and go, die, and see at random whom they see; replicas that die. Whatever was acknowledged as stable stays, and what was once
// read is never taken back.
function chaos(seed: number): { broken: string[]; sessions: number; degraded: number } {
  const world = new World(seed);
  const replicas = new Stage(world, hash, { manner: { jobMs: 2 } }).replicas;
  const below = (n: number): number => Math.floor(world.chance() * n);
  const keepers = [new FakeKeeper(), new FakeKeeper()];
  const broken: string[] = [];
  /** By block: the write that must be there at least, and all writes ever tried, in order. */
  const floor = new Map<number, number>();
  const tried = new Map<number, number[]>();
  let stamp = 0;
  let sessions = 0;
  let degraded = 0;

  const stampOf = (data: Buffer): number => data.readUInt32LE();
  const judge = (at: number, data: Buffer): void => {
    const order = [0, ...(tried.get(at) ?? [])];
    const found = order.indexOf(stampOf(data));
    if (found < order.indexOf(floor.get(at) ?? 0))
      broken.push(`block ${at} is ${stampOf(data)}, at least ${floor.get(at)} was there`);
    else floor.set(at, stampOf(data));
  };

  for (let round = 1; round <= 12; round++) {
    const who = below(2);
    const keeper = world.chance() < 0.2 ? new FakeKeeper() : keepers[who]!;
    const blind = below(4);
    const sees = [0, 1, 2].filter((place) => place !== blind);
    const dead = below(5);
    replicas[dead]?.crash(world.chance() < 0.5);
    const stage = host(world, replicas, round, sees, { record: keeper });
    stage.activate(45_000);
    if (isActive(stage)) {
      sessions += 1;
      if (stage.upstairs.status().degraded) degraded += 1;
      for (let i = 0; i < 30; i++) {
        const at = below(BLOCKS);
        if (world.chance() < 0.6) {
          const mine = ++stamp;
          const data = block(0);
          data.writeUInt32LE(mine);
          tried.set(at, [...(tried.get(at) ?? []), mine]);
          const isStable = world.chance() < 0.5;
          const tag = stage.guest.write(at * BLOCK, data, isStable ? FUA : 0);
          if (isStable && world.chance() < 0.7)
            stage.pass(100, () => stage.guest.status(tag) !== undefined);
          if (isStable && stage.guest.status(tag) === DeviceStatus.ok) floor.set(at, mine);
        } else {
          const tag = stage.guest.read(at * BLOCK, BLOCK);
          stage.pass(100, () => stage.guest.status(tag) !== undefined);
          const data = stage.guest.answers.get(tag)?.data;
          if (data) judge(at, data);
        }
        if (world.chance() < 0.03) partition(stage, [below(3), below(3)]);
        if (world.chance() < 0.03) partition(stage, [0, 1, 2]);
        if (world.chance() < 0.02) replicas[below(3)]!.crash();
        if (world.chance() < 0.1) for (const replica of replicas) replica.start();
        world.advance(below(50));
      }
    }
    // It dies, or goes in order.
    if (world.chance() < 0.6) partition(stage, []);
    else stage.stop(60_000);
    partition(stage, []);
    // Not what it announced: it may have died before it could keep that.
    for (const replica of replicas)
      broken.push(...replica.violations.map((what) => `round ${round}: ${what}`));
    for (const replica of replicas) replica.start();
    world.advance(100);
  }
  const last = host(world, replicas, 99, [0, 1, 2]);
  if (last.activate(120_000) !== null)
    broken.push(`no last activation: ${last.notes.at(-1)?.text}`);
  else
    for (let at = 0; at < BLOCKS; at++) {
      const tag = last.guest.read(at * BLOCK, BLOCK);
      last.pass(200, () => last.guest.status(tag) !== undefined);
      judge(at, last.guest.answers.get(tag)!.data!);
    }
  return { broken, sessions, degraded };
}

t.test("hosts come and go: nothing stable is lost, nothing read is taken back", async (t) => {
  const only = Number(process.env.SEED ?? 0);
  const seeds = only > 0 ? [only] : Array.from({ length: 34 }, (_, i) => i + 1);
  let sessions = 0;
  let degraded = 0;
  for (const seed of seeds) {
    const found = chaos(seed);
    t.same(found.broken, [], `seed ${seed}`);
    sessions += found.sessions;
    degraded += found.degraded;
  }
  t.ok(only > 0 || degraded * 4 > sessions, "many begin without the third");
});
