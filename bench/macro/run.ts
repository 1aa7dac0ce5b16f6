import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { keepRows } from "../results.js";
import { costOf, median, spread } from "./cost.js";
import { fill, fio, JOBS, type Measured } from "./jobs.js";
import { nbdkit, type Target, trivetMemory, trivetWhole } from "./targets.js";

// The macro suite: the same six fio jobs on every target, in turns, so that all of them see the same machine.

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "3" },
    rounds: { type: "string", default: "3" },
    span: { type: "string", default: `${512 << 20}` },
    dir: { type: "string", default: tmpdir() },
    only: { type: "string" },
    save: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  console.log(
    "npm run bench:macro -- [--seconds 3] [--rounds 3] [--span BYTES] [--dir DIR] [--only TEXT] [--save]",
  );
  process.exit(0);
}
const seconds = Number(values.seconds);
const rounds = Number(values.rounds);
const span = Number(values.span);
const dir = mkdtempSync(join(values.dir, "trivet-bench-"));
const tmpfs = mkdtempSync("/dev/shm/trivet-bench-");

type Start = { readonly name: string; readonly start: () => Promise<Target> };
const size = 2 * span;
const all: readonly Start[] = [
  { name: "nbdkit memory", start: () => nbdkit("nbdkit memory", ["memory", `${size}`]) },
  {
    name: "nbdkit file",
    start: async () => {
      const file = join(dir, "file.raw");
      writeFileSync(file, "");
      truncateSync(file, size);
      return nbdkit("nbdkit file", ["file", file]);
    },
  },
  { name: "trivet memory", start: () => trivetMemory(size, []) },
  {
    name: "trivet, regions on disk",
    start: () => trivetWhole("trivet, regions on disk", join(dir, "whole"), size, []),
  },
  {
    name: "trivet, regions on tmpfs",
    start: () => trivetWhole("trivet, regions on tmpfs", tmpfs, size, []),
  },
];
const chosen = all.filter(
  ({ name }) => name === "nbdkit memory" || values.only === undefined || name.includes(values.only),
);

interface Row {
  readonly target: string;
  readonly job: string;
  readonly round: number;
  readonly measured: Measured;
  readonly cpuUsPerRequest: Readonly<Record<string, number>>;
  readonly residentMib: Readonly<Record<string, number>>;
}
const rows: Row[] = [];

try {
  for (let round = 0; round < rounds; round++) {
    for (const { start } of chosen) {
      const target = await start();
      await fill(target.uri, span);
      for (const job of JOBS) {
        const before = target.parts.map(({ pid }) => costOf(pid).cpuUs);
        const measured = await fio(target.uri, job, seconds, span);
        // fio's warm-up counts in the CPU time but not in its requests.
        const requests = measured.requests * ((seconds + 0.5) / seconds);
        const cpu: Record<string, number> = {};
        const memory: Record<string, number> = {};
        for (const [i, { role, pid }] of target.parts.entries()) {
          const after = costOf(pid);
          cpu[role] = (after.cpuUs - before[i]!) / requests;
          memory[role] = after.residentMib;
        }
        rows.push({
          target: target.name,
          job: job.name,
          round,
          measured,
          cpuUsPerRequest: cpu,
          residentMib: memory,
        });
        process.stderr.write(
          `round ${round + 1}: ${target.name}, ${job.name}: ${show(measured, job.blockBytes)}\n`,
        );
      }
      await target.stop();
    }
  }
} finally {
  rmSync(dir, { recursive: true, force: true });
  rmSync(tmpfs, { recursive: true, force: true });
}

function show(measured: Measured, blockBytes: number): string {
  return blockBytes >= 1 << 20
    ? `${Math.round(measured.mibPerSecond)} MiB/s`
    : `${Math.round(measured.iops)} IOPS, p50 ${Math.round(measured.p50us)} µs`;
}

const of = (target: string, job: string): Row[] =>
  rows.filter((row) => row.target === target && row.job === job);
console.log(
  "| Job | Target | median | spread | p50 µs | p99 µs | ratio to nbdkit memory | CPU µs per request | resident MiB |",
);
console.log("|---|---|---|---|---|---|---|---|---|");
for (const job of JOBS) {
  const zero = median(of("nbdkit memory", job.name).map((row) => row.measured.iops));
  for (const { name } of chosen) {
    const mine = of(name, job.name);
    const iops = mine.map((row) => row.measured.iops);
    const rate =
      job.blockBytes >= 1 << 20
        ? `${Math.round(median(mine.map((row) => row.measured.mibPerSecond)))} MiB/s`
        : `${Math.round(median(iops))} IOPS`;
    const each = (pick: (row: Row) => Readonly<Record<string, number>>): string =>
      Object.keys(pick(mine[0]!))
        .map((role) => `${role} ${Math.round(median(mine.map((row) => pick(row)[role]!)))}`)
        .join(", ");
    console.log(
      `| ${job.name} | ${name} | ${rate} | ±${Math.round(100 * spread(iops))} % | ` +
        `${Math.round(median(mine.map((row) => row.measured.p50us)))} | ` +
        `${Math.round(median(mine.map((row) => row.measured.p99us)))} | ` +
        `${(median(iops) / zero).toFixed(2)} | ${each((row) => row.cpuUsPerRequest)} | ` +
        `${each((row) => row.residentMib)} |`,
    );
  }
}
if (values.save) keepRows("macro", { seconds, span }, rows);
