import t from "tap";
import type { Generation, JobId, Uuid } from "../../../src/base/ids.js";
import type { Message } from "../../../src/crucible/messages.js";
import { granted, type State, start, step } from "../../../src/downstairs/negotiation.js";

const U = "aaaaaaaa-0000-4000-8000-000000000001" as Uuid;
const S = "bbbbbbbb-0000-4000-8000-000000000001" as Uuid;
const OTHER = "cccccccc-0000-4000-8000-000000000001" as Uuid;
const G = 7n as Generation;
const ids = { upstairsId: U, sessionId: S };
const who = { ...ids, generation: G };
const terms = { readOnly: false, encrypted: false };

const hello = {
  kind: "HereIAm",
  version: 13,
  ...who,
  readOnly: false,
  encrypted: false,
  alternateVersions: [],
} as const;
const promote = { kind: "PromoteToActive", ...who } as const;
const info = { kind: "RegionInfoPlease" } as const;
const versions = { kind: "ExtentVersionsPlease" } as const;
const lastFlush = { kind: "LastFlush", lastFlushJob: 1003 as JobId } as const;
const barrier = { kind: "Barrier", ...ids, jobId: 1 as JobId, dependencies: [] } as const;

t.test("every message in every state", async (t) => {
  const states: readonly State[] = [
    start,
    { at: "connected", who },
    { at: "promoting", who },
    { at: "promoted", who },
    { at: "sentInfo", who },
    { at: "running", who },
  ];
  const messages: readonly Message[] = [hello, promote, info, versions, lastFlush, barrier];
  const table = states.map((state) =>
    messages.map((message) => {
      const [next, effect] = step(state, message, terms);
      return effect.do === "ignore" || effect.do === "close"
        ? effect.do
        : `${effect.do} ${next.at}`;
    }),
  );
  t.same(table, [
    ["greet connected", "close", "close", "close", "close", "ignore"],
    ["close", "claim promoting", "close", "close", "close", "ignore"],
    ["close", "close", "close", "close", "close", "ignore"],
    ["close", "close", "describe sentInfo", "close", "close", "ignore"],
    ["close", "close", "close", "run running", "run running", "ignore"],
    ["close", "close", "close", "close", "close", "ignore"],
  ]);
  t.same(granted({ at: "promoting", who }), { at: "promoted", who });
  t.same(granted(start), start, "too late");
});

t.test("what is refused, and in which order it is looked at", async (t) => {
  const refusal = (changes: object, demands = terms): unknown => {
    const [, effect] = step(start, { ...hello, ...changes } as Message, demands);
    return effect.do === "refuse" ? effect.reply : effect.do;
  };
  t.same(refusal({ version: 12 }), { kind: "VersionMismatch", version: 13 });
  t.same(refusal({ version: 14, alternateVersions: [12, 13] }), "greet");
  t.same(refusal({ version: 12, alternateVersions: [11], readOnly: true, encrypted: true }), {
    kind: "VersionMismatch",
    version: 13,
  });
  t.same(refusal({ readOnly: true, encrypted: true }), {
    kind: "ReadOnlyMismatch",
    expected: false,
  });
  t.same(refusal({ encrypted: true }), { kind: "EncryptedMismatch", expected: false });
  const strict = { readOnly: true, encrypted: true };
  t.same(refusal({}, strict), { kind: "ReadOnlyMismatch", expected: true });
  t.same(refusal({ readOnly: true }, strict), { kind: "EncryptedMismatch", expected: true });
  t.same(refusal({ readOnly: true, encrypted: true }, strict), "greet");
});

t.test("promotion by somebody else, and with another generation", async (t) => {
  const connected: State = { at: "connected", who };
  for (const changes of [{ upstairsId: OTHER }, { sessionId: OTHER }]) {
    const [, effect] = step(connected, { ...promote, ...changes }, terms);
    t.same(effect.do === "refuse" && effect.reply, { kind: "UuidMismatch", expectedId: U });
  }
  const [next, effect] = step(connected, { ...promote, generation: 9n as Generation }, terms);
  t.same(next, { at: "promoting", who: { ...ids, generation: 9n } });
  t.ok(effect.do === "claim" && effect.note?.includes("generation 9"), "noted");
});

t.test("what may be depended on at the start", async (t) => {
  const sentInfo: State = { at: "sentInfo", who };
  t.same(step(sentInfo, versions, terms)[1], { do: "run", versions: true, lastFlushJob: null });
  t.same(step(sentInfo, lastFlush, terms)[1], { do: "run", versions: false, lastFlushJob: 1003 });
});
