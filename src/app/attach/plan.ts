import { Fault } from "../../base/fault.js";
import { type Attachment, attachmentOf, attachments } from "./records.js";
import type { Device, System } from "./system.js";

export interface Wish {
  readonly volume: string;
  /** Undefined: any that is free. */
  readonly index: number | undefined;
  /** The device was attached by somebody else, and is to be kept connected from now on. */
  readonly adopt: boolean;
  /** This process is to be the one that keeps it connected. */
  readonly foreground: boolean;
}

export type Plan =
  /** It is there and somebody keeps it connected: nothing is to be done. */
  | { readonly kind: "there"; readonly attachment: Attachment }
  /** It is attached; `supervisor` (0: none) makes room. */
  | { readonly kind: "adopt"; readonly device: Device; readonly supervisor: number }
  /** One of these, the first that the kernel gives; none: the kernel makes one. */
  | { readonly kind: "connect"; readonly candidates: readonly Device[] };

/** What attaching a volume comes to. Throws TRIVET_E_ATTACHED, TRIVET_E_DEVICE_BUSY, TRIVET_E_DEVICE or TRIVET_E_NOT_ATTACHED. */
export function plan(system: System, wish: Wish): Plan {
  const { volume, index } = wish;
  const own = attachmentOf(system, volume);
  if (own !== undefined) {
    if (index !== undefined && index !== own.device.index)
      throw new Fault(
        "TRIVET_E_ATTACHED",
        `${volume} is attached as ${own.device.node} on this host already`,
      );
    if (own.supervisor !== 0 && !wish.foreground) return { kind: "there", attachment: own };
    return { kind: "adopt", device: own.device, supervisor: own.supervisor };
  }
  if (index === undefined) return { kind: "connect", candidates: freeDevices(system) };
  const device = system.device(index);
  if (device === undefined) {
    if (wish.adopt) throw new Fault("TRIVET_E_NOT_ATTACHED", `there is no /dev/nbd${index}`);
    throw new Fault(
      "TRIVET_E_DEVICE",
      `there is no /dev/nbd${index}: the module has made ${system.devices().length} devices (its parameter nbds_max)`,
    );
  }
  if (wish.adopt) {
    if (device.attachedBy === 0)
      throw new Fault("TRIVET_E_NOT_ATTACHED", `${device.node} is not attached`);
    const other = ownerOf(system, device);
    if (other !== undefined)
      throw new Fault("TRIVET_E_DEVICE_BUSY", `${device.node} is attached to ${other}`);
    return { kind: "adopt", device, supervisor: 0 };
  }
  const reasons = usedBy(system, device);
  if (reasons.length > 0)
    throw new Fault("TRIVET_E_DEVICE_BUSY", `${device.node} ${reasons.join(", and ")}`);
  return { kind: "connect", candidates: [device] };
}

const ownerOf = (system: System, { index }: Device): string | undefined =>
  attachments(system).find(({ device }) => device.index === index)?.volume;

/** Why a device cannot be had; empty: it is free. */
function usedBy(system: System, device: Device): readonly string[] {
  if (device.attachedBy !== 0) {
    const owner = ownerOf(system, device);
    if (owner !== undefined) return [`is attached to ${owner}`];
    const program = system.programOf(device.attachedBy);
    const by = program === "" ? "a program that has ended" : program;
    return [
      `is attached by ${by} (process ${device.attachedBy}); if that is this volume, --adopt keeps it and makes it reconnect`,
    ];
  }
  return system.usesOf(device, []).map(({ text }) => text);
}

/** In order; what is attached or used by anybody is left out. */
export const freeDevices = (system: System): readonly Device[] =>
  system
    .devices()
    .filter((device) => device.attachedBy === 0 && system.usesOf(device, []).length === 0);
