import { Fault } from "../../base/fault.js";
import type { StatusReport } from "../../control/report.js";
import { type Command, EXIT, type Input, type Shell } from "../cli/command.js";
import type { ControlClient } from "./client.js";
import { connectTo, WHOM_DETAILS, WHOM_OPTIONS } from "./find.js";
import { statusLines } from "./status-text.js";

// The commands that talk to a running server.

const NAME = { name: "NAME", required: false } as const;
const WATCH_MS = 1_000;

export const STATUS: Command = {
  name: "status",
  summary: "what a running server knows: replicas, repair, scrub, memory",
  operands: [NAME],
  options: {
    json: { help: "Print one JSON object, for scripts; with --watch one a second" },
    watch: { short: "w", help: "Go on until interrupted" },
    ...WHOM_OPTIONS,
  },
  details: [
    ...WHOM_DETAILS,
    "",
    `Ends with 0 when all is well, ${EXIT.degraded} when the volume is served but something needs attention, ${EXIT.down} when`,
    "requests wait, 5 when no server can be asked. 64-bit numbers are strings in JSON.",
  ],
  async run(input, shell) {
    const client = await connectTo(input, input.operands[0], shell.env);
    try {
      if (!input.flag("watch")) {
        const report = await ask(client);
        show(report, input, shell);
        shell.endWith(EXIT[report.health]);
        return;
      }
      for (;;) {
        const report = await ask(client);
        if (!input.flag("json") && process.stdout.isTTY) shell.print("\x1b[H\x1b[J");
        show(report, input, shell);
        await new Promise((resolve) => setTimeout(resolve, WATCH_MS));
      }
    } finally {
      client.close();
    }
  },
};

const ask = async (client: ControlClient): Promise<StatusReport> => {
  const report = (await client.ask({ do: "status" })) as StatusReport | undefined;
  if (report?.report === 1) return report;
  throw new Fault("TRIVET_E_CONTROL", "the server's status is of another version");
};

function show(report: StatusReport, input: Input, shell: Shell): void {
  if (input.flag("json")) shell.print(JSON.stringify(report));
  else for (const line of statusLines(report)) shell.print(line);
}
