import t from "tap";
import { decode } from "../../../src/crucible/messages.js";
import { ours, play, readsOf, readsThen, stageFor, theirs } from "../../kit/conversations.js";
import { hashApi } from "../../kit/replica.js";
import { Stage, UPSTAIRS_ID } from "../../kit/upstairs-stage.js";

// What our upstairs sends is what the original sent, in the recordings; see the kit for how they are compared.

const hash = await hashApi();

for (const name of ["activate-io-512", "activate-io-4096", "reconcile", "takeover-second"])
  t.test(`${name}: the same messages on every connection`, async (t) => {
    const { stage, was } = stageFor(name);
    t.equal(stage.activate(), null);
    const newIds = play(stage, was);
    t.same(ours(stage), theirs(was, newIds));
    t.same(readsOf(stage), readsThen(was, newIds));
    t.same(stage.violations, []);
    t.ok(stage.replicas[0]!.heard.length > 5, "something was said");
  });

t.test("replay-after-reconnect: LastFlush, then every job after it", async (t) => {
  const { stage, was } = stageFor("replay-after-reconnect");
  t.equal(stage.activate(), null);
  const closed = was.lines.findIndex((line) => line.link === 1 && line.event === "close");
  const seen = new Set(
    was.lines.slice(0, closed).flatMap((line) => {
      const message = line.hex === undefined ? undefined : decode(Buffer.from(line.hex, "hex"));
      return message !== undefined && "jobId" in message ? [message.jobId as number] : [];
    }),
  );
  const replica = stage.replicas[1]!;
  const back = was.said.findIndex(({ message }) => message.kind === "LastFlush");
  const replayed = was.said[back]!.conn;
  const beforeReplay = new Set(
    was.said
      .slice(0, back)
      .flatMap(({ message }) => ("jobId" in message ? [message.jobId as number] : [])),
  );
  const restart = (): void => {
    replica.start();
    stage.pass(20_000, () => stage.upstairs.status().replicas[1]!.phase === "active");
    stage.world.advance(50);
  };
  const newIds = play(stage, was, (job) => {
    if (
      !seen.has(job.jobId) &&
      !replica.isDown &&
      replica.connections.length > 0 &&
      replica.heard.at(-1)!.conn === 0
    )
      replica.crash();
    if (!beforeReplay.has(job.jobId) && replica.isDown) restart();
  });
  if (replica.isDown) restart();
  const [mine, original] = [ours(stage), theirs(was, newIds, beforeReplay, replayed)];
  t.same(mine[1]![1], original[1]![1], "what the replica hears when it is back");
  t.same(mine, original, "and everything else");
  t.same(readsOf(stage), readsThen(was, newIds));
  t.same(stage.violations, []);
});

t.test("generation-too-low: refused after the versions, and every connection closed", async (t) => {
  const { stage, was } = stageFor("generation-too-low");
  const fault = stage.activate();
  t.equal(fault?.code, "TRIVET_E_GENERATION_TOO_LOW");
  stage.world.advance(60_000);
  t.same(ours(stage), theirs(was, new Map()));
  t.same(
    stage.replicas.map((replica) => replica.connections.length),
    [0, 0, 0],
  );
});

t.test("takeover: the first is told, writes nothing more, and says so", async (t) => {
  const { stage: first, was } = stageFor("takeover");
  t.equal(first.activate(), null);
  const newIds = play(first, was);
  const said = ours(first);
  const second = new Stage(first.world, hash, {
    replicas: first.replicas,
    upstairs: { generation: { kind: "given", value: 11n }, upstairsId: UPSTAIRS_ID },
  });
  const write = first.guest.write(0, Buffer.alloc(512, 1));
  t.equal(second.activate(), null);
  t.same(said, theirs(was, newIds), "up to then as the original");
  t.same(
    first.superseded.map((fault) => fault.code),
    ["TRIVET_E_SUPERSEDED"],
  );
  t.ok(first.superseded[0]?.message.includes("generation 11"));
  const later = first.guest.write(0, Buffer.alloc(512, 2));
  t.equal(first.guest.status(later), 5, "later requests are refused at once");
  t.ok(first.guest.status(write) !== undefined, "nothing is left unanswered");
  first.world.advance(120_000);
  t.equal(first.superseded.length, 1, "it is said once");
  t.equal(first.dialer.dials, 3, "and nobody is dialled again");
});
