import t, { type Test } from "tap";
import type { Generation } from "../../../src/base/ids.js";
import { DeviceStatus } from "../../../src/ports/device.js";
import { hashApi, type JobMessage } from "../../kit/replica.js";
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
const isRead = (job: JobMessage): boolean => job.kind === "ReadRequest";
const hedged = (stage: Stage): number => stage.upstairs.status().counts.readsHedged!;
/** Reads one after the other until the given replica has one that it does not answer. */
function readUntilStuck(stage: Stage): number {
  for (let i = 0; i < 50; i++) {
    const tag = stage.guest.read(0, BLOCK);
    stage.world.advance(2);
    if (stage.guest.status(tag) === undefined) return tag;
  }
  throw new Error("every read was answered");
}
function ended(t: Test, stage: Stage): void {
  t.same(stage.violations, []);
  t.equal(stage.stop(), null);
  t.equal(stage.arena.allocations, 0, "no memory is left behind");
}

t.test("a late read is asked at a second replica; its late answer is dropped", async (t) => {
  const stage = active();
  stage.guest.write(0, block(5));
  stage.world.advance(10);
  // Replica 0 never answers one read, and others at once.
  const { manner } = stage.replicas[0]!;
  let isLate = true;
  manner.trouble = (job) => (isRead(job) && isLate ? "ignore" : null);
  const tag = readUntilStuck(stage);
  isLate = false;
  stage.world.advance(26);
  t.equal(stage.guest.status(tag), undefined, "patience first");
  stage.world.advance(25);
  t.equal(stage.guest.status(tag), DeviceStatus.ok);
  t.same(stage.guest.answers.get(tag)!.data, block(5));
  t.equal(hedged(stage), 1);
  t.equal(stage.upstairs.status().counts.hedgesWon, 1);
  stage.replicas[0]!.cut();
  stage.world.advance(3000);
  ended(t, stage);
});

t.test(
  "the answer that comes first is taken, whichever it is, and the buffer of the other stays until then",
  async (t) => {
    for (const [first, second] of [
      [45, 200],
      [90, 20],
    ] as const) {
      const stage = active({ links: { latencyMs: 0.1 } });
      stage.guest.write(0, block(5, 2));
      stage.world.advance(700);
      let count = 0;
      for (const replica of stage.replicas) {
        const connection = replica.connections[0]!;
        const say = connection.say.bind(connection);
        connection.say = (message) => {
          if (message.kind !== "ReadResponse") say(message);
          else stage.world.after(count++ === 0 ? first : second, () => say(message));
        };
      }
      const free = stage.arena.allocations;
      const tag = stage.guest.read(0, 2 * BLOCK);
      stage.pass(500, () => stage.guest.status(tag) !== undefined);
      t.same(stage.guest.answers.get(tag)!.data, block(5, 2));
      t.equal(hedged(stage), 1);
      t.equal(stage.arena.allocations, free + 1, "the other answer is still to come");
      stage.world.advance(500);
      t.equal(stage.arena.allocations, free);
      ended(t, stage);
    }
  },
);

t.test("a wrong answer that comes first is not taken", async (t) => {
  const stage = active();
  stage.guest.write(0, block(5));
  stage.world.advance(10);
  for (const index of [0, 1]) {
    const replica = stage.replicas[index]!;
    replica.blocks.set(0, { data: block(6), hash: replica.blocks.get(0)!.hash });
  }
  for (const replica of stage.replicas) {
    const connection = replica.connections[0]!;
    const say = connection.say.bind(connection);
    const delay = replica === stage.replicas[2] ? 80 : 40;
    connection.say = (message) => {
      if (message.kind !== "ReadResponse") say(message);
      else stage.world.after(delay, () => say(message));
    };
  }
  const tags = Array.from({ length: 6 }, () => stage.guest.read(0, BLOCK));
  stage.world.advance(600);
  for (const tag of tags) t.same(stage.guest.answers.get(tag)?.data, block(5));
  t.ok(hedged(stage) > 0);
  ended(t, stage);
});

t.test("a second asking sees what was written before the first", async (t) => {
  const stage = active();
  stage.guest.write(0, block(1));
  stage.world.advance(10);
  stage.replicas[0]!.manner.trouble = (job) => (isRead(job) ? "ignore" : null);
  const stuck = readUntilStuck(stage);
  // Submitted after the read was; it may see it, or not.
  stage.guest.write(0, block(2));
  stage.world.advance(60);
  const { data } = stage.guest.answers.get(stuck)!;
  t.ok(data!.equals(block(1)) || data!.equals(block(2)));
  const after = stage.guest.read(0, BLOCK);
  stage.world.advance(60);
  t.same(stage.guest.answers.get(after)!.data, block(2), "and one that comes later must");
  stage.replicas[0]!.cut();
  stage.world.advance(3000);
  ended(t, stage);
});

t.test("a replica that stops answering: reads go round it, and come back with it", async (t) => {
  const stage = active({ tuning: { silenceMs: 10_000 } });
  stage.guest.write(0, block(5));
  stage.world.advance(10);
  const { manner } = stage.replicas[1]!;
  // Everything but pings is stuck.
  manner.deaf = (message) => "dependencies" in message;
  let slowestMs = 0;
  for (let i = 0; i < 1500; i++) {
    const from = stage.world.nowMs();
    const tag = stage.guest.read(0, BLOCK);
    stage.pass(5000, () => stage.guest.status(tag) !== undefined);
    slowestMs = Math.max(slowestMs, stage.world.nowMs() - from);
    stage.world.advance(1);
  }
  t.ok(slowestMs <= 600, `the slowest of 1500 took ${slowestMs} ms`);
  t.ok(hedged(stage) <= 40, `${hedged(stage)} were asked twice`);
  const burst = Array.from({ length: 100 }, () => stage.guest.read(0, BLOCK));
  stage.world.advance(50);
  for (const tag of burst) t.equal(stage.guest.status(tag), DeviceStatus.ok, "none is sent there");
  t.equal(stage.said("replica.stalled").length, 1);
  manner.deaf = () => false;
  stage.replicas[1]!.cut();
  stage.world.advance(5000);
  const before = stage.upstairs.status().replicas[1]!.readsAnswered;
  for (let i = 0; i < 300; i++) {
    stage.guest.read(0, BLOCK);
    stage.world.advance(1);
  }
  t.ok(stage.upstairs.status().replicas[1]!.readsAnswered > before, "it is asked again");
  ended(t, stage);
});

t.test("a hundred reads before a replica that stops are all answered within a bound", async (t) => {
  const stage = active();
  stage.guest.write(0, block(5));
  stage.world.advance(10);
  stage.replicas[2]!.manner.trouble = (job) => (isRead(job) ? "ignore" : null);
  const tags = Array.from({ length: 300 }, () => stage.guest.read(0, BLOCK));
  stage.world.advance(700);
  t.equal(tags.filter((tag) => stage.guest.status(tag) !== DeviceStatus.ok).length, 0);
  stage.replicas[2]!.cut();
  stage.world.advance(3000);
  ended(t, stage);
});

t.test("when all are slow, few are asked twice", async (t) => {
  const stage = active({ tuning: { stallMs: 60_000 } });
  stage.world.advance(10);
  // Each replica does one read after the other, 8 ms each; guests ask for more than that.
  for (const replica of stage.replicas) {
    const connection = replica.connections[0]!;
    const say = connection.say.bind(connection);
    let freeAt = 0;
    connection.say = (message) => {
      if (message.kind !== "ReadResponse") {
        say(message);
        return;
      }
      freeAt = Math.max(freeAt, stage.world.nowMs()) + 8;
      stage.world.after(freeAt - stage.world.nowMs(), () => say(message));
    };
  }
  let asked = 0;
  for (let i = 0; i < 2000; i++) {
    stage.guest.read(0, BLOCK);
    asked += 1;
    stage.world.advance(1.5);
  }
  t.ok(hedged(stage) < asked / 20 + 17, `${hedged(stage)} of ${asked}`);
  stage.pass(60_000, () => stage.guest.answers.size === asked);
  t.equal(stage.guest.answers.size, asked);
  ended(t, stage);
});

t.test("a lost connection, an error report and a stop in the middle of two askings", async (t) => {
  for (const how of [
    "loser lost",
    "winner lost",
    "both lost",
    "reported",
    "stop",
    "fail",
  ] as const) {
    const stage = active({ tuning: { redialFirstMs: 20, stopMs: 2000 } });
    stage.guest.write(0, block(5));
    stage.world.advance(600);
    const troubles: ("ignore" | "report" | null)[] = ["ignore", "ignore", "ignore"];
    for (const [i, replica] of stage.replicas.entries())
      replica.manner.trouble = (job) => (isRead(job) ? troubles[i]! : null);
    const tag = stage.guest.read(0, BLOCK);
    stage.world.advance(60);
    t.equal(hedged(stage), 1, how);
    const having = stage.replicas.filter((r) =>
      r.heard.some(({ message }) => message.kind === "ReadRequest"),
    );
    t.equal(having.length, 2);
    const [one, other] = having;
    troubles.fill(null);
    if (how === "loser lost" || how === "both lost") one!.cut();
    if (how === "winner lost" || how === "both lost") other!.cut();
    if (how === "reported")
      for (const replica of having)
        replica.connections[0]!.say({
          kind: "ErrorReport",
          ...idsOf(replica.heard.at(-1)!.message as JobMessage),
          error: { kind: "IoError", text: "model" },
        });
    if (how === "fail")
      for (const replica of stage.replicas)
        replica.connections[0]!.say({
          kind: "YouAreNoLongerActive",
          newUpstairsId: stage.upstairs.status().upstairsId,
          newSessionId: stage.upstairs.status().upstairsId,
          newGeneration: 9n as Generation,
        });
    if (how === "stop") {
      stage.world.after(100, () => one!.cut());
      stage.world.after(150, () => other!.cut());
      t.equal(stage.stop(), null);
      t.equal(stage.guest.status(tag), DeviceStatus.ok);
      t.equal(stage.arena.allocations, 0);
      continue;
    }
    stage.world.advance(3000);
    t.equal(stage.guest.status(tag), how === "fail" ? DeviceStatus.shutdown : DeviceStatus.ok, how);
    t.same(stage.violations, []);
    stage.stop();
    t.equal(stage.arena.allocations, 0, how);
  }
});

const idsOf = ({ upstairsId, sessionId, jobId }: JobMessage) => ({ upstairsId, sessionId, jobId });
