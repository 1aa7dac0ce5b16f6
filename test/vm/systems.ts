import type { Kernel } from "./kernels.js";
import type { Verdict } from "./stage.js";
import { System } from "./system.js";
import { START_TIMEOUT_MS } from "./template.js";

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
