import type { RegionDefinition } from "../../crucible/region-definition.js";
import { DOUBTS } from "../../region/choose-block.js";
import type { Geometry } from "../../region/geometry.js";
import { extentLayout } from "../../region/layout.js";
import { SEAL_BYTES } from "../../region/slot.js";
import type { Progress } from "../progress.js";
import { inParallel } from "./parallel.js";
import { type OpenFile, openForReading } from "./salvage-copy.js";
import {
  type ExtentReport,
  encryptedFault,
  PiecePool,
  type Remark,
  salvageExtent,
} from "./salvage-extent.js";
import { agreeOnGeometry, examineDirectories, type SalvageInput } from "./salvage-inputs.js";
import { checkOutput, openOutput } from "./salvage-output.js";
import type { OfflineWorkspace } from "./workspace.js";

// The newest consistent image of a volume from whatever is left of its regions. Nothing here writes to them.

export interface SalvageOptions {
  readonly geometry?: Geometry | undefined;
  /** Replace an image that is there. */
  readonly force: boolean;
  /** Read regions that somebody has open. */
  readonly liveAnyway: boolean;
  readonly ciphertext: boolean;
  readonly keepBad: boolean;
  readonly openFile?: OpenFile;
}

export interface SourceReport {
  readonly directory: string;
  readonly uuid: string | undefined;
  readonly problem: string | undefined;
  readonly inUse: boolean;
}

export interface SalvageReport {
  readonly image: string;
  readonly geometry: Geometry;
  readonly sources: readonly SourceReport[];
  /** Things that concern the whole. */
  readonly notes: readonly string[];
  readonly extents: readonly ExtentReport[];
  readonly blocks: Readonly<Record<Remark, number>>;
  readonly writtenBlocks: number;
}

/** Blocks that are gone. */
export const goneBlocks = (report: SalvageReport): number => report.blocks.gone;
/** Blocks that are in the image, but cannot be proved right. */
export const doubtfulBlocks = (report: SalvageReport): number =>
  DOUBTS.reduce((sum, doubt) => sum + (doubt === "gone" ? 0 : report.blocks[doubt]), 0);
/** Read while it may have changed: then nothing is sure. */
export const isLive = (report: SalvageReport): boolean => report.sources.some(({ inUse }) => inUse);

/** Extents worked on at once: reading one and judging another overlap. */
const WIDTH = 2;

export async function salvage(
  directories: readonly string[],
  image: string,
  options: SalvageOptions,
  workspace: OfflineWorkspace,
  progress: (totalBytes: number) => Progress,
): Promise<SalvageReport> {
  const inputs = await examineDirectories(directories);
  const geometry = agreeOnGeometry(inputs, options.geometry);
  const sealed = inputs.find(({ definition }) => definition?.encrypted);
  if (sealed !== undefined && !options.ciphertext) {
    throw encryptedFault(`${sealed.directory} is encrypted`);
  }
  checkOutput(image, inputs, options.force);
  const unlocks: (() => void)[] = [];
  try {
    const inUse = inputs.map((input) => take(input, options.liveAnyway, workspace, unlocks));
    return await salvageLocked(inputs, inUse, geometry, image, options, workspace, progress);
  } finally {
    for (const unlock of unlocks) unlock();
  }
}

/** Takes the lock of a region if there is anything to lock. True: somebody else has it, which `anyway` allows. */
function take(
  { directory, definition }: SalvageInput,
  anyway: boolean,
  workspace: OfflineWorkspace,
  unlocks: (() => void)[],
): boolean {
  if (definition === undefined) return false;
  if (anyway && workspace.isLocked(directory)) return true;
  unlocks.push(workspace.lock(directory));
  return false;
}

async function salvageLocked(
  inputs: readonly SalvageInput[],
  inUse: readonly boolean[],
  geometry: Geometry,
  image: string,
  options: SalvageOptions,
  workspace: OfflineWorkspace,
  progress: (totalBytes: number) => Progress,
): Promise<SalvageReport> {
  const layout = extentLayout(geometry);
  const output = await openOutput(image, inputs, options.force, options.ciphertext);
  const pool = new PiecePool(layout, workspace);
  const imageBlocks = layout.blocks * geometry.extentCount;
  const shown = progress(imageBlocks * layout.blockBytes);
  const extents = new Array<ExtentReport>(geometry.extentCount);
  const plan = {
    sources: inputs.map(({ directory }, i) => ({ directory, replica: replicaOf(inputs, i) })),
    layout,
    keepBad: options.keepBad,
    seals: output.seals,
    openFile: options.openFile ?? openForReading,
  };
  try {
    await inParallel(geometry.extentCount, WIDTH, async (extent) => {
      extents[extent] = await salvageExtent(plan, extent, output.image, workspace, pool, (bytes) =>
        shown.advance(bytes),
      );
    });
    await output.finish(imageBlocks * layout.blockBytes, imageBlocks * SEAL_BYTES);
  } catch (error) {
    await output.discard();
    throw error;
  } finally {
    shown.done();
    pool.free();
  }
  const blocks: Record<Remark, number> = { mended: 0 } as Record<Remark, number>;
  for (const doubt of DOUBTS) blocks[doubt] = 0;
  let writtenBlocks = 0;
  for (const { findings, written } of extents) {
    writtenBlocks += written;
    for (const { remark, count } of findings) blocks[remark] += count;
  }
  return {
    image,
    geometry,
    sources: inputs.map(({ directory, definition, problem }, i) => ({
      directory,
      uuid: definition?.uuid,
      problem,
      inUse: inUse[i]!,
    })),
    notes: notesOn(inputs, inUse, geometry),
    extents,
    blocks,
    writtenBlocks,
  };
}

const uuidOf = (definition: RegionDefinition | undefined): string | undefined => definition?.uuid;

/** A copy of a region directory is no second witness. */
function replicaOf(inputs: readonly SalvageInput[], index: number): number {
  const uuid = uuidOf(inputs[index]!.definition);
  const first = inputs.findIndex((input) => uuidOf(input.definition) === uuid);
  return uuid === undefined ? index : first;
}

function notesOn(
  inputs: readonly SalvageInput[],
  inUse: readonly boolean[],
  geometry: Geometry,
): string[] {
  const notes: string[] = [];
  for (const [i, { directory, definition, found }] of inputs.entries()) {
    if (inUse[i]) {
      notes.push(
        `${directory} was in use by another process: it may have changed while it was read`,
      );
    }
    if (definition === undefined) {
      notes.push(
        `${directory} could not be locked without a region.json: make sure that no downstairs uses it`,
      );
    }
    const twin = replicaOf(inputs, i);
    if (twin !== i) {
      notes.push(
        `${inputs[twin]!.directory} and ${directory} are copies of one region, and count as one replica`,
      );
    }
    if (found.highest >= geometry.extentCount) {
      notes.push(
        `${directory} holds an extent ${found.highest}, which the volume does not have: left out`,
      );
    }
  }
  if (inputs.length === 1) {
    notes.push(
      "only one region was given: what it missed and two others acknowledged is not in the image",
    );
  }
  return notes;
}
