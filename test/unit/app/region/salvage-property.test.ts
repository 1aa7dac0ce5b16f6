import { existsSync, rmSync, truncateSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import xxhash, { type XXHashAPI } from "xxhash-wasm";
import { extentLayout, extentPath, slotOffset } from "../../../../src/region/layout.js";
import { decodeMetadata } from "../../../../src/region/metadata.js";
import {
  type FabricatedExtent,
  FabricatedRegion,
  snapshot,
} from "../../../kit/fabricated-region.js";
import { makeFolder, removeFolder } from "../../../kit/folders.js";
import { remarks, Salvaging } from "../../../kit/salvaging.js";
import { regionOf } from "../../../kit/store.js";
import { prng } from "../../../kit/world.js";

// Random histories of a volume (sessions, replicas that drop out, flushes that reach only some, a crash at the end), then
// random damage to at most two of the three copies, seldom to all. What the report does not name must be a value that the history
// allows; and where an undamaged copy has all that was flushed, every block must be.
//
//   SEED=1 SEEDS=5000 node dist/test/unit/app/region/salvage-property.test.js

const BS = 512;
const BLOCKS = 9;
const EXTENTS = 3;
const TOTAL = BLOCKS * EXTENTS;
const layout = extentLayout({ blockSize: BS, extentSize: BLOCKS });
/** Three sessions of less than forty steps. */
const VERSIONS_MAX = 120;
const FIRST = Number(process.env.SEED ?? 1);
const SEEDS = Number(process.env.SEEDS ?? 250);

/** Said rather than read: no region.json may be left. */
const geometry = { blockSize: BS, shift: 9, extentSize: BLOCKS, extentCount: EXTENTS };

type Dice = (sides: number) => number;
interface Write {
  readonly block: number;
  readonly version: number;
}

/** Version 0 of a block is "never written". */
const content = (block: number, version: number): Buffer =>
  version === 0 ? Buffer.alloc(BS) : Buffer.alloc(BS, `block ${block}, version ${version}. `);

class History {
  readonly copies: readonly FabricatedRegion[];
  /** By copy: writes that no flush of its own covers. */
  readonly #pending: Write[][] = [[], [], []];
  readonly #dice: Dice;
  #online: number[] = [];
  #generation = 0n;
  #flush = 0;
  versions = 0;
  readonly current = new Array<number>(TOTAL).fill(0);
  /** The oldest version that a reader may see after the last acknowledged flush. */
  readonly floor = new Array<number>(TOTAL).fill(0);
  /** Copies that took part in the last acknowledged flush. */
  complete = new Set([0, 1, 2]);

  constructor(copies: readonly FabricatedRegion[], dice: Dice) {
    this.copies = copies;
    this.#dice = dice;
  }

  run(): void {
    const sessions = 1 + this.#dice(3);
    for (let session = 0; session < sessions; session++) {
      this.#start();
      const steps = this.#dice(40);
      for (let i = 0; i < steps; i++) this.#step();
      this.#crash();
    }
  }

  #step(): void {
    const what = this.#dice(20);
    if (what < 15) {
      const block = this.#dice(TOTAL);
      this.versions += 1;
      this.current[block] = this.versions;
      for (const copy of this.#online) {
        this.#pending[copy]!.push({ block, version: this.versions });
      }
    } else if (what < 19) this.#flushAll(this.#online);
    else if (this.#online.length === 3) this.#dropOut(this.#online[this.#dice(3)]!);
  }

  #flushAll(reached: readonly number[]): void {
    this.#flush += 1;
    for (const copy of reached) {
      this.#apply(copy, this.#pending[copy]!);
      this.copies[copy]!.flush(this.#generation, this.#flush);
      this.#pending[copy] = [];
    }
    if (reached.length < 2) return;
    for (let block = 0; block < TOTAL; block++) this.floor[block] = this.current[block]!;
    this.complete = new Set(reached);
  }

  /** Two or three replicas are there, and are made equal, as reconciliation does. */
  #start(): void {
    this.#generation += 1n;
    this.#online = [0, 1, 2];
    if (this.#dice(3) === 0) this.#online.splice(this.#dice(3), 1);
    for (let extent = 0; extent < EXTENTS; extent++) {
      const files = this.#online.map((copy) => this.copies[copy]!.extents[extent]!);
      const best = files.reduce((a, b) => (rank(b.metadata) > rank(a.metadata) ? b : a));
      const unequal = files.some((file) => rank(file.metadata) !== rank(best.metadata));
      if (unequal || best.metadata.dirty) {
        // One that a crash left is recovered when it is opened, before it is flushed.
        this.#flush += 1;
        best.recover();
        best.flush(this.#generation, this.#flush);
        for (const file of files) if (file !== best) file.copyFrom(best);
      }
      for (let i = 0; i < BLOCKS; i++) {
        const block = extent * BLOCKS + i;
        this.current[block] = versionIn(best.block(i), block, this.versions);
      }
    }
  }

  /** What no flush covered reaches the disk in part, as the format allows. */
  #dropOut(copy: number): void {
    const kept = this.#pending[copy]!.filter(() => this.#dice(3) > 0);
    this.#apply(copy, kept);
    for (const { block, version } of this.#pending[copy]!) {
      if (this.#dice(8) > 0) continue;
      const only = this.#dice(2) === 0 ? "slot" : "nothing";
      this.copies[copy]!.write(block, content(block, version), only);
    }
    this.#pending[copy] = [];
    this.#online = this.#online.filter((other) => other !== copy);
  }

  #crash(): void {
    // A flush may be under way.
    if (this.#dice(3) === 0) this.#flushAll(this.#online.filter(() => this.#dice(2) === 0));
    for (const copy of [...this.#online]) this.#dropOut(copy);
  }

  #apply(copy: number, writes: readonly Write[]): void {
    for (const { block, version } of writes)
      this.copies[copy]!.write(block, content(block, version));
  }
}

const rank = (m: { generation: bigint; flushNumber: number; dirty: boolean }): bigint =>
  (m.generation << 60n) | (BigInt(m.flushNumber) << 1n) | (m.dirty ? 1n : 0n);

function versionIn(data: Buffer, block: number, versions: number): number {
  for (let version = versions; version >= 0; version--) {
    if (data.equals(content(block, version))) return version;
  }
  return -1;
}

/** Damages one extent file in one way. Metadata records never become others that look right: no check could tell. */
function damage(bytes: Buffer, dice: Dice, bitmapToo: boolean): Buffer {
  const scramble = (from: number, length: number, zero: boolean): void => {
    for (let i = from; i < from + length; i++) bytes[i] = zero ? 0 : dice(256);
  };
  switch (dice(bitmapToo ? 9 : 7)) {
    case 0:
      bytes[dice(layout.dataBytes)]! ^= 1 << dice(8);
      break;
    case 1:
      scramble(dice(layout.dataBytes - 600), dice(600), dice(2) === 0);
      break;
    case 2:
      // An empty slot together with a wrong bit would look like the other slot's being the only one there ever was.
      scramble(
        layout.slotsAAt + dice(layout.slotsBytes * 2 - 200),
        dice(200),
        !bitmapToo && dice(2) === 0,
      );
      break;
    case 7:
      scramble(layout.bitmapAt, layout.bitmapBytes, dice(2) === 0);
      break;
    case 8:
      bytes[layout.bitmapAt + dice(layout.bitmapBytes)]! ^= 1 << dice(8);
      break;
    case 3: {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      scramble(layout.metadataAt, 32, false);
      if (typeof decodeMetadata(view, layout.metadataAt) !== "string") bytes[layout.metadataAt] = 7;
      break;
    }
    case 4:
      return bytes.subarray(0, dice(layout.fileBytes));
    case 5:
      return Buffer.concat([bytes, Buffer.alloc(1 + dice(5000), 0xab)]);
    default: {
      // A misdirected write: a block in the place of another.
      const from = dice(BLOCKS) * BS;
      bytes.copy(bytes, dice(BLOCKS) * BS, from, from + BS);
    }
  }
  return bytes;
}

/**
 * A write that the disk acknowledged and lost: the block is what it was before, and its old context is still there. In a
 * dirty extent nothing tells this from a write that had not yet been flushed, and where slots name no flush (0) nobody
 * can say which of the two came last.
 */
function loseWrite(file: FabricatedExtent, extent: number, block: number, api: XXHashAPI): void {
  if (file.bytes[layout.metadataAt] !== 0) return;
  const active = (file.bytes[layout.bitmapAt + (block >>> 3)]! >>> (block & 7)) & 1;
  if (file.bytes.readUInt16LE(slotOffset(layout, active, block) + 18) === 0) return;
  const before = file.bytes.readBigUInt64LE(slotOffset(layout, 1 - active, block) + 10);
  for (let version = 1; version < VERSIONS_MAX; version++) {
    const data = content(extent * BLOCKS + block, version);
    if (api.h64Raw(data) === before) data.copy(file.bytes, block * BS);
  }
}

/** Data and both contexts are zeros now: nothing tells this from a block that was never written. */
const isHole = (bytes: Buffer, block: number): boolean =>
  [
    [block * BS, BS],
    [slotOffset(layout, 0, block), 48],
    [slotOffset(layout, 1, block), 48],
  ].every(([at, length]) => {
    const part = bytes.subarray(at, at! + length!);
    return part.length === length && part.every((byte) => byte === 0);
  });

// The runner has its own limit; a campaign of many seeds runs without one.
t.setTimeout(24 * 3_600_000);
t.test(`${SEEDS} histories`, { timeout: 24 * 3_600_000 }, async (t) => {
  const api = await xxhash();
  // In memory where that can be had: every image is synced, which a busy disk makes slow.
  const folder = makeFolder(existsSync("/dev/shm") ? "/dev/shm" : undefined);
  const salvaging = await Salvaging.start();
  const directories = [0, 1, 2].map((i) => join(folder, `region${i}`));
  const seen: Record<string, number> = {};
  const wrong: string[] = [];
  for (let seed = FIRST; seed < FIRST + SEEDS; seed++) {
    const random = prng(seed);
    const dice: Dice = (sides) => Math.floor(random() * sides);
    const copies = [0, 1, 2].map(
      (i) =>
        new FabricatedRegion(
          regionOf(BS, BLOCKS, EXTENTS, `12345678-1111-2222-3333-00000000000${i}`),
          api,
        ),
    );
    const history = new History(copies, dice);
    history.run();
    for (const [i, copy] of copies.entries()) copy.save(directories[i]!);

    const most = dice(10) === 0 ? 3 : 2;
    const victims = new Set([0, 1, 2].filter(() => dice(most) > 0 || most === 3).slice(0, most));
    const holes = new Set<number>();
    for (const victim of victims) {
      // A write that is lost together with its bit cannot be told from one that never came.
      const lies = Array.from({ length: EXTENTS }, () =>
        dice(3) === 0 ? "lost writes" : "bitmap",
      );
      for (let hit = dice(12); hit >= 0; hit--) {
        const extent = dice(EXTENTS);
        const file = copies[victim]!.extents[extent]!;
        const path = join(directories[victim]!, extentPath(extent));
        if (dice(12) === 0) rmSync(path, { force: true });
        else {
          const whole = file.bytes.length >= layout.fileBytes;
          const lie = lies[extent]!;
          if (whole && lie === "lost writes" && dice(2) === 0) {
            loseWrite(file, extent, dice(BLOCKS), api);
          } else if (whole) file.bytes = damage(file.bytes, dice, lie === "bitmap");
          writeFileSync(path, file.bytes);
        }
        for (let i = 0; i < BLOCKS; i++) if (isHole(file.bytes, i)) holes.add(extent * BLOCKS + i);
      }
      const config = join(directories[victim]!, "region.json");
      const fate = dice(6);
      if (fate === 0) unlinkSync(config);
      else if (fate === 1) truncateSync(config, dice(100));
    }

    const before = directories.flatMap(snapshot);
    const { image, report } = await salvaging.read(folder, directories, { geometry });
    const after = directories.flatMap(snapshot);
    if (before.join() !== after.join()) wrong.push(`seed ${seed}: inputs were changed`);
    const said = remarks(report);
    const hasGoodCopy = [...history.complete].some((copy) => !victims.has(copy));
    for (let block = 0; block < TOTAL; block++) {
      const remark = said[block]!;
      seen[remark] = (seen[remark] ?? 0) + 1;
      if (holes.has(block)) continue;
      const found = image.subarray(block * BS, (block + 1) * BS);
      const version = versionIn(found, block, history.versions);
      const allowed = version >= history.floor[block]!;
      if (allowed && !(hasGoodCopy && remark === "gone")) continue;
      if (remark !== "" && remark !== "mended" && !hasGoodCopy) continue;
      const floor = history.floor[block];
      wrong.push(
        `seed ${seed}: block ${block} ("${remark}") has version ${version}, floor ${floor}`,
      );
    }
    for (const directory of directories) rmSync(directory, { recursive: true });
  }
  removeFolder(folder);
  t.same(wrong.slice(0, 20), []);
  // Each kind of remark came up: else the damage proves little.
  for (const remark of [
    "",
    "mended",
    "older",
    "weak",
    "gone",
    "single",
    "dirty",
    "differ",
    "age-unknown",
  ]) {
    t.ok((seen[remark] ?? 0) > 0, `${remark || "nothing"}: ${seen[remark] ?? 0} blocks`);
  }
  t.equal(salvaging.arena.allocations, 0);
});
