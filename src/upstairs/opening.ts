import type { Fault } from "../base/fault.js";
import type { FlushNumber } from "../base/ids.js";
import type { RegionDefinition } from "../crucible/region-definition.js";
import { EpochMark } from "./epoch-mark.js";
import type { Members } from "./members.js";
import type { Comparison } from "./reconcile.js";
import type { Replica } from "./replica.js";

// Replicas that are equal become a volume that serves requests; ours come first.
//
//   open ──► what the volume is made of is written down ──► what a dead predecessor had acknowledged is written again
//        ──► without the third: the two are marked (see `epoch-mark`) ──► `then`

export class Opening {
  /** The engine serves requests. */
  isOpen = false;
  readonly #members: Members;
  readonly #fail: (fault: Fault) => void;

  constructor(members: Members, fail: (fault: Fault) => void) {
    this.#members = members;
    this.#fail = fail;
  }

  /** `places` take part; data was taken from `sources` among them. `then` is not called when it fails or the volume ends. */
  begin(
    found: Comparison,
    places: readonly number[],
    sources: readonly number[],
    then: () => void,
  ): void {
    const members = this.#members;
    const { replicas, register } = members;
    const region = replicas[places[0]!]!.region!;
    const startVersions = replicas[sources[0]!]!.versions;
    const parts = replicas.map(({ index, region: its }) =>
      places.includes(index) ? its!.uuid : null,
    );
    // Reconciliation used its number, perhaps with our generation: other contents must not carry the same pair, or a replica that
    // missed them would pass for equal.
    const next = found.repairs.length > 0 ? found.flushNumber + 1 : found.flushNumber;
    if (!this.open(region, next as FlushNumber)) return;
    for (const place of places) this.join(replicas[place]!);
    for (const replica of replicas) if (!places.includes(replica.index)) replica.leaveOut();
    register.begin(members.generation, region, parts, startVersions, members.targets, () => {
      if (members.state !== "activating") return;
      this.#reissue(() => {
        if (places.length === 3) then();
        else
          new EpochMark(members.engine, region.extentSize, (isMarked) => {
            this.#noteMissing(places, isMarked);
            then();
          });
      });
    });
  }

  /** False: it failed, and was told. */
  open(region: RegionDefinition, flushNumber: FlushNumber): boolean {
    const { engine, generation, readOnly } = this.#members;
    const fault = engine.open(region, generation, flushNumber, readOnly);
    if (fault !== null) this.#fail(fault);
    this.isOpen = fault === null;
    return this.isOpen;
  }
  join(replica: Replica): void {
    replica.settled("active");
    this.#members.engine.joined(replica.index, replica.stream!, replica.repairAddress);
    this.#members.note("info", "replica.active", `${replica.name} is active`, replica.index);
  }

  /** Before anything else is written, the mark included. */
  #reissue(then: () => void): void {
    const members = this.#members;
    const { resume } = members.ports.journal;
    if (resume === null || resume.writes.length === 0) {
      then();
      return;
    }
    const fault = members.engine.reissue(resume.writes, () => {
      members.note("info", "volume.resumed", `${resume.writes.length} writes are written again`);
      then();
    });
    if (fault !== null) this.#fail(fault);
  }

  #noteMissing(places: readonly number[], isMarked: boolean): void {
    const members = this.#members;
    if (!isMarked)
      members.note(
        "error",
        "volume.unmarked",
        "no block of the last extent can be read, so the two replicas could not be marked as newer than the third",
      );
    for (const { index, name, refused, trouble } of members.replicas) {
      if (places.includes(index)) continue;
      const why = refused?.message ?? trouble?.message ?? "it has to be made equal first";
      members.note(
        "warn",
        "volume.degraded",
        `started without ${name}: ${why}. It is repaired when it is there`,
        index,
      );
    }
  }
}
