import type { Fault } from "../../../src/base/fault.js";
import type { RegionDefinition } from "../../../src/crucible/region-definition.js";
import type { FakeDisk } from "../../kit/disk.js";
import { plain, Rig, type RigOptions, readForm, sealed, type Value } from "./rig.js";

// What a region may hold, by the contract of the store: the model that random histories are held to.

type Block = {
  /** Everything ever submitted for this block, oldest first; undefined: as if never written. */
  versions: (Value | undefined)[];
  /** Index of the newest version that was acknowledged. */
  done: number;
  /** Index of the newest version that an acknowledged flush covers: nothing older may ever be seen. */
  floor: number;
};

export class Model {
  readonly region: RegionDefinition;
  blocks: Block[];
  /** Makes values different. */
  serial = 0;
  /** Newest acknowledged flush number by extent. */
  flushed: number[];
  /** What a clean extent with a flush number holds: one version index for each of its blocks, by "extent/number". */
  readonly snapshots = new Map<string, { exact: (Value | undefined)[] }>();

  constructor(region: RegionDefinition) {
    this.region = region;
    const count = region.extentSize * region.extentCount;
    this.blocks = Array.from({ length: count }, () => ({
      versions: [undefined],
      done: 0,
      floor: 0,
    }));
    this.flushed = new Array(region.extentCount).fill(0);
    for (let extent = 0; extent < region.extentCount; extent++) this.snapshot(extent, 0);
  }
  current(block: number): Value | undefined {
    const { versions, done } = this.blocks[block]!;
    return versions[done];
  }
  snapshot(extent: number, flushNumber: number): void {
    const from = extent * this.region.extentSize;
    const exact = this.blocks
      .slice(from, from + this.region.extentSize)
      .map(({ versions, done }) => versions[done]);
    this.snapshots.set(`${extent}/${flushNumber}`, { exact });
  }

  /** Opens what is left after a crash and compares; answers what is wrong, or what was found. */
  check(disk: FakeDisk, options: RigOptions): { wrong: string } | { found: (Value | undefined)[] } {
    let rig: Rig;
    try {
      rig = Rig.open(disk, { ...options, latencyMs: 0 });
    } catch (error) {
      return { wrong: `does not open: ${error instanceof Error ? error.message : error}` };
    }
    const found: (Value | undefined)[] = [];
    const { extentSize, extentCount } = this.region;
    for (let extent = 0; extent < extentCount; extent++) {
      const number = rig.store.flushNumber(extent);
      if (number < this.flushed[extent]!)
        return {
          wrong: `extent ${extent}: flush ${this.flushed[extent]} was acknowledged, ${number} is there`,
        };
      const clean = !rig.store.isDirty(extent);
      const snapshot = this.snapshots.get(`${extent}/${number}`);
      if (clean && snapshot === undefined)
        return {
          wrong: `extent ${extent}: clean with flush ${number}, which was never sent to it`,
        };
      for (const [i, seen] of rig.read(extent * extentSize, extentSize).entries()) {
        const block = extent * extentSize + i;
        const { versions, floor } = this.blocks[block]!;
        const fits = (value: Value | undefined): boolean =>
          seen.context.equals(readForm(value)) &&
          (value === undefined
            ? seen.data.every((byte) => byte === 0)
            : seen.data.equals(value.data));
        let index = versions.length - 1;
        while (index >= floor && !fits(versions[index])) index -= 1;
        if (index < floor) {
          const older = versions.findIndex(fits);
          const what = older < 0 ? "something never written" : `version ${older}`;
          return {
            wrong: `block ${block}: ${what} is there, expected ${floor} to ${versions.length - 1}`,
          };
        }
        if (clean && !fits(snapshot!.exact[i]))
          return {
            wrong: `block ${block}: clean at flush ${number}, but not as it was when that was sent`,
          };
        found.push(versions[index]);
      }
    }
    const closing = rig.close();
    return closing === null ? { found } : { wrong: `closing: ${closing.message}` };
  }
  /** After a crash: what was found is what there is. */
  rebase(found: readonly (Value | undefined)[], disk: FakeDisk, options: RigOptions): void {
    for (const [block, value] of found.entries())
      this.blocks[block] = { versions: [value], done: 0, floor: 0 };
    const rig = Rig.open(disk.copy(), { ...options, readOnly: true, latencyMs: 0 });
    this.flushed = this.flushed.map((_, extent) => rig.store.flushNumber(extent));
    this.snapshots.clear();
    for (const [extent, number] of this.flushed.entries())
      if (!rig.store.isDirty(extent)) this.snapshot(extent, number);
  }
}

/** Random work on a store, many jobs at a time, none overlapping; keeps the model true. */
export class Work {
  readonly model: Model;
  readonly rig: Rig;
  readonly #chance: () => number;
  /** Blocks with a job under way. */
  readonly #busy = new Set<number>();
  #flushNumber: number;
  #flushing = 0;
  /** Newest flush number by extent that had something new to cover. */
  readonly #sent: number[] = [];
  #changing = 0;
  readonly faults: string[] = [];

  constructor(model: Model, rig: Rig, chance: () => number, firstNumber: number) {
    this.model = model;
    this.rig = rig;
    this.#chance = chance;
    this.#flushNumber = firstNumber;
  }
  get flushNumber(): number {
    return this.#flushNumber;
  }
  get idle(): boolean {
    return this.#busy.size === 0 && this.#flushing === 0 && this.#changing === 0;
  }
  #below(count: number): number {
    return Math.floor(this.#chance() * count);
  }

  step(): void {
    const dice = this.#chance();
    if (dice < 0.55) this.#write(this.#chance() < 0.2);
    else if (dice < 0.75) this.#read();
    else if (dice < 0.93) this.#flush();
    else this.#closeAndReopen();
  }
  /** A range in which nothing is under way; null when the dice find none. */
  #range(): { start: number; count: number } | null {
    const total = this.model.blocks.length;
    const start = this.#below(total);
    const count = Math.min(total - start, 1 + this.#below(this.#chance() < 0.2 ? 30 : 4));
    for (let block = start; block < start + count; block++) {
      if (this.#busy.has(block)) return null;
      if (this.rig.store.isClosed(Math.floor(block / this.model.region.extentSize))) return null;
    }
    return { start, count };
  }
  #value(block: number): Value {
    const { blockSize } = this.model.region;
    const old = this.model.current(block);
    const dice = this.#chance();
    if (dice < 0.1) return plain(Buffer.alloc(blockSize));
    if (dice < 0.2 && old !== undefined) return old;
    // Never the same data with another context: with a cipher that cannot happen.
    const serial = ++this.model.serial;
    const data = Buffer.alloc(blockSize, `${block} ${serial} `);
    if (this.#chance() < 0.6) return plain(data);
    return sealed(data, Buffer.alloc(28, `seal ${serial}`));
  }
  #write(unwrittenOnly: boolean): void {
    const range = this.#range();
    if (range === null) return;
    const { start, count } = range;
    const values = Array.from({ length: count }, (_, i) => this.#value(start + i));
    const changed: number[] = [];
    for (const [i, value] of values.entries()) {
      const block = start + i;
      this.#busy.add(block);
      if (unwrittenOnly && this.model.current(block) !== undefined) continue;
      this.model.blocks[block]!.versions.push(value);
      changed.push(block);
    }
    this.rig.submitWrite(start, values, unwrittenOnly, (fault) => {
      for (let block = start; block < start + count; block++) this.#busy.delete(block);
      for (const block of changed) {
        const known = this.model.blocks[block]!;
        if (fault === null) known.done = known.versions.length - 1;
        else known.versions.pop();
      }
      this.#failed("write", fault);
    });
  }
  #read(): void {
    const range = this.#range();
    if (range === null) return;
    const { start, count } = range;
    for (let block = start; block < start + count; block++) this.#busy.add(block);
    this.rig.submitRead(start, count, (fault, blocks) => {
      for (let block = start; block < start + count; block++) this.#busy.delete(block);
      this.#failed("read", fault);
      for (const [i, seen] of blocks.entries()) {
        const value = this.model.current(start + i);
        const data = value?.data ?? Buffer.alloc(this.model.region.blockSize);
        if (!seen.data.equals(data) || !seen.context.equals(readForm(value)))
          throw new Error(`block ${start + i} reads as something else than was last written`);
      }
    });
  }
  #flush(): void {
    const { extentCount, extentSize } = this.model.region;
    // Writes that were carried out but not answered in this very turn would be covered or not; a downstairs
    // never has that, because a flush depends on all jobs before it.
    this.rig.world.settle();
    for (let extent = 0; extent < extentCount; extent++)
      if (this.rig.store.isDirty(extent) && (this.rig.store.isClosed(extent) || this.#changing > 0))
        return;
    const limit = this.#chance() < 0.2 ? this.#below(extentCount + 1) : -1;
    const number = ++this.#flushNumber;
    const covered: { block: number; index: number }[] = [];
    const extents: { extent: number; number: number }[] = [];
    for (let extent = 0; extent < extentCount; extent++) {
      if (!this.rig.store.isDirty(extent) || (limit >= 0 && extent > limit)) continue;
      this.model.snapshot(extent, number);
      // With nothing written since a flush that is still under way, that one's number may stay.
      const exact = this.model.snapshots.get(`${extent}/${number}`)!.exact;
      const before = this.model.snapshots.get(`${extent}/${this.#sent[extent]}`)?.exact;
      const same = before !== undefined && exact.every((value, i) => value === before[i]);
      if (!same) this.#sent[extent] = number;
      extents.push({ extent, number: this.#sent[extent]! });
      for (let block = extent * extentSize; block < (extent + 1) * extentSize; block++)
        covered.push({ block, index: this.model.blocks[block]!.done });
    }
    this.#flushing += 1;
    this.rig.store.flush(
      number,
      3n,
      limit,
      {
        storeDone: (_, fault) => {
          this.#flushing -= 1;
          this.#failed("flush", fault);
          if (fault !== null) return;
          for (const { block, index } of covered) {
            const known = this.model.blocks[block]!;
            known.floor = Math.max(known.floor, index);
          }
          for (const one of extents)
            this.model.flushed[one.extent] = Math.max(this.model.flushed[one.extent]!, one.number);
        },
      },
      0,
    );
  }
  #closeAndReopen(): void {
    const { extentCount, extentSize } = this.model.region;
    const extent = this.#below(extentCount);
    if (this.#flushing > 0 || this.rig.store.isClosed(extent)) return;
    const from = extent * extentSize;
    for (let block = from; block < from + extentSize; block++) if (this.#busy.has(block)) return;
    const free = (): void => {
      for (let block = from; block < from + extentSize; block++) this.#busy.delete(block);
      this.#changing -= 1;
    };
    for (let block = from; block < from + extentSize; block++) this.#busy.add(block);
    this.#changing += 1;
    const reopen = (): void =>
      this.rig.store.reopenExtent(extent, (fault) => {
        this.#failed("reopen", fault);
        if (fault === null) free();
        else this.rig.world.after(1, reopen);
      });
    this.rig.store.closeExtent(extent, (fault) => {
      this.#failed("close", fault);
      if (fault === null) reopen();
      else free();
    });
  }
  #failed(what: string, fault: Fault | null): void {
    if (fault !== null) this.faults.push(`${what}: ${fault.code} ${fault.message}`);
  }
}
