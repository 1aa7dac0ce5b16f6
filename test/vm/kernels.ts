import { execFileSync } from "node:child_process";
import {
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
import { Apt, cacheFolder } from "./apt.js";
import { inOrder } from "./modules.js";

// Kernels from Debian's packages, unpacked and kept in the cache: kernels/NAME/ holds vmlinuz, and modules/NN-name.ko in the order
// of loading. A folder is complete once it is there, as it is made aside and renamed.

/** Lines of kernels: the oldest that Debian 12 and Proxmox 8's age have, and the newest to be had. */
export const LINES = {
  "6.1": (version: readonly number[]) => version[0] === 6 && version[1] === 1,
  new: (version: readonly number[]) => version[0]! > 6 || (version[0] === 6 && version[1]! >= 12),
} as const;
export type Line = keyof typeof LINES;
export const isLine = (text: string): text is Line => Object.hasOwn(LINES, text);

export interface Kernel {
  readonly line: Line;
  /** As uname -r says. */
  readonly version: string;
  readonly image: string;
  /** Paths of modules, in the order to load them. */
  readonly modules: readonly string[];
}

/** What a guest needs beyond what is built in; ext4's own needs come along. */
const MODULES = ["virtio_pci", "virtio_net", "virtio_blk", "ext4", "nbd"];
const PACKAGE = /^linux-image-(\d+\.\d+\S*-cloud-amd64)$/;
const numbersOf = (version: string): number[] => (version.match(/\d+/g) ?? []).map(Number);
function newer(a: string, b: string): number {
  const [x, y] = [numbersOf(a), numbersOf(b)];
  for (let i = 0; i < Math.max(x.length, y.length); i++) {
    const difference = (y[i] ?? -1) - (x[i] ?? -1);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** The newest version of a line among package names; release candidates do not count. */
export function newestOf(line: Line, packages: readonly string[]): string | undefined {
  return packages
    .map((name) => PACKAGE.exec(name)?.[1])
    .filter((version) => version !== undefined)
    .filter((version) => !version.includes("rc") && LINES[line](numbersOf(version)))
    .sort(newer)[0];
}

/** Debian 13 and later have /lib below /usr. */
function modulesIn(raw: string, version: string): string {
  const folder = ["lib", "usr/lib"]
    .map((lib) => join(raw, lib, "modules", version))
    .find((path) => existsSync(path));
  if (folder === undefined) throw new Error(`the package of ${version} has no modules`);
  return folder;
}

/** Folder with all modules of a kernel, unpacked below `work`. */
export function allModules(apt: Apt, { version }: Kernel, work: string): string {
  const raw = join(work, "kernel");
  execFileSync("dpkg-deb", ["--extract", apt.download(`linux-image-${version}`), raw]);
  return modulesIn(raw, version);
}

function unpack(version: string, deb: string, into: string): void {
  const work = mkdtempSync(`${into}.`);
  try {
    const raw = join(work, "raw");
    mkdirSync(join(work, "made", "modules"), { recursive: true });
    execFileSync("dpkg-deb", ["--extract", deb, raw]);
    const image = readFileSync(join(raw, "boot", `vmlinuz-${version}`));
    writeFileSync(join(work, "made", "vmlinuz"), image);
    inOrder(modulesIn(raw, version), MODULES).forEach(({ name, data }, i) => {
      const number = `${i}`.padStart(2, "0");
      writeFileSync(join(work, "made", "modules", `${number}-${name}.ko`), data);
    });
    rmSync(into, { recursive: true, force: true });
    renameSync(join(work, "made"), into);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** What a cached kernel was made for; another list of modules makes another name. */
const nameOf = (version: string): string => `${version}_${MODULES.join("+")}`;

function cached(folder: string, line: Line): Kernel | undefined {
  const suffix = nameOf("");
  const versions = readdirSync(folder)
    .filter((name) => name.endsWith(suffix))
    .map((name) => name.slice(0, -suffix.length))
    .filter((version) => LINES[line](numbersOf(version)))
    .sort(newer);
  const version = versions[0];
  if (version === undefined) return undefined;
  const at = join(folder, nameOf(version));
  const modules = readdirSync(join(at, "modules")).sort();
  return {
    line,
    version,
    image: join(at, "vmlinuz"),
    modules: modules.map((name) => join(at, "modules", name)),
  };
}

/** One kernel of a line, from the cache unless `refresh` asks whether there is a newer one. */
export function kernelOf(line: Line, refresh = false): Kernel {
  const folder = join(cacheFolder(), "kernels");
  mkdirSync(folder, { recursive: true });
  const known = cached(folder, line);
  if (known !== undefined && !refresh) return known;
  const apt = new Apt(join(cacheFolder(), "apt"));
  apt.update();
  let version = newestOf(line, apt.names());
  if (version === undefined) {
    apt.useOtherSuites();
    version = newestOf(line, apt.names());
  }
  if (version === undefined) throw new Error(`no package has a kernel of the line ${line}`);
  const into = join(folder, nameOf(version));
  if (!existsSync(into)) unpack(version, apt.download(`linux-image-${version}`), into);
  const kernel = cached(folder, line);
  if (kernel === undefined) throw new Error(`${into} is not complete`);
  return kernel;
}
