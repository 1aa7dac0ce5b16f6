import { Grade, type Judgement } from "./judge-block.js";

// Which of several copies of a block is to be believed, and how far. Copies come in the order in which reconciliation
// would choose them (generation, then flush number, then a dirty one over a clean one; those of unknown age last).
//
// Copies of one age and one dirty state form a rank. From the highest rank on, the first of these that there is:
//
//   data that fits the context in use           if copies differ: what most of them hold
//   data of a copy of the same age, without contexts, that fits the context in use of a clean one
//   data that fits a context not in use         but if that was lately overwritten, what overwrote it, where it can be found
//   data of any copy that fits the only context of a clean one: known by its hash, wherever it lies
//   never written                               unless a copy of the same age knows better
//
// then the next rank. Last of all: data of any copy that fits any context of another, and copies that say "never
// written" but show traces of a write.

/** One copy of an extent. */
export interface CopyAge {
  /** Copies of one replica are one witness, however many files it left. */
  readonly replica: number;
  /** False: the metadata record is damaged, or its numbers do not describe what the file holds. */
  readonly known: boolean;
  readonly generation: bigint;
  readonly flushNumber: number;
  readonly dirty: boolean;
}

export interface SlotEvidence {
  /** XXH64 of the data that the slot was written for. */
  readonly hash: bigint;
  /** Low 16 bits of the extent's flush number when the slot was written. */
  readonly flushId: number;
}

/** What one copy says about one block. */
export interface BlockEvidence {
  readonly judged: Judgement;
  /** XXH64 of the data as it lies there; −1n: it could not be read. */
  readonly hash: bigint;
  /** Undefined: the slot is empty or cannot be decoded. */
  readonly slots: readonly [SlotEvidence | undefined, SlotEvidence | undefined];
  /** Which slot the bitmap of a clean extent names. */
  readonly active: 0 | 1 | undefined;
  /** False: there is something, but it is no slot. */
  readonly legible: readonly [boolean, boolean];
}

/** Why a block cannot be proved right, the gravest first. */
export const DOUBTS = [
  "gone",
  "older",
  "age-unknown",
  "weak",
  "differ",
  "contradicted",
  "single",
  "dirty",
] as const;
export type Doubt = (typeof DOUBTS)[number];

export interface Choice {
  /** Whose word it is; −1: gone. */
  readonly copy: number;
  /** Where the data lies: mostly the same copy. */
  readonly data: number;
  /** The slot that describes it, in `copy`. */
  readonly array: 0 | 1;
  readonly written: boolean;
  /** Undefined: it is proved. */
  readonly doubt: Doubt | undefined;
}

const GONE: Choice = { copy: -1, data: -1, array: 0, written: false, doubt: "gone" };

export const sameAge = (a: CopyAge, b: CopyAge): boolean =>
  a.known && b.known && a.generation === b.generation && a.flushNumber === b.flushNumber;
const sameRank = (a: CopyAge, b: CopyAge): boolean =>
  a.known === b.known && (!a.known || (sameAge(a, b) && a.dirty === b.dirty));

/** Orders copies for `chooseBlock`: negative when `a` is ahead. */
export function compareAges(a: CopyAge, b: CopyAge): number {
  if (a.known !== b.known) return a.known ? -1 : 1;
  if (!a.known) return 0;
  if (a.generation !== b.generation) return a.generation > b.generation ? -1 : 1;
  if (a.flushNumber !== b.flushNumber) return b.flushNumber - a.flushNumber;
  return Number(b.dirty) - Number(a.dirty);
}

/**
 * `quorum`: the ages of two replicas are known, or only one was ever asked about; then the highest age is that of the last
 * acknowledged flush or above. `fits(data, copy, array)`: the data of one copy agrees with the whole context of
 * another's slot; asked only when the disk hash agrees.
 */
export function chooseBlock(
  copies: readonly CopyAge[],
  evidence: readonly BlockEvidence[],
  quorum: boolean,
  fits: (data: number, copy: number, array: 0 | 1) => boolean,
): Choice {
  const chooser = new Chooser(copies, evidence, quorum, fits);
  return chooser.choose();
}

class Chooser {
  readonly #copies: readonly CopyAge[];
  readonly #evidence: readonly BlockEvidence[];
  readonly #quorum: boolean;
  readonly #fits: (data: number, copy: number, array: 0 | 1) => boolean;

  constructor(
    copies: readonly CopyAge[],
    evidence: readonly BlockEvidence[],
    quorum: boolean,
    fits: (data: number, copy: number, array: 0 | 1) => boolean,
  ) {
    this.#copies = copies;
    this.#evidence = evidence;
    this.#quorum = quorum;
    this.#fits = fits;
  }

  choose(): Choice {
    const count = this.#copies.length;
    for (let from = 0; from < count; ) {
      let to = from + 1;
      while (to < count && sameRank(this.#copies[from]!, this.#copies[to]!)) to += 1;
      const found = this.#inRank(from, to);
      if (found !== undefined) return found;
      from = to;
    }
    for (let copy = 0; copy < count; copy++) {
      const { active = 0 } = this.#evidence[copy]!;
      for (const array of [active, active === 0 ? 1 : 0] as const) {
        const found = this.#elsewhere(copy, array, Grade.weak, () => true);
        if (found !== undefined) return found;
      }
    }
    const traces = this.#evidence.findIndex(({ judged }) => judged.grade === Grade.weak);
    return traces < 0 ? GONE : this.#own(traces);
  }

  #inRank(from: number, to: number): Choice | undefined {
    const good = this.#majority(from, to);
    if (good >= 0) return this.#own(good);
    const ofThisAge = this.#inUseElsewhere(
      from,
      to,
      (data, copy) =>
        sameAge(this.#copies[data]!, this.#copies[copy]!) && !this.#namesAnything(data),
    );
    if (ofThisAge !== undefined) return ofThisAge;
    const weak = this.#first(from, to, Grade.weak, true);
    if (weak >= 0) return this.#lostWrite(weak) ?? this.#own(weak);
    // A bitmap may be wrong as well: then an older copy could hold what its bit names, which is no longer true.
    const ofAnyAge = this.#inUseElsewhere(from, to, (_, copy) => this.#hasOnlyOneSlot(copy));
    if (ofAnyAge !== undefined) return ofAnyAge;
    const empty = this.#first(from, to, Grade.good, false);
    if (empty >= 0) {
      const wiser = this.#evidence.findIndex(
        ({ judged }, copy) =>
          judged.written &&
          judged.grade === Grade.good &&
          sameAge(this.#copies[copy]!, this.#copies[empty]!),
      );
      return this.#own(wiser >= 0 ? wiser : empty);
    }
    return undefined;
  }

  #inUseElsewhere(
    from: number,
    to: number,
    allowed: (data: number, copy: number) => boolean,
  ): Choice | undefined {
    for (let copy = from; copy < to; copy++) {
      const { active } = this.#evidence[copy]!;
      if (active === undefined) continue;
      const found = this.#elsewhere(copy, active, Grade.good, allowed);
      if (found !== undefined) return found;
    }
    return undefined;
  }
  /** A copy whose bitmap leads to a legible context says what its data should be: if it is not that, it is no proof. */
  #namesAnything(copy: number): boolean {
    const { active, slots } = this.#evidence[copy]!;
    return active !== undefined && slots[active] !== undefined;
  }
  #hasOnlyOneSlot(copy: number): boolean {
    const { slots, legible } = this.#evidence[copy]!;
    const [a, b] = slots;
    if (a !== undefined && b !== undefined) return a.hash === b.hash;
    return legible[0] && legible[1];
  }

  /**
   * Among good written copies of a rank, one of those whose data most of them hold; of several such, the one written
   * last, the first if that says nothing. −1: none is good.
   */
  #majority(from: number, to: number): number {
    let best = -1;
    let bestVotes = 0;
    let bestLag = 0;
    for (let copy = from; copy < to; copy++) {
      const { judged, hash } = this.#evidence[copy]!;
      if (judged.grade !== Grade.good || !judged.written) continue;
      const votes = this.#witnesses(hash, from, to);
      const lag = this.#lag(copy, judged.array);
      if (votes > bestVotes || (votes === bestVotes && lag < bestLag)) {
        best = copy;
        bestVotes = votes;
        bestLag = lag;
      }
    }
    return best;
  }

  /** How many flushes ago, modulo 2^16, a slot was written, by what it says itself. */
  #lag(copy: number, array: 0 | 1): number {
    const flushId = this.#evidence[copy]!.slots[array]?.flushId ?? 0;
    return ((this.#copies[copy]!.flushNumber & 0xffff) - flushId) & 0xffff;
  }

  /**
   * The data of a clean copy fits the slot that is not in use. Either the bitmap is wrong, or the last write was lost: then
   * this is where its data still is. The flushes that the slots name decide; two of one flush were both overwritten by
   * what a clean copy holds now.
   */
  #lostWrite(copy: number): Choice | undefined {
    const { judged, slots, active } = this.#evidence[copy]!;
    if (active === undefined || judged.array === active || slots[active] === undefined)
      return undefined;
    const newer = this.#lag(copy, judged.array) - this.#lag(copy, active);
    if (newer < 0 || (newer === 0 && slots[active].flushId === 0)) return undefined;
    return this.#elsewhere(copy, active, Grade.weak, (data) => {
      if (newer > 0) return true;
      const holder = this.#copies[data]!;
      return holder.known && !holder.dirty && this.#evidence[data]!.judged.grade === Grade.good;
    });
  }

  /** Replicas whose copy in the range holds just this data, and is no worse than good. */
  #witnesses(hash: bigint, from: number, to: number): number {
    const replicas = new Set<number>();
    for (let copy = from; copy < to; copy++) {
      const { judged, hash: theirs } = this.#evidence[copy]!;
      if (judged.grade === Grade.good && theirs === hash) replicas.add(this.#copies[copy]!.replica);
    }
    return replicas.size;
  }

  #first(from: number, to: number, grade: Grade, written: boolean): number {
    for (let copy = from; copy < to; copy++) {
      const { judged } = this.#evidence[copy]!;
      if (judged.grade === grade && judged.written === written) return copy;
    }
    return -1;
  }

  /** Data for a slot whose own copy has other data. */
  #elsewhere(
    copy: number,
    array: 0 | 1,
    grade: Grade,
    allowed: (data: number, copy: number) => boolean,
  ): Choice | undefined {
    const slot = this.#evidence[copy]!.slots[array];
    if (slot === undefined) return undefined;
    const data = this.#evidence.findIndex(
      ({ hash }, other) =>
        other !== copy &&
        hash === slot.hash &&
        allowed(other, copy) &&
        this.#fits(other, copy, array),
    );
    if (data < 0) return undefined;
    const doubt = this.#doubt(copy, grade, true, slot.hash, slot.flushId);
    return { copy, data, array, written: true, doubt };
  }

  #own(copy: number): Choice {
    const { judged, hash, slots } = this.#evidence[copy]!;
    const { grade, written, array } = judged;
    const flushId = slots[array]?.flushId ?? 0;
    const doubt = this.#doubt(copy, grade, written, hash, flushId);
    return { copy, data: copy, array, written, doubt };
  }

  #doubt(
    copy: number,
    grade: Grade,
    written: boolean,
    hash: bigint,
    flushId: number,
  ): Doubt | undefined {
    const copies = this.#copies;
    const me = copies[copy]!;
    const others = this.#evidence
      .map((evidence, index) => ({ ...evidence, ...copies[index]!, index }))
      .filter(({ index }) => index !== copy);
    const equals = others.filter((other) => sameAge(other, me));
    const agrees = (other: (typeof others)[number]): boolean =>
      other.replica !== me.replica && other.judged.grade === Grade.good && other.hash === hash;
    const confirmed = others.some(agrees);
    const confirmedByEqual = equals.some(agrees);
    const differing = equals.filter(
      (other) => other.judged.grade === Grade.good && other.hash !== hash,
    );
    if (!me.known) return "age-unknown";
    const isNewest = this.#evidence.some(
      (other, index) =>
        sameRank(copies[index]!, copies[0]!) &&
        (index === copy ||
          (sameAge(copies[index]!, me) && other.judged.grade !== Grade.bad && other.hash === hash)),
    );
    if (!isNewest) return "older";
    if (grade === Grade.weak && !confirmedByEqual) return "weak";
    if (differing.some((other) => other.dirty === me.dirty || other.dirty)) return "differ";
    if (differing.length > 0) return "dirty";
    if (!written && !confirmedByEqual && others.some(({ judged }) => judged.written)) {
      return "contradicted";
    }
    if (!this.#quorum && !confirmed) return "single";
    if (me.dirty && written && !confirmed && !isOlderThanFlush(flushId, me.flushNumber)) {
      return "dirty";
    }
    return undefined;
  }
}

/** A slot that names another flush than the extent's last was written before that. 0 is also what old programs left. */
const isOlderThanFlush = (flushId: number, flushNumber: number): boolean =>
  flushId !== 0 && flushId !== (flushNumber & 0xffff);
