import { cpus } from "node:os";
import Benchmark from "benchmark";

/**
 * Runs the cases one after the other and prints one JSON line for each: easy to keep, compare and plot. The only place
 * that knows the benchmark library. `unit` is how many things one call of a case handles.
 */
export function suite(name: string, cases: Record<string, () => void>, unit = 1): void {
  const run = new Benchmark.Suite(name);
  for (const [label, body] of Object.entries(cases)) run.add(label, body, { maxTime: 1 });
  run.on("cycle", ({ target }: { target: Benchmark }) => {
    const { hz, name: label, stats, error } = target;
    if (error !== undefined) throw error;
    const row = {
      suite: name,
      case: label,
      perSecond: Math.round(hz! * unit),
      nsEach: Math.round(1e9 / (hz! * unit)),
      plusMinusPercent: Math.round((stats?.rme ?? 0) * 10) / 10,
      node: process.version,
      cpu: cpus()[0]?.model,
    };
    process.stdout.write(`${JSON.stringify(row)}\n`);
  });
  run.run();
}
