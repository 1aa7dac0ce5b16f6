import type { Client } from "./clients.js";
import type { Kernel } from "./kernels.js";
import type { Scenario } from "./scenarios.js";
import { Stage, type Verdict } from "./stage.js";

// One scenario with one client on one kernel, and the table of many.

export interface Row {
  readonly scenario: string;
  readonly client: string;
  readonly kernel: string;
  readonly writes: number;
  readonly errors: number;
  readonly stallMs: number;
  readonly fsck: string;
  readonly compared: number;
  readonly seconds: number;
  /** Empty when all was as it must be. */
  readonly wrong: readonly string[];
}

/** How often a system is started again, when nothing else is said. */
export const ROUNDS = 10;

/** Never rejects: what goes wrong is in the row. */
export async function play(
  scenario: Scenario,
  client: Client,
  kernel: Kernel,
  rounds = ROUNDS,
): Promise<Row> {
  const started = Date.now();
  const row = {
    scenario: scenario.name,
    client: client.name,
    kernel: kernel.version.replace(/-cloud-amd64$/, ""),
    writes: 0,
    errors: 0,
    stallMs: 0,
    fsck: "-",
    compared: 0,
  };
  const seconds = (): number => (Date.now() - started) / 1000;
  let stage: Stage | undefined;
  try {
    let verdict: Verdict;
    if ("system" in scenario.play) verdict = await scenario.play.system(kernel, rounds);
    else {
      stage = await Stage.open(kernel, client, scenario.stage);
      await scenario.play(stage);
      verdict = await stage.judge();
    }
    const { counts, fsck, compared, wrong } = verdict;
    const { writes, errors, stallMs, errno } = counts;
    const bad = [...wrong];
    if (errors > 0 && scenario.errors !== true)
      bad.push(`the writers saw ${errors} errors, the first with errno ${errno}`);
    if (stallMs > scenario.stallMs)
      bad.push(`a call took ${stallMs} ms, at most ${scenario.stallMs} is accepted`);
    if (bad.length > 0 && stage !== undefined) bad.push(stage.notes);
    return { ...row, writes, errors, stallMs, fsck, compared, seconds: seconds(), wrong: bad };
  } catch (error) {
    const wrong = [(error as Error).message, ...(stage === undefined ? [] : [stage.notes])];
    return { ...row, seconds: seconds(), wrong };
  } finally {
    await stage?.close();
  }
}

const HEADS = [
  "Scenario",
  "Kernel",
  "Client",
  "Writes",
  "Errors",
  "Longest stall",
  "fsck",
  "Compared",
  "Time",
  "",
];

export function table(rows: readonly Row[]): string {
  const cells = rows.map((row) => [
    row.scenario,
    row.kernel,
    row.client,
    `${row.writes}`,
    `${row.errors}`,
    `${(row.stallMs / 1000).toFixed(2)} s`,
    row.fsck,
    `${row.compared}`,
    `${row.seconds.toFixed(0)} s`,
    row.wrong.length === 0 ? "ok" : "FAILED",
  ]);
  const widths = HEADS.map((head, i) =>
    Math.max(...[HEADS, ...cells].map((c) => c[i]!.length), head.length),
  );
  const line = (c: readonly string[]): string =>
    `| ${c.map((cell, i) => cell.padEnd(widths[i]!)).join(" | ")} |`;
  return [line(HEADS), line(widths.map((width) => "-".repeat(width))), ...cells.map(line)].join(
    "\n",
  );
}
