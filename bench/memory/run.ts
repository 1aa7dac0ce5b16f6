import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { bytesOf, fillSparsely, Load } from "../load.js";
import { BenchVolume } from "../volume.js";
import { COLUMNS, courseOf, csvOf, type MemorySample, memoryOf } from "./sample.js";

// The memory of a server under load while one of its three replicas is gone for good: it has to stay what it is.

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    every: { type: "string", default: "10" },
    warm: { type: "string", default: "120" },
    size: { type: "string", default: "1G" },
    dir: { type: "string", default: tmpdir() },
    serve: { type: "string", multiple: true, default: [] },
    csv: { type: "string" },
    save: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  console.log(
    "npm run bench:memory -- [MINUTES, 30] [--every 10] [--warm 120] [--size 1G] [--dir DIR] [--serve=OPTION …] [--csv FILE] [--save]\n" +
      "  --every N   seconds between samples   --warm N   seconds of load, with the replica gone, before the first one",
  );
  process.exit(0);
}
const minutes = Number(positionals[0] ?? "30");
const everyMs = 1000 * Number(values.every);
const warm = Number(values.warm);
const sizeBytes = bytesOf(values.size);
if (!(minutes > 0) || !(everyMs > 0) || !(warm >= 0)) throw new Error("expected positive numbers");
const MIB = 1 << 20;
const seconds = minutes * 60;

const folder = mkdtempSync(join(values.dir, "trivet-bench-"));
const samples: MemorySample[] = [];
let volume: BenchVolume | undefined;
let load: Load | undefined;
let iops = Number.NaN;
try {
  volume = await BenchVolume.start(folder, sizeBytes, values.serve);
  await fillSparsely(volume.uri, sizeBytes, 1);
  load = new Load(volume.uri, sizeBytes, warm + seconds + 60);
  await volume.killReplica(2);
  await sleep(1000 * warm);
  const began = performance.now();
  for (let next = 0; next <= 1000 * seconds; next += everyMs) {
    await sleep(Math.max(0, began + next - performance.now()));
    if (load.hasEnded) throw new Error("the load ended before its time");
    const { memory } = await volume.status();
    samples.push({
      seconds: (performance.now() - began) / 1000,
      ...memoryOf(volume.serverPid),
      writesUsed: memory.writes.used_bytes / MIB,
      readsUsed: memory.reads.used_bytes / MIB,
    });
  }
  iops = (await load.stop()).iops;
} finally {
  await load?.stop().catch(() => {});
  await volume?.stop();
  rmSync(folder, { recursive: true, force: true });
}
console.log(
  `${samples.length} samples in ${minutes} minutes, after ${warm} s of warming up; the guest had ${Math.round(iops)} IOPS`,
);
console.log("| MiB | first | last | median | max | slope per hour |");
console.log("|---|---|---|---|---|---|");
for (const column of COLUMNS) {
  if (column === "seconds") continue;
  const { first, last, median, max, perHour } = courseOf(samples, column);
  const cells = [first, last, median, max, perHour].map((value) => value.toFixed(1));
  console.log(`| ${column} | ${cells.join(" | ")} |`);
}
const stamp = new Date().toISOString().slice(0, 10);
const kept = values.save ? join("bench", "results", `${stamp}-memory.csv`) : undefined;
for (const file of [values.csv, kept]) {
  if (file === undefined) continue;
  if (file === kept) mkdirSync(join("bench", "results"), { recursive: true });
  writeFileSync(file, csvOf(samples));
  console.log(`kept in ${file}`);
}
