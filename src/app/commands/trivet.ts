import type { Group } from "../cli/command.js";
import { REGION } from "../region/commands.js";

export const TRIVET: Group = {
  name: "trivet",
  summary: "a replicated network block device",
  commands: [REGION],
};
