import type { Fault } from "../base/fault.js";
import type { Address } from "../ports/stream.js";
import type { ControlCommand } from "./protocol.js";
import type { StatusReport } from "./report.js";

// What each command of the control socket does, as a function from request to answer. Whatever stands behind it (a volume, a test)
// is the interface.

/** What came of a request to replace; wire reference 8.6. */
export type ReplaceOutcome = "started" | "startedAlready" | "completedAlready" | "missing";

/** A volume as its control socket sees it. Faults are answers here, never thrown. */
export interface VolumeControl {
  status(): StatusReport;
  /** `acceptForeign`: also by a region that holds data of something else. */
  replace(old: Address, replacement: Address, acceptForeign: boolean): ReplaceOutcome | Fault;
  /** Bytes per second; 0: as fast as it goes, null: the configured rate. Null: it runs now. */
  startScrub(bytesPerSecond: number | null): Fault | null;
  /** Null: none runs any more. */
  stopScrub(): Fault | null;
  setRepairRate(bytesPerSecond: number): Fault | null;
  /** Another process, with the program named, takes over; its id. */
  restart(program: readonly string[]): { readonly pid: number } | Fault;
}

/** Answers exactly once: with a Fault, or with what `makeAnswer` takes. */
export function handle(command: ControlCommand, volume: VolumeControl): unknown {
  switch (command.do) {
    case "status":
      return volume.status();
    case "replace":
      return volume.replace(command.old, command.new, command.acceptForeign === true);
    case "scrubStart":
      return volume.startScrub(command.rate);
    case "scrubStop":
      return volume.stopScrub();
    case "repairRate":
      return volume.setRepairRate(command.rate);
    case "restart":
      return volume.restart(command.program);
  }
}
