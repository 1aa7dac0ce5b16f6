import { EIO, ENOSPC } from "../kit/files.js";
import type { World } from "../kit/world.js";
import type { Guests } from "./guests.js";
import type { HostBox } from "./host.js";
import type { Network } from "./network.js";
import type { FaultKind, Plan } from "./plan.js";
import type { ReplicaBox } from "./replica.js";
import type { Trace } from "./trace.js";

// What goes wrong, when, and for how long. The README of this folder has the budget: what may be wrong at one time so
// that the volume still owes everything it promises.

export interface FaultParts {
  readonly world: World;
  readonly network: Network;
  readonly plan: Plan;
  readonly replicas: readonly ReplicaBox[];
  readonly hosts: readonly HostBox[];
  readonly guests: Guests;
  readonly trace: Trace;
}

export class Faults {
  readonly #parts: FaultParts;
  readonly #kinds: readonly FaultKind[];
  readonly counts: Partial<Record<FaultKind, number>> = {};
  #isOver = false;
  #begun = 0;
  #spentMs = Number.POSITIVE_INFINITY;
  /** Events until something that waits for one is done. */
  #countdowns: { events: number; run: () => void }[] = [];
  /** The replica that alone may be disturbed while two hosts think that they have the volume. */
  #disturbed = -1;

  constructor(parts: FaultParts) {
    this.#parts = parts;
    this.#kinds = Object.entries(parts.plan.mix).flatMap(([kind, weight]) =>
      new Array<FaultKind>(weight).fill(kind as FaultKind),
    );
    for (const { trouble } of parts.replicas) {
      trouble.chance = () => parts.world.chance();
      trouble.nowMs = () => parts.world.nowMs();
    }
  }

  /** All that were planned have begun, some time ago: whoever has not got on by now is to show that it can without them. */
  get isSpent(): boolean {
    return this.#parts.world.nowMs() > this.#spentMs + 20 * this.#parts.plan.faultMs;
  }

  start(): void {
    if (this.#kinds.length === 0) return;
    this.#later();
  }
  /** No more of it, and everything that can be put right by somebody outside is. */
  stop(): void {
    const { network, replicas, hosts, trace, world } = this.#parts;
    this.#isOver = true;
    trace.fault(() => "no more faults");
    for (const { run } of this.#countdowns.splice(0)) run();
    world.onEvent = null;
    network.healAll();
    for (const replica of replicas) {
      replica.trouble.heal();
      if (!replica.machine.isPowered) replica.powerOn();
      else if (!replica.isServing) replica.start();
    }
    for (const host of hosts) host.powerOn();
    if (!hosts.some((host) => host.isRunning)) this.#someHost(() => true).start();
  }

  #chance(): number {
    return this.#parts.world.chance();
  }
  #pick<T>(of: readonly T[]): T {
    return of[Math.floor(this.#chance() * of.length)]!;
  }
  /** Mostly short, sometimes long. */
  #duration(): number {
    const { plan } = this.#parts;
    return plan.faultMs * (0.05 + 4 * this.#chance() ** 3);
  }
  #later(): void {
    const { world, plan } = this.#parts;
    if (this.#begun >= plan.faultsMax) {
      this.#spentMs = world.nowMs();
      return;
    }
    this.#begun += 1;
    const waitMs = -Math.log(1 - this.#chance()) * plan.faultMs;
    world.after(waitMs, () => {
      if (this.#isOver) return;
      this.#later();
      const kind = this.#pick(this.#kinds);
      // In the middle of whatever goes on then, not only between moments.
      const events = Math.floor(this.#chance() ** 2 * 300);
      this.#afterEvents(events, () => {
        if (!this.#isOver) this.#happen(kind);
      });
    });
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
  #fault(kind: FaultKind, text: () => string): void {
    this.counts[kind] = (this.counts[kind] ?? 0) + 1;
    this.#parts.trace.fault(text);
  }

  /** Two hosts that both believe to have the volume: then little else may go wrong (README, one writer). */
  get #isContested(): boolean {
    return this.#parts.hosts.filter((host) => host.isRunning).length > 1;
  }
  /** A replica to do something to; null when none may be touched now. */
  #replica(which: (replica: ReplicaBox) => boolean): ReplicaBox | null {
    const { replicas } = this.#parts;
    if (this.#isContested) {
      if (this.#disturbed < 0) this.#disturbed = Math.floor(this.#chance() * 3);
      const only = replicas[this.#disturbed]!;
      return which(only) ? only : null;
    }
    this.#disturbed = -1;
    const all = replicas.filter(which);
    return all.length === 0 ? null : this.#pick(all);
  }
  #someHost(which: (host: HostBox) => boolean): HostBox {
    const all = this.#parts.hosts.filter(which);
    return all.length === 0 ? this.#parts.hosts[0]! : this.#pick(all);
  }

  #happen(kind: FaultKind): void {
    switch (kind) {
      case "cut":
      case "stall":
      case "slow":
        this.#network(kind);
        return;
      case "killReplica":
      case "cutPower":
      case "restartReplica":
        this.#stopReplica(kind);
        return;
      case "diskStall":
      case "diskErrors":
      case "diskFull":
        this.#disk(kind);
        return;
      case "dropGuest":
        this.#fault(kind, () => "a guest goes away");
        this.#parts.guests.dropOne();
        return;
      default:
        this.#host(kind);
    }
  }

  #network(kind: "cut" | "stall" | "slow"): void {
    const { network, world, guests } = this.#parts;
    const host = this.#someHost((one) => one.isRunning);
    const replica = this.#replica(() => true)!;
    const toGuests = !this.#isContested && this.#chance() < 0.15;
    const one = host.machine.name;
    const other = toGuests ? guests.machine : replica.machine.name;
    const who = `${host.name} and ${toGuests ? "guests" : replica.name}`;
    if (kind === "cut") {
      this.#fault(kind, () => `connections between ${who} are cut`);
      network.cut(one, other);
      return;
    }
    const forMs = this.#duration();
    const ways = [network.way(one, other), network.way(other, one)];
    if (kind === "stall") {
      const affected = this.#chance() < 0.6 ? ways : [this.#pick(ways)];
      this.#fault(
        kind,
        () => `nothing passes between ${who} for ${forMs.toFixed(0)} ms (${affected.length})`,
      );
      for (const way of affected) way.stalledUntilMs = world.nowMs() + forMs;
      return;
    }
    const bytesPerMs = 10 ** (1 + 3 * this.#chance());
    const extraMs = this.#chance() * 20;
    this.#fault(
      kind,
      () => `${bytesPerMs.toFixed(0)} bytes/ms between ${who} for ${forMs.toFixed(0)} ms`,
    );
    for (const way of ways) {
      way.bytesPerMs = bytesPerMs;
      way.extraMs = extraMs;
    }
    world.after(forMs, () => {
      for (const way of ways) {
        way.bytesPerMs = Number.POSITIVE_INFINITY;
        way.extraMs = 0;
      }
    });
  }

  #stopReplica(kind: "killReplica" | "cutPower" | "restartReplica"): void {
    const { world } = this.#parts;
    const replica = this.#replica((one) => one.process !== null);
    if (replica === null) return;
    const forMs = this.#chance() < 0.4 ? 10 : this.#duration();
    const start = (): void => {
      if (replica.machine.isPowered) replica.start();
    };
    if (kind === "cutPower") {
      // After a failed sync nobody knows what the disk has, and the page cache hides it (store README).
      if (replica.trouble.hasFailedSync) return;
      this.#fault(kind, () => `${replica.name} loses its power for ${forMs.toFixed(0)} ms`);
      replica.powerCut();
      world.after(forMs, () => {
        if (!replica.machine.isPowered) replica.powerOn();
      });
    } else if (kind === "killReplica") {
      const how = this.#pick(["end", "reset"] as const);
      this.#fault(kind, () => `${replica.name} is killed (${how}) for ${forMs.toFixed(0)} ms`);
      replica.kill(how);
      world.after(forMs, start);
    } else {
      this.#fault(kind, () => `${replica.name} is stopped for an upgrade`);
      replica.stop(() => world.after(forMs, start));
    }
  }

  #disk(kind: "diskStall" | "diskErrors" | "diskFull"): void {
    const { world } = this.#parts;
    const replica = this.#replica(({ trouble }) => trouble.failing === 0);
    if (replica === null) return;
    const { trouble } = replica;
    const forMs = this.#duration();
    // One failing disk at a time: a block that nobody can read is an error to the guest, too.
    if (kind !== "diskStall" && this.#parts.replicas.some((one) => one.trouble.failing > 0)) return;
    if (kind === "diskStall") {
      this.#fault(kind, () => `the disk of ${replica.name} stalls for ${forMs.toFixed(0)} ms`);
      trouble.stalledUntilMs = world.nowMs() + forMs;
      return;
    }
    trouble.errno = kind === "diskFull" ? ENOSPC : EIO;
    trouble.failing = this.#pick([0.05, 0.5, 1]);
    this.#fault(
      kind,
      () => `the disk of ${replica.name} answers ${trouble.errno} for ${forMs.toFixed(0)} ms`,
    );
    world.after(forMs, () => {
      trouble.failing = 0;
    });
  }

  #host(kind: FaultKind): void {
    const { world, trace } = this.#parts;
    if (kind === "clockJump") {
      const host = this.#pick(this.#parts.hosts);
      const seconds = Math.floor((this.#chance() - 0.5) * 10 ** (1 + 4 * this.#chance()));
      this.#fault(kind, () => `the clock of ${host.name} jumps by ${seconds} s`);
      host.machine.clockOffset += seconds;
      return;
    }
    if (kind === "takeOver") {
      if (this.#isContested) return;
      const host = this.#someHost((one) => !one.isRunning && one.process === null);
      if (host.process !== null) return;
      this.#fault(kind, () => `${host.name} is started`);
      host.powerOn();
      host.start();
      return;
    }
    const running = this.#parts.hosts.filter((host) => host.isRunning);
    if (running.length === 0) return;
    // Whoever took over from somebody who does not know it yet stays (README, one writer).
    const host = running.length === 1 ? running[0]! : this.#oldest(running);
    const forMs = 10 + (this.#chance() < 0.5 ? 0 : this.#duration());
    const restart = (): void => {
      if (!this.#parts.hosts.some((one) => one.isRunning)) host.start();
    };
    if (kind === "killHost") {
      const how = this.#pick(["end", "reset"] as const);
      this.#fault(kind, () => `${host.name} is killed (${how}) for ${forMs.toFixed(0)} ms`);
      host.kill(how);
      world.after(forMs, restart);
    } else if (kind === "cutHostPower") {
      this.#fault(kind, () => `${host.name} loses its power for ${forMs.toFixed(0)} ms`);
      host.powerCut();
      world.after(forMs, () => {
        host.powerOn();
        restart();
      });
    } else {
      this.#fault(kind, () => `${host.name} is restarted`);
      host.stop((fault) => {
        trace.add(host.name, () => `restarts ${fault?.line ?? ""}`);
        world.after(forMs, restart);
      });
    }
  }
  /** The one whose life began earlier, or has not begun. */
  #oldest(running: readonly HostBox[]): HostBox {
    const began = (host: HostBox): number =>
      host.life?.incarnation.life ?? Number.POSITIVE_INFINITY;
    return running.reduce((a, b) => (began(a) < began(b) ? a : b));
  }
}
