import { ATTACH, DETACH } from "../attach/commands.js";
import type { Command, Group } from "../cli/command.js";
import { REPAIR, REPLACE, SCRUB, STATUS } from "../control/commands.js";
import { RESTART } from "../control/restart-command.js";
import { DEMO_OPTIONS } from "../demo/options.js";
import { LOG } from "../log/commands.js";
import { CREATE, EXPORT, IMPORT, INFO, VERIFY } from "../region/commands.js";
import { RUN } from "../region/run-command.js";
import { SALVAGE } from "../region/salvage-command.js";
import { readSettings, SERVE_OPTIONS } from "../serve/settings.js";
import { INSTALL_UNITS, UNINSTALL_UNITS } from "../units/commands.js";

const DEMO: Command = {
  name: "demo",
  summary: "three replicas and a server on this machine, to try things out",
  operands: [],
  options: DEMO_OPTIONS,
  async run(input, shell) {
    const { demo } = await import("../demo/demo.js");
    await demo(input, shell);
  },
};

const SERVE: Command = {
  name: "serve",
  summary: "the NBD server of one volume",
  operands: [{ name: "NAME|FILE.toml", required: false }],
  options: SERVE_OPTIONS,
  details: [
    "NAME stands for /etc/trivet/NAME.toml, whose keys are these options without their dashes.",
    "What is given here overrides the file.",
    "",
    "Examples:",
    "  trivet serve photos",
    "  trivet serve -t 10.0.0.1:3810 -t 10.0.0.2:3810 -t 10.0.0.3:3810",
    "  trivet serve --memory 1G --socket /run/scratch.sock",
  ],
  async run(input, shell) {
    const settings = readSettings(input, shell.env);
    const { serve } = await import("../serve/serve.js");
    await serve(settings, shell);
  },
};

const REGION: Group = {
  name: "region",
  summary: "region directories: where a replica keeps its blocks",
  commands: [CREATE, RUN, INFO, VERIFY, EXPORT, IMPORT, SALVAGE],
};

export const TRIVET: Group = {
  name: "trivet",
  summary: "a replicated network block device",
  commands: [
    DEMO,
    SERVE,
    ATTACH,
    DETACH,
    STATUS,
    RESTART,
    REPLACE,
    REPAIR,
    SCRUB,
    LOG,
    REGION,
    INSTALL_UNITS,
    UNINSTALL_UNITS,
  ],
};
