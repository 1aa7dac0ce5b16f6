import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Job {
  readonly name: string;
  readonly rw: "randread" | "randwrite" | "read" | "write";
  readonly blockBytes: number;
  readonly depth: number;
}

export const JOBS: readonly Job[] = [
  { name: "read 4 KiB, depth 1", rw: "randread", blockBytes: 4096, depth: 1 },
  { name: "write 4 KiB, depth 1", rw: "randwrite", blockBytes: 4096, depth: 1 },
  { name: "read 4 KiB, depth 32", rw: "randread", blockBytes: 4096, depth: 32 },
  { name: "write 4 KiB, depth 32", rw: "randwrite", blockBytes: 4096, depth: 32 },
  { name: "read 1 MiB, depth 8", rw: "read", blockBytes: 1 << 20, depth: 8 },
  { name: "write 1 MiB, depth 8", rw: "write", blockBytes: 1 << 20, depth: 8 },
];

/** What one run of fio says. Latency in microseconds. */
export interface Measured {
  readonly iops: number;
  readonly mibPerSecond: number;
  readonly p50us: number;
  readonly p99us: number;
  readonly requests: number;
}

interface FioSide {
  readonly iops: number;
  readonly bw_bytes: number;
  readonly total_ios: number;
  readonly clat_ns?: { readonly percentile?: Readonly<Record<string, number>> };
}

/** One fio process with the nbd engine on `uri`, over the first `spanBytes` of it. */
export async function fio(
  uri: string,
  job: Job,
  seconds: number,
  spanBytes: number,
): Promise<Measured> {
  const dir = mkdtempSync(join(tmpdir(), "trivet-fio-"));
  try {
    const output = join(dir, "out.json");
    const args = [
      `--name=${job.rw}`,
      "--ioengine=nbd",
      `--uri=${uri}`,
      `--rw=${job.rw}`,
      `--bs=${job.blockBytes}`,
      `--iodepth=${job.depth}`,
      `--size=${spanBytes}`,
      "--time_based=1",
      `--runtime=${seconds}`,
      "--ramp_time=0.5",
      "--norandommap=1",
      "--output-format=json",
      `--output=${output}`,
    ];
    await finished("fio", args);
    const text = readFileSync(output, "utf8");
    const all = JSON.parse(text.slice(text.indexOf("{")));
    const side: FioSide = all.jobs[0][job.rw.includes("read") ? "read" : "write"];
    const latency = side.clat_ns?.percentile ?? {};
    return {
      iops: side.iops,
      mibPerSecond: side.bw_bytes / (1 << 20),
      p50us: (latency["50.000000"] ?? 0) / 1000,
      p99us: (latency["99.000000"] ?? 0) / 1000,
      requests: side.total_ios,
    };
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Writes the whole span once and flushes, so that reads find data and nothing is left to be written. */
export async function fill(uri: string, spanBytes: number): Promise<void> {
  const args = ["--name=fill", "--ioengine=nbd", `--uri=${uri}`, "--rw=write", "--bs=1m"];
  await finished("fio", [
    ...args,
    "--iodepth=8",
    `--size=${spanBytes}`,
    "--end_fsync=1",
    "--output=/dev/null",
  ]);
}

function finished(command: string, args: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ["ignore", "ignore", "pipe"] });
    let said = "";
    child.stderr.on("data", (data) => {
      said += data;
    });
    child.on("error", reject);
    child.on("close", (code) => {
      if (code === 0) resolve();
      else reject(new Error(`${command} ended with ${code}: ${said}`));
    });
  });
}
