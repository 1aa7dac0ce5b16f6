import { run } from "../acceptance/rig.js";
import { programPath } from "./image.js";
import type { Kernel } from "./kernels.js";
import type { Verdict } from "./stage.js";
import { System } from "./system.js";
import { MOUNT, START_TIMEOUT_MS } from "./template.js";

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

/** What a server's restart must not do: touch the attachment or the mount. */
