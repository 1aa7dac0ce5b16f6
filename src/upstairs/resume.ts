import { Fault } from "../base/fault.js";
import type { RegionDefinition } from "../crucible/region-definition.js";
import type { Resume } from "../ports/journal.js";
import type { Versions } from "./negotiation.js";

/** A replica about to take part in a session that resumes. */
export interface Participant {
  readonly name: string;
  readonly region: RegionDefinition;
  readonly versions: Versions;
  /** Data may be taken from it; otherwise it is made equal to those. */
  readonly isSource: boolean;
}

/**
 * Whether the writes of a dead predecessor may be written again on these replicas; null: they may. Writing again is right only on the
 * regions that the log is about, and only when nobody else wrote in between. Whoever did left his generation on two regions with
 * his first flush, so at least one of any two shows it.
 */
export function resumeProblem(resume: Resume, participants: readonly Participant[]): Fault | null {
  if (resume.regions.length === 0 && resume.writes.length === 0) return null;
  const sources = participants.filter(({ isSource }) => isSource);
  // With nothing to write again it does not matter whom the log was about: who began with two and died at once may find another two.
  const isAbout = ({ region }: Participant): boolean =>
    resume.writes.length === 0 || resume.regions.includes(region.uuid);
  const unknown = sources.find((one) => !isAbout(one));
  if (unknown !== undefined)
    return foreign(
      resume,
      `it is about the regions ${resume.regions.join(", ")}, and ${unknown.name} is ${unknown.region.uuid}`,
    );
  const other = sources.find(({ region }) => region.blockSize !== resume.blockBytes);
  if (other !== undefined)
    return foreign(
      resume,
      `it is about blocks of ${resume.blockBytes} bytes, ${other.name} has ${other.region.blockSize}`,
    );
  // One that the log is about bears witness also when it seems to be older: a host whose clock is behind leaves lower numbers.
  for (const { name, region, versions, isSource } of participants) {
    if (!isSource && !resume.regions.includes(region.uuid)) continue;
    const extent = versions.generations.findIndex(
      (found, i) => !resume.explains(found, versions.flushNumbers[i]!),
    );
    if (extent >= 0)
      return new Fault(
        "TRIVET_E_SUPERSEDED",
        `extent ${extent} of ${name} carries generation ${versions.generations[extent]} and flush ${versions.flushNumbers[extent]}, which is not of the session that died here (${resume.generation}): another host has used the volume since`,
      );
  }
  return null;
}

const foreign = (resume: Resume, why: string): Fault =>
  new Fault(
    "TRIVET_E_LOG_FOREIGN",
    `the write log holds ${resume.writes.length} writes for other regions than these: ${why}`,
  );
