import { Fault } from "../base/fault.js";
import type { RegionDefinition } from "../crucible/region-definition.js";
import { definitionProblem, sameGeometry } from "../crucible/region-math.js";
import type { Mode } from "./negotiation.js";

// Do three regions make a volume? (Wire reference 4.7, with the checks that upstream leaves out.) Pure.

export type Geometry = Pick<RegionDefinition, "blockSize" | "extentSize" | "extentCount">;

const words = (g: Geometry): string =>
  `${g.extentCount} extents of ${g.extentSize} blocks of ${g.blockSize} bytes`;

/**
 * What is wrong with `region` answering for replica `index`. `known` holds what each replica's region was when
 * it last answered. A replica may come with another region before the volume is active, or when it was replaced.
 */
export function regionProblem(
  region: RegionDefinition,
  index: number,
  known: readonly (RegionDefinition | null)[],
  wanted: Geometry | undefined,
  mode: Mode,
): Fault | null {
  const problem = definitionProblem(region);
  if (problem !== null)
    return new Fault("TRIVET_E_GEOMETRY_MISMATCH", `the region cannot be used: ${problem}`);
  const before = known[index] ?? null;
  if (before !== null && mode === "offline" && before.uuid !== region.uuid)
    return new Fault(
      "TRIVET_E_REGION_CHANGED",
      `region ${region.uuid} answers, ${before.uuid} was there before`,
    );
  for (const [other, theirs] of known.entries()) {
    if (other === index || theirs === null) continue;
    if (theirs.uuid === region.uuid)
      return new Fault(
        "TRIVET_E_SAME_REGION",
        `targets ${Math.min(other, index)} and ${Math.max(other, index)} both are region ${region.uuid}`,
      );
    if (!sameGeometry(theirs, region))
      return new Fault(
        "TRIVET_E_GEOMETRY_MISMATCH",
        `target ${index} has ${words(region)}, target ${other} has ${words(theirs)}`,
      );
  }
  if (
    wanted !== undefined &&
    (wanted.blockSize !== region.blockSize ||
      wanted.extentSize !== region.extentSize ||
      wanted.extentCount !== region.extentCount)
  )
    return new Fault(
      "TRIVET_E_GEOMETRY_MISMATCH",
      `target ${index} has ${words(region)}, ${words(wanted)} was expected`,
    );
  if (before !== null && mode !== "new" && !sameGeometry(before, region))
    return new Fault(
      "TRIVET_E_GEOMETRY_MISMATCH",
      `target ${index} has ${words(region)}, it had ${words(before)} before`,
    );
  return null;
}
