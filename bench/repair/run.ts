import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { bytesOf, fillSparsely, Load, measure, mib, type Served } from "../load.js";
import { median, spread } from "../macro/cost.js";
import { keepRows } from "../results.js";
import { BenchVolume } from "../volume.js";
import { copyOverLoopback } from "./copy.js";

// A region is lost, and a fresh one is put in its place: how long until the volume has three replicas again, what the guest
// notices, and how long a plain copy of a region's files takes on the same machine.
//
//   per round   guest with three replicas ─► one is killed ─► guest with two ─► fresh region, repair under load
//               ─► killed again ─► fresh region, repair of an idle volume ─► the files copied by tar, with holes and without

const { values } = parseArgs({
  options: {
    size: { type: "string", default: "10G" },
    stride: { type: "string", default: "20" },
    rounds: { type: "string", default: "3" },
    seconds: { type: "string", default: "10" },
    dir: { type: "string", default: tmpdir() },
    serve: { type: "string", multiple: true, default: [] },
    "no-dense": { type: "boolean", default: false },
    save: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  console.log(
    "npm run bench:repair -- [--size 10G] [--stride 20] [--rounds 3] [--seconds 10] [--dir DIR] [--serve=OPTION …] [--no-dense] [--save]\n" +
      "  --stride N   1 MiB of every N is written, beside the guest's own   --seconds N   how long the guest is measured before a repair\n" +
      "  --serve=X    an option of trivet serve, such as --serve=--repair-rate=0   --no-dense   no copy with holes filled",
  );
  process.exit(0);
}
const sizeBytes = bytesOf(values.size);
const stride = Number(values.stride);
const rounds = Number(values.rounds);
const seconds = Number(values.seconds);
/** The replica that is lost. */
const VICTIM = 2;
/** The guest works on the front twentieth, which is written in full: so it adds nothing to what has to be repaired. */
const spanBytes = Math.max(16 << 20, Math.floor(sizeBytes / 20 / (1 << 20)) * (1 << 20));
const FAULTED_MS_MAX = 180_000;
const REPAIRED_MS_MAX = 6 * 3_600_000;

interface Repair {
  readonly seconds: number;
  readonly allocatedBytes: number;
  readonly said: string;
}
interface Row {
  readonly round: number;
  readonly three: Served;
  readonly two: Served;
  readonly during: Served;
  readonly loaded: Repair;
  readonly idle: Repair;
  readonly sparseCopySeconds: number;
  readonly sparseCopyBytes: number;
  readonly denseCopySeconds: number | null;
}

const allocated = (directory: string): number =>
  1024 * Number.parseInt(execFileSync("du", ["-sk", directory], { encoding: "utf8" }), 10);
const say = (text: string): void => console.error(text);

/** Kills the replica and lets the guest write until nobody keeps what it misses. */
async function lose(volume: BenchVolume): Promise<void> {
  const from = volume.events.length;
  await volume.killReplica(VICTIM);
  const load = new Load(volume.uri, spanBytes, FAULTED_MS_MAX / 1000);
  try {
    await volume.event(["replica.faulted"], from, FAULTED_MS_MAX);
  } finally {
    await load.stop();
  }
}

/** Puts a fresh region in the place of the lost one and waits until it is repaired. */
async function repair(volume: BenchVolume, onStart: () => void): Promise<Repair> {
  const from = volume.events.length;
  volume.removeRegion(VICTIM);
  await volume.createRegion(VICTIM);
  await volume.runReplica(VICTIM);
  const started = await volume.event(["repair.started"], from, FAULTED_MS_MAX);
  onStart();
  const done = await volume.event(["repair.done"], from, REPAIRED_MS_MAX);
  await volume.until("all three are well", ({ health }) => health === "ok", 60_000);
  return {
    seconds: (done.atMs - started.atMs) / 1000,
    allocatedBytes: allocated(volume.directory(VICTIM)),
    said: done.text,
  };
}

async function round(volume: BenchVolume, number: number, folder: string): Promise<Row> {
  const { uri } = volume;
  say(`round ${number}: guest with three replicas`);
  const three = await measure(uri, spanBytes, seconds);
  say(`round ${number}: guest with two`);
  await lose(volume);
  const two = await measure(uri, spanBytes, seconds);
  say(`round ${number}: repair under load`);
  let load: Load | undefined;
  const loaded = await repair(volume, () => {
    load = new Load(uri, spanBytes, REPAIRED_MS_MAX / 1000);
  });
  const during = await load!.stop();
  say(`round ${number}: ${loaded.said}; repair of an idle volume`);
  await lose(volume);
  const idle = await repair(volume, () => {});
  say(`round ${number}: ${idle.said}; copies`);
  const source = volume.directory(0);
  const sparse = await copyOverLoopback(source, join(folder, "copy"), true);
  const { bavail, bsize } = statfsSync(folder);
  const hasRoom = bavail * bsize > 1.5 * sizeBytes;
  const dense =
    values["no-dense"] || !hasRoom
      ? null
      : await copyOverLoopback(source, join(folder, "copy"), false);
  return {
    round: number,
    three,
    two,
    during,
    loaded,
    idle,
    sparseCopySeconds: sparse.seconds,
    sparseCopyBytes: sparse.sentBytes,
    denseCopySeconds: dense?.seconds ?? null,
  };
}

function table(rows: readonly Row[]): string[] {
  const figure = (pick: (row: Row) => number, show: (value: number) => string): string => {
    const all = rows.map(pick);
    return `${show(median(all))} | ±${Math.round(100 * spread(all))} %`;
  };
  const whole = (value: number): string => `${Math.round(value)}`;
  const one = (value: number): string => value.toFixed(1);
  const percent = (value: number): string => `${Math.round(100 * value)} %`;
  const guest = (name: string, pick: (row: Row) => Served): string[] => [
    `| guest, ${name}, IOPS | ${figure((row) => pick(row).iops, whole)} |`,
    `| guest, ${name}, p99 µs | ${figure((row) => pick(row).p99us, whole)} |`,
  ];
  const rate = ({ seconds: taken, allocatedBytes }: Repair): number =>
    allocatedBytes / (1 << 20) / taken;
  const repairs = (name: string, pick: (row: Row) => Repair): string[] => [
    `| repair, ${name}, s | ${figure((row) => pick(row).seconds, one)} |`,
    `| repair, ${name}, MiB/s on disk | ${figure((row) => rate(pick(row)), one)} |`,
    `| repair, ${name}, MiB/s of volume | ${figure((row) => sizeBytes / (1 << 20) / pick(row).seconds, one)} |`,
  ];
  const lines = [
    `| ${values.size}, 1 MiB of ${stride} and the guest's ${mib(spanBytes)} MiB written, ${rows.length} rounds | median | spread |`,
    "|---|---|---|",
    ...guest("three replicas", (row) => row.three),
    ...guest("two replicas", (row) => row.two),
    ...guest("during repair", (row) => row.during),
    `| guest during repair, of two replicas | ${figure((row) => row.during.iops / row.two.iops, percent)} |`,
    `| guest during repair, of three replicas | ${figure((row) => row.during.iops / row.three.iops, percent)} |`,
    ...repairs("under load", (row) => row.loaded),
    ...repairs("idle", (row) => row.idle),
    `| file copy, holes kept, s | ${figure((row) => row.sparseCopySeconds, one)} |`,
    `| file copy, holes kept, MiB/s | ${figure((row) => row.sparseCopyBytes / (1 << 20) / row.sparseCopySeconds, one)} |`,
    `| repair idle, times the copy with holes kept | ${figure((row) => row.idle.seconds / row.sparseCopySeconds, one)} |`,
  ];
  if (rows.every(({ denseCopySeconds }) => denseCopySeconds !== null)) {
    lines.push(
      `| file copy, holes filled, s | ${figure((row) => row.denseCopySeconds!, one)} |`,
      `| repair idle, times the copy with holes filled | ${figure((row) => row.idle.seconds / row.denseCopySeconds!, one)} |`,
    );
  }
  return lines;
}

const folder = mkdtempSync(join(values.dir, "trivet-bench-"));
let volume: BenchVolume | undefined;
const rows: Row[] = [];
try {
  say(
    `filling 1 MiB of every ${stride} of ${mib(sizeBytes)} MiB, and ${mib(spanBytes)} MiB in full`,
  );
  volume = await BenchVolume.start(join(folder, "volume"), sizeBytes, values.serve);
  await fillSparsely(volume.uri, sizeBytes, stride);
  await fillSparsely(volume.uri, spanBytes, 1);
  // The first rewrite of a block makes room for its second context on disk: not what is to be measured.
  await measure(volume.uri, spanBytes, 2 * seconds);
  for (let number = 1; number <= rounds; number++) rows.push(await round(volume, number, folder));
} finally {
  await volume?.stop();
  rmSync(folder, { recursive: true, force: true });
}
for (const line of table(rows)) console.log(line);
if (values.save) keepRows("repair", { sizeBytes, stride, seconds, serve: values.serve }, rows);
