import { type NbdClient, NbdError } from "./client.js";

const PIECE = 4096;

/**
 * Writes numbered blocks with several requests in flight and remembers, per block, what was acknowledged,
 * what was flushed, and what may or may not have arrived. Every block carries its own number and the number
 * of the write, so that any byte read back names the write it came from.
 */
export class Ledger {
  readonly blocks: number;
  /** Newest write acknowledged before the last flush that was answered. */
  readonly flushed: Uint32Array;
  readonly acknowledged: Uint32Array;
  readonly submitted: Uint32Array;
  #next = 1;
  readonly #chance: () => number;

  constructor(blocks: number, chance: () => number) {
    this.blocks = blocks;
    this.flushed = new Uint32Array(blocks);
    this.acknowledged = new Uint32Array(blocks);
    this.submitted = new Uint32Array(blocks);
    this.#chance = chance;
  }

  /** Writes and flushes until `stop` says so or the connection ends; resolves with the error that ended it. */
  async load(client: NbdClient, depth: number, stop: () => boolean): Promise<Error | undefined> {
    const busy = new Set<number>();
    let failure: Error | undefined;
    const worker = async (): Promise<void> => {
      while (!stop() && failure === undefined) {
        try {
          if (this.#chance() < 0.02) {
            const before = this.acknowledged.slice();
            await client.flush();
            for (let i = 0; i < this.blocks; i++)
              this.flushed[i] = Math.max(this.flushed[i]!, before[i]!);
            continue;
          }
          let block = Math.floor(this.#chance() * this.blocks);
          while (busy.has(block)) block = (block + 1) % this.blocks;
          busy.add(block);
          const write = this.#next++;
          this.submitted[block] = write;
          await client.write(block * PIECE, image(block, write));
          this.acknowledged[block] = write;
          busy.delete(block);
        } catch (error) {
          failure ??= error as Error;
        }
      }
    };
    await Promise.all(Array.from({ length: depth }, worker));
    return failure;
  }

  /**
   * Complaints about what is read back. `floor`: the oldest write a block may show; anything from there
   * to the newest submitted one is right, as one whole block.
   */
  async check(client: NbdClient, floor: Uint32Array): Promise<string[]> {
    const wrong: string[] = [];
    for (let block = 0; block < this.blocks; block++) {
      const data = await client.read(block * PIECE, PIECE);
      const write = data.readUInt32LE(4);
      const whole = write === 0 ? Buffer.alloc(PIECE) : image(block, write);
      if (!data.equals(whole)) wrong.push(`block ${block} is no write of ours`);
      else if (write < floor[block]!)
        wrong.push(`block ${block}: ${write} is older than ${floor[block]}`);
      else if (write > this.submitted[block]!)
        wrong.push(`block ${block}: ${write} was never sent`);
    }
    return wrong;
  }
}

function image(block: number, write: number): Buffer {
  const piece = Buffer.alloc(8);
  piece.writeUInt32LE(block, 0);
  piece.writeUInt32LE(write, 4);
  return Buffer.alloc(PIECE, piece);
}

export const isShutdown = (error: Error | undefined): boolean =>
  error !== undefined && (!(error instanceof NbdError) || error.errno === 108);
