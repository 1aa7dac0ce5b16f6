import { BELOW } from "./below.js";
import type { Mutant } from "./patch.js";
import { UPSTAIRS } from "./upstairs.js";

/** By name; the README has a sentence for each. */
export const MUTANTS: Readonly<Record<string, Mutant>> = { ...UPSTAIRS, ...BELOW };
