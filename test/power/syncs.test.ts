import t from "tap";
import { cleanUp } from "../kit/programs.js";
import type { Recording } from "./recording.js";
import { corners, repair } from "./scenarios.js";
import { type Plan, regionIn } from "./states.js";
import { examine, SMALL, TORN } from "./suite.js";
import { BELT_AND_BRACES, REASONS, type Reason, reasonOf } from "./syncs.js";

// The proof can fail: each sync that the programs issue is left out of a recording, as if it had been forgotten or the disk had
// lied, and a power cut must show it.

const PLAN: Plan = { seed: 1, draws: 12, most: 4000, later: 1 };
/** The recording that has such a sync. */
const WHERE: { readonly [R in Reason]?: "torn" | "repair" } = {
  clean: "torn",
  fetched: "repair",
  promised: "repair",
  copied: "repair",
  fetchedName: "repair",
  copiedName: "repair",
  settled: "repair",
  removed: "repair",
};

t.teardown(cleanUp);

/** Plays a recording with and without one kind of sync; answers what was noticed. */
function without(recording: Recording, reason: Reason): { left: number; wrong: string | null } {
  const region = regionIn(recording);
  let left = 0;
  const lies: Plan["lies"] = (call, disk) => {
    const isIt = reasonOf(call, disk, region) === reason;
    left += isIt ? 1 : 0;
    return isIt;
  };
  const { wrong } = examine(recording, { ...PLAN, lies });
  return { left, wrong };
}

t.test("a sync that is left out is noticed", async (t) => {
  const recordings = {
    small: await corners(SMALL),
    torn: await corners(TORN),
    repair: await repair(SMALL, 1),
  };
  for (const recording of Object.values(recordings))
    t.equal(examine(recording, PLAN).wrong, null, "with all of them all is well");
  for (const reason of Object.keys(REASONS) as Reason[]) {
    const { left, wrong } = without(recordings[WHERE[reason] ?? "small"], reason);
    t.ok(left > 0, `${reason}: there are such syncs`);
    if (BELT_AND_BRACES.includes(reason)) t.equal(wrong, null, reason);
    else t.ok(wrong !== null, `${reason} (${REASONS[reason]}): ${wrong}`);
  }
  t.ok(without(recordings.torn, "numbers").wrong !== null, "numbers that could be torn");
});
