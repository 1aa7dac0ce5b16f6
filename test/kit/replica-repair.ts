import type { MessageOf } from "../../src/crucible/messages.js";
import type { JobMessage, ModelReplica } from "./replica.js";

// What a model replica notices of live repair on one connection: how far it has come as a target, which extents are open, and which ids were
// named before their jobs came.

export type LiveMessage =
  | MessageOf<"ExtentLiveClose">
  | MessageOf<"ExtentLiveFlushClose">
  | MessageOf<"ExtentLiveRepair">
  | MessageOf<"ExtentLiveReopen">;

export interface Range {
  readonly start: number;
  readonly end: number;
  readonly changes: boolean;
}

export class RepairWatch {
  readonly #replica: ModelReplica;
  /** Jobs of repair came: from then on ids may be named before they are sent. */
  #isLive = false;
  readonly #promised = new Map<number, string>();
  /** Under repair: the highest extent that is repaired. */
  #repairedTo: number | null = null;
  #wasTarget = false;

  constructor(replica: ModelReplica) {
    this.#replica = replica;
  }

  /** Who named what did not come yet. */
  get unkept(): string[] {
    return [...this.#promised].map(([id, who]) => `${who} depends on ${id}, which never came`);
  }
  arrived({ kind, jobId }: JobMessage): void {
    if (kind.startsWith("ExtentLive")) this.#isLive = true;
    if (kind === "ExtentLiveClose") this.#repairedTo ??= -1;
    this.#promised.delete(jobId);
  }
  /** Whether `id`, unknown here, may be waited for. */
  promises(id: number, who: string): boolean {
    // One that came back in the middle hears of repair only with the next extent.
    const may = this.#isLive || this.#replica.peers.some(({ isTarget }) => isTarget);
    if (may) this.#promised.set(id, who);
    return may;
  }
  get isTarget(): boolean {
    return this.#repairedTo !== null;
  }

  /** Extents of a read or write must be open, and within what is repaired here. */
  checkExtents(message: JobMessage, { start, end }: Range): void {
    const { violations, extents } = this.#replica;
    const who = `${message.kind} ${message.jobId}`;
    const last = this.#replica.extentOf(end - 1);
    for (let extent = this.#replica.extentOf(start); extent <= last; extent++) {
      if (extents[extent]!.closed) violations.push(`${who} in closed extent ${extent}`);
      if (this.#repairedTo === null) continue;
      if (message.kind === "ReadRequest")
        violations.push(`${who} reads from a replica under repair`);
      else if (extent > this.#repairedTo)
        violations.push(`${who} in extent ${extent}, repaired up to ${this.#repairedTo}`);
    }
  }
  checkLimit({ jobId, extentLimit }: MessageOf<"Flush">): void {
    const { violations, region } = this.#replica;
    const who = `Flush ${jobId} with limit ${extentLimit}`;
    if (this.#repairedTo === null) {
      // Several may be on their way when the first is done that makes it one of the others.
      const isLate = this.#wasTarget && extentLimit === region.extentCount - 1;
      if (extentLimit !== null && !isLate)
        violations.push(`${who} is not for a replica under repair`);
    } else if (extentLimit === null || extentLimit > this.#repairedTo)
      violations.push(`${who} while repaired up to ${this.#repairedTo}`);
    else if (extentLimit === region.extentCount - 1) {
      this.#repairedTo = null;
      this.#wasTarget = true;
    }
  }

  /** A source that went away, or opened the extent while it was copied: the real one finds out at the end, too. */
  mayCopy(message: MessageOf<"ExtentLiveRepair">): boolean {
    const source = this.#replica.peers[message.sourceClientId]!;
    return !source.isDown && source.extents[message.extentId]!.closed;
  }
  perform(message: LiveMessage): void {
    const replica = this.#replica;
    const { extentId } = message;
    const extent = replica.extents[extentId]!;
    const mustBeClosed = message.kind === "ExtentLiveRepair" || message.kind === "ExtentLiveReopen";
    if (extent.closed !== mustBeClosed)
      replica.violations.push(
        `${message.kind} of extent ${extentId}, which is ${extent.closed ? "closed" : "open"}`,
      );
    switch (message.kind) {
      case "ExtentLiveFlushClose":
        if (!extent.closed) replica.flush(message.flushNumber, message.generation, extentId);
        extent.closed = true;
        return;
      case "ExtentLiveClose":
        extent.closed = true;
        return;
      case "ExtentLiveRepair":
        replica.copyExtent(extentId, replica.peers[message.sourceClientId]!);
        return;
      case "ExtentLiveReopen":
        extent.closed = false;
        if (this.#repairedTo !== null) this.#repairedTo = extentId;
    }
  }
}
