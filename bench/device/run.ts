import { parseArgs } from "node:util";
import { CLIENTS, DEVICE } from "../../test/vm/clients.js";
import { kernelOf } from "../../test/vm/kernels.js";
import { Stage } from "../../test/vm/stage.js";
import { median } from "../macro/cost.js";
import { keepRows } from "../results.js";

// How far the kernel should read ahead on a volume, and how large its requests should be: one program that reads or writes in order through
// the page cache, with the kernel's queue settings one after the other, in a guest under emulation.

const { values } = parseArgs({
  options: {
    kernel: { type: "string", default: "new" },
    rounds: { type: "string", default: "3" },
    save: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  console.log("npm run bench:device -- [--kernel 6.1|new] [--rounds 3] [--save]");
  process.exit(0);
}
const line = values.kernel;
if (line !== "6.1" && line !== "new") throw new Error("--kernel: expected 6.1 or new");
const rounds = Number(values.rounds);
if (!(Number.isInteger(rounds) && rounds > 0)) throw new Error("--rounds: expected 1 or more");

const MIB = 48;
/** What the kernel does with a disk when nobody tells it anything is the first of each. */
const READ_AHEAD_KIB = [128, 512, 1024, 4096, 16_384];
const REQUEST_KIB = [128, 256, 512, 1024, 4096];
const OUR_READ_AHEAD_KIB = 4096;
const OUR_REQUEST_KIB = 1024;
const QUEUE = `/sys/block/${DEVICE.slice("/dev/".length)}/queue`;
const READ = `dd if=${DEVICE} of=/dev/null bs=64k count=${MIB * 16}`;
const WRITE = `dd if=/dev/zero of=${DEVICE} bs=64k count=${MIB * 16} conv=fsync`;

interface Row {
  readonly what: "read-ahead" | "request, reading" | "request, writing";
  readonly kib: number;
  readonly mibPerSecond: readonly number[];
}
interface Case {
  readonly what: Row["what"];
  readonly readAheadKib: number;
  readonly requestKib: number;
  readonly command: string;
}
const cases: readonly Case[] = [
  ...READ_AHEAD_KIB.map((kib) => ({
    ...{ what: "read-ahead" as const, readAheadKib: kib },
    ...{ requestKib: OUR_REQUEST_KIB, command: READ },
  })),
  ...REQUEST_KIB.map((kib) => ({
    ...{ what: "request, reading" as const, readAheadKib: OUR_READ_AHEAD_KIB },
    ...{ requestKib: kib, command: READ },
  })),
  ...REQUEST_KIB.map((kib) => ({
    ...{ what: "request, writing" as const, readAheadKib: OUR_READ_AHEAD_KIB },
    ...{ requestKib: kib, command: WRITE },
  })),
];

async function speed(stage: Stage, { readAheadKib, requestKib, command }: Case): Promise<number> {
  const { guest } = stage;
  const set = `echo ${readAheadKib} >${QUEUE}/read_ahead_kb; echo ${requestKib} >${QUEUE}/max_sectors_kb`;
  await guest.must(`${set}; sync; echo 3 >/proc/sys/vm/drop_caches`);
  // The guest's own clock: the way to it takes time.
  const text = await guest.must(
    `read a b </proc/uptime; ${command} 2>&1 >/dev/null || exit 1; read c d </proc/uptime; echo $a $c`,
  );
  const [began = 0, ended = 0] = text.split("\n").at(-1)!.split(" ").map(Number);
  return MIB / (ended - began);
}

const client = CLIENTS.find(({ name }) => name === "trivet-attach")!;
const kernel = kernelOf(line, false);
const stage = await Stage.open(kernel, client);
const rows: Row[] = cases.map(({ what, readAheadKib, requestKib }) => ({
  what,
  kib: what === "read-ahead" ? readAheadKib : requestKib,
  mibPerSecond: [],
}));
try {
  await stage.attach();
  await stage.guest.must(WRITE);
  for (let round = 0; round < rounds; round++)
    for (const [i, one] of cases.entries())
      (rows[i]!.mibPerSecond as number[]).push(await speed(stage, one));
  await stage.detach();
} finally {
  await stage.close();
}
console.log(`kernel ${kernel.version}, ${MIB} MiB in order, ${rounds} rounds`);
console.log("| | KiB | MiB/s | of the first |\n|---|---|---|---|");
for (const { what, kib, mibPerSecond } of rows) {
  const first = rows.find((row) => row.what === what)!;
  const [least, most] = [Math.min(...mibPerSecond), Math.max(...mibPerSecond)];
  const ratio = median(mibPerSecond) / median(first.mibPerSecond);
  const range = `${median(mibPerSecond).toFixed(1)} (${least.toFixed(1)} to ${most.toFixed(1)})`;
  console.log(`| ${what} | ${kib} | ${range} | ${ratio.toFixed(2)} |`);
}
if (values.save) keepRows(`device-${line}`, { kernel: kernel.version, mib: MIB }, rows);
