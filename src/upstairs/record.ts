import type { Fault } from "../base/fault.js";
import type { Uuid } from "../base/ids.js";
import type { RegionDefinition } from "../crucible/region-definition.js";
import type { Address } from "../ports/stream.js";

// What a host remembers of a volume's replicas from one session to the next. A volume works without it (another host takes over, the
// disk with the file is gone); what can be told then, and what cannot, stands in `quorum`.

export interface KnownRegion {
  readonly uuid: Uuid;
  /** It was left out when this was written down: what it holds may be older than what the other two hold. */
  readonly behind: boolean;
}

export interface VolumeRecord {
  /** Generation of the session that wrote this down. */
  readonly generation: bigint;
  /** By place; null: nobody knows. */
  readonly regions: readonly (KnownRegion | null)[];
  /** Regions that were replaced by others, newest first. */
  readonly former: readonly Uuid[];
  readonly geometry: Pick<RegionDefinition, "blockSize" | "extentSize" | "extentCount"> | null;
  /** Where the replicas are, by place. */
  readonly targets: readonly Address[];
}

export interface RecordKeeper {
  /** As the last session on this host left it. */
  readonly last: VolumeRecord | null;
  /** Makes it durable. Calls may overlap; the last one counts. */
  save(record: VolumeRecord, then: (fault: Fault | null) => void): void;
}

export const FORMER_MAX = 32;
