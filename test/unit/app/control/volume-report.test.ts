import t from "tap";
import { repairLines, scrubLines, statusLines } from "../../../../src/app/control/status-text.js";
import { memoryReport, upstairsReport } from "../../../../src/app/control/volume-report.js";
import type { Uuid } from "../../../../src/base/ids.js";
import type { ReplicaStatus, UpstairsStatus } from "../../../../src/upstairs/status.js";

// From what the upstairs counts to words, states and problems that people and scripts read.

const ID = "12345678-1111-2222-3333-000000000000" as Uuid;
const FACTS = {
  volume: "photos",
  version: "1.2.3",
  pid: 42,
  upMs: 61_000.4,
  memoryBytes: 100 * 2 ** 20,
  addresses: ["127.0.0.1:10809"],
  ack: "quorum",
  restart: null,
};
const replica = (over: Partial<ReplicaStatus> = {}): ReplicaStatus => ({
  address: "10.0.0.1:3810",
  phase: "active",
  mode: "new",
  regionUuid: ID,
  silentMs: 12.3,
  jobs: 0,
  bytes: 0,
  heldJobs: 0,
  heldBytes: 0,
  connections: 1,
  replays: 0,
  errorReports: 0,
  jobErrors: 0,
  badBlocks: 0,
  readsAnswered: 0,
  readBytesAnswered: 0,
  trouble: null,
  givenUp: null,
  refused: null,
  ...over,
});
const status = (
  third: Partial<ReplicaStatus> = {},
  over: Partial<UpstairsStatus> = {},
): UpstairsStatus => ({
  state: "active",
  ending: null,
  generation: 2n ** 63n,
  upstairsId: ID,
  sessionId: ID,
  readOnly: false,
  waitsBecause: null,
  degraded: false,
  sizeBytes: 2 ** 30,
  blockBytes: 4096,
  replicas: [replica(), replica(), replica(third)],
  reconciliation: null,
  openRequests: 0,
  waitingWrites: 0,
  jobs: 0,
  nextJobId: 1000,
  writeMemory: { usedBytes: 0, sizeBytes: 1 },
  readMemory: { usedBytes: 0, sizeBytes: 1 },
  writeLog: null,
  heal: { healed: 0, undecided: 0, lost: 0, waiting: 0, assembled: 0 },
  scrub: null,
  repair: { now: null, last: null, bytesPerSecond: 0 },
  counts: { flushesSubmitted: 3, reads: 1 },
  ...over,
});
const REPAIR = {
  targets: [2],
  source: 1,
  extent: 4,
  extentCount: 10,
  repaired: 3,
  confirmed: 1,
  left: 6,
  copiedBytes: 3 * 2 ** 20,
  bytesPerSecond: 2 ** 20,
  remainingMs: 6_000,
  startedMs: 0,
};

t.test("what is wrong with a replica, in a word and a sentence", async (t) => {
  const table: [Partial<ReplicaStatus>, string, RegExp][] = [
    [{}, "active", /^at work$/],
    [{ jobs: 1 }, "active", /^at work, 1 request under way$/],
    [
      { phase: "waitConnect", mode: "offline", heldJobs: 7, heldBytes: 4096, trouble: "gone" },
      "away",
      /^away: gone; 7 requests \(4 KiB\) are kept for it$/,
    ],
    [
      { phase: "waitConnect", silentMs: null, trouble: "refused" },
      "away",
      /^not connected: refused$/,
    ],
    [{ phase: "waitForPromote" }, "away", /^connecting$/],
    [{ phase: "waitQuorum" }, "waiting", /others/],
    [{ phase: "reconcile" }, "reconciling", /made equal/],
    [
      { phase: "waitConnect", mode: "faulted", givenUp: "too slow", trouble: "no route" },
      "faulted",
      /^out of the volume: too slow; it is repaired when it is back$/,
    ],
    [{ phase: "liveRepairReady", mode: "faulted" }, "faulted", /waits to be repaired$/],
    [{ phase: "waitConnect", mode: "replaced" }, "replaced", /another region/],
    [
      { phase: "liveRepair", mode: "faulted" },
      "repairing",
      /^being repaired from replica 1, 40 %$/,
    ],
    [
      { phase: "waitConnect", mode: "faulted", refused: "foreign; --accept-foreign" },
      "refused",
      /^not let in: foreign; --accept-foreign$/,
    ],
  ];
  for (const [third, word, about] of table) {
    const repair = { now: REPAIR, last: null, bytesPerSecond: 0 };
    const report = upstairsReport(status(third, { repair }), FACTS);
    t.equal(report.replicas[2]!.state, word);
    t.ok(about.test(report.replicas[2]!.about), report.replicas[2]!.about);
    t.equal(report.health, word === "active" ? "ok" : "degraded");
    t.equal(report.problems.length, word === "active" ? 0 : 1);
  }
});

t.test("well, degraded, down", async (t) => {
  const away = replica({ phase: "waitConnect", mode: "offline" });
  const health = (over: Partial<UpstairsStatus>) => upstairsReport(status({}, over), FACTS).health;
  t.equal(health({}), "ok");
  t.equal(health({ replicas: [replica(), away, away] }), "down");
  t.equal(health({ replicas: [replica(), away, away], readOnly: true }), "degraded");
  t.equal(health({ replicas: [away, away, away], readOnly: true }), "down");
  const waiting = upstairsReport(
    status({}, { state: "activating", waitsBecause: "two regions are empty; --accept-empty" }),
    FACTS,
  );
  t.equal(
    waiting.problems[0],
    "the volume is not served yet: two regions are empty; --accept-empty",
  );
  for (const state of ["idle", "activating", "stopping", "ended"] as const)
    t.equal(health({ state }), "down", state);
  const heal = { healed: 5, undecided: 0, lost: 2, waiting: 0, assembled: 0 };
  const lost = upstairsReport(status({}, { heal }), FACTS);
  t.equal(lost.health, "degraded");
  t.ok(/2 blocks no good copy is left/.test(lost.problems[0]!));
});

t.test("everything survives JSON: no bigint, no undefined", async (t) => {
  const scrub = {
    state: "running",
    waitsFor: null,
    fromBlock: 0,
    block: 1000,
    blocks: 4000,
    blockBytes: 4096,
    replicas: 3,
    comparedOnTwo: 8,
    differing: 2,
    repaired: 1,
    undecided: 1,
    lost: 0,
    overwritten: 0,
    bytesPerSecond: 2 ** 20,
    bytesPerSecondMax: 0,
    elapsedMs: 4000.7,
    remainingMs: 12_000.2,
  } as const;
  const last = {
    targets: [0],
    isComplete: false,
    repaired: 1,
    confirmed: 2,
    copiedBytes: 3,
    tookMs: 4_000,
    reason: "it left",
  };
  const full = upstairsReport(
    status(
      { phase: "liveRepair", mode: "faulted" },
      {
        scrub,
        repair: { now: REPAIR, last, bytesPerSecond: 2 ** 20 },
        writeLog: { rows: 5, rowsMax: 100 },
        reconciliation: { done: 1, inAll: 4 },
      },
    ),
    FACTS,
  );
  const memory = memoryReport(FACTS, { sizeBytes: 2 ** 24, blockBytes: 1 }, true);
  for (const report of [full, memory])
    t.same(JSON.parse(JSON.stringify(report)), report as unknown as object);
  t.equal(full.generation, "9223372036854775808");
  t.same(full.counts, { flushes_submitted: 3, reads: 1 });
  t.equal(full.server.up_ms, 61_000);

  const lines = statusLines(full).join("\n");
  t.ok(/^volume +photos: served, but not as safe/m.test(lines), lines);
  t.ok(/^state +active, for 1 min 1 s \(process 42, version 1\.2\.3\)$/m.test(lines));
  t.ok(/^write log +5 writes/m.test(lines));
  t.ok(
    /^repair of replica 2 from replica 1: 40 % \(3 extents copied, 1 were equal, 6 left\), 1 MiB\/s, 6 s left$/m.test(
      lines,
    ),
  );
  t.ok(/^scrub: 25 % of 15\.6 MiB, 1 MiB\/s, 12 s left, limit none$/m.test(lines), lines);
  t.ok(/^! replica 2 \(10\.0\.0\.1:3810\) is being repaired from replica 1, 40 %$/m.test(lines));
  t.ok(
    /^The last one, of replica 0, ended after 4 s: it left\.$/m.test(repairLines(full).join("\n")),
  );
  t.ok(/^Limit: 1 MiB\/s\.$/m.test(repairLines(full).join("\n")));
  t.ok(/^8 blocks were compared on two/m.test(scrubLines(full).join("\n")));
  t.ok(statusLines(memory).join("\n").includes("in the memory of the process"));
  t.same(repairLines(memory).length, 1);
  t.same(scrubLines(memory).length, 1);
});
