import type { Command } from "../cli/command.js";
import { usage } from "../cli/usage.js";

export const CRUCIBLE_NBD_SERVER: Command = {
  name: "crucible-nbd-server",
  summary: "trivet in place of Crucible's NBD server",
  operands: [],
  options: {},
  async run() {
    throw usage("not yet");
  },
};
