import t from "tap";
import { Fault } from "../../../src/base/fault.js";
import type { Uuid } from "../../../src/base/ids.js";
import type { Message } from "../../../src/crucible/messages.js";
import { DownstairsStage } from "../../kit/downstairs-stage.js";
import { regionOf } from "../../kit/store.js";
import { type ScriptedUpstairs, Talk, UPSTAIRS } from "../../peer/upstairs.js";

const IO = new Fault("TRIVET_E_IO", "the disk says no");

async function active(
  options: Parameters<typeof DownstairsStage.open>[0] = {},
): Promise<{ stage: DownstairsStage; talk: Talk; peer: ScriptedUpstairs }> {
  const stage = await DownstairsStage.open(options);
  const talk = new Talk(stage.connect());
  talk.activate(options.readOnly);
  stage.world.settle();
  talk.peer.heard();
  return { stage, talk, peer: talk.peer };
}

/** "WriteAck 1000", "ErrorReport 1000 IoError". */
const brief = (message: Message): string =>
  [
    message.kind,
    "jobId" in message ? message.jobId : "",
    "error" in message ? message.error.kind : "",
  ]
    .join(" ")
    .trim();
const briefs = (peer: ScriptedUpstairs): string[] => peer.heard().map(brief);

t.test("the whole negotiation in one segment", async (t) => {
  const stage = await DownstairsStage.open();
  const talk = new Talk(stage.connect());
  talk.activate();
  talk.write(1000, 0, 1, 1);
  stage.world.settle();
  t.same(talk.peer.kinds(), [
    "YesItsMe",
    "YouAreNowActive",
    "RegionInfo",
    "ExtentVersions",
    "WriteAck",
  ]);
});

t.test("jobs before Running are ignored, pings are answered", async (t) => {
  const stage = await DownstairsStage.open();
  const talk = new Talk(stage.connect());
  talk.write(1000, 0, 1, 1);
  talk.hello();
  talk.read(1001, 0, 1);
  talk.peer.say({ kind: "Ruok" });
  talk.promote();
  talk.flush(1002, 1);
  stage.world.settle();
  t.same(talk.peer.kinds(), ["YesItsMe", "Imok", "YouAreNowActive"]);
  t.same(stage.store.log, ["reopenAll"]);
});

t.test("a failing job is reported and tried again, others go on", async (t) => {
  const { stage, talk, peer } = await active();
  let broken = true;
  stage.store.trouble = (operation, extent) =>
    broken && operation === "write" && extent === 0 ? IO : null;
  talk.write(1000, 0, 1, 1);
  talk.write(1001, 20, 1, 2);
  talk.read(1002, 20, 1, 1001);
  talk.write(1003, 0, 1, 3, 1000);
  stage.world.settle();
  t.same(briefs(peer), ["ErrorReport 1000 IoError", "WriteAck 1001", "ReadResponse 1002"]);
  const times: number[] = [];
  for (let ms = 0; ms < 20_000; ms += 10) {
    stage.world.advance(10);
    if (briefs(peer).length > 0) times.push(stage.world.nowMs());
  }
  t.same(
    times.map((ms, i) => ms - (times[i - 1] ?? 0)),
    [100, 200, 400, 800, 1600, 3200, 5000, 5000],
  );
  broken = false;
  stage.world.advance(5000);
  t.same(briefs(peer), ["WriteAck 1000", "WriteAck 1003"]);
  t.same(stage.store.log.slice(-2), ["write 0+1", "write 0+1"]);
  t.equal(stage.store.data[0], 3);
});

t.test("acks never overtake those that they depend on, whatever the disk does", async (t) => {
  for (let seed = 1; seed <= 20; seed++) {
    const { stage, talk, peer } = await active({ seed });
    const { world } = stage;
    stage.store.delayMs = () => Math.floor(world.chance() * 20);
    stage.store.trouble = () => (world.chance() < 0.1 ? IO : null);
    const deps = new Map<number, number[]>();
    let last: number | undefined;
    let since: number[] = [];
    const lastOf = new Map<number, number>();
    for (let id = 1000; id < 1120; id++) {
      const block = Math.floor(world.chance() * 30);
      const on = lastOf.get(block) ?? last;
      const list = on === undefined ? [] : [on];
      if (world.chance() < 0.1) {
        const all = since.length > 0 ? since : last === undefined ? [] : [last];
        deps.set(id, all);
        talk.flush(id, id, ...all);
        last = id;
        since = [];
        lastOf.clear();
        continue;
      }
      deps.set(id, list);
      talk.write(id, block, 1 + Math.floor(world.chance() * 1), id & 255, ...list);
      lastOf.set(block, id);
      since.push(id);
    }
    world.advance(600_000 / 20);
    // Keep talking, or silence ends it.
    for (let i = 0; i < 20; i++) {
      peer.say({ kind: "Ruok" });
      world.advance(30_000);
    }
    const acks = peer
      .heard()
      .filter((m) => m.kind === "WriteAck" || m.kind === "FlushAck")
      .map((m) => ("jobId" in m ? Number(m.jobId) : 0));
    const seen = new Set<number>();
    for (const id of acks) {
      for (const on of deps.get(id)!) if (!seen.has(on)) t.fail(`${id} before ${on}`);
      seen.add(id);
    }
    t.equal(seen.size, 120, `seed ${seed}: all are acknowledged once`);
    t.equal(acks.length, 120);
  }
});

t.test("wrong ids: told which, and nothing is done", async (t) => {
  const { stage, peer } = await active();
  const stranger = "dddddddd-0000-4000-8000-000000000001" as Uuid;
  new Talk(peer, 1n, stranger).write(1000, 0, 1, 1);
  new Talk(peer, 1n, UPSTAIRS, stranger).read(1001, 0, 1);
  stage.world.settle();
  const heard = peer.heard();
  t.same(
    heard.map((m) => m.kind === "UuidMismatch" && m.expectedId),
    ["aaaaaaaa-0000-4000-8000-000000000001", "bbbbbbbb-0000-4000-8000-000000000001"],
  );
  new Talk(peer).read(1002, 0, 1);
  stage.world.settle();
  t.same(briefs(peer), ["ReadResponse 1002"]);
  t.same(stage.store.log, ["reopenAll", "read 0+1"]);
});

t.test("what makes no sense ends the connection, and only that", async (t) => {
  const { extentId, source } = { extentId: 3, source: { host: "127.0.0.1", port: 9 } };
  const live = { sourceClientId: 0, sourceRepairAddress: source };
  const cases: Record<string, (talk: Talk) => void> = {
    "blocks outside": (talk) => talk.write(1, 160, 1, 0),
    "blocks over the end": (talk) => talk.read(1, 155, 6),
    "a start beyond everything": (talk) => talk.read(1, Number.MAX_SAFE_INTEGER, 1),
    "a count beyond everything": (talk) => talk.read(1, 0, Number.MAX_SAFE_INTEGER),
    "an extent outside": (talk) => talk.say(1, [], { kind: "ExtentLiveClose", extentId: 8 }),
    "closing twice": (talk) => {
      talk.say(1, [], { kind: "ExtentLiveClose", extentId });
      talk.say(2, [1], { kind: "ExtentLiveClose", extentId });
    },
    "reading what is closed": (talk) => {
      talk.say(1, [], { kind: "ExtentLiveClose", extentId });
      talk.read(2, 59, 2, 1);
    },
    "flushing what is closed and dirty": (talk) => {
      talk.write(1, 60, 1, 1);
      talk.say(2, [1], { kind: "ExtentLiveClose", extentId });
      talk.flush(3, 1, 2);
    },
    "opening what is open": (talk) => talk.say(1, [], { kind: "ExtentLiveReopen", extentId }),
    "repairing what is open": (talk) =>
      talk.say(1, [], { kind: "ExtentLiveRepair", extentId, ...live }),
    "reconciling an extent outside": (talk) =>
      talk.peer.say({ kind: "ExtentClose", repairId: 0, extentId: 8 as never }),
    "negotiation again": (talk) => talk.hello(),
    "an answer instead of a question": (talk) => talk.peer.say({ kind: "Imok" }),
  };
  for (const [name, run] of Object.entries(cases)) {
    const { stage, talk, peer } = await active();
    run(talk);
    stage.world.advance(50);
    t.equal(peer.isClosed, true, name);
    const next = new Talk(stage.connect());
    next.activate();
    next.read(1, 60, 1);
    stage.world.settle();
    t.equal(next.peer.kinds().at(-1), "ReadResponse", "the next one is served");
    next.peer.cut();
    stage.world.advance(60_000);
    t.equal(stage.arena.allocations, 0);
  }
});

t.test("empty reads and writes are legal", async (t) => {
  const { stage, talk, peer } = await active();
  talk.read(1000, 5, 0);
  talk.write(1001, 5, 0, 0);
  stage.world.settle();
  const [response, ack] = peer.heard();
  t.same(response?.kind === "ReadResponse" && response.result, { ok: true, contexts: [] });
  t.equal(ack?.kind, "WriteAck");
});

t.test("a flush with a snapshot is refused aloud", async (t) => {
  const { stage, talk, peer } = await active();
  const flush = { kind: "Flush", flushNumber: 1, generation: 1n, extentLimit: null };
  talk.say(1000, [], { ...flush, snapshot: "before-upgrade" });
  stage.world.settle();
  t.same(briefs(peer), ["ErrorReport 1000 SnapshotFailed"]);
  t.ok(peer.isClosed);
});

t.test("a failed live repair: reported, then the connection closes", async (t) => {
  const { stage, talk, peer } = await active();
  stage.store.trouble = (operation) =>
    operation.startsWith("replaceExtent") ? new Fault("TRIVET_E_REPAIR", "no source") : null;
  talk.say(1000, [], { kind: "ExtentLiveClose", extentId: 1 });
  const source = { host: "10.1.2.3", port: 7810 };
  const repair = { sourceClientId: 0, sourceRepairAddress: source };
  talk.say(1001, [1000], { kind: "ExtentLiveRepair", extentId: 1, ...repair });
  stage.world.settle();
  t.same(briefs(peer), ["ExtentLiveCloseAck 1000", "ErrorReport 1001 RepairRequestError"]);
  t.ok(peer.isClosed);
});

t.test("reconciliation: errors are answers, and the connection stays", async (t) => {
  const { stage, peer } = await active();
  stage.store.trouble = (operation) => (operation === "flushExtent" ? IO : null);
  const extentId = 2 as never;
  const numbers = { clientId: 0 as never, flushNumber: 4 as never, generation: 3n as never };
  peer.say({ kind: "ExtentFlush", repairId: 7, extentId, ...numbers });
  peer.say({ kind: "ExtentClose", repairId: 8, extentId });
  peer.say({ kind: "ExtentReopen", repairId: 9, extentId });
  stage.world.settle();
  const heard = peer.heard();
  t.same(
    heard.map((m) => [m.kind, "repairId" in m ? m.repairId : 0]),
    [
      ["ExtentError", 7],
      ["RepairAckId", 8],
      ["RepairAckId", 9],
    ],
  );
  t.equal(peer.isClosed, false);
});

t.test("read-only: reads and flushes for many, anything else ends the connection", async (t) => {
  const stage = await DownstairsStage.open({ readOnly: true });
  const one = new Talk(stage.connect(), 5n);
  const other = new Talk(stage.connect(), 1n, "eeeeeeee-0000-4000-8000-000000000001" as Uuid);
  for (const talk of [one, other]) {
    talk.activate(true);
    talk.read(1000, 0, 2);
    talk.flush(1001, 1, 1000);
    talk.say(1002, [1001], { kind: "Barrier" });
  }
  stage.world.settle();
  for (const { peer } of [one, other])
    t.same(peer.kinds().slice(4), ["ReadResponse", "FlushAck", "BarrierAck"]);
  one.write(1003, 0, 1, 1);
  other.say(1003, [], { kind: "ExtentLiveClose", extentId: 0 });
  stage.world.settle();
  t.ok(one.peer.isClosed && other.peer.isClosed);
  t.same(
    stage.store.log.filter((entry) => entry.startsWith("write")),
    [],
  );
});

t.test("45 seconds of silence, and not before", async (t) => {
  const { stage, peer } = await active();
  stage.world.advance(44_000);
  peer.say({ kind: "Ruok" });
  stage.world.advance(44_900);
  t.equal(peer.isClosed, false);
  stage.world.advance(200);
  t.equal(peer.isClosed, true);
});

t.test("a takeover while the loser's write is still on its way to the disk", async (t) => {
  const { stage, talk, peer } = await active();
  stage.store.delayMs = () => 500;
  talk.write(1000, 0, 1, 1);
  talk.write(1001, 0, 1, 2, 1000);
  stage.world.advance(100);
  const next = new Talk(stage.connect(), 2n);
  next.activate();
  next.read(1000, 0, 1);
  stage.world.advance(100);
  t.same(briefs(peer), ["YouAreNoLongerActive"]);
  t.ok(peer.isClosed);
  t.same(next.peer.kinds(), ["YesItsMe"], "not before the write has ended");
  next.peer.say({ kind: "Ruok" });
  stage.world.advance(2000);
  t.same(next.peer.kinds(), [
    "YouAreNowActive",
    "RegionInfo",
    "ExtentVersions",
    "Imok",
    "ReadResponse",
  ]);
  t.same(stage.store.log, ["reopenAll", "write 0+1", "reopenAll", "read 0+1"]);
});

t.test("a peer that does not read is not served without end", async (t) => {
  const { stage, talk, peer } = await active({
    definition: regionOf(512, 2048, 8),
    arenaBytes: 128 * 1024 * 1024,
  });
  const slow = new Talk(stage.connect({ windowBytes: 64 * 1024 }), 2n);
  slow.activate();
  stage.world.settle();
  slow.peer.pause();
  for (let id = 1000; id < 1064; id++) slow.read(id, 0, 2048);
  stage.world.advance(1000);
  const reads = stage.store.log.filter((entry) => entry.startsWith("read")).length;
  t.ok(reads >= 8 && reads <= 20, `${reads} of 64 reads were made`);
  t.ok(talk.peer === peer && peer.isClosed);
  slow.peer.resume();
  stage.world.advance(1000);
  t.equal(slow.peer.heard().filter((m) => m.kind === "ReadResponse").length, 64, "then it is");
});

t.test("more writes than there is memory: they wait, and all are done", async (t) => {
  const { stage, talk, peer } = await active({ arenaBytes: 2 * 1024 * 1024 });
  stage.store.delayMs = () => 5;
  for (let id = 1000; id < 1200; id++)
    talk.write(id, 0, 80, id & 255, ...(id > 1000 ? [id - 1] : []));
  talk.read(1200, 0, 1, 1199);
  stage.world.advance(10_000);
  const heard = peer.heard();
  t.equal(heard.filter((m) => m.kind === "WriteAck").length, 200);
  const [response] = heard.slice(-1);
  t.equal(response?.kind === "ReadResponse" && response.data[0], 1199 & 255);
});

t.test("a queue that can never move ends with its connection", async (t) => {
  const { stage, talk, peer } = await active({ arenaBytes: 2 * 1024 * 1024 });
  for (let id = 1001; id < 1100; id++) talk.write(id, 0, 80, 1, 1000);
  stage.world.advance(44_000);
  t.equal(peer.isClosed, false);
  stage.world.advance(2_000);
  t.ok(peer.isClosed);
  t.ok(
    stage.notes.some((note) => note.includes("no memory")),
    "and says why",
  );
  const next = new Talk(stage.connect(), 2n);
  next.activate();
  next.write(1000, 0, 80, 1);
  stage.world.settle();
  t.equal(next.peer.kinds().at(-1), "WriteAck");
});

t.test("deliberate trouble: lossy and failing, and yet all is done", async (t) => {
  const testModes = { lossy: true, readErrors: true, writeErrors: true, flushErrors: true };
  const { stage, talk, peer } = await active({ testModes, seed: 5 });
  for (let id = 1000; id < 1100; id++)
    talk.write(id, id % 20, 1, id & 255, ...(id > 1000 ? [id - 1] : []));
  talk.flush(1100, 1, 1099);
  talk.read(1101, 0, 20, 1100);
  for (let i = 0; i < 20; i++) {
    stage.world.advance(10_000);
    peer.say({ kind: "Ruok" });
  }
  const kinds = briefs(peer).map((text) => text.split(" ")[0]!);
  const count = (kind: string): number => kinds.filter((other) => other === kind).length;
  t.equal(count("WriteAck"), 100);
  t.equal(count("FlushAck"), 1);
  t.equal(count("ReadResponse"), 1);
  t.ok(count("ErrorReport") > 10, `${count("ErrorReport")} reports`);
});

t.test("closing the server ends everybody in order", async (t) => {
  const { stage, talk, peer } = await active();
  stage.store.delayMs = () => 100;
  talk.write(1000, 0, 1, 1);
  stage.world.advance(10);
  const ended: (Fault | null)[] = [];
  stage.server.close((fault) => ended.push(fault));
  stage.world.advance(20);
  t.ok(peer.isClosed);
  t.equal(stage.store.closedForGood, false, "a write is still in progress");
  stage.world.advance(200);
  t.ok(stage.store.closedForGood);
  t.same(ended, [null]);
  const late = stage.connect();
  stage.world.settle();
  t.ok(late.isClosed, "nobody is accepted any more");
  t.equal(stage.arena.allocations, 0);
});
