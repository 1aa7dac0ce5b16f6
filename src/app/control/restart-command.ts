import { setTimeout as sleep } from "node:timers/promises";
import { Fault } from "../../base/fault.js";
import type { StatusReport } from "../../control/report.js";
import type { Command } from "../cli/command.js";
import { ControlClient } from "./client.js";
import { connectTo, WHOM_DETAILS, WHOM_OPTIONS } from "./find.js";
import { askStatus } from "./follow.js";

// `trivet restart`: asks a server to be succeeded by a process of this command's version, and looks until that serves.

const LOOK_MS = 50;
/** Nobody answers at all: neither of the two is left. */
const GONE_MS = 10_000;
/** After that it is said what a successor waits for, once. */
const PATIENCE_MS = 5_000;

export const RESTART: Command = {
  name: "restart",
  summary:
    "another process takes over from a running server; clients notice nothing but a short wait",
  operands: [{ name: "NAME", required: false }],
  options: { json: { help: "Print one JSON object, for scripts" }, ...WHOM_OPTIONS },
  details: [
    "The new process runs the program that this command belongs to, so after an upgrade the new version, with the options that the server",
    "was started with and the volume's file as it is now. It is given the sockets, the connected clients and the write log. When it does not",
    "come so far, the server that runs goes on. --gen and --accept-… count for one start, so they are left out.",
    ...WHOM_DETAILS,
    "",
    "A service manager other than systemd may take the end of the old process for the end of the service: use its own restart there.",
  ],
  run: async (input, shell) => {
    const client = await connectTo(input, input.operands[0], shell.env);
    const { path } = client;
    let before: StatusReport;
    let pid: number;
    try {
      before = await askStatus(client);
      ({ pid } = (await client.ask({ do: "restart", program: thisProgram() })) as { pid: number });
    } finally {
      client.close();
    }
    const after = await succeeded(path, before, pid, (text) => shell.warn(text));
    const { version } = after.server;
    const { volume } = after;
    if (input.flag("json")) shell.print(JSON.stringify({ volume, pid, version }));
    else shell.print(`${volume} is served by process ${pid} now, version ${version}.`);
  },
};

/** Node, its options, and the script that runs now. */
const thisProgram = (): string[] => [process.execPath, ...process.execArgv, process.argv[1]!];

async function succeeded(
  path: string,
  before: StatusReport,
  pid: number,
  say: (text: string) => void,
): Promise<StatusReport> {
  const startedMs = performance.now();
  let answeredMs = startedMs;
  let hasSaid = false;
  for (;;) {
    await sleep(LOOK_MS);
    const report = await look(path);
    const nowMs = performance.now();
    if (report === undefined) {
      if (nowMs - answeredMs > GONE_MS)
        throw new Fault(
          "TRIVET_E_NO_SERVER",
          `neither the server (process ${before.server.pid}) nor its successor (process ${pid}) answers`,
        );
      continue;
    }
    answeredMs = nowMs;
    if (report.server.pid === pid && report.state === "active") return report;
    if (report.server.pid !== pid && report.restart?.state === "failed")
      throw new Fault("TRIVET_E_HAND_OVER", report.restart.failed ?? "it failed");
    if (hasSaid || nowMs - startedMs < PATIENCE_MS) continue;
    hasSaid = true;
    const now = report.problems.length > 0 ? report.problems.join("; ") : report.state;
    const why = report.server.pid === pid ? now : `process ${report.server.pid} serves meanwhile`;
    say(`process ${pid} is not there yet: ${why}`);
  }
}

/** Undefined: nobody answers just now. */
async function look(path: string): Promise<StatusReport | undefined> {
  let client: ControlClient | undefined;
  try {
    client = await ControlClient.connect(path);
    return await askStatus(client);
  } catch (error) {
    if (error instanceof Fault && error.code !== "TRIVET_E_PERMISSION") return undefined;
    throw error;
  } finally {
    client?.close();
  }
}
