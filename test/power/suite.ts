import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { deserialize, serialize } from "node:v8";
import { makeFolder } from "../kit/folders.js";
import { type Contents, type Recording, readRecording } from "./recording.js";
import { clone, corners, imported, repair, served, work } from "./scenarios.js";
import type { RunOptions, Shape } from "./stage.js";
import { explore, type Outcome, type Plan, regionIn } from "./states.js";

/** One sector is one block. */
export const SMALL: Shape = { blockSize: 512, extentSize: 20, extentCount: 3 };
/** The metadata record lies over a sector boundary, between dirty byte and numbers. */
export const TORN: Shape = { blockSize: 512, extentSize: 133, extentCount: 2 };
export const LARGE: Shape = { blockSize: 4096, extentSize: 9, extentCount: 3 };
export const SEALED: Shape = { ...SMALL, encrypted: true };

/** What may be recorded. `busy` is about how much happens, as opposed to how much of it. */
export const SCENARIOS: Readonly<
  Record<string, (seed: number, options?: RunOptions) => Promise<Recording>>
> = {
  "small blocks": (seed, options) => work(SMALL, seed, 24, options),
  "torn metadata": (seed, options) => work(TORN, seed, 24, options),
  "large blocks": (seed, options) => work(LARGE, seed, 24, options),
  "encrypted blocks": (seed, options) => work(SEALED, seed, 24, options),
  corners: (_, options) => corners(SMALL, options),
  repair: (seed, options) => repair(SMALL, seed, options),
  "repair of torn metadata": (seed, options) => repair(TORN, seed, options),
  clone: (seed) => clone(SMALL, seed),
  "under a server": (seed, options) => served(SMALL, seed, options),
  import: (seed) => imported(SMALL, seed),
};

/** Explores a recording; one that shows something wrong is kept, for what real programs do cannot be repeated. */
export function examine(recording: Recording, plan: Plan): Outcome {
  try {
    const outcome = explore(recording, regionIn(recording), plan);
    if (outcome.wrong === null || plan.lies !== undefined) return outcome;
    return { ...outcome, wrong: `${outcome.wrong}\n${keep(recording, plan)}` };
  } catch (error) {
    throw new Error(`${(error as Error).message}\n${keep(recording, plan)}`, { cause: error });
  }
}
/** Writes a recording to a file of its own, and answers how to look at it again. */
export function keep({ directory, log, seen }: Recording, { seed, draws }: Plan): string {
  const path = join(makeFolder(), "recording");
  writeFileSync(path, serialize({ directory, log, seen: [...seen] }));
  return `to see it again: npm run power -- replay ${path} ${seed} ${draws}`;
}
export function kept(path: string): Recording {
  const { directory, log, seen } = deserialize(readFileSync(path)) as {
    directory: string;
    log: Uint8Array;
    seen: [string, Map<string, Uint8Array | null>][];
  };
  const asBuffers = (found: Map<string, Uint8Array | null>): Contents =>
    new Map([...found].map(([name, bytes]) => [name, bytes && Buffer.from(bytes)]));
  return readRecording(
    Buffer.from(log),
    directory,
    new Map(seen.map(([text, found]) => [text, asBuffers(found)])),
  );
}

/** Numbers that say how much was seen, for the log of a test. */
export const summary = (name: string, { states, looked, promises }: Outcome): string => {
  const { writes, flushes, repairs } = promises;
  const work = `${writes} writes, ${flushes} flushes, ${repairs} repairs`;
  return `${name}: ${states} states that differ of ${looked} looked at; ${work}`;
};
