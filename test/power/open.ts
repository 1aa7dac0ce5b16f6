import { Fault } from "../../src/base/fault.js";
import type { RegionDefinition } from "../../src/crucible/region-definition.js";
import { parseRegionConfig } from "../../src/region/config.js";
import { FakeArena } from "../kit/arena.js";
import { FakeDisk } from "../kit/disk.js";
import { DIRECTORY, plain, Rig, xxh } from "../unit/store/rig.js";
import type { Contents } from "./recording.js";

/** What opening a region read-write has found: that is what recovery leaves, and what a peer would be told and read. */
export interface Found {
  readonly extents: readonly { flushNumber: number; generation: bigint; dirty: boolean }[];
  /** By block: what it holds and with which context. */
  readonly keys: readonly string[];
}
/** Why there is none: a code of the fault table, or words. */
export interface Refusal {
  readonly code: string;
  readonly text: string;
}

/** Names a block by its contents and the context that a read answers. */
export const keyOf = (data: Buffer, context: Buffer): string =>
  `${xxh.h64Raw(data).toString(36)} ${context.toString("latin1")}`;

/** What lies below `path`, as a disk for a store to open. */
export function diskOf(contents: Contents, path: string): FakeDisk {
  const disk = new FakeDisk();
  for (const [name, bytes] of contents) {
    if (!name.startsWith(`${path}/`)) continue;
    const inner = DIRECTORY + name.slice(path.length);
    if (bytes === null) disk.makeDirectories(inner);
    else disk.put(inner, bytes);
  }
  disk.settle();
  return disk;
}

/**
 * What was left in files must not come to light when the extent is recovered later: each extent gets one block, is closed dirty
 * and opened again. Answers the first other block that reads differently then; null: none.
 */
export function changeLater(disk: FakeDisk, found: Found): string | null {
  const rig = Rig.open(disk, { latencyMs: 0, arena: arena() });
  const { extentSize, extentCount, blockSize } = rig.store.definition;
  for (let extent = 0; extent < extentCount; extent++) {
    if (found.extents[extent]!.dirty) continue;
    const first = extent * extentSize;
    const last = first + extentSize - 1;
    rig.write(last, [plain(Buffer.alloc(blockSize, "written after the power came back"))]);
    for (const step of ["closeExtent", "reopenExtent"] as const) {
      const fault = rig.wait((then) => rig.store[step](extent, then));
      if (fault !== null) return `extent ${extent}: ${step}: ${fault.message}`;
    }
    for (const [i, { data, context }] of rig.read(first, extentSize - 1).entries())
      if (keyOf(data, context) !== found.keys[first + i])
        return `block ${first + i} is another one once the extent was recovered`;
  }
  return closed(rig);
}

/** Opens with the code that `region run` opens with, and reads every block. */
export function openDisk(disk: FakeDisk, after?: (disk: FakeDisk) => void): Found | Refusal {
  try {
    const watch = after === undefined ? {} : { after: () => after(disk) };
    const rig = Rig.open(disk, { latencyMs: 0, arena: arena(), ...watch });
    const { store } = rig;
    const { extentSize, extentCount, blockSize } = store.definition;
    const most = Math.max(1, Math.floor(READ_BYTES / blockSize));
    const keys: string[] = [];
    const extents = [];
    for (let extent = 0; extent < extentCount; extent++) {
      extents.push({
        flushNumber: store.flushNumber(extent),
        generation: store.generation(extent),
        dirty: store.isDirty(extent),
      });
      for (let first = 0; first < extentSize; first += most) {
        const count = Math.min(most, extentSize - first);
        for (const { data, context } of rig.read(extent * extentSize + first, count))
          keys.push(keyOf(data, context));
      }
    }
    const problem = closed(rig);
    return problem === null ? { extents, keys } : { code: "closing", text: problem };
  } catch (error) {
    if (error instanceof Fault) return { code: error.code, text: error.message };
    return { code: "a bug", text: error instanceof Error ? error.stack! : String(error) };
  }
}
const ARENA_BYTES = 1536 * 1024;

/** One for all openings, as long as each gives back what it took. */
let shared = new FakeArena(ARENA_BYTES);
function arena(): FakeArena {
  if (shared.allocations > 0) shared = new FakeArena(ARENA_BYTES);
  return shared;
}
function closed(rig: Rig): string | null {
  const fault = rig.close();
  if (fault !== null) return fault.message;
  return rig.arena.allocations === 0 ? null : "memory was not given back";
}
const READ_BYTES = 64 * 1024;

export function definitionIn(contents: Contents, path: string): RegionDefinition | undefined {
  const text = contents.get(`${path}/region.json`);
  return text == null ? undefined : parseRegionConfig(text.toString("utf8"), "region.json");
}
