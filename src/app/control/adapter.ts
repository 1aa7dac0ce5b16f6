import { Fault } from "../../base/fault.js";
import type { StatusReport } from "../../control/report.js";
import type { VolumeControl } from "../../control/volume-control.js";
import type { Upstairs } from "../../upstairs/upstairs.js";
import type { ScrubPlan } from "../serve/scrub-plan.js";
import { type ServerFacts, upstairsReport } from "./volume-report.js";

/** A volume on replicas, for its control socket. */
export function upstairsControl(
  upstairs: Upstairs,
  scrubs: ScrubPlan,
  facts: () => ServerFacts,
): Omit<VolumeControl, "restart"> {
  return {
    status: () => upstairsReport(upstairs.status(), facts()),
    replace: (old, replacement, acceptForeign) => upstairs.replace(old, replacement, acceptForeign),
    startScrub: (bytesPerSecond) => scrubs.start(bytesPerSecond),
    stopScrub: () => scrubs.stop(),
    setRepairRate: (bytesPerSecond) => {
      upstairs.setRepairRate(bytesPerSecond);
      return null;
    },
  };
}

/** A volume without replicas: there is nothing to do but to ask. */
export function memoryControl(status: () => StatusReport): VolumeControl {
  const refuse = () => new Fault("TRIVET_E_REFUSED", "a volume in memory has no replicas");
  return {
    status,
    replace: refuse,
    startScrub: refuse,
    stopScrub: refuse,
    setRepairRate: refuse,
    restart: () =>
      new Fault("TRIVET_E_REFUSED", "a volume in memory would lose what it holds by a restart"),
  };
}
