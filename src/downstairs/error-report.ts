import type { Fault } from "../base/fault.js";
import type { CrucibleError } from "../crucible/error.js";

/** A fault of ours in the words of the protocol: what goes into ErrorReport and ExtentError. */
export function crucibleErrorOf(fault: Fault): CrucibleError {
  switch (fault.code) {
    case "TRIVET_E_HASH":
      return { kind: "HashMismatch" };
    case "TRIVET_E_READ_ONLY":
      return { kind: "ModifyingReadOnlyRegion" };
    case "TRIVET_E_RANGE":
      return { kind: "OffsetInvalid" };
    case "TRIVET_E_IO":
    case "TRIVET_E_NO_SPACE":
      return { kind: "IoError", text: fault.message };
    case "TRIVET_E_REPAIR":
    case "TRIVET_E_DIAL":
    case "TRIVET_E_CONNECTION":
    case "TRIVET_E_TIMEOUT":
      return { kind: "RepairRequestError", text: fault.message };
    default:
      return { kind: "GenericError", text: fault.message };
  }
}
