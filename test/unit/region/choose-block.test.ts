import t from "tap";
import {
  type BlockEvidence,
  type CopyAge,
  chooseBlock,
  compareAges,
  type Doubt,
} from "../../../src/region/choose-block.js";
import { Grade, type Judgement } from "../../../src/region/judge-block.js";

/** "5/12" clean, "5/12d" dirty, "?" unknown. */
const age = (text: string, replica: number): CopyAge => {
  const match = /^(\d+)\/(\d+)(d?)$/.exec(text);
  if (match === null) {
    return { replica, known: false, generation: 0n, flushNumber: 0, dirty: true };
  }
  const [, generation, flush, dirty] = match;
  return {
    replica,
    known: true,
    generation: BigInt(generation!),
    flushNumber: Number(flush),
    dirty: dirty === "d",
  };
};

const ZERO = 0n;
type Slots = BlockEvidence["slots"];
const slot = (hash: bigint, flushId = 0) => ({ hash, flushId });
const judged = (grade: Grade, written: boolean, array: 0 | 1): Judgement => ({
  grade,
  written,
  array,
});
const say = (
  verdict: Judgement,
  hash: bigint,
  slots: Slots,
  active: 0 | 1 | undefined = undefined,
  legible: readonly [boolean, boolean] = [true, true],
): BlockEvidence => ({ judged: verdict, hash, slots, active, legible });

/** Holds `hash`, in a context of flush `flushId`. */
const has = (hash: bigint, flushId = 0) =>
  say(judged(Grade.good, true, 1), hash, [undefined, slot(hash, flushId)], 1);
const empty = say(judged(Grade.good, false, 0), ZERO, [undefined, undefined], 0);
const traces = (hash: bigint) =>
  say(judged(Grade.weak, false, 0), ZERO, [undefined, slot(hash)], 0);
/** The data fits, but by the slot that is not in use. */
const weak = (hash: bigint, named: bigint) =>
  say(judged(Grade.weak, true, 1), hash, [slot(named), slot(hash)], 0);
/** Garbage in place of `hash`. */
const bad = (hash: bigint) => say(judged(Grade.bad, false, 1), 99n, [undefined, slot(hash)], 1);
/** Garbage; both slots are in use, the one that counts names `hash`. */
const badRewritten = (hash: bigint, before: bigint) =>
  say(judged(Grade.bad, false, 1), 99n, [slot(before), slot(hash)], 1);
const lost = say(judged(Grade.bad, false, 0), -1n, [undefined, undefined]);

type Row = readonly [
  name: string,
  ages: readonly string[],
  evidence: readonly BlockEvidence[],
  data: number,
  doubt: Doubt | undefined,
];

const rows: readonly Row[] = [
  ["all agree", ["5/9", "5/9", "5/9"], [has(1n), has(1n), has(1n)], 0, undefined],
  ["a newer one wins", ["5/9", "5/8", "4/9"], [has(2n), has(1n), has(1n)], 0, undefined],
  ["one bad block among equals", ["5/9", "5/9"], [bad(1n), has(1n)], 1, undefined],
  ["only an older copy", ["5/9", "5/8"], [lost, has(1n)], 1, "older"],
  ["the newest context proves older data", ["5/9", "5/8"], [bad(1n), has(1n)], 1, undefined],
  ["the newest context disproves it", ["5/9", "5/8"], [bad(2n), has(1n)], 1, "older"],
  [
    "a bitmap may be wrong, too: no proof by an older copy where both slots are in use",
    ["5/9", "5/8"],
    [badRewritten(1n, 2n), has(1n)],
    1,
    "older",
  ],
  [
    "nor is what an old copy has and the bitmap names better than what a newer one says",
    ["5/9", "5/8", "5/7"],
    [badRewritten(1n, 2n), has(2n), has(1n)],
    1,
    "older",
  ],
  [
    "but better than nothing",
    ["5/9", "?"],
    [badRewritten(1n, 2n), say(judged(Grade.bad, false, 0), 1n, [undefined, undefined])],
    1,
    "weak",
  ],
  [
    "but by one of the same age",
    ["5/9", "5/9"],
    [badRewritten(1n, 2n), say(judged(Grade.bad, false, 0), 1n, [undefined, undefined])],
    1,
    undefined,
  ],
  ["a context not in use", ["5/9", "5/8"], [weak(2n, 1n), has(1n)], 0, "weak"],
  ["and one of the same age that agrees", ["5/9", "5/9"], [weak(2n, 1n), has(2n)], 1, undefined],
  ["two who are weak and agree", ["5/9", "5/9"], [weak(2n, 1n), weak(2n, 1n)], 0, "weak"],
  [
    "a wrong bitmap here and a lost write there do not prove each other",
    ["5/9", "5/9"],
    [
      say(judged(Grade.weak, true, 0), 2n, [slot(2n, 8), slot(1n, 6)], 1),
      say(judged(Grade.weak, true, 1), 1n, [slot(2n, 8), slot(1n, 6)], 0),
    ],
    0,
    "weak",
  ],
  [
    "a lost write: the context in use is the newer one, and an older copy has its data",
    ["5/9", "5/8"],
    [say(judged(Grade.weak, true, 1), 1n, [slot(2n, 8), slot(1n, 6)], 0), has(2n, 7)],
    1,
    "weak",
  ],
  [
    "a wrong bitmap: the context in use is the older one",
    ["5/9", "5/8"],
    [say(judged(Grade.weak, true, 1), 2n, [slot(1n, 6), slot(2n, 8)], 0), has(1n, 6)],
    0,
    "weak",
  ],
  [
    "a lost write, both of one flush: a clean copy has what came last",
    ["5/9", "5/8"],
    [say(judged(Grade.weak, true, 1), 1n, [slot(2n, 8), slot(1n, 8)], 0), has(2n, 7)],
    1,
    "weak",
  ],
  [
    "the same, but old programs named no flush",
    ["5/9", "5/8"],
    [say(judged(Grade.weak, true, 1), 2n, [slot(1n, 0), slot(2n, 0)], 0), has(1n, 0)],
    0,
    "weak",
  ],
  [
    "equals that differ: the one written last",
    ["5/9", "5/9"],
    [has(1n, 6), has(2n, 8)],
    1,
    "differ",
  ],
  ["unknown age, alone", ["?"], [has(1n)], 0, "age-unknown"],
  [
    "unknown age, where all others are bad",
    ["5/9", "5/8", "?"],
    [lost, lost, has(1n)],
    2,
    "age-unknown",
  ],
  ["equals that differ", ["5/9", "5/9"], [has(1n), has(2n)], 0, "differ"],
  ["the majority of equals", ["5/9", "5/9", "5/9"], [has(1n), has(2n), has(2n)], 1, "differ"],
  ["dirty ones too", ["5/9d", "5/9d", "5/9d"], [has(1n), has(2n), has(2n)], 1, "differ"],
  ["dirty, and others agree", ["5/9d", "5/9d"], [has(1n, 9), has(1n, 9)], 0, undefined],
  ["dirty, and a clean one agrees", ["5/9d", "5/9"], [has(1n, 9), has(1n, 8)], 0, undefined],
  [
    "dirty, and a clean one has what was before",
    ["5/9d", "5/9"],
    [has(2n, 9), has(1n, 8)],
    0,
    "dirty",
  ],
  ["dirty alone, written since the flush", ["5/9d", "5/8"], [has(2n, 9), has(1n, 7)], 0, "dirty"],
  [
    "dirty alone, written before the flush",
    ["5/9d", "5/8"],
    [has(2n, 8), has(1n, 7)],
    0,
    undefined,
  ],
  ["dirty alone, written by an old program", ["5/9d", "5/8"], [has(2n, 0), has(1n, 7)], 0, "dirty"],
  ["dirty and bad: the clean one's flushed data", ["5/9d", "5/9"], [lost, has(1n)], 1, "older"],
  ["never written", ["5/9", "5/9", "5/9"], [empty, empty, empty], 0, undefined],
  ["a hole where an equal has data", ["5/9", "5/9", "5/9"], [empty, empty, has(1n)], 2, "differ"],
  [
    "a hole in a dirty copy where a clean equal has data",
    ["5/9d", "5/9"],
    [empty, has(1n)],
    1,
    "older",
  ],
  ["written since the flush", ["5/9d", "5/9"], [has(1n, 9), empty], 0, "dirty"],
  ["a hole where an older copy has data", ["5/9", "5/8"], [empty, has(1n)], 0, "contradicted"],
  [
    "the same, and an equal knows of none",
    ["5/9", "5/9", "5/8"],
    [empty, empty, has(1n)],
    0,
    undefined,
  ],
  ["traces of a write, and older data", ["5/9", "5/8"], [traces(2n), has(1n)], 1, "older"],
  [
    "traces of a write, and data that arrived",
    ["5/9d", "5/9d"],
    [traces(1n), has(1n, 9)],
    1,
    "dirty",
  ],
  ["traces of a write, and flushed data", ["5/9d", "5/9d"], [traces(2n), has(1n, 8)], 1, undefined],
  ["traces only", ["5/9d"], [traces(1n)], 0, "weak"],
  [
    "traces, and the flushed copy knows of none",
    ["5/9d", "5/9"],
    [traces(1n), empty],
    1,
    undefined,
  ],
  ["gone", ["5/9", "5/9", "5/8"], [lost, bad(1n), bad(2n)], -1, "gone"],
  ["no copy at all", [], [], -1, "gone"],
];

for (const [name, ages, evidence, data, doubt] of rows) {
  t.test(name, async (t) => {
    const copies = ages.map(age);
    const choice = chooseBlock(copies, evidence, true, () => true);
    t.equal(choice.data, data);
    t.equal(choice.doubt, doubt);
  });
}

t.test("without a quorum of ages only what another replica confirms is sure", async (t) => {
  const doubt = (ages: string[], evidence: BlockEvidence[], replicas = [0, 1, 2]) =>
    chooseBlock(
      ages.map((text, i) => age(text, replicas[i]!)),
      evidence,
      false,
      () => true,
    ).doubt;
  t.equal(doubt(["5/9"], [has(1n)]), "single");
  t.equal(doubt(["5/9"], [empty]), "single");
  t.equal(doubt(["5/9", "?"], [has(1n), has(1n)]), undefined);
  t.equal(doubt(["5/9", "?"], [has(1n), has(2n)]), "single");
  t.equal(doubt(["5/9", "?"], [has(1n), has(1n)], [0, 0]), "single", "files of one replica");
  t.equal(doubt(["5/9", "?"], [empty, empty]), undefined);
  t.equal(
    doubt(["5/9", "?"], [has(1n), weak(1n, 2n)]),
    "single",
    "a later write may be lost there",
  );
  t.equal(doubt(["5/9", "?"], [empty, traces(1n)]), "single", "traces confirm nothing");
});

t.test("a context that agrees in part proves nothing", async (t) => {
  const copies = [age("5/9", 0), age("5/8", 1)];
  const choice = chooseBlock(copies, [bad(1n), has(1n)], true, () => false);
  t.equal(choice.doubt, "older");
});

t.test("copies are ordered as reconciliation does", async (t) => {
  const order = ["?", "4/30", "5/8d", "5/9", "5/10d", "5/10", "18446744073709551615/1"];
  const sorted = order.map((text, i) => ({ text, ...age(text, i) })).sort(compareAges);
  t.same(
    sorted.map(({ text }) => text),
    ["18446744073709551615/1", "5/10d", "5/10", "5/9", "5/8d", "4/30", "?"],
  );
});
