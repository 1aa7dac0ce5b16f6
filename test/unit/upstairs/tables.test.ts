import fc from "fast-check";
import t from "tap";
import type { FlushNumber, Generation, Uuid } from "../../../src/base/ids.js";
import type { Message, MessageOf } from "../../../src/crucible/messages.js";
import { JobTable, Kind, NONE, Part } from "../../../src/upstairs/job-table.js";
import { judge, type Phase, type Terms } from "../../../src/upstairs/negotiation.js";
import { compare, Reconciliation } from "../../../src/upstairs/reconcile.js";
import { regionProblem } from "../../../src/upstairs/region-check.js";
import { regionOf } from "../../kit/replica.js";
import { prng } from "../../kit/world.js";

const U = "11111111-2222-3333-4444-555555555555" as Uuid;
const S = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee" as Uuid;
const OTHER = "99999999-bbbb-cccc-dddd-eeeeeeeeeeee" as Uuid;
const G = 5n as Generation;

const terms = (over: Partial<Terms> = {}): Terms => ({
  upstairsId: U,
  sessionId: S,
  generation: G,
  readOnly: false,
  mode: "new",
  tookPart: false,
  inDoubt: false,
  hasFlushed: (flush) => flush === 0,
  extentCount: 8,
  regionProblem: () => null,
  ...over,
});
const versions = (generation: bigint, count = 8, flush = 0): MessageOf<"ExtentVersions"> => ({
  kind: "ExtentVersions",
  generations: new BigUint64Array(count).fill(generation),
  flushNumbers: new Float64Array(count).fill(flush),
  dirty: new Uint8Array(count),
});
const address = { host: "127.0.0.1", port: 7810 };
const ids = { upstairsId: U, sessionId: S };

t.test("negotiation: what each message means in each phase", async (t) => {
  const yes: Message = { kind: "YesItsMe", version: 13, repairAddress: address };
  const now: Message = { kind: "YouAreNowActive", ...ids, generation: G };
  const info: Message = { kind: "RegionInfo", region: regionOf(0) };
  const gone = (sessionId: Uuid): Message => ({
    kind: "YouAreNoLongerActive",
    newUpstairsId: U,
    newSessionId: sessionId,
    newGeneration: 6n as Generation,
  });
  const rows: [Phase, Message, Partial<Terms>, string][] = [
    ["start", yes, {}, "send PromoteToActive waitForPromote"],
    ["start", { ...yes, version: 12 }, {}, "drop TRIVET_E_VERSION"],
    ["start", { kind: "VersionMismatch", version: 9 }, {}, "drop TRIVET_E_VERSION"],
    [
      "start",
      { kind: "ReadOnlyMismatch", expected: true },
      {},
      "refuse TRIVET_E_READ_ONLY_MISMATCH",
    ],
    [
      "start",
      { kind: "EncryptedMismatch", expected: true },
      {},
      "refuse TRIVET_E_ENCRYPTED_MISMATCH",
    ],
    ["start", now, {}, "drop TRIVET_E_PROTOCOL"],
    ["start", { kind: "Imok" }, {}, "ignore"],
    ["waitForPromote", now, {}, "send RegionInfoPlease waitForRegionInfo"],
    [
      "waitForPromote",
      { ...now, generation: 6n as Generation },
      {},
      "refuse TRIVET_E_GENERATION_TOO_LOW",
    ],
    ["waitForPromote", { ...now, sessionId: OTHER }, {}, "refuse TRIVET_E_PROTOCOL"],
    ["waitForPromote", yes, {}, "drop TRIVET_E_PROTOCOL"],
    ["waitForPromote", { kind: "UuidMismatch", expectedId: OTHER }, {}, "refuse TRIVET_E_PROTOCOL"],
    ["waitForRegionInfo", info, {}, "region ExtentVersionsPlease getExtentVersions"],
    ["waitForRegionInfo", info, { mode: "offline" }, "region - active"],
    [
      "waitForRegionInfo",
      info,
      { mode: "offline", inDoubt: true },
      "region ExtentVersionsPlease getExtentVersions",
    ],
    [
      "waitForRegionInfo",
      info,
      { mode: "faulted" },
      "region ExtentVersionsPlease getExtentVersions",
    ],
    [
      "waitForRegionInfo",
      { ...info, region: regionOf(0, { encrypted: true }) },
      {},
      "refuse TRIVET_E_ENCRYPTED_MISMATCH",
    ],
    ["getExtentVersions", versions(9n), {}, "versions"],
    ["getExtentVersions", versions(0n, 7), {}, "refuse TRIVET_E_PROTOCOL"],
    ["getExtentVersions", versions(5n), { mode: "offline", inDoubt: true }, "versions"],
    [
      "getExtentVersions",
      versions(6n),
      { mode: "offline", inDoubt: true, tookPart: true },
      "superseded TRIVET_E_SUPERSEDED",
    ],
    [
      "getExtentVersions",
      versions(6n),
      { mode: "faulted", inDoubt: true, tookPart: true },
      "superseded TRIVET_E_SUPERSEDED",
    ],
    // Another host with our generation.
    [
      "getExtentVersions",
      versions(5n, 8, 9),
      { mode: "offline", inDoubt: true, tookPart: true },
      "superseded TRIVET_E_SUPERSEDED",
    ],
    [
      "getExtentVersions",
      versions(5n, 8, 0),
      { mode: "offline", inDoubt: true, tookPart: true },
      "versions",
    ],
    [
      "getExtentVersions",
      versions(4n, 8, 9),
      { mode: "offline", inDoubt: true, tookPart: true },
      "versions",
    ],
    // Two others are with us: whatever it carries is no newer than this session.
    ["getExtentVersions", versions(6n), { mode: "faulted", tookPart: true }, "versions"],
    ["getExtentVersions", versions(6n), { mode: "replaced" }, "versions"],
    // Never seen before, and nobody to vouch for us.
    [
      "getExtentVersions",
      versions(6n),
      { mode: "faulted", inDoubt: true },
      "drop TRIVET_E_GENERATION_TOO_LOW",
    ],
    ["getExtentVersions", versions(6n), { mode: "offline", readOnly: true }, "versions"],
    ["waitQuorum", versions(0n), {}, "drop TRIVET_E_PROTOCOL"],
    ["active", info, {}, "drop TRIVET_E_PROTOCOL"],
    ["active", { kind: "Imok" }, {}, "ignore"],
    ["active", gone(OTHER), {}, "superseded TRIVET_E_SUPERSEDED"],
    ["waitQuorum", gone(OTHER), {}, "superseded TRIVET_E_SUPERSEDED"],
    ["active", gone(S), {}, "drop TRIVET_E_CONNECTION"],
    ["active", { kind: "Ruok" }, {}, "drop TRIVET_E_PROTOCOL"],
  ];
  for (const [phase, message, over, want] of rows) {
    const verdict = judge(phase, message, terms(over));
    const words: string[] = [verdict.do];
    if ("message" in verdict) words.push(verdict.message?.kind ?? "-", verdict.phase);
    if ("fault" in verdict) words.push(verdict.fault.code);
    t.equal(words.join(" "), want, `${message.kind} in ${phase} ${JSON.stringify(over)}`);
  }
});

t.test("regions: what may stand together", async (t) => {
  const [a, b, c] = [regionOf(0), regionOf(1), regionOf(2)];
  const check = (...args: Parameters<typeof regionProblem>): string =>
    regionProblem(...args)?.code ?? "fine";
  t.equal(check(a, 0, [null, null, null], undefined, "new"), "fine");
  t.equal(check(c, 2, [a, b, null], undefined, "new"), "fine");
  t.equal(check(a, 2, [a, b, null], undefined, "new"), "TRIVET_E_SAME_REGION");
  t.equal(
    check(regionOf(0, { extentSize: 21 }), 0, [null, b, null], undefined, "new"),
    "TRIVET_E_GEOMETRY_MISMATCH",
  );
  t.equal(check(c, 0, [a, b, null], undefined, "offline"), "TRIVET_E_REGION_CHANGED");
  t.equal(check(c, 0, [a, b, null], undefined, "faulted"), "fine");
  t.equal(check(c, 0, [a, b, null], undefined, "replaced"), "fine");
  t.equal(check(c, 0, [a, b, null], undefined, "new"), "fine");
  t.equal(
    check(regionOf(0, { extentCount: 9 }), 0, [a, null, null], undefined, "offline"),
    "TRIVET_E_GEOMETRY_MISMATCH",
  );
  t.equal(
    check(regionOf(0, { blockSize: 1000 }), 0, [null, null, null], undefined, "new"),
    "TRIVET_E_GEOMETRY_MISMATCH",
  );
  const wanted = { blockSize: 512, extentSize: 20, extentCount: 8 };
  t.equal(check(a, 0, [null, null, null], wanted, "new"), "fine");
  t.equal(
    check(a, 0, [null, null, null], { ...wanted, extentCount: 9 }, "new"),
    "TRIVET_E_GEOMETRY_MISMATCH",
  );
});

type Extent = [generation: number, flush: number, dirty: 0 | 1];
const metadata = (extents: Extent[]): MessageOf<"ExtentVersions"> => ({
  kind: "ExtentVersions",
  generations: BigUint64Array.from(extents, (extent) => BigInt(extent[0])),
  flushNumbers: Float64Array.from(extents, (extent) => extent[1]),
  dirty: Uint8Array.from(extents, (extent) => extent[2]),
});

t.test("reconciliation: source and destinations", async (t) => {
  const rows: [string, Extent, Extent, Extent, string][] = [
    ["all equal", [1, 1, 0], [1, 1, 0], [1, 1, 0], "-"],
    ["equal and dirty", [1, 1, 1], [1, 1, 1], [1, 1, 1], "0>1,2"],
    ["generation first", [1, 9, 1], [2, 1, 0], [2, 1, 0], "1>0"],
    ["then flush", [2, 1, 1], [2, 3, 0], [2, 2, 0], "1>0,2"],
    ["then dirty", [2, 3, 0], [2, 3, 0], [2, 3, 1], "2>0,1"],
    ["ties: lowest", [2, 3, 0], [2, 4, 0], [2, 4, 0], "1>0"],
    ["two dirty", [2, 3, 1], [2, 2, 0], [2, 3, 1], "0>1,2"],
  ];
  for (const [name, a, b, c, want] of rows) {
    const { repairs } = compare([a, b, c].map((extent) => metadata([[0, 0, 0], extent])));
    const found = repairs.map((r) => `${r.source}>${r.destinations}`).join(" ") || "-";
    t.equal(found, want, name);
    t.ok(repairs.every((r) => r.extent === 1));
  }
  const found = compare([metadata([[3, 7, 0]]), metadata([[4, 2, 0]]), metadata([[0, 0, 0]])]);
  t.equal(found.generation, 5n);
  t.equal(found.flushNumber, 8);
});

t.test("reconciliation: one step at a time, late answers ignored", async (t) => {
  const steps = new Reconciliation(
    {
      generation: 5n as Generation,
      flushNumber: 8 as FlushNumber,
      repairs: [{ extent: 4 as never, source: 1 as never, destinations: [0, 2] as never }],
    },
    [address, { ...address, port: 7820 }, address],
  );
  const trace: string[] = [];
  while (!steps.isDone) {
    const { message, to } = steps.step();
    trace.push(`${message.kind} ${to}`);
    const { repairId } = message as MessageOf<"ExtentClose">;
    t.equal(steps.acknowledged(to[0]!, repairId + 1), false, "another step's");
    for (const [i, client] of to.entries()) {
      t.equal(steps.acknowledged(client, repairId), i === to.length - 1);
      if (i < to.length - 1) t.equal(steps.acknowledged(client, repairId), false, "twice");
    }
  }
  t.same(trace, ["ExtentFlush 1", "ExtentClose 0,1,2", "ExtentRepair 0,2", "ExtentReopen 0,1,2"]);
});

t.test("job table: found by id, in order of ids, whatever was retired", async (t) => {
  fc.assert(
    fc.property(fc.integer(), (seed) => {
      const chance = prng(seed);
      const table = new JobTable(16);
      const live: { id: number; slot: number }[] = [];
      let id = 1000 + Math.floor(chance() * 2 ** 40);
      for (let step = 0; step < 600; step++) {
        if (chance() < 0.55) {
          const slot = table.take(Kind.write);
          table.start[slot] = id;
          table.admit(slot, id);
          live.push({ id, slot });
          id += 1 + Math.floor(chance() * 3);
        } else if (live.length > 0) {
          const [gone] = live.splice(Math.floor(chance() * live.length), 1);
          table.retire(gone!.slot);
          table.drop(gone!.slot);
          if (table.find(gone!.id) !== NONE) return false;
        }
      }
      const order: number[] = [];
      for (let slot = table.head; slot !== NONE; slot = table.next[slot]!)
        order.push(table.id[slot]!);
      return (
        live.every(({ id, slot }) => table.find(id) === slot && table.start[slot] === id) &&
        order.join() === live.map((job) => job.id).join() &&
        table.liveCount === live.length &&
        table.usedCount === live.length
      );
    }),
    { numRuns: 60 },
  );
  t.pass();
});

t.test("job table: a slot comes back clean", async (t) => {
  const table = new JobTable(16);
  const slot = table.take(Kind.flush);
  table.part[slot * 3 + 1] = Part.done;
  table.pins[slot] = 2;
  table.drop(slot);
  t.throws(() => table.drop(slot), /once/);
  const again = table.take(Kind.read);
  t.equal(again, slot);
  t.equal(table.count(again, Part.none), 3);
  t.equal(table.pins[again], 0);
});
