import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { TRIVET, WRITER } from "./installation.js";
import { trouble } from "./journal.js";
import type { Kernel } from "./kernels.js";
import type { Machine } from "./machine.js";
import type { Verdict } from "./stage.js";
import { System } from "./system.js";
import { explained, put, START_TIMEOUT_MS, STOP_TIMEOUT_MS, UNITS } from "./template.js";
import { Writer, type WriterPlan } from "./writers.js";

// Everything on one host: replicas, server and the mounted device in one guest whose memory fills with dirty data for that device. The
// kernel can only free memory by writing it, and the server that writes it needs memory: what must not happen is that
// both wait for each other. The server has 256 MiB, by its control group, as systemd/README.md says for a small host.

const GUEST_MIB = 896;
const SERVER_LIMIT = "256M";
const VOLUME = "box";
const SIZE = "384M";
/** Room for three replicas. */
const DISK_BYTES = 1536 << 20;
const DEVICE = `/dev/trivet/${VOLUME}`;
const MOUNT = "/mnt";
const REGIONS = ["a", "b", "c"].map((letter, i) => ({
  name: `${VOLUME}${letter}`,
  port: 3810 + 10 * i,
}));
/** More than the guest has left when everything runs. */
const FLOOD_FILES = 5;
const FLOOD_MIB = 56;
const FILES = Array.from({ length: FLOOD_FILES }, (_, i) => i);
const FLOOD_TIMEOUT_MS = 1_200_000;
/** What shows that memory was short: pages looked at, to be freed. */
const PRESSURE = "awk '/^pgscan_(kswapd|direct) /{n+=$2} END{print n}' /proc/vmstat";

async function setUp(guest: Machine): Promise<void> {
  // The volume of the other scenarios stays away.
  await guest.must(`systemctl disable ${UNITS.server} ${UNITS.attachment} ${UNITS.mount} 2>&1`);
  await guest.must(`systemctl stop ${UNITS.attachment} ${UNITS.server}`, STOP_TIMEOUT_MS);
  await guest.must("mkfs.ext4 -q /dev/vdc && mount /dev/vdc /srv/trivet");
  await guest.must("chown trivet:trivet /srv/trivet");
  for (const { name, port } of REGIONS) {
    const create = `${TRIVET} region create /srv/trivet/${name} --size ${SIZE}`;
    await guest.must(`runuser -u trivet -- ${create}`);
    const lines = ["ADDRESS=127.0.0.1", `PORT=${port}`];
    await put(guest, `/etc/trivet/region-${name}.env`, lines);
  }
  await put(guest, `/etc/trivet/${VOLUME}.toml`, [
    `target = [${REGIONS.map(({ port }) => `"127.0.0.1:${port}"`).join(", ")}]`,
    `socket = "/run/trivet/${VOLUME}/nbd.sock"`,
    'arena = "64M"',
  ]);
  // Nobody comes to the rescue of who waits for ever; and emulation is too slow for the half minute of the units.
  const alone = ["[Service]", "WatchdogSec=0"];
  await put(guest, "/etc/systemd/system/trivet-region@.service.d/override.conf", alone);
  await put(guest, `/etc/systemd/system/trivet@${VOLUME}.service.d/override.conf`, [
    ...alone,
    `MemoryMax=${SERVER_LIMIT}`,
  ]);
  await guest.must("systemctl daemon-reload");
  const units = [...REGIONS.map(({ name }) => `trivet-region@${name}`), `trivet@${VOLUME}`];
  const start = `systemctl start ${units.join(" ")} trivet-attach@${VOLUME}`;
  await explained(guest, guest.must(start, START_TIMEOUT_MS));
  await guest.must(`mkfs.ext4 -q ${DEVICE} && mount ${DEVICE} ${MOUNT}`, START_TIMEOUT_MS);
}

/** What file `i` holds: the same line over and over, so that making it takes no time. */
const digestOf = (i: number): string =>
  createHash("md5")
    .update(Buffer.alloc(FLOOD_MIB << 20, `${i}\n`))
    .digest("hex");

/** Through the page cache, as fast as it takes them. */
const flood = (guest: Machine): Promise<string> => {
  const one = `yes $i | dd of=${MOUNT}/$i bs=1M count=${FLOOD_MIB} iflag=fullblock 2>&1`;
  return guest.must(
    `for i in ${FILES.join(" ")}; do ${one} || exit 1; done; sync`,
    FLOOD_TIMEOUT_MS,
  );
};

/** Answers how many KiB were dirty or being written at most. */
async function flooded(guest: Machine): Promise<number> {
  let mostDirty = 0;
  let isOver = false;
  const flooding = flood(guest).finally(() => {
    isOver = true;
  });
  flooding.catch(() => {});
  while (!isOver) {
    const text = await guest.must("grep -E '^(Dirty|Writeback):' /proc/meminfo", FLOOD_TIMEOUT_MS);
    const kib = [...text.matchAll(/(\d+) kB/g)].map(([, n]) => Number(n));
    const sum = kib.reduce((all, n) => all + n, 0);
    mostDirty = Math.max(mostDirty, sum);
    await sleep(1000);
  }
  await flooding;
  return mostDirty;
}

async function play(system: System): Promise<Verdict> {
  const { guest } = system;
  await setUp(guest);
  await guest.must(
    "echo 90 >/proc/sys/vm/dirty_ratio; echo 80 >/proc/sys/vm/dirty_background_ratio",
  );
  const plan = { name: "direct", path: `${MOUNT}/direct`, slots: 256, threads: 2, mode: "direct" };
  const writer = new Writer(guest, plan as WriterPlan);
  await writer.startService(WRITER, MOUNT);
  const scanned = Number(await guest.must(PRESSURE));
  const mostDirty = await flooded(guest);
  await guest.must("systemctl stop direct", FLOOD_TIMEOUT_MS);
  await writer.collect(guest);
  if (mostDirty < 48 * 1024) system.complain(`no more than ${mostDirty} KiB were ever dirty`);
  if (Number(await guest.must(PRESSURE)) === scanned) system.complain("memory was never short");

  await guest.must(`umount ${MOUNT}`, STOP_TIMEOUT_MS);
  const fsck = await guest.run(`e2fsck -fn ${DEVICE}`, STOP_TIMEOUT_MS);
  if (fsck.status !== 0) system.complain(`e2fsck ended with ${fsck.status}:\n${fsck.output}`);
  await guest.must(`echo 3 >/proc/sys/vm/drop_caches; mount -o ro ${DEVICE} ${MOUNT}`);
  const read = await guest.must(`md5sum ${MOUNT}/[0-9] | cut -d ' ' -f 1`, FLOOD_TIMEOUT_MS);
  const written = FILES.map(digestOf).join("\n");
  system.complain(...(await writer.examine(guest)));
  if (read !== written) system.complain(`written:\n${written}\nread:\n${read}`);
  await guest.must(`umount ${MOUNT}`);
  const group = "/sys/fs/cgroup$(systemctl show -P ControlGroup trivet@box)";
  const bound = await guest.must(`cat ${group}/memory.max`);
  if (Number(bound) !== 256 << 20) system.complain(`the server may have ${bound} bytes`);
  const restarts = await guest.must(`systemctl show -P NRestarts trivet@${VOLUME}`);
  if (Number(restarts) !== 0) system.complain(`the server was started again ${restarts} times`);
  system.complain(
    ...trouble(await guest.must("journalctl -q -b --no-pager _PID=1 + _TRANSPORT=kernel")),
  );
  const units = ["trivet-attach@", "trivet@"].map((name) => `${name}${VOLUME}`);
  await guest.must(`systemctl stop ${units.join(" ")}`, STOP_TIMEOUT_MS);
  await guest.must("systemctl stop 'trivet-region@*'", STOP_TIMEOUT_MS);
  for (const { name } of REGIONS)
    await guest.must(
      `runuser -u trivet -- ${TRIVET} region verify /srv/trivet/${name}`,
      STOP_TIMEOUT_MS,
    );

  const compared = writer.acknowledged + (FLOOD_FILES * FLOOD_MIB * (1 << 20)) / 4096;
  const state = fsck.status === 0 ? "clean" : `status ${fsck.status}`;
  return { counts: writer.last, fsck: state, compared, wrong: system.wrong };
}

export async function oneHost(kernel: Kernel): Promise<Verdict> {
  const system = await System.open(kernel, { memory: GUEST_MIB, more: [DISK_BYTES] });
  try {
    await system.boot({ isWithoutReplicas: true });
    return await play(system);
  } finally {
    await system.close();
  }
}
