import type { Reconciliation } from "./reconcile.js";
import type { Replica } from "./replica.js";

/** What an activation that takes its time has to say: how far reconciliation is, or for whom it waits and why. */
export function waitNote(
  replicas: readonly Replica[],
  reconciliation: Reconciliation | null,
  why: string | null,
  degradedAfterMs: number | null,
): { readonly level: "info" | "warn"; readonly event: string; readonly text: string } {
  if (reconciliation !== null)
    return {
      level: "info",
      event: "volume.reconciling",
      text: `reconciliation: ${reconciliation.stepsDone} of ${reconciliation.stepsInAll} steps done`,
    };
  const whom = replicas
    .filter(({ phase }) => phase !== "waitQuorum")
    .map(({ name, trouble, phase }) => `${name}: ${trouble?.message ?? phase}`);
  const needed = degradedAfterMs === null ? "all three replicas are" : "two replicas are";
  const more = why === null ? "" : `${why}; `;
  return {
    level: "warn",
    event: "volume.waiting",
    text: `${needed} needed to start; ${more}waiting for ${whom.join("; ")}`,
  };
}
