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
  if (report.write_log !== null)
    rows.push(["write log", `${report.write_log.rows} writes that no flush covers yet`]);
  const lines = rows.map(([name, value]) => `${name.padEnd(14)} ${value}`);
  if (report.replicas.length > 0) lines.push("", ...report.replicas.map(replicaLine));
  if (report.repair?.running) lines.push("", ...repairLines(report));
  if (report.scrub?.state === "running" || report.scrub?.state === "waiting")
    lines.push("", ...scrubLines(report));
  const { healed = 0, lost = 0, waiting = 0 } = report.heal;
  if (healed + lost + waiting > 0)
    lines.push("", `${healed} bad blocks were mended, ${waiting} places wait for it`);
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

/** What repair does or did last. */
export function repairLines({ repair }: StatusReport): readonly string[] {
  if (repair === null) return ["There is nothing to repair: the volume has no replicas."];
  const { running, last, bytes_per_second_max: max } = repair;
  const lines: string[] = [];
  if (running !== null) {
    const done = running.repaired + running.confirmed;
    lines.push(
      `repair of ${named(running.targets)} from replica ${running.source}: ${percent(done, running.extent_count)} (${running.repaired} extents copied, ${running.confirmed} were equal, ${running.left} left), ${pace(running.bytes_per_second, running.remaining_ms)}`,
    );
  } else lines.push("No repair runs.");
  if (last !== null)
    lines.push(
      last.complete
        ? `The last one, of ${named(last.targets)}, took ${showSeconds(last.took_ms / 1000)}: ${last.repaired} extents (${showBytes(last.copied_bytes)}) copied, ${last.confirmed} were equal.`
        : `The last one, of ${named(last.targets)}, ended after ${showSeconds(last.took_ms / 1000)}: ${last.reason}.`,
    );
  lines.push(`Limit: ${limit(max)}.`);
  return lines;
}

/** What the scrub does, or found. */
export function scrubLines({ scrub, block_bytes: blockBytes }: StatusReport): readonly string[] {
  if (scrub === null) return ["No scrub has run since the server was started."];
  const where = `${percent(scrub.block, scrub.blocks)} of ${showBytes(scrub.blocks * blockBytes)}`;
  const lines: string[] = [];
  if (scrub.state === "running")
    lines.push(
      `scrub: ${where}, ${pace(scrub.bytes_per_second, scrub.remaining_ms)}, limit ${limit(scrub.bytes_per_second_max)}`,
    );
  else if (scrub.state === "waiting")
    lines.push(`scrub: ${where}, waits: ${scrub.waits_for ?? "for its turn"}`);
  else if (scrub.state === "done")
    lines.push(`The last scrub was done in ${showSeconds(scrub.elapsed_ms / 1000)}.`);
  else lines.push(`The last scrub was stopped at ${where}; the next goes on there.`);
  lines.push(
    `${scrub.differing} blocks differed: ${scrub.repaired} repaired, ${scrub.undecided} made equal without knowing which was right, ${scrub.overwritten} written by clients meanwhile, ${scrub.lost} without a good copy`,
  );
  if (scrub.compared_on_two > 0)
    lines.push(`${scrub.compared_on_two} blocks were compared on two replicas only.`);
  return lines;
}

const named = (replicas: readonly number[]): string => `replica ${replicas.join(" and ")}`;
const percent = (done: number, all: number): string =>
  `${all === 0 ? 100 : Math.floor((100 * done) / all)} %`;
const limit = (bytesPerSecond: number): string =>
  bytesPerSecond === 0 ? "none" : `${showBytes(bytesPerSecond)}/s`;
const pace = (bytesPerSecond: number, remainingMs: number | null): string =>
  `${showBytes(bytesPerSecond)}/s${remainingMs === null ? "" : `, ${showSeconds(remainingMs / 1000)} left`}`;
