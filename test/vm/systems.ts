import { setTimeout as sleep } from "node:timers/promises";
import { run } from "../acceptance/rig.js";
import { Fio } from "./fio.js";
import { programPath } from "./image.js";
import { PROGRAM, TRIVET } from "./installation.js";
import type { Kernel } from "./kernels.js";
import type { Verdict } from "./stage.js";
import { System } from "./system.js";
import { BEFORE_IS_THERE, MOUNT, START_TIMEOUT_MS, UNITS, VOLUME } from "./template.js";

// What happens to whole systems, whose volume is a mounted device by units.

async function withSystem(
  kernel: Kernel,
  play: (system: System) => Promise<Verdict>,
): Promise<Verdict> {
  const system = await System.open(kernel);
  try {
    return await play(system);
  } finally {
    await system.close();
  }
}

/** Asked for several, systemctl is content with one. */
const active = (...units: readonly string[]): string =>
  units.map((unit) => `systemctl -q is-active ${unit}`).join(" && ");

/** Units come up by themselves, each when the one before is ready. */
export const boot = (kernel: Kernel): Promise<Verdict> =>
  withSystem(kernel, async (system) => {
    await system.boot();
    await system.mounted();
    await system.guest.until(active("multi-user.target"), START_TIMEOUT_MS, 1000);
    await system.load("booted");
    return system.verdict();
  });

/** Writes a file that stays in the page cache, and switches the system off at once. */
export const shutdown = (kernel: Kernel): Promise<Verdict> =>
  withSystem(kernel, async (system) => {
    await system.boot();
    await system.mounted();
    await system.load("before-end");
    const { guest } = system;
    await guest.must("echo 0 >/proc/sys/vm/dirty_writeback_centisecs");
    await guest.must(
      "echo 80 >/proc/sys/vm/dirty_ratio; echo 70 >/proc/sys/vm/dirty_background_ratio",
    );
    const tee = `tee ${MOUNT}/dirty | md5sum`;
    const sum = await guest.must(`dd if=/dev/urandom bs=1M count=24 2>/dev/null | ${tee}`);
    const dirty = Number(/\d+/.exec(await guest.must("grep ^Dirty: /proc/meminfo"))?.[0]);
    if (dirty < 8 * 1024) system.complain(`only ${dirty} KiB were dirty at the end`);
    const { image } = await system.end("poweroff");
    // On the replicas, while there is neither a host nor a server.
    const copy = `${image}.dirty`;
    run(programPath("debugfs", "e2fsprogs"), ["-R", `dump /dirty ${copy}`, image]);
    const found = run("md5sum", [copy]);
    if (found.slice(0, 32) !== sum.slice(0, 32)) system.complain("what was dirty was lost");
    await system.boot();
    await system.mounted();
    await system.judgeLastEnd();
    await system.judgeWriters();
    return system.verdict();
  });

/** Started again under load, over and over. */
export const reboots = (kernel: Kernel, rounds: number): Promise<Verdict> =>
  withSystem(kernel, async (system) => {
    await system.boot();
    await system.mounted();
    for (let round = 1; round <= rounds; round++) {
      await system.load(`round${round}`);
      await system.end("reboot");
      await system.boot();
      await system.mounted();
      await system.judgeLastEnd();
      await system.judgeWriters();
    }
    return system.verdict();
  });

/** Without network and replicas, which come later, one after the other. */
export const late = (kernel: Kernel): Promise<Verdict> =>
  withSystem(kernel, async (system) => {
    await system.boot({ isUnplugged: true, isWithoutReplicas: true });
    const { guest } = system;
    await guest.until(active("multi-user.target", "getty.target"), START_TIMEOUT_MS, 1000);
    // The server waits for the network to be online, which systemd gives up after two minutes.
    const begins = `[ $(systemctl show -P ActiveState ${UNITS.server}) != inactive ]`;
    await guest.until(begins, START_TIMEOUT_MS, 1000);
    const stillWaits = async (when: string): Promise<void> => {
      const { status } = await guest.run(`mountpoint -q ${MOUNT}`);
      if (status === 0) throw new Error(`it was mounted ${when}`);
      const state = await guest.must(`systemctl show -P ActiveState ${UNITS.server}`);
      if (state !== "activating") system.complain(`${UNITS.server} was ${state} ${when}`);
    };
    await stillWaits("without a network");
    await guest.plug(true);
    await sleep(20_000);
    await stillWaits("without replicas");
    await system.rig.startAll();
    await system.mounted();
    await system.load("late");
    return system.verdict();
  });

const pidOf = (system: System, unit: string): Promise<string> =>
  system.guest.must(`systemctl show -P MainPID ${unit}`);

/** What a server's restart must not do: touch the attachment or the mount. */
async function aroundServer(system: System, what: string, act: () => Promise<void>): Promise<void> {
  const { guest } = system;
  const server = await pidOf(system, UNITS.server);
  const mount = `systemctl show -P ActiveEnterTimestampMonotonic ${UNITS.attachment} ${UNITS.mount}`;
  const before = await guest.must(mount);
  await act();
  await guest.until(
    `[ "$(systemctl show -P MainPID ${UNITS.server})" != ${server} ] && ${active(UNITS.server)}`,
    START_TIMEOUT_MS,
    1000,
  );
  await system.progress();
  await system.settled();
  if ((await guest.must(mount)) !== before)
    system.complain(`the attachment or the mount was begun anew after ${what}`);
}

const VERSION = "99.0.0-vm";

/** Restarts, by systemd and by trivet, and a new version, while fio writes and verifies. */
export const upgrade = (kernel: Kernel): Promise<Verdict> =>
  withSystem(kernel, async (system) => {
    await system.boot();
    await system.mounted();
    const { guest } = system;
    await system.load("upgrade");
    const fio = new Fio(guest);
    await fio.start(`${MOUNT}/fio`, MOUNT);
    await fio.progress();
    for (const [name, command] of [
      ["systemctl restart", `systemctl restart ${UNITS.server}`],
      ["trivet restart", `${TRIVET} restart ${VOLUME}`],
    ] as const)
      for (let round = 0; round < 2; round++)
        await aroundServer(system, name, async () => {
          await guest.must(command, START_TIMEOUT_MS);
        });
    // The new version lies beside the old one, and takes its place at once.
    const manifest = `sed -i "s/.version.: .*/\\"version\\": \\"${VERSION}\\",/" ${PROGRAM}.new/package.json`;
    await guest.must(`cp -al ${PROGRAM} ${PROGRAM}.new && ${manifest}`);
    await guest.must(`mv ${PROGRAM} ${PROGRAM}.old && mv ${PROGRAM}.new ${PROGRAM}`);
    await guest.must(`${TRIVET} install-units`);
    await aroundServer(system, "an upgrade", async () => {
      await guest.must(`${TRIVET} restart ${VOLUME}`, START_TIMEOUT_MS);
    });
    const status = await guest.must(`${TRIVET} status ${VOLUME} --json`);
    if (!status.includes(VERSION)) system.complain(`the version that serves:\n${status}`);
    await fio.progress();
    const runs = await fio.stop();
    system.count(runs);
    system.complain(...runs.said.map((text) => `fio: ${text}`));
    return system.verdict();
  });

/** The server, the process that keeps the device connected, and both, die. */
export const killed = (kernel: Kernel): Promise<Verdict> =>
  withSystem(kernel, async (system) => {
    await system.boot();
    await system.mounted();
    const { guest } = system;
    await system.load("killed");
    const kill = "systemctl kill --signal=KILL --kill-whom=main";
    for (let round = 0; round < 3; round++)
      await aroundServer(system, "the server's death", async () => {
        await guest.must(`${kill} ${UNITS.server}`);
      });
    for (const units of [UNITS.attachment, `${UNITS.attachment} ${UNITS.server}`]) {
      const before = await pidOf(system, UNITS.attachment);
      await guest.must(`for unit in ${units}; do ${kill} $unit || exit 1; done`);
      await guest.until(
        `[ "$(systemctl show -P MainPID ${UNITS.attachment})" != ${before} ] && ${active(UNITS.attachment, UNITS.server)}`,
        START_TIMEOUT_MS,
        1000,
      );
      await system.progress();
      await system.settled();
    }
    const restarts = await guest.must(`systemctl show -P NRestarts ${UNITS.server}`);
    if (Number(restarts) < 4) system.complain(`the server was restarted ${restarts} times only`);
    await guest.must(`mountpoint -q ${MOUNT} && ${BEFORE_IS_THERE}`);
    return system.verdict();
  });
