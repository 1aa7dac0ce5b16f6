import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Rig } from "../acceptance/rig.js";
import { debianImage, layer } from "./debian.js";
import { makeInstallation, PROGRAM, TRIVET } from "./installation.js";
import type { Kernel } from "./kernels.js";
import { HOST, Machine } from "./machine.js";

// A whole system on which a volume was set up as systemd/README.md says, and which was switched off: what the scenarios of whole systems
// begin with. Made once per kernel and process, since it takes minutes under emulation; each system works on a layer above it and
// on a copy of its regions.

const GEOMETRY = { blockSize: 4096, extentSize: 256, extentCount: 128 };
export const VOLUME = "photos";
export const DEVICE = `/dev/trivet/${VOLUME}`;
export const MOUNT = `/srv/${VOLUME}`;
export const UNITS = {
  server: `trivet@${VOLUME}.service`,
  attachment: `trivet-attach@${VOLUME}.service`,
  mount: `srv-${VOLUME}.mount`,
} as const;
/** How long units may take to serve, attach and mount. */
export const START_TIMEOUT_MS = 600_000;
export const STOP_TIMEOUT_MS = 600_000;
/** A file on the volume that was there before anything happened, and its sum on the system's own disk. */
const BEFORE = { file: `${MOUNT}/before`, sum: "/var/lib/vm/before.md5" };
export const BEFORE_IS_THERE = `md5sum -c ${BEFORE.sum}`;

export interface Template {
  readonly folder: string;
  /** Images: the system, and the program. */
  readonly disks: readonly string[];
  /** Folders of the replicas. */
  readonly regions: readonly string[];
}

const made = new Map<string, Promise<Template>>();

export function template(kernel: Kernel): Promise<Template> {
  const known = made.get(kernel.version);
  if (known !== undefined) return known;
  const making = make(kernel);
  made.set(kernel.version, making);
  // Who asks next may have better luck.
  making.catch(() => made.delete(kernel.version));
  return making;
}

/** Removes all that were made. */
export async function forgetTemplates(): Promise<void> {
  for (const one of made.values()) await one.then(remove, () => {});
  made.clear();
}
const remove = ({ folder }: { readonly folder: string }): void =>
  rmSync(folder, { recursive: true, force: true });

/** A file of the guest. Lines hold no single quotes. */
export const put = (guest: Machine, path: string, lines: readonly string[]): Promise<string> =>
  guest.must(
    `mkdir -p $(dirname ${path}); printf '%s\\n' ${lines.map((l) => `'${l}'`).join(" ")} >${path}`,
  );

async function make(kernel: Kernel): Promise<Template> {
  const folder = mkdtempSync(join(tmpdir(), "trivet-vm-"));
  const rig = new Rig();
  const disks = [join(folder, "root.qcow2"), join(folder, "software")];
  let guest: Machine | undefined;
  try {
    layer(debianImage(kernel), disks[0]!);
    makeInstallation(disks[1]!);
    await rig.create(GEOMETRY);
    await rig.startAll();
    const files = configuration(rig.ports);
    guest = await Machine.boot(kernel, { memory: 1024, disks, isSystem: true, files });
    await setUp(guest);
    guest.run("systemctl poweroff --no-block").catch(() => {});
    await guest.ended(STOP_TIMEOUT_MS);
    await rig.stopAll();
    const regions = rig.ports.map((_, i) => join(folder, `region${i}`));
    for (const [i, path] of regions.entries()) execFileSync("mv", [rig.region(i), path]);
    return { folder, disks, regions };
  } catch (error) {
    remove({ folder });
    throw new Error(`no system could be made: ${(error as Error).message}`);
  } finally {
    await guest?.kill();
    await rig.remove();
  }
}

/** The volume's file; the replicas' ports are others in each scenario. */
export const configuration = (ports: readonly number[]): Record<string, string> => ({
  [`/etc/trivet/${VOLUME}.toml`]: [
    `target = [${ports.map((port) => `"${HOST}:${port}"`).join(", ")}]`,
    `socket = "/run/trivet/${VOLUME}/nbd.sock"`,
    'arena = "64M"',
    "",
  ].join("\n"),
});

/** As an administrator would, by systemd/README.md. */
async function setUp(guest: Machine): Promise<void> {
  await guest.must(`${TRIVET} install-units`);
  const start = `systemctl enable --now ${UNITS.server} ${UNITS.attachment}`;
  await explained(guest, guest.must(start, START_TIMEOUT_MS));
  await guest.must(`mkfs.ext4 -q ${DEVICE}`);
  const examples = `${PROGRAM}/systemd/examples`;
  await guest.must(`mkdir -p ${MOUNT} && cp ${examples}/${UNITS.mount} /etc/systemd/system/`);
  await guest.must("systemctl daemon-reload");
  await guest.must(`systemctl enable ${UNITS.mount}`);
  await guest.must(`systemctl start ${UNITS.mount}`, START_TIMEOUT_MS);
  const { file, sum } = BEFORE;
  await guest.must(`mkdir -p /var/lib/vm; dd if=/dev/urandom of=${file} bs=1M count=4 2>&1`);
  await guest.must(`md5sum ${file} >${sum}; sync`);
}

/** With what systemd knows, when it fails. */
export async function explained<T>(guest: Machine, promise: Promise<T>): Promise<T> {
  try {
    return await promise;
  } catch (error) {
    const { output } = await guest.run(
      `systemctl list-jobs; systemctl --failed; ${TRIVET} status; journalctl -b --no-pager -n 80`,
    );
    throw new Error(`${(error as Error).message}\n${output}`);
  }
}
