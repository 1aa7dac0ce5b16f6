import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { bytesOf, fillSparsely, Load } from "../load.js";
import { median } from "../macro/cost.js";
import { keepRows } from "../results.js";
import { BenchVolume } from "../volume.js";

// What a client notices of a planned restart: the longest request of a load in whose middle another process takes the server's place,
// beside the longest of the same load for as long without.

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "10" },
    size: { type: "string", default: "256M" },
    dir: { type: "string", default: tmpdir() },
    serve: { type: "string", multiple: true, default: [] },
    save: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  console.log(
    "npm run bench:restart -- [--rounds 10] [--size 256M] [--dir DIR] [--serve=OPTION …] [--save]",
  );
  process.exit(0);
}
const rounds = Number(values.rounds);
if (!(Number.isInteger(rounds) && rounds > 0)) throw new Error("--rounds: expected 1 or more");
const sizeBytes = bytesOf(values.size);
/** The client's requests on their way. None: it is idle but for one at a time. */
const DEPTHS = [1, 16];
/** Of load before the command and after it. */
const AROUND_MS = 1000;
const SECONDS_MAX = 120;

interface Row {
  readonly depth: number;
  readonly round: number;
  readonly longestWithoutMs: number;
  readonly longestMs: number;
  readonly iops: number;
  /** The command, from its start to its end: mostly the new process, which loads while the old one serves. */
  readonly commandMs: number;
}

async function round(volume: BenchVolume, depth: number, number: number): Promise<Row> {
  const load = (seconds: number): Load => new Load(volume.uri, sizeBytes, seconds, 0, depth);
  const client = load(SECONDS_MAX);
  try {
    await sleep(AROUND_MS);
    const began = performance.now();
    await volume.restart();
    const commandMs = performance.now() - began;
    await sleep(AROUND_MS);
    const { longestUs, iops, seconds } = await client.stop();
    const without = await load(Math.ceil(seconds)).result();
    return {
      depth,
      round: number,
      longestWithoutMs: without.longestUs / 1000,
      longestMs: longestUs / 1000,
      iops,
      commandMs,
    };
  } finally {
    await client.stop().catch(() => {});
  }
}

function line(depth: number, rows: readonly Row[]): string {
  const range = (pick: (row: Row) => number): string => {
    const all = rows.filter((row) => row.depth === depth).map(pick);
    const [least, most] = [Math.min(...all), Math.max(...all)];
    return `${median(all).toFixed(0)} (${least.toFixed(0)} to ${most.toFixed(0)})`;
  };
  const cells = [
    range((row) => row.longestWithoutMs),
    range((row) => row.longestMs),
    range((row) => row.commandMs),
    range((row) => row.iops),
  ];
  return `| ${depth} | ${cells.join(" | ")} |`;
}

const folder = mkdtempSync(join(values.dir, "trivet-bench-"));
const rows: Row[] = [];
let volume: BenchVolume | undefined;
try {
  volume = await BenchVolume.start(folder, sizeBytes, values.serve);
  await fillSparsely(volume.uri, sizeBytes, 1);
  for (const depth of DEPTHS)
    for (let number = 1; number <= rounds; number++) rows.push(await round(volume, depth, number));
} finally {
  await volume?.stop();
  rmSync(folder, { recursive: true, force: true });
}
console.log(
  `| requests at once, ${rounds} restarts each | longest without, ms | longest over a restart, ms | the command, ms | IOPS |`,
);
console.log("|---|---|---|---|---|");
for (const depth of DEPTHS) console.log(line(depth, rows));
if (values.save) keepRows("restart", { sizeBytes }, rows);
