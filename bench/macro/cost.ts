import { readFileSync } from "node:fs";

/** CPU time used so far, in microseconds, and resident memory, in MiB, of one process. */
export function costOf(pid: number): { cpuUs: number; residentMib: number } {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const ticks = Number(fields[11]) + Number(fields[12]);
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const resident = /VmRSS:\s+(\d+)/.exec(status)?.[1] ?? "0";
  return { cpuUs: ticks * 10_000, residentMib: Number(resident) / 1024 };
}

export const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
/** Half of the range, relative to the median. */
export const spread = (values: readonly number[]): number =>
  (Math.max(...values) - Math.min(...values)) / 2 / median(values);
