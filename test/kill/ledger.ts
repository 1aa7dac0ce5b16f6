/** What a client of the volume may rely on, block by block: writes are numbered, and each block carries the number of its write. */

export const BLOCK_BYTES = 4096;

export class Ledger {
  readonly blocks: number;
  /** Newest write that was acknowledged: nothing older may ever be seen. */
  readonly floor: Uint32Array;
  /** Newest write that a flush covers; only to say so. */
  readonly flushed: Uint32Array;
  /** Newest write that was ever sent. */
  readonly sent: Uint32Array;
  readonly #atDeath: Uint32Array;
  #next = 1;

  constructor(blocks: number) {
    this.blocks = blocks;
    this.floor = new Uint32Array(blocks);
    this.flushed = new Uint32Array(blocks);
    this.sent = new Uint32Array(blocks);
    this.#atDeath = new Uint32Array(blocks);
  }
  get writes(): number {
    return this.#next - 1;
  }

  /** Contents for a new write of some blocks, and its number. */
  write(first: number, count: number): { number: number; data: Buffer } {
    const number = this.#next++;
    this.sent.fill(number, first, first + count);
    const data = Buffer.concat(Array.from({ length: count }, (_, i) => imageOf(first + i, number)));
    return { number, data };
  }
  acknowledged(first: number, count: number, number: number, isDurable: boolean): void {
    for (let block = first; block < first + count; block++) {
      this.floor[block] = Math.max(this.floor[block]!, number);
      if (isDurable) this.flushed[block] = Math.max(this.flushed[block]!, number);
    }
  }
  /** What a flush that is sent now will cover. */
  acknowledgedNow(): Uint32Array {
    return this.floor.map((number, block) =>
      number === this.#atDeath[block] ? this.flushed[block]! : number,
    );
  }
  /** The server is gone. If the next one has lost something, a flush does not make it flushed. */
  serverDied(): void {
    this.#atDeath.set(this.floor);
  }
  flushEnded(before: Uint32Array): void {
    for (let block = 0; block < this.blocks; block++)
      this.flushed[block] = Math.max(this.flushed[block]!, before[block]!);
  }
  /** Complaints about blocks as they were read. */
  check(first: number, data: Buffer): string[] {
    const wrong: string[] = [];
    for (let i = 0; i < data.length / BLOCK_BYTES; i++) {
      const block = first + i;
      const bytes = data.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES);
      const number = bytes.readUInt32LE(4);
      const range = `expected ${this.floor[block]} to ${this.sent[block]}, of which ${this.flushed[block]} is flushed`;
      if (!bytes.equals(imageOf(block, number))) wrong.push(`block ${block} is no write of ours`);
      else if (number < this.floor[block]! || number > this.sent[block]!)
        wrong.push(`block ${block} shows write ${number}, ${range}`);
    }
    return wrong;
  }
}

/** What a block holds after that write; 0: never written. */
export function imageOf(block: number, number: number): Buffer {
  if (number === 0) return Buffer.alloc(BLOCK_BYTES);
  const piece = Buffer.alloc(8);
  piece.writeUInt32LE(block, 0);
  piece.writeUInt32LE(number, 4);
  return Buffer.alloc(BLOCK_BYTES, piece);
}
