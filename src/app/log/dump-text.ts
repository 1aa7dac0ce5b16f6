import { HEADER_BYTES, ROW_BYTES, SessionState } from "../../journal/layout.js";
import type { LogLife } from "../../journal/lives.js";
import type { LogReading, LogRow } from "../../journal/reading.js";
import { LogKind } from "../../ports/journal.js";
import { showBytes } from "../progress.js";

/** What was found in one log. */
export interface LogReport {
  readonly path: string;
  readonly reading: LogReading;
  readonly isRunning: boolean;
  readonly isThisBoot: boolean;
  readonly outlook: string;
  readonly payloadProblems: readonly string[];
}

const KINDS: Readonly<Record<number, string>> = {
  [LogKind.write]: "write",
  [LogKind.zeroes]: "zeros",
};
const STATES: Readonly<Record<number, string>> = {
  [SessionState.clean]: "clean",
  [SessionState.open]: "open",
  [SessionState.void]: "void",
};

export const problemsOf = ({ reading, payloadProblems }: LogReport): readonly string[] => [
  ...reading.problems,
  ...payloadProblems,
];

export function dumpJson(report: LogReport): unknown {
  const { path, reading, isRunning, isThisBoot, outlook } = report;
  const { kind, version, header, session, covered, rows, torn } = reading;
  return {
    path,
    kind,
    version,
    header:
      header === null
        ? null
        : {
            volume: header.name,
            volume_id: header.volumeId,
            boot_id: header.bootId,
            this_boot: isThisBoot,
            rows: header.rows,
            row_bytes: ROW_BYTES,
            rows_at: HEADER_BYTES,
            payload_at: header.bodyAt,
            payload_bytes: header.bodyBytes,
          },
    session:
      session === null
        ? null
        : {
            state: STATES[session.state],
            pid: session.pid,
            running: isRunning,
            generation: `${session.generation}`,
            sessions: session.lives.map((life) => ({
              from_generation: `${life.from}`,
              generation: `${life.generation}`,
              reconciled_with: `${life.reconciled}`,
              first_flush: life.first,
              last_flush: life.last,
            })),
            highest_seen: `${session.highestSeen}`,
            block_bytes: session.blockBytes,
            regions: session.regions,
          },
    covered,
    torn,
    problems: problemsOf(report),
    outlook,
    rows: rows.map((row) => ({
      row: row.row,
      job: row.id,
      kind: KINDS[row.kind],
      start_block: row.start,
      blocks: row.blocks,
      bytes: row.payloadBytes,
      acknowledged: row.answered,
      payload_at: row.at,
    })),
  };
}

export function dumpLines(report: LogReport): string[] {
  const { path, reading, isRunning, isThisBoot, outlook } = report;
  const { kind, version, header, session, covered, rows, torn } = reading;
  const lines: [string, string][] = [["file", path]];
  if (kind === "version") lines.push(["layout", `version ${version}, which is not known here`]);
  if (kind === "alien") lines.push(["layout", "this is no write log"]);
  if (header !== null)
    lines.push(
      ["volume", `${header.name} (${header.volumeId})`],
      ["boot", isThisBoot ? "this one" : `an earlier one, or another machine (${header.bootId})`],
      [
        "layout",
        `version ${version}, ${header.rows} rows, ${showBytes(header.bodyBytes)} of payload memory`,
      ],
    );
  if (session !== null)
    lines.push(
      [
        "server",
        session.pid === 0
          ? "none yet"
          : `process ${session.pid}, ${isRunning ? "which runs" : "which is gone"}`,
      ],
      ["state", STATES[session.state]!],
      [
        "generation",
        `${session.generation}; ${session.lives.map(livedText).join(", ")}; before that regions carried ${session.highestSeen} at most`,
      ],
      ["regions", session.regions.map((region) => region ?? "none").join(", ")],
      ["block size", `${session.blockBytes}`],
    );
  if (header !== null) {
    const bytes = rows.reduce((sum, row) => sum + row.payloadBytes, 0);
    const answered = rows.filter((row) => row.answered).length;
    lines.push(
      ["covered", `up to row ${covered}`],
      [
        "left",
        `${rows.length} writes of ${showBytes(bytes)} that no flush covers, ${answered} of them acknowledged`,
      ],
    );
    if (torn > 0) lines.push(["torn", `${torn} row half written: nobody was told of that write`]);
  }
  for (const problem of problemsOf(report)) lines.push(["damaged", problem]);
  lines.push(["outlook", outlook]);
  const width = Math.max(...lines.map(([left]) => left.length));
  const text = lines.map(([left, right]) => `${left.padEnd(width)}  ${right}`);
  return rows.length === 0 ? text : [...text, "", ...rowLines(rows)];
}

const livedText = ({ generation, first, last }: LogLife): string =>
  last < first
    ? `${generation} flushed nothing`
    : `${generation} sent the flushes ${first} to ${last}`;

function rowLines(rows: readonly LogRow[]): string[] {
  const table = [
    ["row", "job", "kind", "first block", "blocks", "acknowledged", "payload at"],
    ...rows.map((row) => [
      `${row.row}`,
      `${row.id}`,
      KINDS[row.kind]!,
      `${row.start}`,
      `${row.blocks}`,
      row.answered ? "yes" : "no",
      row.at < 0 ? "-" : `${row.at}`,
    ]),
  ];
  const widths = table[0]!.map((_, i) => Math.max(...table.map((line) => line[i]!.length)));
  return table.map((line) =>
    line
      .map((cell, i) => cell.padStart(widths[i]!))
      .join("  ")
      .trimEnd(),
  );
}
