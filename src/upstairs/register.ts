import type { Fault } from "../base/fault.js";
import type { Generation, Uuid } from "../base/ids.js";
import type { RegionDefinition } from "../crucible/region-definition.js";
import type { Address } from "../ports/stream.js";
import { areRelated, type Candidate, isEmpty, isTwin, type RegionClass } from "./evidence.js";
import type { Versions } from "./negotiation.js";
import { FORMER_MAX, type KnownRegion, type RecordKeeper, type VolumeRecord } from "./record.js";

/** Which regions the volume is made of, kept up to date while it is used and saved at every change. */
export class Register {
  readonly #keeper: RecordKeeper | null;
  readonly #unsaved: (fault: Fault) => void;
  #record: VolumeRecord | null;
  /** What one of those in step carried at the start. */
  #startVersions: Versions | null = null;
  /** This host knew the volume before. */
  readonly #wasKnown: boolean;

  constructor(keeper: RecordKeeper | null, unsaved: (fault: Fault) => void) {
    this.#keeper = keeper;
    this.#unsaved = unsaved;
    this.#record = keeper?.last ?? null;
    this.#wasKnown = (this.#record?.regions ?? []).some((known) => known !== null);
  }

  /** What was remembered before the session began; null: nothing about regions. */
  get before(): VolumeRecord | null {
    return this.#wasKnown ? this.#record : null;
  }

  /**
   * A session begins with the regions `members`, by place, null where somebody is left out. `versions`: what one of them carried before.
   * `then` when it is durable, or could not be made so.
   */
  begin(
    generation: Generation,
    region: RegionDefinition,
    members: readonly (Uuid | null)[],
    versions: Versions | null,
    targets: readonly Address[],
    then: () => void,
  ): void {
    const { blockSize, extentSize, extentCount } = region;
    this.#startVersions = versions;
    const uuids = members.flatMap((uuid) => uuid ?? []);
    const before = this.#record?.regions ?? [null, null, null];
    // Whoever is left out keeps its place, unless it is somewhere else now.
    const regions = members.map((uuid, place): KnownRegion | null => {
      if (uuid !== null) return { uuid, behind: false };
      const was = before[place] ?? null;
      return was === null || uuids.includes(was.uuid) ? null : { uuid: was.uuid, behind: true };
    });
    const now = regions.flatMap((known) => known?.uuid ?? []);
    // When it is another volume that begins here, those that were there before are none of its former regions.
    const isSame =
      before.filter((known) => known !== null && uuids.includes(known.uuid)).length >= 2;
    const gone = before.flatMap((known) =>
      !isSame || known === null || now.includes(known.uuid) ? [] : known.uuid,
    );
    this.#set(
      {
        generation,
        regions,
        former: formerOf(gone, this.#record, now),
        geometry: { blockSize, extentSize, extentCount },
        targets,
      },
      then,
    );
  }

  /** The replica at this place has missed something that only repair gives it. */
  fellBehind(place: number): void {
    this.#change(place, (known) => (known === null ? null : { ...known, behind: true }));
  }
  /** Its repair is complete. */
  caughtUp(place: number): void {
    this.#change(place, (known) => (known === null ? null : { ...known, behind: false }));
  }
  /** This region takes the place over, and is about to be repaired. `then` when that is durable. */
  takesPlace(place: number, uuid: Uuid, then: () => void): void {
    this.#change(place, () => ({ uuid, behind: true }), then);
  }
  moved(targets: readonly Address[]): void {
    if (this.#record !== null) this.#set({ ...this.#record, targets }, () => {});
  }

  /** A region that wants to be repaired while the volume is in use. */
  classOf({ uuid, versions }: Candidate): RegionClass {
    const record = this.#record;
    if (record === null) return "ours";
    if (record.regions.some((known) => known?.uuid === uuid)) return "ours";
    if (record.former.includes(uuid)) return "former";
    if (isEmpty(versions)) return "empty";
    const start = this.#startVersions;
    if (start === null) return "foreign";
    const isKin = this.#wasKnown ? isTwin(versions, start) : areRelated(versions, start);
    return isKin ? "ours" : "foreign";
  }

  #change(
    place: number,
    change: (known: KnownRegion | null) => KnownRegion | null,
    then: () => void = () => {},
  ): void {
    const record = this.#record;
    if (record === null) {
      then();
      return;
    }
    const was = record.regions[place] ?? null;
    const is = change(was);
    if (was?.uuid === is?.uuid && was?.behind === is?.behind) {
      then();
      return;
    }
    const regions = record.regions.map((known, other) => (other === place ? is : known));
    const now = regions.flatMap((known) => known?.uuid ?? []);
    const gone = was === null || now.includes(was.uuid) ? [] : [was.uuid];
    this.#set({ ...record, regions, former: formerOf(gone, record, now) }, then);
  }
  #set(record: VolumeRecord, then: () => void): void {
    this.#record = record;
    if (this.#keeper === null) {
      then();
      return;
    }
    this.#keeper.save(record, (fault) => {
      if (fault !== null) this.#unsaved(fault);
      then();
    });
  }
}

const formerOf = (
  gone: readonly Uuid[],
  before: VolumeRecord | null,
  now: readonly Uuid[],
): readonly Uuid[] =>
  [...new Set([...gone, ...(before?.former ?? [])])]
    .filter((uuid) => !now.includes(uuid))
    .slice(0, FORMER_MAX);
