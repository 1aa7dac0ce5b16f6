import type { JobId } from "../base/ids.js";
import { type Message, type MessageOf, TAG } from "../crucible/messages.js";
import { MESSAGE_VERSION, speaksOurs } from "../crucible/version.js";
import type { Identity } from "./identity.js";

// One connection's way to Running (downstairs reference 5.3). Pure: no clock, no stream, no region.
//
//   open ─HereIAm─► connected ─PromoteToActive─► promoting ─(granted)─► promoted
//                                                                          │ RegionInfoPlease
//                        running ◄─ExtentVersionsPlease or LastFlush─ sentInfo
//
// A negotiation message in any other state ends the connection without a word; all others are ignored
// until Running. Ruok is not seen here: it is answered in every state.

export type State =
  | { readonly at: "open" }
  | {
      readonly at: "connected" | "promoting" | "promoted" | "sentInfo" | "running";
      readonly who: Identity;
    };

/** What the region demands of its peers. */
export interface Terms {
  readonly readOnly: boolean;
  readonly encrypted: boolean;
}

export type Effect =
  | { readonly do: "ignore" }
  /** Say so, then close. `why` is for the log. */
  | { readonly do: "refuse"; readonly reply: Refusal; readonly why: string }
  | { readonly do: "close"; readonly why: string }
  | { readonly do: "greet" }
  | { readonly do: "claim"; readonly note: string | undefined }
  | { readonly do: "describe" }
  /** Start with what may be depended on: nothing, or the flush that the peer saw last. */
  | { readonly do: "run"; readonly versions: boolean; readonly lastFlushJob: JobId | null };

export type Refusal = Extract<
  Message,
  { kind: "VersionMismatch" | "ReadOnlyMismatch" | "EncryptedMismatch" | "UuidMismatch" }
>;

export const start: State = { at: "open" };

const NEGOTIATION_TAGS: readonly number[] = [
  TAG.HereIAm,
  TAG.PromoteToActive,
  TAG.RegionInfoPlease,
  TAG.ExtentVersionsPlease,
  TAG.LastFlush,
];

const ignore: Effect = { do: "ignore" };

/** `promoting` becomes `promoted` by `granted`, not by a message. */
export function step(state: State, message: Message, terms: Terms): readonly [State, Effect] {
  switch (message.kind) {
    case "HereIAm":
      return state.at === "open" ? hello(message, terms) : outOfOrder(state, message);
    case "PromoteToActive":
      return state.at === "connected" ? promote(state.who, message) : outOfOrder(state, message);
    case "RegionInfoPlease":
      if (state.at !== "promoted") return outOfOrder(state, message);
      return [{ at: "sentInfo", who: state.who }, { do: "describe" }];
    case "ExtentVersionsPlease":
      if (state.at !== "sentInfo") return outOfOrder(state, message);
      return [
        { at: "running", who: state.who },
        { do: "run", versions: true, lastFlushJob: null },
      ];
    case "LastFlush":
      if (state.at !== "sentInfo") return outOfOrder(state, message);
      return [
        { at: "running", who: state.who },
        { do: "run", versions: false, lastFlushJob: message.lastFlushJob },
      ];
    default:
      return [state, ignore];
  }
}

export function granted(state: State): State {
  return state.at === "promoting" ? { at: "promoted", who: state.who } : state;
}

function hello(message: MessageOf<"HereIAm">, terms: Terms): readonly [State, Effect] {
  const { version, alternateVersions, readOnly, encrypted } = message;
  if (!speaksOurs(version, alternateVersions))
    return refuse(
      { kind: "VersionMismatch", version: MESSAGE_VERSION },
      `it speaks message version ${version}`,
    );
  if (readOnly !== terms.readOnly)
    return refuse(
      { kind: "ReadOnlyMismatch", expected: terms.readOnly },
      `it wants the region ${readOnly ? "read-only" : "read-write"}`,
    );
  if (encrypted !== terms.encrypted)
    return refuse(
      { kind: "EncryptedMismatch", expected: terms.encrypted },
      `it takes the region for ${encrypted ? "encrypted" : "not encrypted"}`,
    );
  const { upstairsId, sessionId, generation } = message;
  return [{ at: "connected", who: { upstairsId, sessionId, generation } }, { do: "greet" }];
}

function promote(who: Identity, message: MessageOf<"PromoteToActive">): readonly [State, Effect] {
  const { upstairsId, sessionId, generation } = message;
  if (upstairsId !== who.upstairsId || sessionId !== who.sessionId)
    return refuse(
      // The upstairs id, also when only the session differs: that is what peers expect here.
      { kind: "UuidMismatch", expectedId: who.upstairsId },
      `it promotes ${upstairsId} session ${sessionId} after introducing itself otherwise`,
    );
  const note =
    generation === who.generation
      ? undefined
      : `generation ${generation} at promotion replaces ${who.generation} of the introduction`;
  return [
    { at: "promoting", who: { upstairsId, sessionId, generation } },
    { do: "claim", note },
  ];
}

const over: State = { at: "open" };

function refuse(reply: Refusal, why: string): readonly [State, Effect] {
  return [over, { do: "refuse", reply, why }];
}
function outOfOrder(state: State, message: Message): readonly [State, Effect] {
  return [over, { do: "close", why: `${message.kind} in state ${state.at}` }];
}

/** The messages that `step` acts on. */
export function isNegotiation(tag: number): boolean {
  return NEGOTIATION_TAGS.includes(tag);
}
