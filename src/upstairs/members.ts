import type { Fault } from "../base/fault.js";
import type { Generation } from "../base/ids.js";
import { DEGRADED_AFTER_MS } from "../base/limits.js";
import { SessionIds } from "../crucible/session-ids.js";
import type { Address } from "../ports/stream.js";
import type { CoreHooks } from "./core.js";
import { Engine } from "./engine.js";
import { TUNING, type Tuning, type UpstairsOptions, type UpstairsPorts } from "./options.js";
import { Register } from "./register.js";
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
  readonly register: Register;
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
    this.register = new Register(options.record ?? null, (fault) =>
      this.note(
        "warn",
        "record.unsaved",
        `which regions belong to the volume could not be written down: ${fault.message}`,
      ),
    );
    this.replicas = options.targets.map(
      (address, index) => new Replica(index, address, ports, this.tuning, this.ids, owner),
    );
  }

  /** Two may start without the third. */
  get mayDegrade(): boolean {
    return this.degradedAfterMs !== null;
  }
  get degradedAfterMs(): number | null {
    const { degradedAfterMs } = this.options;
    return degradedAfterMs === undefined ? DEGRADED_AFTER_MS : degradedAfterMs;
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

  /** Where the replicas are, by place. */
  get targets(): readonly Address[] {
    return this.replicas.map(({ address }) => address);
  }

  note(level: "info" | "warn" | "error", event: string, text: string, replica?: number): void {
    this.ports.notes(level, event, text, replica === undefined ? {} : { replica });
  }
}
