import { Fault } from "../base/fault.js";
import type { Generation } from "../base/ids.js";
import type { Clock } from "../ports/clock.js";
import type { Journal } from "../ports/journal.js";
import type { GenerationSource } from "./options.js";

// Which generation a session promotes itself with (wire reference 5). A number from the clock is made durable before any downstairs
// hears of it, so that the next start can never choose it again. A session that resumes where another died goes one above that
// one and no further: whoever took the volume over meanwhile has a higher number, and is not to be thrown out.

type Then = (fault: Fault | null, generation: Generation) => void;

export function chooseGeneration(
  source: GenerationSource,
  clock: Clock,
  journal: Journal,
  then: Then,
): void {
  if (source.kind === "given" && source.value === 0n) {
    then(
      new Fault("TRIVET_E_GENERATION_ZERO", "generation 0 was given"),
      source.value as Generation,
    );
    return;
  }
  if (journal.resume !== null) {
    resumeGeneration(source, journal, journal.resume.generation, then);
    return;
  }
  if (source.kind === "given") {
    keep(source, journal, source.value as Generation, then);
    return;
  }
  const now = BigInt(Math.floor(clock.wallSeconds()));
  const next = source.lastUsed + 1n;
  keep(source, journal, (now > next ? now : next) as Generation, then);
}

/** A given number has to be above the predecessor's, but is not used for this (see serve). */
function resumeGeneration(
  source: GenerationSource,
  journal: Journal,
  before: Generation,
  then: Then,
): void {
  const next = (before + 1n) as Generation;
  const lastUsed = source.kind === "given" ? 0n : source.lastUsed;
  if (source.kind === "given" && source.value < next)
    then(
      new Fault(
        "TRIVET_E_GENERATION_TOO_LOW",
        `generation ${source.value} was asked for, the write log was left by generation ${before}: ${next} or more is needed`,
      ),
      next,
    );
  else if (lastUsed > before)
    then(
      new Fault(
        "TRIVET_E_SUPERSEDED",
        `the write log was left by generation ${before}, and this host has used ${lastUsed} since, without it`,
      ),
      next,
    );
  else keep(source, journal, next, then);
}

/**
 * A server that is restarted again and again to finish its log counts on by one. Whoever's clock is behind must not come to use one of
 * those numbers: the other could not tell his data from its own, and would write over it.
 */
const APART = 1000n;

/**
 * The regions know numbers up to `needed` − 1. From a clock that went backwards (`source` clock, at a fresh
 * start) that is put right once, with a number well above; a number that was given is not ours to change.
 */
export function raiseGeneration(
  source: GenerationSource,
  journal: Journal,
  generation: Generation,
  needed: Generation,
  then: Then,
): void {
  if (source.kind === "clock") keep(source, journal, (needed + APART) as Generation, then);
  else then(tooLow(generation, needed), generation);
}

export const tooLow = (generation: Generation, needed: Generation): Fault =>
  new Fault(
    "TRIVET_E_GENERATION_TOO_LOW",
    `generation ${generation} was asked for, the regions carry ${needed - 1n}: ${needed} or more is needed`,
  );

/** The log first: it never knows less than what was used. */
function keep(
  source: GenerationSource,
  journal: Journal,
  generation: Generation,
  then: Then,
): void {
  journal.claimed(generation);
  if (source.kind === "given") then(null, generation);
  else source.save(generation, (fault) => then(fault, generation));
}
