import { spawnSync } from "node:child_process";
import { existsSync, lstatSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { FileReport } from "./install.js";
import { findProgram } from "./place.js";

// The host that things are installed on: whose instances are in use, what has to be told, and what gets in the way.

const INSTANCE = /^trivet(?:-attach|-region)?@.+\.(?:service|socket)$/;
const TEMPLATES = ["trivet@*", "trivet-attach@*", "trivet-region@*"];

const isBooted = (prefix: string): boolean => prefix === "/" && existsSync("/run/systemd/system");

/** Instances that are enabled below the prefix, or run on this host. */
export function instancesInUse(prefix: string): string[] {
  const found = new Set(enabledInstances(prefix));
  if (isBooted(prefix)) for (const name of runningInstances()) found.add(name);
  return [...found].sort();
}

/** By the links that `systemctl enable` makes. */
function enabledInstances(prefix: string): string[] {
  const base = join(prefix, "etc/systemd/system");
  return list(base)
    .filter((name) => /\.(?:wants|requires)$/.test(name))
    .flatMap((folder) => list(join(base, folder)))
    .filter((name) => INSTANCE.test(name));
}

function runningInstances(): string[] {
  const { stdout, status } = spawnSync(
    "systemctl",
    [
      "list-units",
      "--plain",
      "--no-legend",
      "--full",
      "--state=active,activating,reloading",
      ...TEMPLATES,
    ],
    { encoding: "utf8" },
  );
  if (status !== 0) return [];
  return stdout
    .split("\n")
    .map((line) => line.trim().split(/\s+/)[0] ?? "")
    .filter((name) => INSTANCE.test(name));
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** Files of the same name in /etc, which count instead of what was installed. */
export function shadows(prefix: string, files: readonly FileReport[]): string[] {
  return files
    .map(({ path }) => path.replace(/^usr\/local\/lib\//, "etc/"))
    .filter((path) => lstatSync(join(prefix, path), { throwIfNoEntry: false }) !== undefined)
    .map((path) => `/${path}`);
}

/** True when LVM is there and its filter lets network block devices through. */
export function lvmReadsDevices(prefix: string): boolean {
  const path = join(prefix, "etc/lvm/lvm.conf");
  if (!existsSync(path)) return false;
  const lines = readFileSync(path, "utf8").split("\n");
  return !lines.some((line) => /^\s*(?:global_filter|filter)\s*=.*\bnbd/.test(line));
}

export interface Step {
  readonly why: string;
  readonly command: readonly string[];
  /** A host without the program has no use for it: containers have no udev. */
  readonly optional?: boolean;
}

/** What makes a host know what has just been put there. */
export const AFTER_INSTALL: readonly Step[] = [
  {
    why: "the user trivet",
    command: ["systemd-sysusers", "/usr/local/lib/sysusers.d/trivet.conf"],
  },
  {
    why: "its folders",
    command: ["systemd-tmpfiles", "--create", "/usr/local/lib/tmpfiles.d/trivet.conf"],
  },
  { why: "the units", command: ["systemctl", "daemon-reload"] },
  { why: "the rule for /dev/trivet", command: ["udevadm", "control", "--reload"], optional: true },
];
export const AFTER_UNINSTALL: readonly Step[] = AFTER_INSTALL.slice(2);

/** Carries the steps out; answers those that failed, with what was said. Undefined when this is not the host that runs. */
export function tell(prefix: string, steps: readonly Step[]): string[] | undefined {
  return isBooted(prefix) ? carryOut(steps) : undefined;
}

export function carryOut(steps: readonly Step[]): string[] {
  const failed: string[] = [];
  for (const { why, command, optional = false } of steps) {
    const [program = "", ...args] = command;
    const path = findProgram(program);
    if (path === undefined) {
      if (!optional) failed.push(`${program} is not there (${why})`);
      continue;
    }
    const { status, stderr, error } = spawnSync(path, args, { encoding: "utf8" });
    if (status === 0) continue;
    const said = (error?.message ?? stderr).trim().split("\n")[0];
    failed.push(`${command.join(" ")} failed (${why}): ${said || `status ${status}`}`);
  }
  return failed;
}
