import { DeviceStatus, FUA } from "../../src/ports/device.js";
import type { Guest } from "./upstairs-stage.js";

// What a volume may hold after its server died and another one resumed: the writes of the dead one in the order in which they were handed over,
// all up to some moment and none after it, and that moment is not before anything that was acknowledged.

interface Asked {
  readonly start: number;
  readonly blocks: number;
  readonly isZeroes: boolean;
}

export class KeptJudge {
  readonly #blockBytes: number;
  readonly #blocks: number;
  /** Per block the number of the write that it holds, and which block of it; 0: zeros. */
  #base: Float64Array;
  #asked: Asked[] = [];
  /** Number of the first in `#asked`; numbers are never used twice, over all lives. */
  #first = 1;
  readonly #byTag = new Map<number, number>();
  /** Handed over by `write`, in order; not placed yet. */
  #placing: Asked[] = [];
  #acknowledged = 0;
  readonly broken: string[] = [];
  counts = { lives: 0, writes: 0, acknowledged: 0, lost: 0 };

  constructor(blocks: number, blockBytes: number) {
    this.#blocks = blocks;
    this.#blockBytes = blockBytes;
    this.#base = new Float64Array(blocks);
  }

  /** A life begins: `guest` asks a server that is up. */
  watch(guest: Guest): void {
    this.counts.lives += 1;
    this.#byTag.clear();
    this.#placing = [];
    guest.onWrite = (tag) => {
      this.#byTag.set(tag, this.#submit(this.#placing.shift()!));
    };
    guest.onAnswer = (tag, { status }) => {
      const number = this.#byTag.get(tag);
      if (number === undefined) return;
      if (status === DeviceStatus.ok) this.#acknowledged = Math.max(this.#acknowledged, number);
      else if (status !== DeviceStatus.shutdown)
        this.broken.push(`write ${number} ended with ${status}`);
      if (status === DeviceStatus.ok) this.counts.acknowledged += 1;
    };
  }

  write(guest: Guest, start: number, blocks: number, fua = false): void {
    // Its number is known only when it is handed over, so the bytes are filled in then.
    const number = this.#first + this.#asked.length + this.#placing.length;
    this.#placing.push({ start, blocks, isZeroes: false });
    const data = Buffer.alloc(blocks * this.#blockBytes, number & 0xff);
    for (let i = 0; i < blocks; i++) data.writeDoubleLE(number + i / 1024, i * this.#blockBytes);
    guest.write(start * this.#blockBytes, data, fua ? FUA : 0);
  }
  zeroes(guest: Guest, start: number, blocks: number): void {
    // Behind writes that wait for room it would be handed over before them.
    if (guest.waitsForRoom) return;
    this.#byTag.set(guest.nextTag, this.#submit({ start, blocks, isZeroes: true }));
    guest.zeroes(start * this.#blockBytes, blocks * this.#blockBytes);
  }
  #submit(asked: Asked): number {
    this.counts.writes += 1;
    this.#asked.push(asked);
    return this.#first + this.#asked.length - 1;
  }

  /** What every block holds when exactly the writes up to `last` are done. */
  #expected(last: number): Float64Array {
    const image = this.#base.slice();
    for (let number = this.#first; number <= last; number++) {
      const { start, blocks, isZeroes } = this.#asked[number - this.#first]!;
      for (let i = 0; i < blocks; i++) image[start + i] = isZeroes ? 0 : number + i / 1024;
    }
    return image;
  }

  /** The volume as it is read back by the next life; becomes what the following ones begin with. */
  judge(image: Buffer): void {
    const last = this.#first + this.#asked.length - 1;
    const found = new Float64Array(this.#blocks);
    for (let block = 0; block < this.#blocks; block++) {
      const bytes = image.subarray(block * this.#blockBytes, (block + 1) * this.#blockBytes);
      found[block] = bytes.readDoubleLE();
      const fill = Math.floor(found[block]!) & 0xff;
      if (bytes.subarray(8).some((byte) => byte !== fill))
        this.broken.push(`block ${block} is not whole`);
    }
    const from = Math.max(this.#acknowledged, this.#first - 1);
    let match = -1;
    for (let cut = last; cut >= from && match < 0; cut--)
      if (this.#expected(cut).every((value, block) => value === found[block])) match = cut;
    if (match < 0) {
      const want = this.#expected(from);
      const at = found.findIndex((value, block) => value !== want[block]);
      this.broken.push(
        `no cut from ${from} to ${last} explains what is read: block ${at} holds ${found[at]}, of the acknowledged ones it would be ${want[at]}`,
      );
    } else this.counts.lost += last - match;
    this.#base = found;
    this.#first = last + this.#placing.length + 1;
    this.#asked = [];
    this.#acknowledged = 0;
  }
}
