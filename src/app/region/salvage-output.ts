import { existsSync, lstatSync, realpathSync, statSync } from "node:fs";
import { type FileHandle, open, rename, unlink } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { Fault } from "../../base/fault.js";
import { syncDirectory } from "../files.js";
import type { SalvageInput } from "./salvage-inputs.js";

// Where the image goes. It is written beside its place under another name and renamed when it is whole, so that neither
// half an image nor a replaced one's loss can be mistaken for a result.

const PARTIAL_SUFFIX = ".partial";
const SEALS_SUFFIX = ".seals";

export interface SalvageOutput {
  readonly image: FileHandle;
  readonly seals: FileHandle | undefined;
  /** Makes the image appear in its place. */
  finish(imageBytes: number, sealsBytes: number): Promise<void>;
  /** Removes what was written. */
  discard(): Promise<void>;
}

const refuse = (detail: string): never => {
  throw new Fault("TRIVET_E_SALVAGE_OUTPUT", detail);
};

/** Refuses whatever could touch an input or lose a file. */
export function checkOutput(path: string, inputs: readonly SalvageInput[], force: boolean): void {
  const folder = dirname(resolve(path));
  if (!existsSync(folder) || !statSync(folder).isDirectory()) {
    refuse(`${path}: there is no directory ${folder}`);
  }
  const real = realpathSync(folder);
  for (const input of inputs) {
    if (isWithin(real, input.path)) {
      refuse(`${path} lies in ${input.directory}, which must not be changed`);
    }
  }
  // A symbolic link is refused as well: it would be replaced, which nobody means who gave one.
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (there === undefined) return;
  if (!there.isFile()) refuse(`${path} is there and no ordinary file`);
  if (!force) refuse(`${path} is there already`);
}

/** By identity, not by name: a directory can be mounted in two places. */
function isWithin(folder: string, directory: string): boolean {
  const { dev, ino } = statSync(directory);
  for (let at = folder; ; at = dirname(at)) {
    const here = statSync(at);
    if (here.dev === dev && here.ino === ino) return true;
    if (at === dirname(at)) return false;
  }
}

export async function openOutput(
  path: string,
  inputs: readonly SalvageInput[],
  force: boolean,
  withSeals: boolean,
): Promise<SalvageOutput> {
  const names = withSeals ? [path, path + SEALS_SUFFIX] : [path];
  for (const name of names) checkOutput(name, inputs, force);
  const opened: FileHandle[] = [];
  const partial = (name: string): string => name + PARTIAL_SUFFIX;
  const discard = async (): Promise<void> => {
    for (const [i, file] of opened.splice(0).entries()) {
      await file.close();
      await unlink(partial(names[i]!)).catch(() => {});
    }
  };
  try {
    for (const name of names) {
      checkOutput(partial(name), inputs, true);
      // Left behind by a salvage that was killed. Removed rather than emptied: it may have other names.
      if (existsSync(partial(name))) await unlink(partial(name));
      opened.push(await open(partial(name), "wx", 0o600));
    }
  } catch (error) {
    await discard();
    throw error;
  }
  return {
    image: opened[0]!,
    seals: opened[1],
    discard,
    async finish(imageBytes, sealsBytes) {
      for (const [i, file] of opened.entries()) {
        await file.truncate(i === 0 ? imageBytes : sealsBytes);
        await file.sync();
      }
      for (const name of names) {
        checkOutput(name, inputs, force);
        await rename(partial(name), name);
      }
      for (const file of opened.splice(0)) await file.close();
      await syncDirectory(dirname(resolve(path)));
    },
  };
}
