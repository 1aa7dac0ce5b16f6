import { Fault } from "../base/fault.js";
import type { Generation } from "../base/ids.js";
import type { Clock } from "../ports/clock.js";
import type { GenerationSource } from "./options.js";

// Which generation a session promotes itself with (wire reference 5). A number from the clock is made durable before any downstairs
// hears of it, so that the next start can never choose it again.

type Then = (fault: Fault | null, generation: Generation) => void;

export function chooseGeneration(source: GenerationSource, clock: Clock, then: Then): void {
  if (source.kind === "given") {
    const fault =
      source.value === 0n ? new Fault("TRIVET_E_GENERATION_ZERO", "generation 0 was given") : null;
    then(fault, source.value as Generation);
    return;
  }
  const now = BigInt(Math.floor(clock.wallSeconds()));
  const next = source.lastUsed + 1n;
  keep(source, (now > next ? now : next) as Generation, then);
}

/**
 * The regions know numbers up to `needed` − 1. From a clock that went backwards (`source` clock, at a fresh
 * start) that is put right once; a number that was given is not ours to change.
 */
export function raiseGeneration(
  source: GenerationSource,
  generation: Generation,
  needed: Generation,
  then: Then,
): void {
  if (source.kind === "clock") keep(source, needed, then);
  else then(tooLow(generation, needed), generation);
}

export const tooLow = (generation: Generation, needed: Generation): Fault =>
  new Fault(
    "TRIVET_E_GENERATION_TOO_LOW",
    `generation ${generation} was asked for, the regions carry ${needed - 1n}: ${needed} or more is needed`,
  );

function keep(
  source: GenerationSource & { kind: "clock" },
  generation: Generation,
  then: Then,
): void {
  source.save(generation, (fault) => then(fault, generation));
}
