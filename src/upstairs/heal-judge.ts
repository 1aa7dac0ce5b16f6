// Which of three copies of a block is to be kept. Pure: no memory, no replica.
//
// The copies were read in one moment: the reads were given their ids together, and each replica does what was submitted before
// them first, and nothing that was submitted later. So all of them should be the same, flushed or not, and any
// difference is damage. What is decided:
//
//   1. A copy that does not agree with its hash, or could not be read, is never kept.
//   2. A written copy is kept rather than "never written", whatever the numbers: a block with a hash that fits was once written, and
//      what is missing elsewhere was lost there. Nothing makes a block that was never written look written.
//   3. Of different good copies the one that two replicas have is kept.
//   4. If they all differ, the one of the lowest replica, which is how reconciliation decides between equal numbers. No
//      choice can be shown to be right then; but any keeps no promise less than before, when a read returned
//      one or the other as it happened to be asked, and afterwards reads agree.
//   5. "Never written" alone against one copy that was written and is damaged: nobody knows. Two that say so are believed.

/** What a replica has of a block. */
export const Copy = {
  /** It was not asked. */
  none: 0,
  /** It could not be read, or cannot be: data under no context, a context of another kind of region. */
  unreadable: 1,
  /** It has a context, with which its data does not agree. */
  damaged: 2,
  /** Never written, and all zeros. */
  empty: 3,
  /** Written, and as it was. */
  good: 4,
} as const;

/** In an answer: no copy can be kept. Other answers are the replica whose copy it is, plus UNSURE if nothing speaks for it against another. */
export const LOST = -1;
export const UNSURE = 4;
/** In an answer: all that were asked have the same. */
export const SAME = 8;

/** `copies`: one Copy per replica. `same(a, b)`: whether these two, both good, have the same context. */
export function judgeCopies(
  copies: ArrayLike<number>,
  same: (a: number, b: number) => boolean,
): number {
  const count = copies.length;
  let winner = LOST;
  let votes = 0;
  let isTie = false;
  let asked = 0;
  let empties = 0;
  let firstEmpty = LOST;
  let isDamaged = false;
  for (let a = 0; a < count; a++) {
    const copy = copies[a]!;
    if (copy !== Copy.none) asked += 1;
    if (copy === Copy.damaged) isDamaged = true;
    if (copy === Copy.empty) {
      empties += 1;
      if (firstEmpty === LOST) firstEmpty = a;
    }
    if (copy !== Copy.good) continue;
    let mine = 0;
    for (let b = 0; b < count; b++)
      if (copies[b] === Copy.good && (a === b || same(a, b))) mine += 1;
    if (mine > votes) {
      winner = a;
      votes = mine;
      isTie = false;
    } else if (mine === votes && !same(winner, a)) isTie = true;
  }
  if (winner !== LOST) {
    if (votes === asked) return SAME;
    return isTie ? winner + UNSURE : winner;
  }
  if (empties === 0) return LOST;
  if (empties === asked) return SAME;
  return isDamaged && empties === 1 ? LOST : firstEmpty;
}
