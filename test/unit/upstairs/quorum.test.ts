import t from "tap";
import type { Uuid } from "../../../src/base/ids.js";
import type { MessageOf } from "../../../src/crucible/messages.js";
import { type Candidate, classify } from "../../../src/upstairs/evidence.js";
import { type Accept, assess } from "../../../src/upstairs/quorum.js";
import type { VolumeRecord } from "../../../src/upstairs/record.js";

type Versions = MessageOf<"ExtentVersions">;
const EXTENTS = 4;
/** Each extent as [generation, flush, dirty]. */
const versions = (...extents: [number, number, number?][]): Versions => ({
  kind: "ExtentVersions",
  generations: BigUint64Array.from(extents, ([generation]) => BigInt(generation)),
  flushNumbers: Float64Array.from(extents, ([, flush]) => flush),
  dirty: Uint8Array.from(extents, ([, , dirty]) => dirty ?? 0),
});
const all = (generation: number, flush: number): [number, number][] =>
  Array.from({ length: EXTENTS }, () => [generation, flush]);

/** What a region may look like; the letter before the dot says whose id it has. */
const LOOKS: Readonly<Record<string, Versions>> = {
  empty: versions(...all(0, 0)),
  good: versions(...all(20, 7)),
  // In step, and a flush behind in the first extent.
  late: versions([20, 6], ...all(20, 7).slice(1)),
  dirty: versions([20, 7, 1], ...all(20, 7).slice(1)),
  // Left out of session 20.
  older: versions(...all(10, 3)),
  // The same, and it carries what a session that came to nothing flushed there alone.
  ahead: versions([30, 9], ...all(10, 3).slice(1)),
  // Some extents are repaired, the last is not.
  partly: versions(...all(20, 7).slice(1), [10, 3]),
  alien: versions(...all(99, 50)),
  virgin: versions([0, 0, 1], [0, 0], [0, 0], [0, 0]),
};
/** "a.good": region A looks good. "-": nobody is there. */
function candidates(words: string): (Candidate | null)[] {
  return words.split(" ").map((word) => {
    const [id, look] = word.split(".");
    return look === undefined ? null : { uuid: `uuid-${id}` as Uuid, versions: LOOKS[look]! };
  });
}
const record = (behind = "", generation = 20n): VolumeRecord => ({
  generation,
  regions: ["a", "b", "c"].map((id) => ({
    uuid: `uuid-${id}` as Uuid,
    behind: behind.includes(id),
  })),
  former: ["uuid-f" as Uuid],
  geometry: null,
  targets: [],
});

const EMPTY: Accept = { empty: true };
const FOREIGN: Accept = { foreign: true };
const OLDER: Accept = { older: true };
const NONE: Accept = {};

/** "0,1<0 patient": 0 and 1 start, data is taken from 0 only, and the third is given time. */
function decided(words: string, its: VolumeRecord | null, accept = NONE, mayDegrade = true) {
  const found = assess(candidates(words), { record: its, accept, mayDegrade });
  if (found.do === "refuse") return found.fault.code.replace("TRIVET_E_REGION_", "refused ");
  if (found.do === "wait") return found.why === null ? "waits" : "waits, with a reason";
  return `${found.members}<${found.sources}${found.isPatient ? " patient" : ""}`;
}

t.test("three are there", async (t) => {
  const known: [string, Accept, string][] = [
    ["a.good b.good c.good", NONE, "0,1,2<0,1,2"],
    ["a.good b.late c.dirty", NONE, "0,1,2<0,1,2"],
    ["a.good b.good c.older", NONE, "0,1,2<0,1"],
    ["a.good b.older c.older", NONE, "0,1,2<0"],
    ["a.good b.good c.ahead", NONE, "0,1,2<0,1"],
    ["a.good b.good c.partly", NONE, "0,1,2<0,1"],
    ["a.good b.good c.empty", NONE, "0,1,2<0,1"],
    ["a.empty b.empty c.empty", NONE, "0,1,2<0,1,2"],
    // Places do not matter, only who it is.
    ["c.good a.good b.good", NONE, "0,1,2<0,1,2"],
    // Not ours: the two start at once, the third is repaired or refused.
    ["a.good b.good x.empty", NONE, "0,1<0,1"],
    ["a.good b.good x.alien", NONE, "0,1<0,1"],
    ["a.good b.good f.good", NONE, "0,1<0,1"],
    ["a.good x.empty c.older", NONE, "0,2<0"],
    // Replaced on another host: so like ours that it cannot be chance.
    ["a.good b.good x.late", NONE, "0,1,2<0,1,2"],
    // One of ours.
    ["a.good x.empty y.empty", NONE, "refused EMPTY"],
    ["a.good x.empty y.empty", EMPTY, "0,1,2<0"],
    ["a.good x.alien y.empty", EMPTY, "refused FOREIGN"],
    ["a.good x.alien y.empty", FOREIGN, "refused EMPTY"],
    ["a.good x.alien y.empty", { empty: true, foreign: true }, "0,1,2<0"],
    ["a.good x.alien f.older", FOREIGN, "0,1,2<0"],
    // None of ours.
    ["x.empty y.empty z.empty", NONE, "refused EMPTY"],
    ["x.empty y.empty z.empty", EMPTY, "0,1,2<0,1,2"],
    ["x.alien y.alien z.alien", NONE, "refused FOREIGN"],
    ["x.alien y.alien z.alien", FOREIGN, "0,1,2<0,1,2"],
    ["x.alien y.empty z.empty", { empty: true, foreign: true }, "0,1,2<0"],
  ];
  for (const [words, accept, want] of known)
    t.equal(decided(words, record(), accept), want, `remembered: ${words}`);

  const unknown: [string, Accept, string][] = [
    ["a.empty b.empty c.empty", NONE, "0,1,2<0,1,2"],
    ["a.good b.good c.good", NONE, "0,1,2<0,1,2"],
    ["a.good b.late c.partly", NONE, "0,1,2<0,1"],
    ["a.virgin b.virgin c.virgin", NONE, "0,1,2<0,1,2"],
    ["a.good b.good c.empty", NONE, "0,1<0,1"],
    ["a.good b.good c.alien", NONE, "0,1<0,1"],
    // Nothing says that it is ours, as all it has was written over since.
    ["a.good b.good c.older", NONE, "0,1<0,1"],
    ["a.good b.empty c.empty", NONE, "refused EMPTY"],
    ["a.good b.empty c.empty", EMPTY, "0,1,2<0"],
    ["a.good b.older c.alien", NONE, "refused FOREIGN"],
    // Told that they belong together: the newest is right.
    ["a.good b.older c.alien", FOREIGN, "0,1,2<2"],
    ["a.good b.older c.older", FOREIGN, "0,1,2<0"],
    ["a.good b.alien c.empty", NONE, "refused FOREIGN"],
    ["a.good b.alien c.empty", FOREIGN, "refused OLDER"],
    ["a.good b.alien c.empty", { foreign: true, older: true }, "0,1<1"],
    // An older one in step with one that is newer, and the third is somebody else's.
    ["a.good b.partly c.alien", NONE, "refused OLDER"],
    ["a.good b.partly c.alien", OLDER, "0,1<0"],
  ];
  for (const [words, accept, want] of unknown)
    t.equal(decided(words, null, accept), want, `not remembered: ${words}`);
});

t.test("two are there", async (t) => {
  const known: [string, Accept, string][] = [
    ["a.good b.late -", NONE, "0,1<0,1 patient"],
    ["- b.good c.dirty", NONE, "1,2<1,2 patient"],
    ["a.good b.older -", NONE, "0,1<0 patient"],
    ["a.empty b.empty -", NONE, "0,1<0,1 patient"],
    ["a.good x.empty -", NONE, "waits, with a reason"],
    ["a.good x.empty -", EMPTY, "waits, with a reason"],
    ["a.good x.alien -", FOREIGN, "waits, with a reason"],
    ["a.good f.good -", NONE, "waits, with a reason"],
    ["x.empty y.empty -", NONE, "waits, with a reason"],
    ["x.empty y.empty -", EMPTY, "0,1<0,1 patient"],
  ];
  for (const [words, accept, want] of known)
    t.equal(decided(words, record(), accept), want, `remembered: ${words}`);
  // Another host has used the volume since, and may have put a fourth region in the place of the older one.
  t.equal(decided("a.good b.older -", record("", 15n)), "waits, with a reason");
  t.equal(decided("a.good b.older -", record("", 15n), OLDER), "0,1<0 patient");
  t.equal(decided("a.good b.late -", record("", 15n)), "0,1<0,1 patient");

  const unknown: [string, Accept, string][] = [
    ["a.good b.late -", NONE, "0,1<0,1 patient"],
    ["a.good b.partly -", NONE, "waits, with a reason"],
    ["a.good b.partly -", OLDER, "0,1<0 patient"],
    ["a.good b.alien -", NONE, "waits, with a reason"],
    ["a.older b.older -", FOREIGN, "0,1<0,1 patient"],
    ["a.good b.older -", { foreign: true, older: true }, "0,1<0 patient"],
    ["a.good b.empty -", EMPTY, "waits, with a reason"],
    ["a.empty b.empty -", NONE, "waits, with a reason"],
    ["a.empty b.empty -", EMPTY, "0,1<0,1 patient"],
    ["a.good - -", OLDER, "waits"],
    ["- - -", NONE, "waits"],
  ];
  for (const [words, accept, want] of unknown)
    t.equal(decided(words, null, accept), want, `not remembered: ${words}`);
});

t.test(
  "who was left out is written down, and believed as long as nobody else was there",
  async (t) => {
    t.equal(decided("a.good b.good c.good", record("c")), "0,1,2<0,1");
    // Its numbers are higher, from a session that came to nothing.
    t.equal(decided("a.good b.good c.alien", record("c")), "0,1,2<0,1");
    t.equal(decided("a.good - c.good", record("c")), "0,2<0 patient");
    // From that, or from another host's session with it and with the one that is away.
    t.equal(decided("a.good - c.alien", record("c")), "waits, with a reason");
    // Somebody else was there: what the regions carry counts.
    t.equal(decided("a.good b.good c.good", record("c", 15n)), "0,1,2<0,1,2");
  },
);

t.test("never degraded: the third is waited for, and made equal first", async (t) => {
  const never = (words: string, its: VolumeRecord | null, accept = NONE) =>
    decided(words, its, accept, false);
  t.equal(never("a.good b.good -", record()), "waits");
  t.equal(never("a.empty b.empty -", null, EMPTY), "waits, with a reason");
  t.equal(never("a.good b.good x.empty", record()), "0,1,2<0,1");
  t.equal(never("a.good b.good f.older", record()), "0,1,2<0,1");
  t.equal(never("a.good b.good x.alien", record()), "refused FOREIGN");
  t.equal(never("a.good b.good x.alien", record(), FOREIGN), "0,1,2<0,1");
  t.equal(never("a.good b.good c.older", null), "refused FOREIGN");
});

t.test("one that most would have to be copied to is left to live repair", async (t) => {
  const long = (generation: number, flush: number): Versions =>
    versions(...Array.from({ length: 100 }, (): [number, number] => [generation, flush]));
  const three = [long(20, 7), long(20, 7), long(20, 3)].map((its, place) => ({
    uuid: `uuid-${"abc"[place]}` as Uuid,
    versions: its,
  }));
  const terms = { record: record(), accept: NONE, mayDegrade: true };
  const found = assess(three, terms);
  t.same([found.do, found.do === "start" && found.members], ["start", [0, 1]]);
  const never = assess(three, { ...terms, mayDegrade: false });
  t.same(never.do === "start" && never.members, [0, 1, 2]);
  // Whoever holds the newest of anything is not left out.
  three[2]!.versions.generations[0] = 20n;
  three[2]!.versions.flushNumbers[0] = 8;
  const needed = assess(three, terms);
  t.same(needed.do === "start" && needed.members, [0, 1, 2]);
});

t.test("why, in words", async (t) => {
  const why = (words: string, its: VolumeRecord | null): string => {
    const found = assess(candidates(words), { record: its, accept: NONE, mayDegrade: true });
    if (found.do === "refuse") return found.fault.line;
    return found.do === "wait" ? (found.why ?? "") : "";
  };
  t.ok(why("a.good x.empty y.empty", record()).includes("target 1 and target 2 are empty"));
  t.ok(why("a.good x.empty y.empty", record()).includes("--accept-empty"));
  t.ok(why("x.alien y.alien z.alien", record()).includes("region uuid-x"));
  t.ok(why("x.alien y.alien z.alien", record()).includes("--accept-foreign"));
  t.ok(why("a.good b.partly -", null).includes("--accept-older"));
  t.ok(why("a.empty b.empty -", null).includes("--accept-empty"));
  t.ok(why("a.good x.empty -", record()).includes("target 1 is empty"));
  t.equal(why("a.good x.empty -", record()).includes("--accept"), false);
});

t.test("classes", async (t) => {
  t.same(classify(candidates("a.good f.good x.empty"), record()), ["ours", "former", "empty"]);
  t.same(classify(candidates("a.good x.alien -"), record()), ["ours", "foreign", null]);
  t.same(classify(candidates("a.good b.good c.alien"), null), ["ours", "ours", "foreign"]);
});
