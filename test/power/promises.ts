import type { Message, MessageOf } from "../../src/crucible/messages.js";
import type { RegionDefinition } from "../../src/crucible/region-definition.js";
import { type Conversation, Conversations } from "./conversation.js";
import { type Found, keyOf } from "./open.js";
import { Kind, type Moment } from "./recording.js";

type Version = { readonly key: string; readonly epoch: number };
/** An extent that from now on may be found in the place of the one before. */
export interface Replacement {
  readonly extent: number;
  readonly found: Found;
}
type Range = { readonly from: number; readonly to: number };
/** What an answer to a job or a step of a repair will promise. */
type Pending = {
  readonly number: number;
  readonly floors: readonly (readonly [block: number, version: number])[];
  readonly numbers: readonly (readonly [extent: number, flushNumber: number])[];
};

/**
 * What a region may hold after a power cut, told by nothing but what its program heard and said. A block must show what
 * an answered flush covers or something newer; an extent must carry at least the answered number; one that is clean must hold exactly
 * what its number stands for; an extent that was replaced must be the old one or the new one, as a whole. Writes that
 * were not answered when an extent is replaced are taken to wait for the end of that.
 */
export class Promises {
  readonly #region: RegionDefinition;
  readonly #conversations = new Conversations();
  readonly #versions: Version[][];
  readonly #floor: number[];
  /** What the program holds: one version, or one of several after it was killed. */
  #now: Range[];
  readonly #numbers: number[];
  /** Number of the newest flush that was sent and had something to cover. */
  readonly #sent: number[];
  readonly #dirty = new Set<number>();
  /** By "extent/number": what a clean extent may hold. */
  readonly #exact = new Map<string, (readonly Range[])[]>();
  readonly #jobs = new Map<string, Pending>();
  readonly #names = new Map<Conversation, number>();
  /** Writes that were not answered yet, and by block the newest one that was. */
  readonly #under = new Map<string, readonly (readonly [block: number, version: number])[]>();
  readonly #acknowledged: number[];
  /** How often an extent was replaced; each time all of its blocks get a version. */
  readonly #epochs: number[];
  /** The next acknowledgement of a repaired extent makes this certain. */
  readonly #replaced: (Pending | undefined)[] = [];
  #isImporting = false;
  /** True once it is certain that there is a region at all. */
  exists = false;
  flushes = 0;
  writes = 0;
  repairs = 0;

  constructor(region: RegionDefinition) {
    this.#region = region;
    const blocks = region.extentSize * region.extentCount;
    const fresh = keyOf(Buffer.alloc(region.blockSize), Buffer.alloc(4));
    this.#versions = Array.from({ length: blocks }, () => [{ key: fresh, epoch: 0 }]);
    this.#floor = new Array(blocks).fill(0);
    this.#now = new Array(blocks).fill({ from: 0, to: 0 });
    this.#acknowledged = new Array(blocks).fill(0);
    this.#numbers = new Array(region.extentCount).fill(0);
    this.#sent = new Array(region.extentCount).fill(0);
    this.#epochs = new Array(region.extentCount).fill(0);
    for (let extent = 0; extent < region.extentCount; extent++) this.#keep(extent, 0);
  }

  /** `replaced`: what is in an extent file that has just got its name as a replacement. */
  apply(moment: Moment, replaced: (moment: Moment) => readonly Replacement[]): void {
    this.#conversations.apply(moment, (connection, message, said) => {
      if (message === null) this.#left(connection);
      else if (said) this.#answered(connection, message);
      else this.#asked(connection, message);
    });
    const { kind, path } = moment.call;
    for (const { extent, found } of replaced(moment)) this.#replace(extent, found);
    if (kind === Kind.marker) this.#marked(path);
  }
  #marked(text: string): void {
    if (text.startsWith("exit ")) this.#died();
    if (text === "created" || text === "imported") this.exists = true;
    // Until it has ended there is no region, or one that is fresh or filled as a whole.
    if (text === "importing") this.exists = false;
    if (text === "importing" || text === "imported") this.#isImporting = text === "importing";
    if (text === "cloned" || text === "imported")
      for (let extent = 0; extent < this.#region.extentCount; extent++) this.#repaired(extent);
  }

  #asked(connection: Conversation, message: Message): void {
    if (message.kind === "Write") this.#write(connection, message);
    else if (message.kind === "WriteUnwritten") throw new Error("such a write was not foreseen");
    else if (message.kind === "Flush") this.#flush(connection, message);
    else if (message.kind === "ExtentFlush" || message.kind === "ExtentLiveFlushClose") {
      const id = message.kind === "ExtentFlush" ? `r${message.repairId}` : message.jobId;
      const number = message.flushNumber as number;
      this.#jobs.set(this.#name(connection, id), this.#cover(number, [message.extentId as number]));
    } else if (message.kind === "ExtentRepair" || message.kind === "ExtentLiveRepair") {
      const id = message.kind === "ExtentRepair" ? `r${message.repairId}` : message.jobId;
      this.#repairs.set(this.#name(connection, id), message.extentId as number);
    }
  }
  readonly #repairs = new Map<string, number>();

  #answered(connection: Conversation, message: Message): void {
    switch (message.kind) {
      case "WriteAck":
        if (message.result.ok) this.#written(this.#name(connection, message.jobId));
        break;
      case "FlushAck":
      case "ExtentLiveCloseAck":
        if (message.result.ok) this.#promised(this.#name(connection, message.jobId));
        break;
      case "RepairAckId":
        this.#promised(this.#name(connection, `r${message.repairId}`));
        break;
      case "ExtentLiveRepairAckId":
        if (message.result.ok) this.#promised(this.#name(connection, message.jobId));
        break;
      default:
        break;
    }
  }
  #promised(name: string): void {
    const pending = this.#jobs.get(name);
    if (pending !== undefined) this.#fulfil(pending);
    this.#jobs.delete(name);
    const extent = this.#repairs.get(name);
    if (extent !== undefined) this.#repaired(extent);
    this.#repairs.delete(name);
  }
  #repaired(extent: number): void {
    const pending = this.#replaced[extent];
    if (pending === undefined) throw new Error(`extent ${extent} was repaired, but not replaced`);
    this.#fulfil(pending);
    this.repairs += 1;
  }
  #fulfil({ floors, numbers }: Pending): void {
    for (const [block, version] of floors)
      this.#floor[block] = Math.max(this.#floor[block]!, version);
    for (const [extent, number] of numbers)
      this.#numbers[extent] = Math.max(this.#numbers[extent]!, number);
  }

  #written(name: string): void {
    for (const [block, version] of this.#under.get(name) ?? [])
      this.#acknowledged[block] = Math.max(this.#acknowledged[block]!, version);
    this.#under.delete(name);
  }
  #write(connection: Conversation, message: MessageOf<"Write">): void {
    const { blockSize, extentSize } = this.#region;
    const under: [number, number][] = [];
    for (const [i, context] of message.contexts.entries()) {
      const block = (message.start as number) + i;
      const data = message.data.subarray(i * blockSize, (i + 1) * blockSize);
      this.#add(block, keyOf(Buffer.from(data), readForm(context)));
      this.#dirty.add(Math.floor(block / extentSize));
      under.push([block, this.#now[block]!.to]);
    }
    this.#under.set(this.#name(connection, message.jobId), under);
    this.writes += 1;
  }
  #add(block: number, key: string): void {
    const versions = this.#versions[block]!;
    const epoch = this.#epochs[Math.floor(block / this.#region.extentSize)]!;
    const index = versions.push({ key, epoch }) - 1;
    this.#now[block] = { from: index, to: index };
  }
  #flush(connection: Conversation, message: MessageOf<"Flush">): void {
    const limit = (message.extentLimit ?? this.#region.extentCount) as number;
    const extents = Array.from({ length: this.#region.extentCount }, (_, e) => e);
    const covered = this.#cover(
      message.flushNumber as number,
      extents.filter((e) => e <= limit),
    );
    this.#jobs.set(this.#name(connection, message.jobId), covered);
    this.flushes += 1;
  }
  #cover(number: number, extents: readonly number[]): Pending {
    const { extentSize } = this.#region;
    const floors: [number, number][] = [];
    const numbers: [number, number][] = [];
    for (const extent of extents) {
      this.#keep(extent, number);
      if (this.#dirty.delete(extent)) this.#sent[extent] = number;
      numbers.push([extent, this.#sent[extent]!]);
      for (let block = extent * extentSize; block < (extent + 1) * extentSize; block++)
        floors.push([block, this.#now[block]!.from]);
    }
    return { number, floors, numbers };
  }
  #keep(extent: number, number: number): void {
    const { extentSize } = this.#region;
    const name = `${extent}/${number}`;
    const known = this.#exact.get(name) ?? [];
    known.push(this.#now.slice(extent * extentSize, (extent + 1) * extentSize));
    this.#exact.set(name, known);
  }

  /** From here on either file may be found. Which promises hold then is decided by the lower number. */
  #replace(extent: number, found: Found): void {
    const { extentSize } = this.#region;
    const first = extent * extentSize;
    this.#epochs[extent]! += 1;
    const floors: [number, number][] = [];
    for (let block = first; block < first + extentSize; block++) {
      this.#add(block, found.keys[block]!);
      floors.push([block, this.#now[block]!.to]);
    }
    const { flushNumber, dirty } = found.extents[extent]!;
    this.#keep(extent, flushNumber);
    this.#numbers[extent] = Math.min(this.#numbers[extent]!, flushNumber);
    this.#sent[extent] = flushNumber;
    const isWritten = this.#writtenLater(first, first + extentSize);
    // With a flush under way nobody knows whether it or the next one will find something to do.
    if ((dirty || isWritten) && this.#jobs.size === 0) this.#dirty.add(extent);
    else this.#dirty.delete(extent);
    // A flush that came before may be carried out on either.
    for (const [name, job] of this.#jobs) {
      this.#keep(extent, job.number);
      this.#jobs.set(name, { ...job, numbers: job.numbers.filter(([e]) => e !== extent) });
    }
    this.#replaced[extent] = { number: flushNumber, floors, numbers: [[extent, flushNumber]] };
  }
  /** Writes that wait for the end of a repair come after what it brings. */
  #writtenLater(first: number, end: number): boolean {
    let found = false;
    for (const [name, blocks] of this.#under) {
      const moved = blocks.map(([block, version]): [number, number] => {
        if (block < first || block >= end) return [block, version];
        const from = this.#now[block]!.from;
        this.#add(block, this.#versions[block]![version]!.key);
        const { to } = this.#now[block]!;
        // Some of them may be covered by a flush and others not.
        this.#now[block] = { from, to };
        found = true;
        return [block, to];
      });
      this.#under.set(name, moved);
    }
    return found;
  }

  /** What was not answered may have been done or not. */
  #left(connection: Conversation): void {
    const prefix = `${this.#names.get(connection)}/`;
    for (const [name, blocks] of this.#under)
      if (name.startsWith(prefix))
        for (const [block] of blocks) {
          const from = Math.max(this.#floor[block]!, this.#acknowledged[block]!);
          this.#now[block] = { from, to: this.#versions[block]!.length - 1 };
        }
    for (const map of [this.#jobs, this.#repairs, this.#under])
      for (const name of map.keys()) if (name.startsWith(prefix)) map.delete(name);
  }
  #died(): void {
    this.#now = this.#versions.map((versions, block) => ({
      from: this.#floor[block]!,
      to: versions.length - 1,
    }));
    this.#dirty.clear();
    for (const [extent, number] of this.#numbers.entries()) this.#sent[extent] = number;
  }
  #name(connection: Conversation, id: number | string): string {
    let number = this.#names.get(connection);
    if (number === undefined) {
      number = this.#names.size;
      this.#names.set(connection, number);
    }
    return `${number}/${id}`;
  }

  /** What is wrong with what was found; null: nothing. */
  complaint(found: Found): string | null {
    const { extentSize } = this.#region;
    const numbers = new Set(found.extents.map(({ flushNumber }) => flushNumber));
    if (this.#isImporting && numbers.size > 1) return "a part was imported, a part was not";
    for (const [extent, { flushNumber, dirty }] of found.extents.entries()) {
      if (flushNumber < this.#numbers[extent]!)
        return `extent ${extent}: flush ${this.#numbers[extent]} was acknowledged, ${flushNumber} is there`;
      const keys = found.keys.slice(extent * extentSize, (extent + 1) * extentSize);
      const wrong = this.#wrongBlock(extent, keys);
      if (wrong !== null) return wrong;
      if (!dirty) {
        const known = this.#exact.get(`${extent}/${flushNumber}`) ?? [];
        const fits = known.some((ranges) =>
          keys.every((key, i) => this.#in(extent, i, key, ranges[i]!)),
        );
        if (!fits)
          return `extent ${extent}: clean at flush ${flushNumber}, but not what that stood for`;
      }
      if (!this.#oneEpoch(extent, keys))
        return `extent ${extent}: a part of it was replaced, a part was not`;
    }
    return null;
  }
  #in(extent: number, i: number, key: string, range: Range): boolean {
    const versions = this.#versions[extent * this.#region.extentSize + i]!;
    for (let v = range.from; v <= range.to; v++) if (versions[v]!.key === key) return true;
    return false;
  }
  #wrongBlock(extent: number, keys: readonly string[]): string | null {
    for (const [i, key] of keys.entries()) {
      const block = extent * this.#region.extentSize + i;
      const versions = this.#versions[block]!;
      const from = this.#floor[block]!;
      if (this.#in(extent, i, key, { from, to: versions.length - 1 })) continue;
      const older = versions.findIndex((version) => version.key === key);
      const what = older < 0 ? "something never written" : `version ${older}`;
      return `block ${block}: ${what} is there, expected ${from} to ${versions.length - 1}`;
    }
    return null;
  }
  #oneEpoch(extent: number, keys: readonly string[]): boolean {
    const fits = (epoch: number): boolean =>
      keys.every((key, i) => {
        const block = extent * this.#region.extentSize + i;
        const from = this.#floor[block]!;
        const versions = this.#versions[block]!;
        return versions.some((one, v) => v >= from && one.key === key && one.epoch === epoch);
      });
    for (let epoch = this.#epochs[extent]!; epoch >= 0; epoch--) if (fits(epoch)) return true;
    return false;
  }
}

type Context = MessageOf<"Write">["contexts"][number];
/** As a read answers it. */
function readForm(context: Context): Buffer {
  if (context.encryption === null) {
    const bytes = Buffer.from([2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    bytes.writeBigUInt64LE(context.hash, 4);
    return bytes;
  }
  return Buffer.concat([
    Buffer.from([1, 0, 0, 0]),
    context.encryption.nonce,
    context.encryption.tag,
  ]);
}
