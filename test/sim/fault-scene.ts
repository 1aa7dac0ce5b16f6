import type { World } from "../kit/world.js";
import type { Guests } from "./guests.js";
import type { HostBox } from "./host.js";
import type { Network } from "./network.js";
import type { FaultKind, Plan } from "./plan.js";
import type { ReplicaBox } from "./replica.js";
import type { Trace } from "./trace.js";

export interface FaultParts {
  readonly world: World;
  readonly network: Network;
  readonly plan: Plan;
  /** By place. */
  readonly replicas: ReplicaBox[];
  readonly hosts: readonly HostBox[];
  readonly guests: Guests;
  readonly trace: Trace;
  /** A new box with an empty region takes this place. */
  newBox(place: number): ReplicaBox;
}

/** What all faults share: dice, and who may be disturbed now (README, the fault budget). */
export class FaultScene {
  readonly parts: FaultParts;
  readonly counts: Partial<Record<FaultKind, number>> = {};
  /** The only one whose disk changes bits by itself. */
  readonly rotten: number;
  /** The replica that alone may be disturbed while two hosts think that they have the volume. */
  #disturbed = -1;
  /** A place whose region was lost and is not whole again. */
  #lost: ReplicaBox | null = null;

  constructor(parts: FaultParts) {
    this.parts = parts;
    this.rotten = Math.floor(parts.world.chance() * 3);
  }

  chance(): number {
    return this.parts.world.chance();
  }
  pick<T>(of: readonly T[]): T {
    return of[Math.floor(this.chance() * of.length)]!;
  }
  /** Mostly short, sometimes long. */
  duration(): number {
    return this.parts.plan.faultMs * (0.05 + 4 * this.chance() ** 3);
  }
  happened(kind: FaultKind, text: () => string): void {
    this.counts[kind] = (this.counts[kind] ?? 0) + 1;
    this.parts.trace.fault(text);
  }

  /** Two hosts that both believe to have the volume: then little else may go wrong. */
  get isContested(): boolean {
    return this.parts.hosts.filter((host) => host.isRunning).length > 1;
  }
  /** A replica to do something to; null when none may be touched now. */
  replica(which: (replica: ReplicaBox) => boolean): ReplicaBox | null {
    const { replicas } = this.parts;
    if (this.isContested) {
      if (this.#disturbed < 0) this.#disturbed = Math.floor(this.chance() * 3);
      const only = replicas[this.#disturbed]!;
      return which(only) ? only : null;
    }
    this.#disturbed = -1;
    const all = replicas.filter(which);
    return all.length === 0 ? null : this.pick(all);
  }
  host(which: (host: HostBox) => boolean): HostBox | null {
    const all = this.parts.hosts.filter(which);
    return all.length === 0 ? null : this.pick(all);
  }

  /** The one host that serves, with three replicas that have everything; null: not now. */
  wholeHost(): HostBox | null {
    const host = this.parts.hosts.find((one) => one.isServing && one.isRunning);
    if (host === undefined || this.isContested) return null;
    const { replicas } = host.upstairs!.status();
    const isWhole = replicas.every(
      ({ phase, jobs, heldJobs }) => phase === "active" && jobs === 0 && heldJobs === 0,
    );
    // Not before the new region is known: the host may not have noticed yet.
    const isBack = replicas.some(({ regionUuid }) => regionUuid === this.#lost?.region.uuid);
    if (isWhole && isBack) this.#lost = null;
    return isWhole ? host : null;
  }
  /** The region of one place may be lost: the other two have everything, and none was lost that is not whole again. */
  mayLose(): HostBox | null {
    const host = this.wholeHost();
    return this.#lost === null ? host : null;
  }
  lost(replica: ReplicaBox): void {
    this.#lost = replica;
  }
}
