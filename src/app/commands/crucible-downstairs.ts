import { MESSAGE_VERSION } from "../../crucible/version.js";
import type { Command, Group } from "../cli/command.js";
import { programVersion } from "../version.js";

const VERSION: Command = {
  name: "version",
  summary: "print the version of the program and of the protocol",
  operands: [],
  options: {},
  async run(_input, shell) {
    shell.print(`Crucible Version: trivet ${programVersion()}`);
    shell.print(`Upstairs <-> Downstairs Message Version: ${MESSAGE_VERSION}`);
  },
};

export const CRUCIBLE_DOWNSTAIRS: Group = {
  name: "crucible-downstairs",
  summary: "trivet in place of Crucible's storage server",
  commands: [VERSION],
};
