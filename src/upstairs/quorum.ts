import { Fault } from "../base/fault.js";
import { type Candidate, classify, epochOf, type RegionClass } from "./evidence.js";
import { compare } from "./reconcile.js";
import type { VolumeRecord } from "./record.js";

// May a volume start with those that are there, and who of them knows the truth? Pure. The README of this folder has the table of
// cases and why each is as it is; in short:
//
//   * any flush was acknowledged by two of the three, so any two of them hold it between them: two are enough;
//   * a region that is not one of the three (empty, foreign, replaced) holds nothing, so it counts for nothing;
//   * one that was left out of a session (its last extent carries an older generation, or the record says so) may hold what never
//     became true, so it is made equal to the others, never they to it.

/** What the operator took upon himself. */
export interface Accept {
  /** Regions without data stand for replicas that are lost. */
  readonly empty?: boolean;
  /** Regions of which nothing says that they are ours are used, or written over. */
  readonly foreign?: boolean;
  /** One replica and an older one are enough. */
  readonly older?: boolean;
}

export interface QuorumTerms {
  readonly record: VolumeRecord | null;
  readonly accept: Accept;
  /** Two may start without the third. */
  readonly mayDegrade: boolean;
}

export type Quorum = {
  readonly classes: readonly (RegionClass | null)[];
} & (
  | {
      readonly do: "start";
      /** Who takes part, and which of them data may be taken from. */
      readonly members: readonly number[];
      readonly sources: readonly number[];
      /** The third may still come: it is given time. */
      readonly isPatient: boolean;
    }
  /** `why` is null when only the third is missing. */
  | { readonly do: "wait"; readonly why: string | null }
  | { readonly do: "refuse"; readonly fault: Fault }
);

/** More extents than this to copy to one replica, and the volume starts without it: live repair does not keep anybody waiting. */
const COPIES_AT_START_MAX = 32;
const ALL = [0, 1, 2] as const;

export function assess(all: readonly (Candidate | null)[], terms: QuorumTerms): Quorum {
  const classes = classify(all, terms.record, terms.accept.foreign);
  const ours = ALL.filter((place) => classes[place] === "ours");
  if (ours.length < 2) return { classes, ...withoutTwo(all, classes, ours, terms) };
  const sources = inStep(all, ours, terms.record);
  if (ours.length === 3) return { classes, ...withThree(all, sources, terms) };
  return { classes, ...withTwo(all, classes, ours, sources, terms) };
}

type Decision =
  | Omit<Extract<Quorum, { do: "start" }>, "classes">
  | Omit<Extract<Quorum, { do: "wait" }>, "classes">
  | Omit<Extract<Quorum, { do: "refuse" }>, "classes">;

const start = (
  members: readonly number[],
  sources: readonly number[],
  isPatient = false,
): Decision => ({ do: "start", members, sources, isPatient });
const refuse = (code: ConstructorParameters<typeof Fault>[0], detail: string): Decision => ({
  do: "refuse",
  fault: new Fault(code, detail),
});

/**
 * Nobody has used the volume since the record was written, from whatever host. Higher numbers of one that was left out may come from a
 * session of before that came to nothing, if the other two show that there was none since.
 */
function isCurrent(
  all: readonly (Candidate | null)[],
  ours: readonly number[],
  record: VolumeRecord | null,
): boolean {
  if (record === null) return false;
  return ours.every((place) => {
    const { uuid, versions } = all[place]!;
    if (ours.length === 3 && isBehind(uuid, record)) return true;
    return versions.generations.every((generation) => generation <= record.generation);
  });
}
const isBehind = (uuid: string, record: VolumeRecord): boolean =>
  record.regions.some((region) => region !== null && region.uuid === uuid && region.behind);

/** Those of ours that were in the newest session. */
function inStep(
  all: readonly (Candidate | null)[],
  ours: readonly number[],
  record: VolumeRecord | null,
): readonly number[] {
  const trusts = isCurrent(all, ours, record);
  const unmarked = ours.filter((place) => !(trusts && isBehind(all[place]!.uuid, record!)));
  const candidates = unmarked.length > 0 ? unmarked : ours;
  let newest = 0n;
  for (const place of candidates) {
    const epoch = epochOf(all[place]!.versions);
    if (epoch > newest) newest = epoch;
  }
  return candidates.filter((place) => epochOf(all[place]!.versions) === newest);
}

function withThree(
  all: readonly (Candidate | null)[],
  sources: readonly number[],
  { mayDegrade }: QuorumTerms,
): Decision {
  const late = mayDegrade ? lateOne(all, sources) : null;
  if (late === null) return start(ALL, sources);
  const pair = ALL.filter((place) => place !== late);
  return start(
    pair,
    pair.filter((place) => sources.includes(place)),
  );
}

/** One that much would have to be copied to, and nothing from. */
function lateOne(all: readonly (Candidate | null)[], sources: readonly number[]): number | null {
  const { repairs } = compare(
    all.map((one) => one!.versions),
    sources,
  );
  const copies = [0, 0, 0];
  for (const { source, destinations } of repairs) {
    copies[source] = Number.NaN;
    for (const place of destinations) copies[place]! += 1;
  }
  const late = ALL.filter((place) => copies[place]! > COPIES_AT_START_MAX);
  return late.length === 1 && sources.some((place) => place !== late[0]) ? late[0]! : null;
}

function withTwo(
  all: readonly (Candidate | null)[],
  classes: readonly (RegionClass | null)[],
  ours: readonly number[],
  sources: readonly number[],
  { record, accept, mayDegrade }: QuorumTerms,
): Decision {
  const third = ALL.find((place) => !ours.includes(place))!;
  const isThere = all[third] !== null;
  // One in step and an older one: when the older one was replaced meanwhile (which another host may have done), its successor may
  // hold flushes that the other does not.
  const isEnough = sources.length === 2 || accept.older || isCurrent(all, ours, record);
  if (!isEnough) {
    const older = ours.find((place) => !sources.includes(place))!;
    const why = `replica ${older} (region ${all[older]!.uuid}) was left out of a later session, so it and replica ${sources[0]} do not make two. Bring the third back; --accept-older starts with what replica ${sources[0]} holds`;
    return isThere ? refuse("TRIVET_E_REGION_OLDER", why) : { do: "wait", why };
  }
  if (!isThere) return mayDegrade ? start(ours, sources, true) : { do: "wait", why: null };
  if (mayDegrade) return start(ours, sources);
  if (classes[third] === "foreign" && !accept.foreign)
    return refuse("TRIVET_E_REGION_FOREIGN", foreignWords(third, all[third]!));
  return start(ALL, sources);
}

/** Fewer than two of ours: nothing proves that what is there is all there was. */
function withoutTwo(
  all: readonly (Candidate | null)[],
  classes: readonly (RegionClass | null)[],
  ours: readonly number[],
  { record, accept, mayDegrade }: QuorumTerms,
): Decision {
  const present = ALL.filter((place) => all[place] !== null);
  const areEmpty = present.every((place) => classes[place] === "empty");
  if (present.length < 3) {
    if (present.length < 2) return { do: "wait", why: null };
    if (areEmpty && accept.empty && mayDegrade) return start(present, present, true);
    return { do: "wait", why: waitingWords(all, classes, ours) };
  }
  // A volume that nobody has used yet.
  if (areEmpty && record === null) return start(ALL, ALL);
  for (const place of ALL) {
    const what = classes[place];
    if (what === "empty" && !accept.empty)
      return refuse("TRIVET_E_REGION_EMPTY", emptyWords(classes, record));
    if ((what === "foreign" || what === "former") && !accept.foreign)
      return refuse("TRIVET_E_REGION_FOREIGN", foreignWords(place, all[place]!));
  }
  if (ours.length > 0) return start(ALL, ours);
  const holding = ALL.filter((place) => classes[place] !== "empty");
  return start(ALL, holding.length > 0 ? holding : ALL);
}

export const foreignWords = (place: number, { uuid }: Candidate): string =>
  `target ${place} answers with region ${uuid}, which holds data and is none of this volume's as far as this host can tell. Nothing is read from it or written to it; --accept-foreign gives it up to this volume`;

function emptyWords(classes: readonly (RegionClass | null)[], record: VolumeRecord | null): string {
  const empty = ALL.filter((place) => classes[place] === "empty");
  const which = empty.map((place) => `target ${place}`).join(" and ");
  return empty.length === 3 && record !== null
    ? "all three regions are empty, and none is one that this volume had here before. If they are meant to begin it anew, --accept-empty says so"
    : `${which} ${empty.length === 1 ? "is" : "are"} empty: the one region with data cannot prove that it holds everything. Bring a replica back; --accept-empty starts with what that one holds`;
}

function waitingWords(
  all: readonly (Candidate | null)[],
  classes: readonly (RegionClass | null)[],
  ours: readonly number[],
): string {
  const told = ALL.flatMap((place) => {
    const what = classes[place];
    if (what === "empty") return [`target ${place} is empty`];
    if (what === "foreign" || what === "former")
      return [`target ${place} (region ${all[place]!.uuid}) is none of this volume's`];
    return [];
  });
  const flag =
    ours.length > 0
      ? ""
      : classes.includes("foreign")
        ? "; --accept-foreign says that they belong together"
        : "; --accept-empty begins with two empty ones";
  return `${told.join(", ")}: the third may hold what is missing${flag}`;
}
