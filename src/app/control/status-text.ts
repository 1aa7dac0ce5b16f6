import type { ReplicaReport, StatusReport } from "../../control/report.js";
import { showBytes, showSeconds } from "../progress.js";

// A status for people. Pure: lines from a report.

const HEALTH = {
  ok: "all is well",
  degraded: "served, but not as safe as it should be",
  down: "requests wait",
} as const;

export function statusLines(report: StatusReport): readonly string[] {
  const { server, requests, memory } = report;
  const rows: [string, string][] = [
    ["volume", `${report.volume}: ${HEALTH[report.health]}`],
    [
      "state",
      `${report.state}${report.read_only ? ", read-only" : ""}, for ${showSeconds(server.up_ms / 1000)} (process ${server.pid}, version ${server.version})`,
    ],
  ];
  if (report.size_bytes > 0)
    rows.push(["size", `${showBytes(report.size_bytes)}, blocks of ${report.block_bytes} bytes`]);
  if (report.addresses.length > 0) rows.push(["serves on", report.addresses.join(", ")]);
  if (report.backing === "replicas") {
    rows.push(["generation", report.generation]);
    rows.push([
      "requests",
      `${requests.open} open, ${requests.waiting_writes} writes wait, ${requests.jobs} jobs kept until a flush covers them`,
    ]);
    rows.push([
      "memory",
      `writes ${share(memory.writes)}, reads ${share(memory.reads)}, process ${showBytes(server.memory_bytes)}`,
    ]);
  } else
    rows.push([
      "memory",
      `the volume is in the memory of the process (${showBytes(server.memory_bytes)})`,
    ]);
  if (report.reconciliation !== null)
    rows.push([
      "reconciliation",
      `${report.reconciliation.done} of ${report.reconciliation.in_all} steps`,
    ]);
  const lines = rows.map(([name, value]) => `${name.padEnd(14)} ${value}`);
  if (report.replicas.length > 0) lines.push("", ...report.replicas.map(replicaLine));
  if (report.problems.length > 0) lines.push("", ...report.problems.map((text) => `! ${text}`));
  return lines;
}

const share = (memory: { readonly used_bytes: number; readonly size_bytes: number }): string =>
  `${showBytes(memory.used_bytes)} of ${showBytes(memory.size_bytes)}`;

function replicaLine(replica: ReplicaReport): string {
  const { counts } = replica;
  const notes = [
    [counts.bad_blocks, "bad blocks"],
    [counts.error_reports, "error reports"],
    [counts.replays, "replays"],
  ]
    .filter(([count]) => (count as number) > 0)
    .map(([count, what]) => `${count} ${what}`);
  const more = notes.length === 0 ? "" : ` (${notes.join(", ")})`;
  return `replica ${replica.index}  ${replica.address.padEnd(21)}  ${replica.state.padEnd(11)}  ${replica.about}${more}`;
}
