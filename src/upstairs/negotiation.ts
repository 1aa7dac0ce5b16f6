import { Fault } from "../base/fault.js";
import type { Generation, Uuid } from "../base/ids.js";
import type { Message, MessageOf } from "../crucible/messages.js";
import type { RegionDefinition } from "../crucible/region-definition.js";
import { MESSAGE_VERSION } from "../crucible/version.js";

// One replica's handshake (wire reference 4.3). Pure: no clock, no socket, no note. It says what to do about a message in
// a phase; dialling, timers and the closing of connections are `replica`'s.
//
//   waitConnect ─► start ─► waitForPromote ─► waitForRegionInfo ─┬─ offline, trusted: replay ─► active
//        ▲       HereIAm   PromoteToActive   RegionInfoPlease    └─ otherwise ─► getExtentVersions
//        │                                                                      ExtentVersionsPlease
//        │   a lost connection, from anywhere                                           │
//        └──────────────────────────────────── new: waitQuorum ─► reconcile ─► active ◄─┤ offline: verified replay
//                               active ◄─ liveRepair ◄─ faulted, replaced: liveRepairReady ◄─┘

export type Phase =
  | "waitConnect"
  | "start"
  | "waitForPromote"
  | "waitForRegionInfo"
  | "getExtentVersions"
  | "waitQuorum"
  | "reconcile"
  | "liveRepairReady"
  | "liveRepair"
  | "active";

/** How a connection comes back: by reconciliation, replay, repair, or repair of another region in its place. */
export type Mode = "new" | "offline" | "faulted" | "replaced";

export type Versions = MessageOf<"ExtentVersions">;

export interface Terms {
  readonly upstairsId: Uuid;
  readonly sessionId: Uuid;
  readonly generation: Generation;
  readonly readOnly: boolean;
  readonly mode: Mode;
  /** The region that answers has taken part in this session before. */
  readonly tookPart: boolean;
  /** Mode offline: somebody else may have been active meanwhile, so look at the generations on disk before replaying. */
  readonly inDoubt: boolean;
  /** Whether this session has sent a flush with this number, or reconciled with it. */
  hasFlushed(flushNumber: number): boolean;
  /** Extents of the region, once RegionInfo told. */
  readonly extentCount: number;
  /** What is wrong with this region at this place; null when it is the right one. */
  regionProblem(region: RegionDefinition): Fault | null;
}

export type Verdict =
  | { readonly do: "ignore" }
  | { readonly do: "send"; readonly message: Message; readonly phase: Phase }
  /** The region is right: remember it, send the message. */
  | {
      readonly do: "region";
      readonly region: RegionDefinition;
      readonly message: Message | null;
      readonly phase: Phase;
    }
  | { readonly do: "versions"; readonly versions: Versions }
  /** The connection ends and is tried again. */
  | { readonly do: "drop"; readonly fault: Fault }
  /** Trying again would not help: an activation fails with it. */
  | { readonly do: "refuse"; readonly fault: Fault }
  | { readonly do: "superseded"; readonly fault: Fault };

export const hello = (terms: Terms): Message => ({
  kind: "HereIAm",
  version: MESSAGE_VERSION,
  upstairsId: terms.upstairsId,
  sessionId: terms.sessionId,
  generation: terms.generation,
  readOnly: terms.readOnly,
  encrypted: false,
  alternateVersions: [],
});

/** What `message` means in `phase`. Messages of jobs and of reconciliation are not for here. */
export function judge(phase: Phase, message: Message, terms: Terms): Verdict {
  switch (message.kind) {
    case "Imok":
      return { do: "ignore" };
    case "YouAreNoLongerActive":
      return superseded(message, terms);
    case "UuidMismatch":
      return refuse(
        "TRIVET_E_PROTOCOL",
        `the downstairs knows this session by the id ${message.expectedId}, not by ${terms.upstairsId} and ${terms.sessionId}`,
      );
    case "YesItsMe":
      if (phase !== "start") break;
      if (message.version !== MESSAGE_VERSION) return wrongVersion(message.version);
      return {
        do: "send",
        phase: "waitForPromote",
        message: {
          kind: "PromoteToActive",
          upstairsId: terms.upstairsId,
          sessionId: terms.sessionId,
          generation: terms.generation,
        },
      };
    case "VersionMismatch":
      if (phase !== "start") break;
      return wrongVersion(message.version);
    case "ReadOnlyMismatch":
      if (phase !== "start") break;
      return refuse(
        "TRIVET_E_READ_ONLY_MISMATCH",
        `the downstairs is ${message.expected ? "read-only" : "read-write"}, the volume ${terms.readOnly ? "read-only" : "read-write"}`,
      );
    case "EncryptedMismatch":
      if (phase !== "start") break;
      return encryptedMismatch(message.expected);
    case "YouAreNowActive":
      if (phase !== "waitForPromote") break;
      return nowActive(message, terms);
    case "RegionInfo":
      if (phase !== "waitForRegionInfo") break;
      return regionTold(message.region, terms);
    case "ExtentVersions":
      if (phase !== "getExtentVersions") break;
      return versionsTold(message, terms);
    default:
  }
  return {
    do: "drop",
    fault: new Fault("TRIVET_E_PROTOCOL", `${message.kind} came while ${PHASE_WORDS[phase]}`),
  };
}

const PHASE_WORDS: Readonly<Record<Phase, string>> = {
  waitConnect: "not connected",
  start: "waiting for YesItsMe",
  waitForPromote: "waiting for YouAreNowActive",
  waitForRegionInfo: "waiting for RegionInfo",
  getExtentVersions: "waiting for ExtentVersions",
  waitQuorum: "waiting for the other replicas",
  reconcile: "reconciling",
  liveRepairReady: "waiting for repair",
  liveRepair: "being repaired",
  active: "active",
};

const refuse = (code: ConstructorParameters<typeof Fault>[0], detail: string): Verdict => ({
  do: "refuse",
  fault: new Fault(code, detail),
});

/** Retried, for the sake of rolling updates. */
const wrongVersion = (version: number): Verdict => ({
  do: "drop",
  fault: new Fault(
    "TRIVET_E_VERSION",
    `the downstairs speaks message version ${version}, ${MESSAGE_VERSION} is needed`,
  ),
});

const encryptedMismatch = (encrypted: boolean): Verdict =>
  refuse(
    "TRIVET_E_ENCRYPTED_MISMATCH",
    encrypted ? "the region is encrypted, no key was given" : "the region is not encrypted",
  );

function superseded(message: MessageOf<"YouAreNoLongerActive">, terms: Terms): Verdict {
  // A connection of our own that replaced this one; it was given up, and its end is only late.
  if (message.newUpstairsId === terms.upstairsId && message.newSessionId === terms.sessionId)
    return {
      do: "drop",
      fault: new Fault("TRIVET_E_CONNECTION", "a later connection of this session replaced it"),
    };
  return {
    do: "superseded",
    fault: new Fault(
      "TRIVET_E_SUPERSEDED",
      `session ${message.newSessionId} took over with generation ${message.newGeneration}, this one has ${terms.generation}`,
    ),
  };
}

function nowActive(message: MessageOf<"YouAreNowActive">, terms: Terms): Verdict {
  if (message.upstairsId !== terms.upstairsId || message.sessionId !== terms.sessionId)
    return refuse(
      "TRIVET_E_PROTOCOL",
      `the downstairs made session ${message.sessionId} active, ${terms.sessionId} had asked`,
    );
  if (message.generation !== terms.generation)
    return refuse(
      "TRIVET_E_GENERATION_TOO_LOW",
      `generation ${terms.generation} was asked for, the downstairs knows ${message.generation}`,
    );
  return { do: "send", phase: "waitForRegionInfo", message: { kind: "RegionInfoPlease" } };
}

function regionTold(region: RegionDefinition, terms: Terms): Verdict {
  if (region.encrypted) return encryptedMismatch(true);
  const fault = terms.regionProblem(region);
  if (fault !== null) return { do: "refuse", fault };
  if (terms.mode === "offline" && !terms.inDoubt)
    return { do: "region", region, message: null, phase: "active" };
  return {
    do: "region",
    region,
    message: { kind: "ExtentVersionsPlease" },
    phase: "getExtentVersions",
  };
}

function versionsTold(versions: Versions, terms: Terms): Verdict {
  const { generations, flushNumbers, dirty } = versions;
  const count = terms.extentCount;
  if (generations.length !== count || flushNumbers.length !== count || dirty.length !== count)
    return refuse(
      "TRIVET_E_PROTOCOL",
      `the downstairs listed ${generations.length}, ${flushNumbers.length} and ${dirty.length} extents, its region has ${count}`,
    );
  if (terms.mode === "new" || terms.readOnly) return { do: "versions", versions };
  const highest = highestGeneration(versions);
  if (terms.inDoubt && terms.tookPart) {
    // Another host whose clock showed the same second.
    const extent = generations.findIndex(
      (generation, i) => generation === terms.generation && !terms.hasFlushed(flushNumbers[i]!),
    );
    if (extent >= 0)
      return {
        do: "superseded",
        fault: new Fault(
          "TRIVET_E_SUPERSEDED",
          `extent ${extent} carries flush ${flushNumbers[extent]} of generation ${terms.generation}, which this session never sent: another host with the same generation wrote meanwhile`,
        ),
      };
  }
  if (highest <= terms.generation) return { do: "versions", versions };
  if (terms.inDoubt && terms.tookPart)
    return {
      do: "superseded",
      fault: new Fault(
        "TRIVET_E_SUPERSEDED",
        `the region carries generation ${highest}, this session has ${terms.generation}: another host wrote meanwhile`,
      ),
    };
  // What it carries is older than this session, or foreign, as long as two others vouch for us.
  if (!terms.inDoubt) return { do: "versions", versions };
  return {
    do: "drop",
    fault: new Fault(
      "TRIVET_E_GENERATION_TOO_LOW",
      `the region carries generation ${highest}, this session has ${terms.generation}; whether another host is behind that shows when two others are back`,
    ),
  };
}

export function highestGeneration({ generations }: Versions): bigint {
  let highest = 0n;
  for (const generation of generations) if (generation > highest) highest = generation;
  return highest;
}
