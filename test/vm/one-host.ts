import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { trivet } from "../acceptance/rig.js";
import { type Client, DEVICE, EXPORT } from "./clients.js";
import { makeDisk, makeInstallation, NODE, TRIVET } from "./installation.js";
import type { Kernel } from "./kernels.js";
import { Machine } from "./machine.js";
import type { Verdict } from "./stage.js";
import { Writer, type WriterPlan } from "./writers.js";

// Everything on one host: replicas, server and the mounted device in one guest whose memory fills with dirty data
// for that device. The kernel can only free memory by writing it, and the server that writes it needs memory: what
// must not happen is that both wait for each other. The server has 256 MiB, by its control group.

const GUEST_MIB = 768;
const SERVER_LIMIT = "256M";
const EXTENTS = 384;
/** More than the guest has left when everything runs. */
const FLOOD_FILES = 5;
const FLOOD_MIB = 56;
const FLOOD_TIMEOUT_MS = 600_000;
const PORTS = [3810, 3820, 3830];
const NBD_PORT = 10809;
const GROUP = "/sys/fs/cgroup/server";

const PROGRAM = `TRIVET_NODE=/opt/${NODE} /opt/${TRIVET}`;

function makeDisks(folder: string): string[] {
  const software = join(folder, "software");
  makeInstallation(software);
  const regions = join(folder, "regions");
  mkdirSync(regions);
  for (const i of PORTS.keys()) {
    const size = ["--block-size", "4096", "--extent-size", "256", "--extent-count", `${EXTENTS}`];
    trivet(["region", "create", join(regions, `region${i}`), ...size]);
  }
  const data = join(folder, "data");
  makeDisk(data, regions, (3 * EXTENTS * 1.1 + 128) * (1 << 20));
  return [software, data];
}

/** Starts a program in the background; what it says goes to /run/NAME.log. */
async function start(guest: Machine, name: string, args: string, says: string): Promise<void> {
  const log = `/run/${name}.log`;
  const shell = `echo $$ >/run/${name}.pid; echo -900 >/proc/$$/oom_score_adj; ${args}`;
  await guest.must(`setsid sh -c '${shell}' >${log} 2>&1 </dev/null &`);
  await guest.until(`grep -q "${says}" ${log}`, 120_000).catch(async (error: Error) => {
    throw new Error(`${error.message}\n${(await guest.run(`cat ${log}`)).output}`);
  });
}
async function stop(guest: Machine, name: string): Promise<void> {
  const pid = `$(cat /run/${name}.pid)`;
  await guest.must(`kill ${pid}`);
  await guest.until(`[ ! -e /proc/${pid} ]`, 120_000);
}

async function serveAll(guest: Machine): Promise<void> {
  await guest.must("mkdir -p /opt /data && mount -t ext4 -o ro /dev/vda /opt");
  await guest.must("mount -t ext4 /dev/vdb /data");
  await guest.must("echo +memory >/sys/fs/cgroup/cgroup.subtree_control");
  await guest.must(`mkdir ${GROUP} && echo ${SERVER_LIMIT} >${GROUP}/memory.max`);
  for (const [i, port] of PORTS.entries()) {
    const args = `exec env ${PROGRAM} region run /data/region${i} --port ${port}`;
    await start(guest, `region${i}`, args, "is served on");
  }
  const targets = PORTS.map((port) => `--target 127.0.0.1:${port}`).join(" ");
  const places = "--address 127.0.0.1:10809 --state-dir /run/state --control /run/control";
  const serve = `exec env RUNTIME_DIRECTORY=/run/trivet ${PROGRAM} serve ${targets} ${places} --export ${EXPORT} --arena 64M`;
  await guest.must("mkdir -p /run/state /run/trivet");
  await start(guest, "server", `echo $$ >${GROUP}/cgroup.procs; ${serve}`, "serving");
}

/** Files of random bytes, through the page cache; answers their digests. */
const flood = (guest: Machine): Promise<string> => {
  const one = `dd if=/dev/urandom bs=1M count=${FLOOD_MIB} 2>/dev/null | tee /mnt/$i | md5sum`;
  const numbers = Array.from({ length: FLOOD_FILES }, (_, i) => i).join(" ");
  return guest.must(`for i in ${numbers}; do ${one} || exit 1; done; sync`, FLOOD_TIMEOUT_MS);
};

async function play(guest: Machine, client: Client): Promise<Verdict> {
  await serveAll(guest);
  await client.attach(guest, { host: "127.0.0.1", port: NBD_PORT });
  await guest.must(`mkfs.ext4 -q -F ${DEVICE} && mount -t ext4 ${DEVICE} /mnt`);
  await guest.must(
    "echo 90 >/proc/sys/vm/dirty_ratio; echo 80 >/proc/sys/vm/dirty_background_ratio",
  );
  const plan = { name: "direct", path: "/mnt/direct", slots: 256, threads: 2, mode: "direct" };
  const writer = new Writer(guest, plan as WriterPlan);
  await writer.start();
  let mostDirty = 0;
  let isOver = false;
  const flooding = flood(guest).finally(() => {
    isOver = true;
  });
  flooding.catch(() => {});
  while (!isOver) {
    const text = await guest.must("grep -E '^(Dirty|Writeback):' /proc/meminfo", FLOOD_TIMEOUT_MS);
    const kib = [...text.matchAll(/(\d+) kB/g)].map(([, n]) => Number(n));
    mostDirty = Math.max(
      mostDirty,
      kib.reduce((sum, n) => sum + n, 0),
    );
    await sleep(500);
  }
  const written = await flooding;
  await writer.stop(FLOOD_TIMEOUT_MS);
  const wrong: string[] = [];
  if (mostDirty < 48 * 1024) wrong.push(`no more than ${mostDirty} KiB were ever dirty`);

  await guest.must("umount /mnt");
  const fsck = await guest.run(`e2fsck -fn ${DEVICE}`);
  if (fsck.status !== 0) wrong.push(`e2fsck ended with ${fsck.status}:\n${fsck.output}`);
  await guest.must(`echo 3 >/proc/sys/vm/drop_caches; mount -t ext4 -o ro ${DEVICE} /mnt`);
  const read = await guest.must("for f in /mnt/[0-9]; do md5sum <$f; done", FLOOD_TIMEOUT_MS);
  wrong.push(...(await writer.examine(guest)));
  if (read !== written) wrong.push(`written:\n${written}\nread:\n${read}`);
  await guest.must("umount /mnt");
  const events = await guest.must(`cat ${GROUP}/memory.events`);
  if (!/^oom_kill 0$/m.test(events)) wrong.push(`the server was killed for its memory:\n${events}`);
  const trouble = guest.console().match(/^.*(?:Out of memory|I\/O error|blocked for more).*$/gm);
  if (trouble !== null) wrong.push(`the kernel said:\n${trouble.slice(0, 5).join("\n")}`);
  await client.detach(guest);
  for (const name of ["server", "region0", "region1", "region2"]) await stop(guest, name);

  const compared = writer.acknowledged + (FLOOD_FILES * FLOOD_MIB * (1 << 20)) / 4096;
  const state = fsck.status === 0 ? "clean" : `status ${fsck.status}`;
  return { counts: writer.last, fsck: state, compared, wrong };
}

export async function oneHost(kernel: Kernel, client: Client): Promise<Verdict> {
  const folder = mkdtempSync(join(tmpdir(), "trivet-vm-"));
  let guest: Machine | undefined;
  try {
    guest = await Machine.boot(kernel, {
      memory: GUEST_MIB,
      programs: client.programs(),
      libraries: [process.execPath, "build/native/Release/trivet.node"],
      disks: makeDisks(folder),
    });
    return await play(guest, client);
  } finally {
    await guest?.kill();
    rmSync(folder, { recursive: true, force: true });
  }
}
