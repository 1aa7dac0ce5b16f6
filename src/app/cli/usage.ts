import { Fault } from "../../base/fault.js";

/** What was typed cannot be meant; one sentence without a full stop. */
export const usage = (detail: string): Fault => new Fault("TRIVET_E_USAGE", detail);
