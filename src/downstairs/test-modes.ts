import { Fault } from "../base/fault.js";
import type { Random } from "../ports/random.js";
import { JobKind } from "./job-table.js";

/** Deliberate trouble for testing an upstairs, as the original's flags of the same names make it. */
export interface TestModes {
  readonly lossy: boolean;
  readonly readErrors: boolean;
  readonly writeErrors: boolean;
  readonly flushErrors: boolean;
}

export const NO_TROUBLE: TestModes = {
  lossy: false,
  readErrors: false,
  writeErrors: false,
  flushErrors: false,
};

const CHANCE = 0.25;
/** How long a job of a lossy downstairs is held back. */
export const LOSSY_DELAY_MS = 100;

export function delayed(modes: TestModes, random: Random): boolean {
  return modes.lossy && random.chance() < CHANCE;
}

/** The fault that this attempt meets, or undefined. */
export function troubled(modes: TestModes, random: Random, kind: number): Fault | undefined {
  const meant =
    (kind === JobKind.read && modes.readErrors) ||
    (kind <= JobKind.writeUnwritten && modes.writeErrors) ||
    (kind === JobKind.flush && modes.flushErrors);
  return meant && random.chance() < CHANCE ? new Fault("TRIVET_E_IO", "test error") : undefined;
}
