import { readFileSync } from "node:fs";
import { median } from "../macro/cost.js";

/** What a process has in memory at one moment, in MiB. */
export interface MemorySample {
  /** Since sampling began. */
  readonly seconds: number;
  readonly resident: number;
  /** JavaScript's heaps, native allocations and stacks. */
  readonly anonymous: number;
  /** The arena, when it is a mapping of its own. */
  readonly shared: number;
  /** Of the arena, taken by writes and by reads. */
  readonly writesUsed: number;
  readonly readsUsed: number;
}

export const COLUMNS = [
  "seconds",
  "resident",
  "anonymous",
  "shared",
  "writesUsed",
  "readsUsed",
] as const satisfies readonly (keyof MemorySample)[];
export type Column = Exclude<(typeof COLUMNS)[number], "seconds">;

/** The kernel's figures, from the text of /proc/PID/status. */
export function parseStatus(text: string): Pick<MemorySample, "resident" | "anonymous" | "shared"> {
  const mib = (key: string): number => {
    const match = new RegExp(`^${key}:\\s+(\\d+) kB$`, "m").exec(text);
    if (match === null) throw new Error(`the kernel says nothing about ${key}`);
    return Number(match[1]) / 1024;
  };
  return { resident: mib("VmRSS"), anonymous: mib("RssAnon"), shared: mib("RssShmem") };
}

export const memoryOf = (pid: number): ReturnType<typeof parseStatus> =>
  parseStatus(readFileSync(`/proc/${pid}/status`, "utf8"));

export interface Course {
  readonly first: number;
  readonly last: number;
  readonly median: number;
  readonly max: number;
  /** Least squares over all samples, in MiB per hour. */
  readonly perHour: number;
}

export function courseOf(samples: readonly MemorySample[], column: Column): Course {
  const values = samples.map((sample) => sample[column]);
  return {
    first: values[0] ?? Number.NaN,
    last: values.at(-1) ?? Number.NaN,
    median: median(values),
    max: Math.max(...values),
    perHour: 3600 * slope(samples.map((sample, i) => [sample.seconds, values[i]!])),
  };
}

/** Of the line with the least squares; 0 when there is no line. */
function slope(points: readonly (readonly [number, number])[]): number {
  const mean = (of: readonly number[]): number => of.reduce((sum, x) => sum + x, 0) / of.length;
  const x0 = mean(points.map(([x]) => x));
  const y0 = mean(points.map(([, y]) => y));
  let above = 0;
  let below = 0;
  for (const [x, y] of points) {
    above += (x - x0) * (y - y0);
    below += (x - x0) ** 2;
  }
  return below === 0 ? 0 : above / below;
}

export const csvOf = (samples: readonly MemorySample[]): string =>
  `${[
    COLUMNS.map((column) => (column === "seconds" ? column : `${column}_mib`)).join(","),
    ...samples.map((sample) => COLUMNS.map((column) => sample[column].toFixed(2)).join(",")),
  ].join("\n")}\n`;
