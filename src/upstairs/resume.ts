import { Fault } from "../base/fault.js";
import type { Uuid } from "../base/ids.js";
import type { RegionDefinition } from "../crucible/region-definition.js";
import type { Resume } from "../ports/journal.js";
import type { Versions } from "./negotiation.js";

/** A replica about to take part in a session that resumes. */
export interface Participant {
  readonly name: string;
  readonly region: RegionDefinition | null;
  readonly versions: Versions | null;
}

/**
 * Whether the writes of a dead predecessor may be written again on these replicas; null: they may. Writing again is right only on the
 * regions that the log is about, and only when nobody else wrote in between. Whoever did left a generation on two regions with
 * his first flush, so at least one of any two shows it.
 */
export function resumeProblem(resume: Resume, participants: readonly Participant[]): Fault | null {
  if (resume.regions.length === 0 && resume.writes.length === 0) return null;
  const known = participants.filter(({ region }) => isKnown(resume, region));
  for (const { name, versions } of known) {
    const extent = versions!.generations.findIndex((found) => !resume.explains(found));
    if (extent >= 0)
      return new Fault(
        "TRIVET_E_SUPERSEDED",
        `extent ${extent} of ${name} carries generation ${versions!.generations[extent]}, which is not of the session that died here (${resume.generation}): another host has used the volume since`,
      );
  }
  const stranger = participants.find(
    (one) => !known.includes(one) && one.versions!.generations.some((g) => !resume.explains(g)),
  );
  if (stranger !== undefined)
    return foreign(
      resume,
      `${stranger.name} is region ${stranger.region?.uuid}, which it does not know and which holds data of its own`,
    );
  if (known.length < 2)
    return foreign(
      resume,
      `it is about the regions ${resume.regions.join(", ")}, and found ${uuids(participants).join(", ")}`,
    );
  const other = known.find(({ region }) => region!.blockSize !== resume.blockBytes);
  if (other !== undefined)
    return foreign(
      resume,
      `it is about blocks of ${resume.blockBytes} bytes, ${other.name} has ${other.region!.blockSize}`,
    );
  return null;
}

const isKnown = (resume: Resume, region: RegionDefinition | null): boolean =>
  region !== null && resume.regions.includes(region.uuid);

const uuids = (participants: readonly Participant[]): Uuid[] =>
  participants.flatMap(({ region }) => (region === null ? [] : [region.uuid]));

const foreign = (resume: Resume, why: string): Fault =>
  new Fault(
    "TRIVET_E_LOG_FOREIGN",
    `the write log holds ${resume.writes.length} writes for other regions than these: ${why}`,
  );
