import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Fault } from "../../base/fault.js";
import { bootId } from "../../host/log-file.js";
import type { Command, Group } from "../cli/command.js";
import { withWorkspace } from "../region/workspace.js";
import { asFault } from "../report.js";
import { dumpJson, dumpLines, type LogReport, problemsOf } from "./dump-text.js";
import { isRunning, LogExaminer } from "./examine.js";
import { findLog } from "./find-log.js";

const DUMP: Command = {
  name: "dump",
  summary: "what a write log holds; changes nothing, also while a server uses it",
  operands: [{ name: "NAME|PATH", required: true }],
  options: {
    json: { help: "One JSON object" },
    payload: { value: "DIR", help: "Also write the data of every write left into DIR" },
  },
  details: [
    "NAME is a volume, as in trivet serve NAME; PATH is the file, or one that was put aside.",
    "Shown are the writes that no flush covers. A server that starts writes them again, in this order, before it serves.",
    "With --payload each of them is a file ROW-FIRSTBLOCK.bin, to be put back by hand at FIRSTBLOCK times the block size.",
    "",
    "Examples:",
    "  trivet log dump photos",
    "  trivet log dump /var/lib/trivet/photos.2026-11-21T16-30-00.000Z.log --payload /root/rescued",
  ],
  async run(input, shell) {
    const examiner = new LogExaminer(findLog(input.operands[0]!, shell.env));
    try {
      const report = await examine(examiner);
      const folder = input.text("payload");
      const written = folder === undefined ? 0 : writePayload(examiner, report, folder);
      if (input.flag("json")) shell.print(JSON.stringify(dumpJson(report)));
      else for (const line of dumpLines(report)) shell.print(line);
      if (folder !== undefined && !input.flag("json"))
        shell.print(`\n${written} files written to ${folder}`);
      judge(report);
    } finally {
      examiner.close();
    }
  },
};

async function examine(examiner: LogExaminer): Promise<LogReport> {
  const reading = await examiner.read();
  const payloadProblems =
    reading.rows.length === 0
      ? []
      : await withWorkspace(async ({ arena, hasher }) =>
          examiner.payloadProblems(reading, arena, hasher),
        );
  return {
    path: examiner.path,
    reading,
    isRunning: isRunning(reading),
    isThisBoot: reading.header?.bootId === bootId(),
    outlook: examiner.outlook(reading),
    payloadProblems,
  };
}

function writePayload(examiner: LogExaminer, { reading }: LogReport, folder: string): number {
  const rows = reading.rows;
  try {
    mkdirSync(folder, { recursive: true });
    for (const row of rows) {
      const data =
        row.at < 0
          ? Buffer.alloc(row.payloadBytes)
          : examiner.payload(reading, row).subarray(0, row.payloadBytes);
      // Never over something that is there already.
      writeFileSync(join(folder, `${row.row}-${row.start}.bin`), data, { flag: "wx", mode: 0o600 });
    }
  } catch (error) {
    throw asFault(error) ?? error;
  }
  return rows.length;
}

/** Bad news is the exit status, after everything that can be shown was. */
function judge(report: LogReport): void {
  const { path, reading } = report;
  if (reading.kind === "alien") throw new Fault("TRIVET_E_LOG_FORMAT", `${path} is no write log`);
  if (reading.kind === "version")
    throw new Fault(
      "TRIVET_E_LOG_FORMAT",
      `${path} has version ${reading.version} of the layout, which is not known here`,
    );
  const problems = problemsOf(report);
  if (problems.length === 0) return;
  const what = problems.length === 1 ? "one thing is" : `${problems.length} things are`;
  throw new Fault("TRIVET_E_LOG_DAMAGED", `${path}: ${what} wrong with it`);
}

export const LOG: Group = {
  name: "log",
  summary: "write logs: what a server that died had acknowledged",
  commands: [DUMP],
};
