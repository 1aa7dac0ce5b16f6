import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { Apt, cacheFolder, sourceLine } from "./apt.js";
import { programPath } from "./image.js";
import { allModules, type Kernel } from "./kernels.js";

// A whole Debian with systemd as the disk of a guest, by mmdebstrap from packages, with the modules of a kernel, the agent as a service,
// and a place for the installation (installation.ts). Kept in the cache; a guest works on a layer above it.

const SYSTEM = new URL("../../../test/vm/system/", import.meta.url).pathname;
const AGENT = new URL("../../../test/vm/guest/agent", import.meta.url).pathname;
const PACKAGES = [
  "systemd-sysv",
  "udev",
  "dbus",
  "kmod",
  "iproute2",
  "procps",
  "e2fsprogs",
  "fio",
  "fdisk",
  "dmsetup",
  "nbd-client",
  "busybox-static",
  "libstdc++6",
];
const SIZE = "2g";

/** Below the guest's root: everything in system/, and the agent. */
function overlay(folder: string): void {
  cpSync(SYSTEM, folder, { recursive: true });
  mkdirSync(join(folder, "usr/local/lib"), { recursive: true });
  cpSync(AGENT, join(folder, "usr/local/lib/vm-agent"));
}

function recipe(kernel: Kernel): string {
  const hash = createHash("sha256").update(JSON.stringify([PACKAGES, SIZE, HOOKS, kernel.version]));
  for (const entry of readdirSync(SYSTEM, { recursive: true, withFileTypes: true }))
    if (entry.isFile())
      hash.update(entry.name).update(readFileSync(join(entry.parentPath, entry.name)));
  return hash.update(readFileSync(AGENT)).digest("hex").slice(0, 16);
}

/** Run with the new root as $1, in the name space that mmdebstrap made. */
const HOOKS = [
  'rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* "$1"/usr/share/doc "$1"/usr/share/locale',
  'mkdir -p "$1"/usr/lib/modules && cp -r "$VM_OVERLAY"/. "$1"/ && cp -r "$VM_MODULES" "$1"/usr/lib/modules/',
  'chroot "$1" depmod "$VM_KERNEL"',
  'mkdir -p "$1"/opt "$1"/var/log/journal "$1"/var/lib/vm && ln -s /opt/node "$1"/usr/local/bin/node',
  'systemctl --root="$1" enable vm-agent.service systemd-networkd.service',
  'rm -f "$1"/etc/machine-id && touch "$1"/etc/machine-id && echo guest >"$1"/etc/hostname',
  // Hooks see /proc and /sys mounted in it.
  'mkdir "$VM_ROOT" && tar -C "$1" --one-file-system -cf - . | tar -C "$VM_ROOT" -xf -',
  'mkfs.ext4 -q -F -L root -d "$VM_ROOT" "$VM_IMAGE" "$VM_SIZE"',
];

function make(kernel: Kernel, into: string): void {
  if (process.getuid?.() !== 0) throw new Error("making a Debian (mmdebstrap) takes root");
  const work = mkdtempSync(`${into}.`);
  try {
    const apt = new Apt(join(cacheFolder(), "apt"));
    apt.update();
    const sources = apt.debian();
    const suite = sources[0]!.suite;
    const list = join(work, "sources.list");
    const lines = new Set(sources.map((one) => sourceLine(one.uri, one.suite)));
    writeFileSync(list, [...lines].join(""));
    overlay(join(work, "overlay"));
    const image = join(work, "image");
    const hooks = HOOKS.map((hook) => `--customize-hook=${hook}`);
    const what = [`--include=${PACKAGES.join(",")}`, "--variant=minbase", "--format=null"];
    execFileSync(programPath("mmdebstrap"), [...what, ...hooks, suite, "/dev/null", list], {
      stdio: ["ignore", "pipe", "pipe"],
      encoding: "utf8",
      maxBuffer: 1 << 26,
      env: {
        ...process.env,
        VM_OVERLAY: join(work, "overlay"),
        VM_MODULES: allModules(apt, kernel, work),
        VM_KERNEL: kernel.version,
        VM_ROOT: join(work, "root"),
        VM_IMAGE: image,
        VM_SIZE: SIZE,
      },
    });
    renameSync(image, into);
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string };
    throw new Error(
      `no Debian could be made: ${stderr?.split("\n").slice(-30).join("\n") ?? message}`,
    );
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Path of the image for a kernel; made when there is none. */
export function debianImage(kernel: Kernel): string {
  const folder = join(cacheFolder(), "debian");
  mkdirSync(folder, { recursive: true });
  const path = join(folder, `${kernel.version}-${recipe(kernel)}.img`);
  if (!existsSync(path)) {
    // Those of other recipes are of no more use.
    for (const name of readdirSync(folder))
      if (name.startsWith(`${kernel.version}-`)) rmSync(join(folder, name), { recursive: true });
    make(kernel, path);
  }
  return path;
}

/** A disk that begins as `image` is, and leaves it as it is. */
export function layer(image: string, path: string, format: "raw" | "qcow2" = "raw"): void {
  const args = ["create", "-q", "-f", "qcow2", "-b", image, "-F", format, path];
  execFileSync(programPath("qemu-img", "qemu-utils"), args, { stdio: "pipe" });
}
