import { type FaultParts, FaultScene } from "./fault-scene.js";
import { hostFault } from "./host-faults.js";
import { networkFault } from "./network-faults.js";
import type { FaultKind } from "./plan.js";
import { diskFault, replicaFault } from "./replica-faults.js";

// When something goes wrong, and that it stops. What it is and whom it hits is told by the plan and the dice.

/** After the last one has begun, as many mean pauses until the faults count as over. */
const AFTERMATH = 20;
/** Share of faults that come right after a promise to a guest: its flush was answered, or its write with FUA. */
const AIMED = 0.4;

export class Faults {
  readonly scene: FaultScene;
  readonly #parts: FaultParts;
  readonly #kinds: readonly FaultKind[];
  #isOver = false;
  #begun = 0;
  #spentMs = Number.POSITIVE_INFINITY;
  /** What waits for a flush, or for a write with FUA, to be answered. */
  #aimed: (() => void)[] = [];
  /** Events until something that waits for one is done. */
  #countdowns: { events: number; run: () => void }[] = [];

  constructor(parts: FaultParts) {
    this.#parts = parts;
    this.scene = new FaultScene(parts);
    this.#kinds = Object.entries(parts.plan.mix).flatMap(([kind, weight]) =>
      new Array<FaultKind>(weight).fill(kind as FaultKind),
    );
  }

  /** All that were planned have begun, some time ago: whoever has not got on by now is to show that it can without them. */
  get isSpent(): boolean {
    return this.#parts.world.nowMs() > this.#spentMs + AFTERMATH * this.#parts.plan.faultMs;
  }

  start(): void {
    if (this.#kinds.length > 0) this.#later();
  }
  /** No more of it, and everything that can be put right by somebody outside is. */
  stop(): void {
    const { network, replicas, hosts, trace, world } = this.#parts;
    this.#isOver = true;
    trace.fault(() => "no more faults");
    for (const { run } of this.#countdowns.splice(0)) run();
    world.onEvent = null;
    this.#parts.guests.onPromise = null;
    this.#aimed = [];
    network.healAll();
    for (const replica of replicas) {
      replica.trouble.heal();
      if (!replica.machine.isPowered) replica.powerOn();
      else if (!replica.isServing) replica.start();
    }
    for (const host of hosts) host.powerOn();
  }

  #later(): void {
    const { world, plan } = this.#parts;
    if (this.#begun >= plan.faultsMax) {
      this.#spentMs = world.nowMs();
      return;
    }
    this.#begun += 1;
    const { scene } = this;
    const waitMs = -Math.log(1 - scene.chance()) * plan.faultMs;
    world.after(waitMs, () => {
      if (this.#isOver) return;
      this.#later();
      const kind = scene.pick(this.#kinds);
      // In the middle of whatever goes on then, not only between moments; often as soon as somebody relies on a promise.
      const isAimed = scene.chance() < AIMED;
      const events = Math.floor(scene.chance() ** 2 * (isAimed ? 30 : 300));
      const strike = (): void =>
        this.#afterEvents(events, () => {
          if (!this.#isOver) this.#happen(kind);
        });
      if (isAimed) this.#afterPromise(strike);
      else strike();
    });
  }
  #afterPromise(run: () => void): void {
    const { guests } = this.#parts;
    this.#aimed.push(run);
    guests.onPromise = () => {
      guests.onPromise = null;
      for (const one of this.#aimed.splice(0)) one();
    };
  }
  #afterEvents(events: number, run: () => void): void {
    this.#countdowns.push({ events, run });
    this.#parts.world.onEvent = () => this.#count();
  }
  #count(): void {
    const due: (() => void)[] = [];
    for (const one of this.#countdowns) if (--one.events <= 0) due.push(one.run);
    if (due.length === 0) return;
    this.#countdowns = this.#countdowns.filter(({ events }) => events > 0);
    if (this.#countdowns.length === 0) this.#parts.world.onEvent = null;
    for (const run of due) run();
  }

  #happen(kind: FaultKind): void {
    const { scene } = this;
    switch (kind) {
      case "cut":
      case "stall":
      case "slow":
      case "dropGuest":
        networkFault(scene, kind);
        return;
      case "killReplica":
      case "cutPower":
      case "restartReplica":
      case "loseRegion":
      case "blackout":
        replicaFault(scene, kind);
        return;
      case "diskStall":
      case "diskErrors":
      case "diskFull":
      case "rot":
      case "misdirect":
        diskFault(scene, kind);
        return;
      default:
        hostFault(scene, kind);
    }
  }
}
