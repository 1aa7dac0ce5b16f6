import { BLOCK_BYTES, imageOf } from "../kill/ledger.js";
import { type Note, sessionOf } from "./notes.js";

/** What the volume may show, block by block, going by what the writers noted: see `README.md` for what is promised when. */
export class Book {
  readonly blocks: number;
  /** Newest write of each block that was acknowledged, that a flush (or FUA) covers, that was ever asked for. */
  readonly acknowledged: Uint32Array;
  readonly flushed: Uint32Array;
  readonly asked: Uint32Array;
  readonly #open = new Map<number, Note & { readonly what: "asked" }>();
  /** Per flush under way, what it covers. */
  readonly #covered = new Map<number, Uint32Array>();

  constructor(blocks: number) {
    this.blocks = blocks;
    this.acknowledged = new Uint32Array(blocks);
    this.flushed = new Uint32Array(blocks);
    this.asked = new Uint32Array(blocks);
  }

  take(note: Note): void {
    if (note.what === "asked") {
      this.#open.set(note.id, note);
      const { id, first, count } = note;
      if (note.kind === "flush") this.#covered.set(id, this.acknowledged.slice());
      if (note.kind === "write" || note.kind === "fua") this.asked.fill(id, first, first + count);
      return;
    }
    const asked = this.#open.get(note.id);
    this.#open.delete(note.id);
    const covered = this.#covered.get(note.id);
    this.#covered.delete(note.id);
    if (note.what === "failed" || asked === undefined) return;
    const { id, kind, first, count } = asked;
    if (kind === "write" || kind === "fua") this.acknowledged.fill(id, first, first + count);
    if (kind === "fua") this.flushed.fill(id, first, first + count);
    for (let block = 0; covered !== undefined && block < this.blocks; block++)
      this.flushed[block] = Math.max(this.flushed[block]!, covered[block]!);
  }

  /**
   * Complaints about the volume as it was read, at most a few: each block holds one whole write, no older than `floor` says and no newer
   * than the newest that was asked for.
   */
  check(image: Buffer, floor: Uint32Array): string[] {
    const wrong: string[] = [];
    if (image.length !== this.blocks * BLOCK_BYTES) return [`${image.length} bytes were read`];
    for (let block = 0; block < this.blocks && wrong.length < 5; block++) {
      const bytes = image.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
      const shown = numberIn(bytes);
      const [least, most] = [floor[block]!, this.asked[block]!];
      if (!bytes.equals(imageOf(block, shown))) wrong.push(`block ${block} is no write of ours`);
      else if (shown < least || shown > most)
        wrong.push(`block ${block} shows ${show(shown)}, expected ${show(least)} to ${show(most)}`);
    }
    return wrong;
  }

  /** How many blocks were acknowledged with something that no flush covers; and how many of them show an older write. */
  unflushed(image: Buffer): { readonly blocks: number; readonly older: number } {
    let [blocks, older] = [0, 0];
    for (let block = 0; block < this.blocks; block++) {
      if (this.acknowledged[block]! <= this.flushed[block]!) continue;
      blocks += 1;
      const bytes = image.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
      if (numberIn(bytes) < this.acknowledged[block]!) older += 1;
    }
    return { blocks, older };
  }

  /** Another host has the volume and has read this: from now on it holds exactly this, and what the host before still asks for never shows. */
  settle(image: Buffer): void {
    this.#open.clear();
    this.#covered.clear();
    for (let block = 0; block < this.blocks; block++) {
      const shown = numberIn(image.subarray(block * BLOCK_BYTES));
      for (const all of [this.acknowledged, this.flushed, this.asked]) all[block] = shown;
    }
  }
}

const numberIn = (bytes: Buffer): number => bytes.readUInt32LE(4);
const show = (id: number): string =>
  id === 0 ? "nothing" : `write ${id} of writer ${sessionOf(id)}`;
