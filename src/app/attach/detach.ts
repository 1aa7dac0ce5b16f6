import { setTimeout as sleep } from "node:timers/promises";
import { Fault } from "../../base/fault.js";
import type { Input, Shell } from "../cli/command.js";
import { endSupervisor, needRoot } from "./attach.js";
import { deviceIndex } from "./device-name.js";
import { disconnect } from "./program.js";
import {
  type Attachment,
  attachmentOf,
  attachments,
  isSupervisor,
  removeRecord,
} from "./records.js";
import { type Device, System } from "./system.js";
import { isAddress, volumeOf } from "./target.js";

/** Writing back what is cached may take longer than anybody waits in silence. */
const SILENT_MS = 2_000;
const SUPERVISOR_END_MS = 10_000;

/** What is to be let go; `volume` is undefined for a device that somebody else attached. */
export interface Leaving {
  readonly device: Device;
  readonly volume: string | undefined;
  readonly supervisor: number;
}

/** `trivet detach`: never below anything that uses the device, and never before what was written has reached the server. */
export async function detach(input: Input, shell: Shell): Promise<void> {
  const [word = ""] = input.operands;
  const force = input.flag("force");
  const system = new System(shell.env.TRIVET_ROOT ?? "");
  needRoot(system, "detach");
  if (!system.hasModule)
    throw new Fault(
      "TRIVET_E_NO_NBD",
      "the kernel's module nbd is not loaded, so nothing is attached",
    );
  const leaving = findLeaving(system, word);
  const { device, supervisor } = leaving;
  if (force) {
    await forceOff(system, leaving, shell);
    return;
  }
  refuseUsed(system, leaving);
  const timer = setTimeout(() => {
    shell.warn(
      `what was written to ${device.node} is brought to the server first; while the server is away this waits (--force detaches without)`,
    );
  }, SILENT_MS);
  try {
    await disconnect(system.root, device.index, false);
  } finally {
    clearTimeout(timer);
  }
  await letEnd(system, supervisor);
  gone(system, leaving, shell);
}

/** Also below somebody who uses it: then the device has no server any more, and stays until that ends. */
async function forceOff(system: System, leaving: Leaving, shell: Shell): Promise<void> {
  const { device, volume, supervisor } = leaving;
  // It would connect a device that stays to the server again.
  await endSupervisor(system, supervisor);
  try {
    await disconnect(system.root, device.index, true);
  } catch (error) {
    const stays = error instanceof Fault && error.code === "TRIVET_E_DEVICE_BUSY";
    if (!stays) throw error;
    const uses = usesOf(system, leaving);
    const what = uses.length === 0 ? "is open" : uses.join(", and ");
    shell.print(
      `${volume ?? device.node} has no server any more, and what waited for it has failed; ${device.node} goes when nobody uses it: it ${what}`,
    );
    return;
  }
  gone(system, leaving, shell);
}

function gone(system: System, { device, volume }: Leaving, shell: Shell): void {
  if (volume !== undefined) removeRecord(system.root, volume);
  shell.print(
    `${volume ?? device.node} is detached${volume === undefined ? "" : ` from ${device.node}`}`,
  );
}

/** Throws TRIVET_E_NOT_ATTACHED. A device may be named that another program attached. */
export function findLeaving(system: System, word: string): Leaving {
  const index = deviceIndex(word);
  if (index === undefined) {
    const own =
      attachmentOf(system, word) ?? attachmentOf(system, isAddress(word) ? word : volumeOf(word));
    if (own === undefined)
      throw new Fault("TRIVET_E_NOT_ATTACHED", `${word} is not attached on this host`);
    return leavingOf(own);
  }
  const device = system.device(index);
  if (device === undefined || device.attachedBy === 0)
    throw new Fault("TRIVET_E_NOT_ATTACHED", `/dev/nbd${index} is not attached`);
  const own = attachments(system).find((one) => one.device.index === index);
  return own === undefined ? { device, volume: undefined, supervisor: 0 } : leavingOf(own);
}

const leavingOf = ({ device, volume, supervisor }: Attachment): Leaving => ({
  device,
  volume,
  supervisor,
});

/** Throws TRIVET_E_DEVICE_BUSY with everything that is to be ended first. */
export function refuseUsed(system: System, leaving: Leaving): void {
  const texts = usesOf(system, leaving);
  if (texts.length > 0)
    throw new Fault("TRIVET_E_DEVICE_BUSY", `${leaving.device.node} ${texts.join(", and ")}`);
}

function usesOf(system: System, { device, supervisor }: Leaving): readonly string[] {
  const uses = system.usesOf(device, [process.pid, supervisor]);
  // Whatever has a mounted file system has the device open as well.
  const telling = uses.filter(({ kind }) => kind !== "open");
  return (telling.length > 0 ? telling : uses).map(({ text }) => text);
}

/** The supervising process sees by itself that its device is gone. */
async function letEnd(system: System, pid: number): Promise<void> {
  const deadline = performance.now() + SUPERVISOR_END_MS;
  while (pid !== 0 && isSupervisor(system, pid)) {
    if (performance.now() > deadline) {
      process.kill(pid, "SIGTERM");
      return;
    }
    await sleep(20);
  }
}
