import { invariant } from "../../src/base/invariant.js";

// What the volume may hold, sector by sector, given everything that guests asked for and were answered.
//
// Within one life of the volume each sector is a register that must be linearizable (Gibbons and Korach: with values told apart,
// that is so exactly when no two values come before each other). A life ends when another host becomes active. What
// is carried over is one of the values that nothing durable had overwritten; which one, the first read tells.
//
// Time is a count of beginnings and ends of requests, so that "before" is never in doubt.

/** One life of one host's server, as the guests of that host meet it. */
export interface Incarnation {
  readonly name: string;
  /** Counts activations; 0: never active. */
  life: number;
}

interface Value {
  readonly stamp: number;
  /** When the write was asked for, and answered. */
  readonly begun: number;
  acked: number;
  /** Answered as stable. */
  stable: boolean;
  /** Earliest end and latest beginning of the write and the reads that saw it. */
  minEnd: number;
  maxStart: number;
  /** As it was in the life before, for what that life's host still answers late. */
  before: { readonly acked: number; readonly minEnd: number; readonly maxStart: number } | null;
}

interface Sector {
  /** Of this life, in the order in which they were asked for. */
  values: Value[];
  /** Carried over: one of them is there. */
  carried: Value[];
}

export interface WriteRecord {
  readonly from: string;
  readonly stamp: number;
  readonly life: number;
  readonly sector: number;
  readonly count: number;
  readonly begun: number;
  values: readonly Value[];
  readonly stable: boolean;
}
export interface ReadRecord {
  readonly life: number;
  readonly sector: number;
  readonly count: number;
  readonly begun: number;
}

const NEVER = Number.POSITIVE_INFINITY;
const PRUNE_FROM = 6;

export class VolumeModel {
  readonly sectors: Sector[];
  readonly broken: string[] = [];
  counts = { reads: 0, writes: 0, flushes: 0, lives: 0, undecided: 0 };
  #now = 1;
  #life = 0;
  #lifeBegan = 0;
  #owner: Incarnation | null = null;
  /** Writes answered before this moment are stable. */
  #flushed = 0;
  /** Beginnings of reads under way. */
  readonly #reading = new Set<ReadRecord>();
  readonly #stamps: (WriteRecord | undefined)[] = [undefined];

  constructor(sectorCount: number) {
    this.sectors = Array.from({ length: sectorCount }, () => {
      const zeros = value(0, 0, 0);
      zeros.stable = true;
      return { values: [], carried: [zeros] };
    });
  }

  get owner(): Incarnation | null {
    return this.#owner;
  }
  isOwner(life: number): boolean {
    return life === this.#life;
  }

  /** Stamp 0: zeros. */
  beginWrite(
    by: Incarnation,
    sector: number,
    count: number,
    zeros: boolean,
    stable: boolean,
  ): WriteRecord {
    const begun = ++this.#now;
    const stamp = zeros ? 0 : this.#stamps.length;
    const record: WriteRecord = {
      from: by.name,
      stamp,
      life: by.life,
      sector,
      count,
      begun,
      values: [],
      stable,
    };
    if (!zeros) this.#stamps.push(record);
    // Asked of a host that was thrown out: it must never be seen.
    if (by.life === this.#life) {
      const values: Value[] = [];
      for (let i = sector; i < sector + count; i++) {
        const one = value(stamp, begun, NEVER);
        const known = this.sectors[i]!;
        known.values.push(one);
        if (known.values.length >= PRUNE_FROM) this.#prune(known);
        values.push(one);
      }
      record.values = values;
    }
    return record;
  }
  endWrite(record: WriteRecord): void {
    const now = ++this.#now;
    this.counts.writes += 1;
    if (record.life !== this.#life) {
      if (record.values.length === 0)
        this.#fail(
          `${record.from}, superseded, acknowledged a write to sector ${record.sector} asked for after another host was active`,
        );
      else if (record.stable && record.stamp > 0)
        this.#late(record.life, (one) => one.stamp === record.stamp);
      return;
    }
    for (const one of record.values) {
      one.acked = now;
      one.stable = record.stable;
      if (one.minEnd > now) one.minEnd = now;
    }
  }

  beginFlush(): number {
    return ++this.#now;
  }
  endFlush(life: number, begun: number): void {
    this.#now += 1;
    this.counts.flushes += 1;
    if (life === this.#life) this.#flushed = Math.max(this.#flushed, begun);
    else this.#late(life, (one) => (one.before?.acked ?? one.acked) < begun);
  }
  /** An orderly stop without a fault: everything answered is stable. */
  stopped(life: number): void {
    if (life === this.#life) this.#flushed = ++this.#now;
  }

  beginRead(by: Incarnation, sector: number, count: number): ReadRecord {
    const record = { life: by.life, sector, count, begun: ++this.#now };
    this.#reading.add(record);
    return record;
  }
  forgetRead(record: ReadRecord): void {
    this.#reading.delete(record);
  }
  /** Whether a write with this stamp was ever asked for there. */
  knows(stamp: number, sector: number): boolean {
    const record = this.#stamps[stamp];
    return record !== undefined && sector >= record.sector && sector < record.sector + record.count;
  }
  /** `stampAt(i)`: what the i-th sector of the answer holds; −1: nothing that was ever written there. */
  endRead(record: ReadRecord, stampAt: (index: number) => number): void {
    const end = ++this.#now;
    this.counts.reads += 1;
    this.#reading.delete(record);
    // What a superseded host reads may be old; it must only not be nonsense.
    const isOwner = record.life === this.#life;
    for (let i = 0; i < record.count; i++) {
      const stamp = stampAt(i);
      const sector = record.sector + i;
      if (stamp < 0) this.#fail(`sector ${sector} read as something never written to it`);
      else if (isOwner) this.#saw(sector, stamp, record.begun, end);
    }
  }

  #saw(index: number, stamp: number, begun: number, end: number): void {
    const sector = this.sectors[index]!;
    let found: Value | null = null;
    let several = false;
    for (const list of [sector.carried, sector.values])
      for (const one of list) {
        if (one.stamp !== stamp || this.#conflict(sector, one, begun, end) !== null) continue;
        several = found !== null;
        found ??= one;
      }
    if (found === null) {
      this.#fail(
        `sector ${index} read as ${this.#whatIs(stamp)}: ${this.#why(index, stamp, begun, end)}`,
      );
      return;
    }
    if (several) return;
    found.minEnd = Math.min(found.minEnd, end);
    found.maxStart = Math.max(found.maxStart, begun);
    if (sector.carried.length > 1 && sector.carried.includes(found)) sector.carried = [found];
  }
  /** A value that would have to come both before and after this one. */
  #conflict(sector: Sector, one: Value, begun: number, end: number): Value | null {
    const minEnd = Math.min(one.minEnd, end);
    const maxStart = Math.max(one.maxStart, begun);
    for (const other of sector.values)
      if (other !== one && other.minEnd < maxStart && minEnd < other.maxStart) return other;
    for (const other of sector.carried)
      if (other !== one && other.minEnd < maxStart && minEnd < other.maxStart) return other;
    return null;
  }

  /** `keepsAnswered`: the host that ends has left its log, so nothing that it answered is lost. */
  activated(by: Incarnation, keepsAnswered: boolean): void {
    const now = ++this.#now;
    for (const sector of this.sectors) {
      const all = [...sector.carried, ...sector.values];
      // What is carried over by way of a reconciliation is the same on every replica, and stays.
      const fromBefore = sector.carried.length === 1;
      const durable = all.filter(
        (one, i) =>
          (fromBefore && i === 0) ||
          (one.acked < NEVER &&
            i >= sector.carried.length &&
            (keepsAnswered || one.stable || one.acked < this.#flushed)),
      );
      sector.carried = all
        .filter((one) => !durable.some((later) => later !== one && one.minEnd < later.maxStart))
        .map((one) => carriedOver(one, now));
      sector.values = [];
      if (sector.carried.length > 1) this.counts.undecided += 1;
    }
    this.#life += 1;
    by.life = this.#life;
    this.#lifeBegan = now;
    this.#owner = by;
    this.counts.lives += 1;
  }

  /** The host before answered late that something is stable: what it has overwritten cannot have been carried over. */
  #late(life: number, isStable: (one: Value) => boolean): void {
    if (life !== this.#life - 1) return;
    for (const [index, sector] of this.sectors.entries()) {
      const durable = sector.carried.filter(isStable);
      if (durable.length === 0) continue;
      const left = sector.carried.filter(
        (one) => !durable.some((later) => later !== one && precedes(one, later)),
      );
      if (left.length > 0) sector.carried = left;
      else this.#fail(`sector ${index} lost what the host before had made stable`);
    }
  }

  #prune(sector: Sector): void {
    let oldest = this.#now;
    for (const { begun } of this.#reading) oldest = Math.min(oldest, begun);
    const durable = sector.values.filter(
      (one) => (one.stable || one.acked < this.#flushed) && one.minEnd < oldest,
    );
    if (durable.length === 0) return;
    const stays = (one: Value): boolean =>
      !durable.some((later) => later !== one && one.minEnd < later.begun);
    sector.values = sector.values.filter(stays);
    sector.carried = sector.carried.filter(stays);
  }

  #fail(text: string): void {
    if (this.broken.length < 20) this.broken.push(text);
  }
  #whatIs(stamp: number): string {
    if (stamp === 0) return "zeros";
    const record = this.#stamps[stamp];
    invariant(record !== undefined, "stamps are known");
    return `write ${stamp} (${record.from}, begun ${record.begun})`;
  }
  #why(index: number, stamp: number, begun: number, end: number): string {
    const sector = this.sectors[index]!;
    const all = [...sector.carried, ...sector.values];
    const one = all.find((known) => known.stamp === stamp);
    const may = all.map((known) => this.#show(known)).join(", ");
    if (one === undefined) {
      const record = this.#stamps[stamp];
      if (record !== undefined && record.life < this.#life && record.values.length === 0)
        return "it was asked of a superseded host after another was active";
      return `it was overwritten for good, or lost with an earlier life (began ${this.#lifeBegan}); possible are ${may}; read ${begun} to ${end}`;
    }
    const other = this.#conflict(sector, one, begun, end)!;
    return `but ${this.#show(other)} came in between; possible are ${may}; read ${begun} to ${end}`;
  }
  #show(one: Value): string {
    const what = one.stamp === 0 ? "zeros" : `write ${one.stamp}`;
    return `${what} [${one.begun}..${one.acked}]`;
  }
  describe(index: number): string {
    const { carried, values } = this.sectors[index]!;
    return `carried ${carried.map((v) => this.#show(v)).join(" ")}; ${values.map((v) => this.#show(v)).join(" ")}`;
  }
}

const value = (stamp: number, begun: number, acked: number): Value => ({
  stamp,
  begun,
  acked,
  stable: false,
  minEnd: acked,
  maxStart: begun,
  before: null,
});
const carriedOver = (one: Value, now: number): Value => ({
  stamp: one.stamp,
  begun: now,
  acked: now,
  stable: true,
  minEnd: now,
  maxStart: now,
  before: { acked: one.acked, minEnd: one.minEnd, maxStart: one.maxStart },
});
const precedes = (one: Value, later: Value): boolean =>
  (one.before?.minEnd ?? one.minEnd) < (later.before?.maxStart ?? later.maxStart);
