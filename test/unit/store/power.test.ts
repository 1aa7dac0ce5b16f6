import t from "tap";
import type { RegionDefinition } from "../../../src/crucible/region-definition.js";
import { extentLayout } from "../../../src/region/layout.js";
import type { FileCall } from "../../kit/files.js";
import { regionOf } from "../../kit/store.js";
import { prng } from "../../kit/world.js";
import { Model, Work } from "./history.js";
import { freshDisk, plain, Rig, type Value } from "./rig.js";

// The proof of the commit protocol: random work, and after random calls the power goes. The disk then holds, for
// each sector by itself, anything it had since the last sync; the region must open and keep every promise.

type Shape = { readonly region: RegionDefinition; readonly sectorBytes: number };
const SHAPES: Record<string, Shape> = {
  "small blocks": { region: regionOf(512, 20, 3), sectorBytes: 512 },
  // The metadata record lies over a sector boundary, between dirty byte and numbers.
  "torn metadata": { region: regionOf(512, 37, 2), sectorBytes: 512 },
  // A torn block of several sectors cannot be told from a damaged one; that is the format's limit.
  "large blocks": { region: regionOf(4096, 9, 3), sectorBytes: 4096 },
};

/** Which sync a call is, told by what was written to the file since the one before. */
class Syncs {
  readonly #metadataAt: number;
  readonly #dataBytes: number;
  readonly #seen = new Map<string, Set<string>>();
  constructor(region: RegionDefinition) {
    const layout = extentLayout(region);
    this.#metadataAt = layout.metadataAt;
    this.#dataBytes = layout.dataBytes;
  }
  lie(kind: string, call: FileCall): boolean {
    const seen = this.#seen.get(call.path) ?? new Set();
    if (call.op === "sync") {
      this.#seen.delete(call.path);
      if (seen.has("record")) return kind === "record";
      if (seen.has("data")) return kind === "data";
      if (seen.has("slots")) return kind === "slots";
      return kind === (seen.has("mark") ? "mark" : "open");
    }
    return false;
  }
  watch(call: FileCall): void {
    if (call.op !== "write" && call.op !== "writeGather") return;
    const seen = this.#seen.get(call.path) ?? new Set();
    this.#seen.set(call.path, seen);
    if (call.offset >= this.#metadataAt) {
      seen.add(call.length > 1 ? "record" : "mark");
    } else seen.add(call.offset < this.#dataBytes ? "data" : "slots");
  }
}

/** One history with several lives. Answers what went wrong, null when nothing did. */
function episode(seed: number, shape: Shape, lie = ""): { wrong: string | null; cuts: number } {
  const chance = prng(seed);
  const { region, sectorBytes } = shape;
  const model = new Model(region);
  let disk = freshDisk(region, sectorBytes);
  let number = 0;
  let cuts = 0;
  let wrong: string | null = null;
  let survived: (Value | undefined)[] | null = null;
  const heldBytesMax = chance() < 0.5 ? 16 * 4096 : undefined;
  const common = { seed, ...(heldBytesMax === undefined ? {} : { heldBytesMax }) };

  for (let life = 0; life < 4 && wrong === null; life++) {
    const syncs = new Syncs(region);
    const cutting = 0.02 + 0.1 * chance();
    const after = (call: FileCall): void => {
      syncs.watch(call);
      if (wrong !== null || chance() > cutting) return;
      cuts += 1;
      const result = model.check(disk.cut(chance), common);
      if ("wrong" in result) wrong = `life ${life}, after ${call.op} ${call.path}: ${result.wrong}`;
    };
    const lying = (call: FileCall): boolean => lie !== "" && syncs.lie(lie, call);
    const rig = Rig.open(disk, { ...common, latencyMs: 2, after, lie: lying });
    // Opening makes durable what it found; until then the old promises stand.
    if (survived !== null) model.rebase(survived, disk, common);
    const work = new Work(model, rig, chance, number);
    const steps = 20 + Math.floor(chance() * 60);
    for (let i = 0; i < steps && wrong === null; i++) {
      work.step();
      rig.world.advance(chance() * 3);
    }
    if (work.faults.length > 0) wrong ??= work.faults[0]!;
    if (wrong !== null) break;
    number = work.flushNumber;
    rig.files.kill();
    // Half of the deaths take only the process: the page cache survives, and may be lost later.
    if (chance() < 0.5) disk = disk.cut(chance);
    cuts += 1;
    const result = model.check(disk.copy(), common);
    if ("wrong" in result) wrong = `death ${life}: ${result.wrong}`;
    else survived = result.found;
  }
  return { wrong, cuts };
}

const FIRST = Number(process.env.SEED ?? 1);
const COUNT = Number(process.env.SEEDS ?? 15);

for (const [name, shape] of Object.entries(SHAPES))
  t.test(`no power cut loses what was flushed: ${name}`, async (t) => {
    let cuts = 0;
    for (let seed = FIRST; seed < FIRST + COUNT; seed++) {
      const result = episode(seed, shape);
      cuts += result.cuts;
      if (result.wrong !== null) t.ok(false, `seed ${seed}: ${result.wrong}`);
    }
    t.ok(cuts > COUNT, `${cuts} power cuts in ${COUNT} histories`);
  });

for (const lie of ["slots", "data", "record", "open"])
  t.test(`the proof notices a disk that ignores the sync of ${lie}`, async (t) => {
    let noticed = "";
    for (let seed = 1; seed <= 200 && noticed === ""; seed++)
      noticed = episode(seed, SHAPES["small blocks"]!, lie).wrong ?? "";
    t.ok(noticed !== "", noticed);
  });

/** Zeros written to a fresh region, power cut on the way; then the extent gets dirty by another block and is recovered. */
function resurrects(lie: string): number {
  const { region, sectorBytes } = SHAPES["small blocks"]!;
  const chance = prng(5);
  const syncs = new Syncs(region);
  const zeros = plain(Buffer.alloc(512));
  let wrong = 0;
  const after = (call: FileCall): void => {
    syncs.watch(call);
    for (let i = 0; i < 20 && rig.isOpen; i++) {
      const later = Rig.open(rig.files.disk.cut(chance), { latencyMs: 0 });
      const before = later.read(0, 1)[0]!.context;
      later.write(15, [plain(Buffer.alloc(512, 1))]);
      later.wait((then) => later.store.closeExtent(0, then));
      later.wait((then) => later.store.reopenExtent(0, then));
      if (!later.read(0, 1)[0]!.context.equals(before)) wrong += 1;
    }
  };
  const rig = new Rig(freshDisk(region, sectorBytes), {
    after,
    lie: (call) => syncs.lie(lie, call),
  });
  rig.world.advance(1000);
  rig.write(0, [zeros]);
  rig.flush(1);
  return wrong;
}
t.test("a lost write of zeros does not come back", async (t) => {
  t.equal(resurrects(""), 0);
  t.ok(resurrects("mark") > 0, "it would, without a sync of its own for the dirty mark");
});
