import { DeviceStatus, FUA } from "../../src/ports/device.js";
import type { Answer, Stage } from "./upstairs-stage.js";

// Watches a guest and three model replicas and says what promise was broken:
//
//   an answered write is on two replicas; an answered flush made everything answered before it stable on two; a
//   read sees what was written before it, and nothing that was written over.
//
// Every block written carries the number of its write, so a block's content says how far a replica is.

interface Written {
  readonly start: number;
  readonly blocks: number;
  readonly flags: number;
}

export class Judge {
  readonly #stage: Stage;
  readonly #blockBytes: number;
  readonly broken: string[] = [];
  /** Writes of each block, in order of submission. */
  readonly #history = new Map<number, number[]>();
  readonly #writes = new Map<number, Written>();
  readonly #answered: number[] = [];
  readonly #reads = new Map<number, { start: number; blocks: number; least: number[] }>();
  readonly #flushes = new Map<number, number>();
  #stamp = 0;
  readonly #stampOf = new Map<number, number>();
  counts = { writes: 0, reads: 0, flushes: 0 };

  constructor(stage: Stage) {
    this.#stage = stage;
    this.#blockBytes = stage.replicas[0]!.region.blockSize;
    stage.guest.onWrite = (tag) => this.#submitted(tag);
    stage.guest.onAnswer = (tag, answer) => this.#judge(tag, answer);
  }

  write(start: number, blocks: number, flags = 0): number {
    const stamp = ++this.#stamp;
    const data = Buffer.alloc(blocks * this.#blockBytes);
    for (let i = 0; i < blocks; i++) {
      data.fill((stamp * 31 + i) & 0xff, i * this.#blockBytes, (i + 1) * this.#blockBytes);
      data.writeUInt32LE(stamp, i * this.#blockBytes);
    }
    this.#writes.set(stamp, { start, blocks, flags });
    this.#pending.push(stamp);
    return this.#stage.guest.write(start * this.#blockBytes, data, flags);
  }
  /** Writes not handed over yet, in order. */
  readonly #pending: number[] = [];
  #submitted(tag: number): void {
    const stamp = this.#pending.shift()!;
    this.#stampOf.set(tag, stamp);
    const { start, blocks } = this.#writes.get(stamp)!;
    for (let block = start; block < start + blocks; block++) this.#historyOf(block).push(stamp);
  }
  read(start: number, blocks: number): number {
    const least = Array.from({ length: blocks }, (_, i) => this.#historyOf(start + i).length - 1);
    const tag = this.#stage.guest.nextTag;
    this.#reads.set(tag, { start, blocks, least });
    return this.#stage.guest.read(start * this.#blockBytes, blocks * this.#blockBytes);
  }
  flush(): number {
    this.#flushes.set(this.#stage.guest.nextTag, this.#answered.length);
    return this.#stage.guest.flush();
  }

  #historyOf(block: number): number[] {
    let list = this.#history.get(block);
    if (list === undefined) {
      list = [];
      this.#history.set(block, list);
    }
    return list;
  }
  /** Position in the block's history; −1: never written. */
  #position(block: number, data: Uint8Array | undefined): number {
    if (data === undefined) return -1;
    const stamp = Buffer.from(data.buffer, data.byteOffset, 4).readUInt32LE();
    return stamp === 0 ? -1 : this.#historyOf(block).lastIndexOf(stamp);
  }

  #judge(tag: number, answer: Answer): void {
    if (answer.status !== DeviceStatus.ok) {
      if (answer.status !== DeviceStatus.shutdown)
        this.broken.push(`request ${tag} ended with ${answer.status}`);
      return;
    }
    const stamp = this.#stampOf.get(tag);
    if (stamp !== undefined) {
      this.counts.writes += 1;
      const { flags } = this.#writes.get(stamp)!;
      this.#answered.push(stamp);
      if ((flags & FUA) !== 0) this.#mustHave(stamp, "stable");
      else this.#mustHave(stamp, "there");
      return;
    }
    const before = this.#flushes.get(tag);
    if (before !== undefined) {
      this.counts.flushes += 1;
      for (const earlier of this.#answered.slice(Math.max(0, before - 200), before))
        this.#mustHave(earlier, "stable");
      return;
    }
    this.#judgeRead(tag, answer.data!);
  }

  #mustHave(stamp: number, how: "there" | "stable"): void {
    const { start, blocks } = this.#writes.get(stamp)!;
    for (let block = start; block < start + blocks; block++) {
      const least = this.#historyOf(block).lastIndexOf(stamp);
      const having = this.#stage.replicas.filter((replica) => {
        const found = how === "there" ? replica.blocks.get(block) : replica.stableBlock(block);
        return this.#position(block, found?.data) >= least;
      });
      if (having.length < 2)
        this.broken.push(`write ${stamp}, block ${block} is ${how} on ${having.length} only`);
    }
  }

  #judgeRead(tag: number, data: Buffer): void {
    this.counts.reads += 1;
    const { start, blocks, least } = this.#reads.get(tag)!;
    for (let i = 0; i < blocks; i++) {
      const bytes = data.subarray(i * this.#blockBytes, (i + 1) * this.#blockBytes);
      const position = this.#position(start + i, bytes);
      if (position < least[i]!)
        this.broken.push(
          `read of block ${start + i} got its write ${position}, at least ${least[i]} was there`,
        );
    }
  }

  /** What the volume must hold when everything submitted is done. */
  image(): Buffer {
    const { region } = this.#stage.replicas[0]!;
    const image = Buffer.alloc(region.extentCount * region.extentSize * this.#blockBytes);
    for (const [block, history] of this.#history) {
      const stamp = history.at(-1);
      if (stamp === undefined) continue;
      const { start } = this.#writes.get(stamp)!;
      const at = block * this.#blockBytes;
      image.fill((stamp * 31 + block - start) & 0xff, at, at + this.#blockBytes);
      image.writeUInt32LE(stamp, at);
    }
    return image;
  }
}
