import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** What a load was given, over all its time. Latency in microseconds. */
export interface Served {
  readonly iops: number;
  readonly p50us: number;
  readonly p99us: number;
  /** The request that took longest. */
  readonly longestUs: number;
  readonly requests: number;
  readonly seconds: number;
}

interface FioSide {
  readonly iops: number;
  readonly total_ios: number;
  readonly runtime: number;
  readonly clat_ns?: {
    readonly max: number;
    readonly percentile?: Readonly<Record<string, number>>;
  };
}

/** A guest that keeps requests of 4 KiB on their way, 16 unless said, half of them writes, at random places of the first `spanBytes`. */
export class Load {
  readonly #folder = mkdtempSync(join(tmpdir(), "trivet-load-"));
  readonly #child: ChildProcess;
  readonly #gone: Promise<number | null>;
  #said = "";
  #result: Promise<Served> | undefined;

  constructor(uri: string, spanBytes: number, seconds: number, rampSeconds = 0, depth = 16) {
    this.#child = spawn(
      "fio",
      [
        "--name=guest",
        "--ioengine=nbd",
        `--uri=${uri}`,
        "--rw=randrw",
        "--rwmixread=50",
        "--bs=4096",
        `--iodepth=${depth}`,
        `--size=${spanBytes}`,
        "--time_based=1",
        `--runtime=${seconds}`,
        `--ramp_time=${rampSeconds}`,
        "--norandommap=1",
        "--randrepeat=0",
        "--output-format=json",
        `--output=${join(this.#folder, "out.json")}`,
      ],
      { stdio: ["ignore", "ignore", "pipe"] },
    );
    this.#child.stderr?.on("data", (data) => {
      this.#said = `${this.#said}${data}`.slice(-4000);
    });
    this.#gone = new Promise((resolve, reject) => {
      this.#child.once("error", reject);
      this.#child.once("close", resolve);
    });
  }

  get hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** Waits for the end of its time. */
  result(): Promise<Served> {
    this.#result ??= this.#collect();
    return this.#result;
  }
  async #collect(): Promise<Served> {
    try {
      const code = await this.#gone;
      // fio counts an interrupt as an error of its own (128), and reports all the same.
      if (code !== 0 && code !== 128) throw new Error(`fio ended with ${code}: ${this.#said}`);
      const text = readFileSync(join(this.#folder, "out.json"), "utf8");
      const { read, write } = JSON.parse(text.slice(text.indexOf("{"))).jobs[0] as {
        read: FioSide;
        write: FioSide;
      };
      const worst = (percentile: string): number =>
        Math.max(...[read, write].map((side) => side.clat_ns?.percentile?.[percentile] ?? 0)) /
        1000;
      return {
        iops: read.iops + write.iops,
        p50us: worst("50.000000"),
        p99us: worst("99.000000"),
        longestUs: Math.max(...[read, write].map((side) => side.clat_ns?.max ?? 0)) / 1000,
        requests: read.total_ios + write.total_ios,
        seconds: Math.max(read.runtime, write.runtime) / 1000,
      };
    } finally {
      rmSync(this.#folder, { recursive: true, force: true });
    }
  }

  /** Ends it now. */
  async stop(): Promise<Served> {
    if (!this.hasEnded) this.#child.kill("SIGINT");
    return await this.result();
  }
}

/** For so long, after a second that does not count. */
export const measure = (uri: string, spanBytes: number, seconds: number): Promise<Served> =>
  new Load(uri, spanBytes, seconds, 1).result();

/** Writes 1 MiB of every `stride` MiB of the volume and flushes. */
export async function fillSparsely(uri: string, sizeBytes: number, stride: number): Promise<void> {
  const skip = stride > 1 ? `:${stride - 1}m` : "";
  const args = ["--name=fill", "--ioengine=nbd", `--uri=${uri}`, `--rw=write${skip}`, "--bs=1m"];
  const written = Math.floor(sizeBytes / stride / (1 << 20)) * (1 << 20);
  const more = ["--iodepth=8", `--size=${sizeBytes}`, `--io_size=${written}`, "--end_fsync=1"];
  const child = spawn("fio", [...args, ...more, "--output=/dev/null"], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  const code = await new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  if (code !== 0) throw new Error(`fio ended with ${code} while it filled the volume`);
}

/** "512M", "10G" or a number of bytes. */
export function bytesOf(text: string): number {
  const match = /^(\d+)([KMGT]?)$/i.exec(text);
  if (match === null) throw new Error(`"${text}" is no size; such as 512M or 10G`);
  return Number(match[1]) * 1024 ** " KMGT".indexOf((match[2] || " ").toUpperCase());
}

export const mib = (bytes: number): string => (bytes / (1 << 20)).toFixed(1);
