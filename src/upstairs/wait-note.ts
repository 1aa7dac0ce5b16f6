import type { Reconciliation } from "./reconcile.js";
import type { Replica } from "./replica.js";

/** What an activation that takes its time has to say: how far reconciliation is, or for whom it waits and why. */
export function waitNote(
  replicas: readonly Replica[],
  reconciliation: Reconciliation | null,
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
  return {
    level: "warn",
    event: "volume.waiting",
    text: `all three replicas are needed to start; waiting for ${whom.join("; ")}`,
  };
}
