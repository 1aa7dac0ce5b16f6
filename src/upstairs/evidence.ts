import type { Uuid } from "../base/ids.js";
import type { Versions } from "./negotiation.js";
import type { VolumeRecord } from "./record.js";

// Whose region is this? Told from its id, when this host remembers the volume, and else from what its extents carry. Pure.

/** A region that answers, and what its extents carry. */
export interface Candidate {
  readonly uuid: Uuid;
  readonly versions: Versions;
}

/**
 * - ours: it belongs to the volume.
 * - former: it did, until another took its place.
 * - empty: nothing was ever written to it, and nobody knows it.
 * - foreign: it holds something, and nothing says that it is ours.
 */
export type RegionClass = "ours" | "former" | "empty" | "foreign";

export function isEmpty({ generations, flushNumbers, dirty }: Versions): boolean {
  return (
    generations.every((generation) => generation === 0n) &&
    flushNumbers.every((flush) => flush === 0) &&
    dirty.every((flag) => flag === 0)
  );
}

/** The generation of the last extent: the newest session that this replica took part in from its start (see `epoch-mark`). */
export const epochOf = ({ generations }: Versions): bigint => generations.at(-1)!;

const sessionsOf = ({ generations }: Versions): ReadonlySet<bigint> => {
  const found = new Set(generations);
  found.delete(0n);
  return found;
};

/**
 * Some session flushed on both. One that was written to and never flushed holds nothing that anybody was promised, so it may be
 * anybody's.
 */
export function areRelated(a: Versions, b: Versions): boolean {
  if (isEmpty(a) || isEmpty(b)) return false;
  const sessions = sessionsOf(a);
  const others = sessionsOf(b);
  if (sessions.size === 0 || others.size === 0) return true;
  for (const session of others) if (sessions.has(session)) return true;
  return false;
}

/** Nearly the same: the last extent carries the same numbers, and so do most of those written. No chance makes that. */
export function isTwin(a: Versions, b: Versions): boolean {
  const count = a.generations.length;
  if (count !== b.generations.length) return false;
  const isSame = (extent: number): boolean =>
    a.generations[extent] === b.generations[extent] &&
    a.flushNumbers[extent] === b.flushNumbers[extent];
  if (!isSame(count - 1)) return false;
  let written = 0;
  let same = 0;
  for (let extent = 0; extent < count; extent++) {
    if (a.generations[extent] === 0n && b.generations[extent] === 0n) continue;
    written += 1;
    if (isSame(extent)) same += 1;
  }
  return written > 0 && same * 2 > written;
}

/**
 * Classes of those that are there, by place; null where nobody is. `trusts`: where nobody remembers, the operator says that they belong
 * together.
 */
export function classify(
  all: readonly (Candidate | null)[],
  record: VolumeRecord | null,
  trusts = false,
): readonly (RegionClass | null)[] {
  if (record === null) return byKinship(all, trusts);
  const known = new Set(record.regions.flatMap((region) => region?.uuid ?? []));
  const former = new Set(record.former);
  const ours = all.flatMap((one) => (one !== null && known.has(one.uuid) ? [one] : []));
  return all.map((one) => {
    if (one === null) return null;
    if (known.has(one.uuid)) return "ours";
    if (former.has(one.uuid)) return "former";
    if (isEmpty(one.versions)) return "empty";
    return ours.some((other) => isTwin(one.versions, other.versions)) ? "ours" : "foreign";
  });
}

/** Nobody remembers: those that share sessions with another belong together, and one alone contradicts nobody. */
function byKinship(
  all: readonly (Candidate | null)[],
  trusts: boolean,
): readonly (RegionClass | null)[] {
  const isAlone = all.filter((one) => one !== null && !isEmpty(one.versions)).length === 1;
  return all.map((one) => {
    if (one === null) return null;
    if (isEmpty(one.versions)) return "empty";
    if (isAlone || trusts) return "ours";
    const hasKin = all.some(
      (other) => other !== null && other !== one && areRelated(one.versions, other.versions),
    );
    return hasKin ? "ours" : "foreign";
  });
}
