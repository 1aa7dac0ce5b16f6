import type { Fault } from "../base/fault.js";
import type { Generation } from "../base/ids.js";
import { SessionIds } from "../crucible/session-ids.js";
import type { CoreHooks } from "./core.js";
import { Engine } from "./engine.js";
import { TUNING, type Tuning, type UpstairsOptions, type UpstairsPorts } from "./options.js";
import { Replica, type ReplicaOwner } from "./replica.js";

export type VolumeState = "idle" | "activating" | "active" | "stopping" | "ended";
export type Done = (fault: Fault | null) => void;

/** What the parts of membership share: the volume's state, the replicas, the engine that has the jobs. Decides nothing. */
export class Members {
  readonly ports: UpstairsPorts;
  readonly options: UpstairsOptions;
  readonly tuning: Tuning;
  readonly ids: SessionIds;
  readonly engine: Engine;
  readonly replicas: readonly Replica[];
  state: VolumeState = "idle";
  generation = 0n as Generation;

  constructor(
    options: UpstairsOptions,
    ports: UpstairsPorts,
    owner: ReplicaOwner,
    hooks: CoreHooks,
  ) {
    this.options = options;
    this.ports = ports;
    this.tuning = { ...TUNING, ...options.tuning };
    this.ids = new SessionIds(options.upstairsId, ports.random.uuid());
    this.engine = new Engine(ports, this.tuning, this.ids, options.ack === "buffered", hooks);
    this.replicas = options.targets.map(
      (address, index) => new Replica(index, address, ports, this.tuning, this.ids, owner),
    );
  }

  get readOnly(): boolean {
    return this.options.readOnly === true;
  }
  /**
   * Nobody can have become active while two replicas stayed with us: whoever tries needs two, and those that we are connected to
   * would have told us. With fewer, somebody may have come and gone.
   */
  get isInDoubt(): boolean {
    return !this.readOnly && this.engine.core.activeCount < 2;
  }

  note(level: "info" | "warn" | "error", event: string, text: string, replica?: number): void {
    this.ports.notes(level, event, text, replica === undefined ? {} : { replica });
  }
}
