import t from "tap";
import type { MessageOf } from "../../../src/crucible/messages.js";
import {
  finalFlush,
  ours,
  play,
  type Recorded,
  readsOf,
  readsThen,
  stageFor,
  theirs,
} from "../../kit/conversations.js";
import type { Stage } from "../../kit/upstairs-stage.js";

// Live repair is, on every connection, message for message what the original sent: reopen before close, which flushes on those that are
// healthy; a copy or a NoOp by what the closes said; a NoOp; the final flush with a limit for the target only. Differences are those of other
// conversations; and as reads never go to a target, none is asked of it.

type Closing = MessageOf<"ExtentLiveFlushClose">;

/** The job of each extent that closes it on healthy replicas, in order. */
const closings = (was: Recorded): readonly Closing[] => {
  const found = new Map<number, Closing>();
  for (const { message } of was.said)
    if (message.kind === "ExtentLiveFlushClose") found.set(message.extentId, message);
  return [...found.values()].sort((a, b) => a.extentId - b.extentId);
};
const closedByUs = (stage: Stage, source: number): readonly Closing[] =>
  stage.replicas[source]!.heard.flatMap(({ message }) =>
    message.kind === "ExtentLiveFlushClose" ? [message] : [],
  );

for (const [name, target] of [
  ["live-repair-quiet", 0],
  ["live-repair", 2],
] as const)
  t.test(`${name}: the same messages on every connection`, async (t) => {
    const { stage, was } = stageFor(name, { repairRetryMs: 1 });
    t.equal(stage.activate(), null);
    const replica = stage.replicas[target]!;
    const source = target === 2 ? 1 : 2;
    // Copies wait until the guest has asked for what it asked for during them.
    let mayCopyBelow = 0;
    replica.manner.trouble = (job) =>
      job.kind === "ExtentLiveRepair" && job.extentId >= mayCopyBelow ? "wait" : null;

    const theirClosings = closings(was);
    const gone = was.lines.findIndex((line) => line.link === target && line.event === "close");
    const before = new Set(
      was.said.flatMap(({ message, link }) =>
        link === target && "jobId" in message ? [message.jobId as number] : [],
      ),
    );
    t.ok(gone > 0, "it left in the recording");
    const firstClose = theirClosings[0]!.jobId;
    const newIds = play(stage, was, (job) => {
      if (job.jobId < firstClose) {
        if (!before.has(job.jobId) && !replica.isDown) replica.crash();
        return;
      }
      if (replica.isDown) replica.start();
      const begun = theirClosings.filter(({ jobId }) => jobId < job.jobId).length;
      const isOver = job.jobId > finalFlush(was)!;
      mayCopyBelow = isOver ? Infinity : begun - 1;
      const isThere = (): boolean =>
        isOver
          ? stage.upstairs.status().replicas[target]!.phase === "active"
          : closedByUs(stage, source).length === begun;
      if (!stage.pass(20_000, isThere)) throw new Error(`not there before job ${job.jobId}`);
      stage.world.advance(5);
    });
    replica.start();
    mayCopyBelow = Infinity;
    stage.pass(20_000, () => stage.upstairs.status().replicas[target]!.phase === "active");
    stage.world.advance(100);

    const ourClosings = closedByUs(stage, source);
    t.equal(ourClosings.length, theirClosings.length, "every extent once");
    for (const [i, { jobId }] of theirClosings.entries())
      for (let k = 0; k < 4; k++) newIds.set(jobId + k, ourClosings[i]!.jobId + k);
    const lastHeard = replica.heard.findLast(
      ({ message }) => message.kind === "Flush" && message.extentLimit !== null,
    )!;
    newIds.set(finalFlush(was)!, (lastHeard.message as MessageOf<"Flush">).jobId);
    const [mine, original] = [ours(stage), theirs(was, newIds)];
    for (let link = 0; link < 3; link++) t.same(mine[link], original[link], `replica ${link}`);
    t.same(readsOf(stage), readsThen(was, newIds));
    t.same(stage.violations, []);
    t.ok(mine[target]![1]!.length > 16, "there was a repair");
  });
