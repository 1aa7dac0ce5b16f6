/** A reusable list of job ids: filled, brought into order, read, cleared. Grows, never shrinks; nothing is allocated per use. */
export class IdList {
  ids = new Float64Array(256);
  count = 0;
  /** False as soon as an id was pushed that is not above the one before it. */
  #ascending = true;

  clear(): void {
    this.count = 0;
    this.#ascending = true;
  }

  push(id: number): void {
    const { count } = this;
    if (count > 0) {
      const last = this.ids[count - 1]!;
      if (last === id) return;
      if (last > id) this.#ascending = false;
    }
    if (count === this.ids.length) {
      const wider = new Float64Array(count * 2);
      wider.set(this.ids);
      this.ids = wider;
    }
    this.ids[count] = id;
    this.count = count + 1;
  }

  /** Ascending and without duplicates: the form in which dependencies travel (wire reference 6.3). */
  settle(): void {
    if (this.#ascending) return;
    const sorted = this.ids.subarray(0, this.count).sort();
    let kept = 0;
    for (const id of sorted) if (kept === 0 || sorted[kept - 1] !== id) sorted[kept++] = id;
    this.count = kept;
    this.#ascending = true;
  }
}
