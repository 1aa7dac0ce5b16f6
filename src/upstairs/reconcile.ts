import type { ClientId, ExtentId, FlushNumber, Generation } from "../base/ids.js";
import { invariant } from "../base/invariant.js";
import type { Message, MessageOf } from "../crucible/messages.js";
import type { Versions } from "./negotiation.js";

// Making three regions equal before a volume is used (wire reference 7). `compare` says what differs; `Reconciliation`
// walks through it step by step. Pure: it says what to send to whom and is told what came back.
//
//   per extent:  flush (source) ─► close (all) ─► repair (destinations) ─► reopen (all) ─► next extent
//   a step is sent when the one before is finished everywhere; any error ends the whole

export interface Repair {
  readonly extent: ExtentId;
  readonly source: ClientId;
  readonly destinations: readonly ClientId[];
}

export interface Comparison {
  /** 1 + the highest on any region: what a new session's generation must reach (wire reference 5.3). */
  readonly generation: Generation;
  readonly flushNumber: FlushNumber;
  readonly repairs: readonly Repair[];
}

export function compare(all: readonly Versions[]): Comparison {
  const count = all[0]!.generations.length;
  invariant(
    all.every((versions) => versions.generations.length === count),
    "regions of one volume have as many extents each",
  );
  let generation = 0n;
  let flushNumber = 0;
  const repairs: Repair[] = [];
  for (let extent = 0; extent < count; extent++) {
    let source = 0;
    let anyDirty = false;
    let anyDiffers = false;
    for (const [client, versions] of all.entries()) {
      const g = versions.generations[extent]!;
      const f = versions.flushNumbers[extent]!;
      if (g > generation) generation = g;
      if (f > flushNumber) flushNumber = f;
      if (versions.dirty[extent]) anyDirty = true;
      if (client > 0 && order(all[0]!, versions, extent) !== 0) anyDiffers = true;
      if (order(versions, all[source]!, extent) > 0) source = client;
    }
    if (!anyDirty && !anyDiffers) continue;
    const sourceIsDirty = Boolean(all[source]!.dirty[extent]);
    const destinations = all.flatMap((versions, client) =>
      client !== source && (sourceIsDirty || order(versions, all[source]!, extent) !== 0)
        ? [client as ClientId]
        : [],
    );
    repairs.push({ extent: extent as ExtentId, source: source as ClientId, destinations });
  }
  return {
    generation: (generation + 1n) as Generation,
    flushNumber: (flushNumber + 1) as FlushNumber,
    repairs,
  };
}

/** Which of two copies of an extent is ahead: generation, then flush number, then a dirty one over a clean one. */
function order(a: Versions, b: Versions, extent: number): number {
  const generations = a.generations[extent]! - b.generations[extent]!;
  if (generations !== 0n) return generations > 0n ? 1 : -1;
  const flushes = a.flushNumbers[extent]! - b.flushNumbers[extent]!;
  if (flushes !== 0) return flushes;
  return Number(Boolean(a.dirty[extent])) - Number(Boolean(b.dirty[extent]));
}

export type RepairAddress = MessageOf<"YesItsMe">["repairAddress"];
const STEPS = ["flush", "close", "repair", "reopen"] as const;
const ALL = [0, 1, 2] as readonly number[] as readonly ClientId[];

export class Reconciliation {
  readonly #found: Comparison;
  /** What each replica announced in YesItsMe; forwarded unchanged. */
  readonly #addresses: readonly RepairAddress[];
  /** Repair ids count steps over all extents, from 0. */
  #repairId = 0;
  #awaited = new Set<number>();

  constructor(found: Comparison, addresses: readonly RepairAddress[]) {
    this.#found = found;
    this.#addresses = addresses;
  }

  get stepsDone(): number {
    return this.#repairId;
  }
  get stepsInAll(): number {
    return this.#found.repairs.length * STEPS.length;
  }
  get isDone(): boolean {
    return this.#repairId === this.stepsInAll;
  }
  /** Replicas that have something to do. */
  isAwaited(client: number): boolean {
    return this.#awaited.has(client);
  }

  /** The message of the current step, and for whom. */
  step(): { readonly message: Message; readonly to: readonly ClientId[] } {
    const repair = this.#found.repairs[Math.floor(this.#repairId / STEPS.length)]!;
    const to = this.#receivers(repair);
    this.#awaited = new Set(to);
    return { message: this.#message(repair), to };
  }

  /** True: the step is finished, and the next one is to be sent, or all `isDone`. Late and foreign ids are ignored. */
  acknowledged(client: number, repairId: number): boolean {
    if (repairId !== this.#repairId || !this.#awaited.delete(client)) return false;
    if (this.#awaited.size > 0) return false;
    this.#repairId += 1;
    return true;
  }

  #receivers(repair: Repair): readonly ClientId[] {
    switch (STEPS[this.#repairId % STEPS.length]!) {
      case "flush":
        return [repair.source];
      case "repair":
        return repair.destinations;
      default:
        return ALL;
    }
  }

  #message({ extent: extentId, source, destinations }: Repair): Message {
    const repairId = this.#repairId;
    switch (STEPS[repairId % STEPS.length]!) {
      case "flush":
        return {
          kind: "ExtentFlush",
          repairId,
          extentId,
          clientId: source,
          flushNumber: this.#found.flushNumber,
          generation: this.#found.generation,
        };
      case "close":
        return { kind: "ExtentClose", repairId, extentId };
      case "repair":
        return {
          kind: "ExtentRepair",
          repairId,
          extentId,
          sourceClientId: source,
          sourceRepairAddress: this.#addresses[source]!,
          destClients: destinations,
        };
      case "reopen":
        return { kind: "ExtentReopen", repairId, extentId };
    }
  }
}
