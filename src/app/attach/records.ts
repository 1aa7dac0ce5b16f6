import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { runtimeName } from "../control/paths.js";
import { deviceIndex } from "./device-name.js";
import type { Device, System } from "./system.js";

/**
 * What is attached on this host, by one file per volume. The supervising program writes it and removes it when the device was detached;
 * one that was killed leaves it, so a record counts only while its device is attached.
 */
const schema = v.object({
  device: v.string(),
  pid: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
  volume: v.string(),
  server: v.string(),
  export: v.string(),
});
export type AttachRecord = v.InferOutput<typeof schema>;

const FOLDER = "/run/trivet/attach";
const ENDING = ".json";
/** The kernel cuts a program's name at 15 bytes. */
const PROGRAM = "trivet-attach";

/** A volume that has a device. */
export interface Attachment {
  readonly device: Device;
  readonly volume: string;
  /** The process that keeps it connected; 0: nobody does. */
  readonly supervisor: number;
  readonly record: AttachRecord | undefined;
}

export const isSupervisor = (system: System, pid: number): boolean =>
  system.programOf(pid) === PROGRAM;

export const recordFolder = (root: string): string => join(root, FOLDER);
export const recordPath = (root: string, volume: string): string =>
  join(root, FOLDER, runtimeName(volume, ENDING));

/** What the kernel is told, and shows in sysfs: a path below /dev, by which udev can make a link. */
export const backendOf = (volume: string): string => `trivet/${runtimeName(volume, "")}`;

/** Everything of ours that is attached, also by earlier runs that left no record but the kernel's own. */
export function attachments(system: System): readonly Attachment[] {
  const found = new Map<number, Attachment>();
  const devices = system.devices().filter(({ attachedBy }) => attachedBy !== 0);
  for (const record of readRecords(system.root)) {
    const device = devices.find(({ node }) => node === record.device);
    // What the kernel says counts more than a file.
    const isIt =
      device !== undefined &&
      (device.backend === "" || device.backend === backendOf(record.volume));
    if (!isIt) continue;
    const supervisor = isSupervisor(system, record.pid) ? record.pid : 0;
    found.set(device.index, { device, volume: record.volume, supervisor, record });
  }
  for (const device of devices) {
    if (found.has(device.index) || !device.backend.startsWith("trivet/")) continue;
    const volume = decode(device.backend.slice("trivet/".length));
    found.set(device.index, { device, volume, supervisor: 0, record: undefined });
  }
  return [...found.values()];
}

/** The one of a volume. Names that were too long to be kept are compared as they are kept. */
export const attachmentOf = (system: System, volume: string): Attachment | undefined =>
  attachments(system).find(
    (one) => one.volume === volume || one.device.backend === backendOf(volume),
  );

export function removeRecord(root: string, volume: string): void {
  rmSync(recordPath(root, volume), { force: true });
}

function readRecords(root: string): readonly AttachRecord[] {
  const folder = recordFolder(root);
  let names: readonly string[];
  try {
    names = readdirSync(folder);
  } catch {
    return [];
  }
  const records: AttachRecord[] = [];
  for (const name of names) {
    if (!name.endsWith(ENDING)) continue;
    try {
      const parsed = v.safeParse(schema, JSON.parse(readFileSync(join(folder, name), "utf8")));
      if (parsed.success && deviceIndex(parsed.output.device) !== undefined)
        records.push(parsed.output);
    } catch {
      // Gone meanwhile, or no record.
    }
  }
  return records;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
