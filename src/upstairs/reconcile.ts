import type { ClientId, ExtentId, FlushNumber, Generation } from "../base/ids.js";
import { invariant } from "../base/invariant.js";
import type { Message, MessageOf } from "../crucible/messages.js";
import type { Versions } from "./negotiation.js";

// Making two or three regions equal before a volume is used (wire reference 7). `compare` says what differs; `Reconciliation`
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

/**
 * `all` by place; null: it takes no part. `sources`: places that data may be taken from, all by default; the others are made equal to
 * them, whatever they carry.
 */
export function compare(
  all: readonly (Versions | null)[],
  sources: readonly number[] = all.flatMap((versions, client) =>
    versions === null ? [] : [client],
  ),
): Comparison {
  const there = all.flatMap((versions, client) =>
    versions === null ? [] : [{ client, versions }],
  );
  const count = there[0]!.versions.generations.length;
  invariant(
    there.every(({ versions }) => versions.generations.length === count),
    "regions of one volume have as many extents each",
  );
  let generation = 0n;
  let flushNumber = 0;
  const repairs: Repair[] = [];
  for (let extent = 0; extent < count; extent++) {
    let source = sources[0]!;
    let anyDirty = false;
    let anyDiffers = false;
    for (const { client, versions } of there) {
      const g = versions.generations[extent]!;
      const f = versions.flushNumbers[extent]!;
      if (g > generation) generation = g;
      if (f > flushNumber) flushNumber = f;
      if (versions.dirty[extent]) anyDirty = true;
      if (order(there[0]!.versions, versions, extent) !== 0) anyDiffers = true;
      if (sources.includes(client) && order(versions, all[source]!, extent) > 0) source = client;
    }
    if (!anyDirty && !anyDiffers) continue;
    const best = all[source]!;
    const destinations = there.flatMap(({ client, versions }) =>
      client !== source && (best.dirty[extent] || order(versions, best, extent) !== 0)
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

export class Reconciliation {
  readonly #found: Comparison;
  /** What each replica announced in YesItsMe; forwarded unchanged. */
  readonly #addresses: readonly (RepairAddress | null)[];
  readonly #members: readonly ClientId[];
  /** Repair ids count steps over all extents, from 0. */
  #repairId = 0;
  #awaited = new Set<number>();

  /** `addresses` by place; `members`: places of those who take part. */
  constructor(
    found: Comparison,
    addresses: readonly (RepairAddress | null)[],
    members: readonly number[] = [0, 1, 2],
  ) {
    this.#found = found;
    this.#members = members as readonly ClientId[];
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
        return this.#members;
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
