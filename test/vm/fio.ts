import type { Machine } from "./machine.js";
import type { Counts } from "./writers.js";

// fio in a guest, writing and verifying a file over and over until it is told to stop (system/usr/local/lib/vm-fio).

const RESULTS = "/run/fio/results";
const STOP_TIMEOUT_MS = 300_000;
/** Fields of fio's terse output, version 3, from 0. */
const ERROR = 4;
const LATENCIES_US = [14, 55];

export interface FioRuns extends Counts {
  readonly runs: number;
  /** What it said about errors, and what it did not end well with. */
  readonly said: readonly string[];
}

/** `text`: per run a line of terse output, and one with its exit status. */
export function readRuns(text: string): FioRuns {
  const lines = text.split("\n").filter((line) => line !== "");
  const runs = lines.filter((line) => line.startsWith("3;")).map((line) => line.split(";"));
  const statuses = lines.filter((line) => line.startsWith("status "));
  const said = lines.filter((line) => !line.startsWith("3;") && line !== "status 0");
  if (statuses.length !== runs.length)
    said.push(`${statuses.length} runs of fio ended, ${runs.length} told what they did`);
  const number = (fields: readonly string[], i: number): number => Number(fields[i]);
  const errnos = runs.map((fields) => number(fields, ERROR)).filter((errno) => errno !== 0);
  const latencies = runs.flatMap((fields) => LATENCIES_US.map((i) => number(fields, i)));
  return {
    runs: runs.length,
    writes: 0,
    errors: Math.max(errnos.length, said.length),
    stallMs: Math.max(0, ...latencies) / 1000,
    errno: errnos[0] ?? 0,
    said,
  };
}

export class Fio {
  readonly #guest: Machine;

  constructor(guest: Machine) {
    this.#guest = guest;
  }
  /** As a service, which systemd ends before it unmounts. */
  async start(path: string, mount: string): Promise<void> {
    const service = `systemd-run -q --unit=verify-by-fio -p RequiresMountsFor=${mount}`;
    await this.#guest.must(`${service} /bin/sh /usr/local/lib/vm-fio ${path}`);
  }
  /** Until one more run has ended than have now. */
  async progress(timeoutMs = 300_000): Promise<void> {
    const count = `$(grep -c status ${RESULTS} 2>/dev/null || true)`;
    const { output } = await this.#guest.run(`echo ${count}`);
    await this.#guest.until(`[ "${count}" -gt ${Number(output)} ]`, timeoutMs, 1000);
  }
  /** After the run that is under way. */
  async stop(): Promise<FioRuns> {
    await this.#guest.must("touch /run/fio/stop");
    await this.#guest.until("[ -e /run/fio/done ]", STOP_TIMEOUT_MS, 1000);
    return readRuns(await this.#guest.must(`cat ${RESULTS}`));
  }
}
