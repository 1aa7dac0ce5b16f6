import type { PlanOptions } from "./plan.js";
import type { SeedResult } from "./worker.js";

/** Sums over seeds. */
export class Totals {
  readonly failed: SeedResult[] = [];
  readonly counts: Record<string, number> = {};
  seeds = 0;
  answered = 0;
  virtualMs = 0;
  readonly #started = performance.now();

  add(result: SeedResult): void {
    this.seeds += 1;
    this.answered += result.answered;
    this.virtualMs += result.virtualMs;
    if (result.broken.length > 0) this.failed.push(result);
    for (const [name, count] of Object.entries(result.counts))
      this.counts[name] = (this.counts[name] ?? 0) + count;
  }
  get seconds(): number {
    return (performance.now() - this.#started) / 1000;
  }
  line(): string {
    const { seconds } = this;
    const rate = Math.round(this.answered / seconds);
    const hours = (this.virtualMs / 3_600_000).toFixed(1);
    const counts = Object.entries(this.counts)
      .map(([name, count]) => `${count} ${name}`)
      .join(", ");
    return `${this.seeds} seeds, ${this.failed.length} failed: ${this.answered} requests in ${seconds.toFixed(0)} s (${rate} per second), ${hours} h of virtual time\n  ${counts}`;
  }
  again(seed: number, { mix, requests }: PlanOptions = {}): string {
    const more = `${mix === undefined ? "" : ` --mix ${mix}`}${requests === undefined ? "" : ` --requests ${requests}`}`;
    return `npm run sim -- --seed ${seed}${more}`;
  }
}
