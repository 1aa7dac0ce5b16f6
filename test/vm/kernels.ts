import { execFileSync } from "node:child_process";
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { inOrder } from "./modules.js";

// Kernels from Debian's packages: downloaded by apt with lists and caches of our own (the machine's
// configuration is read, never changed; nothing is installed), unpacked, and kept in a cache folder.
//
// cache/apt/            lists, downloaded packages
// cache/kernels/NAME/   vmlinuz, modules/NN-name.ko; complete once it is there (made aside and renamed)

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
/** Suites of Debian that are asked when the machine's own have no kernel of a line. */
const OTHER_SUITES = ["bookworm", "bookworm-backports", "trixie", "trixie-backports"];

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

/** $TRIVET_VM_CACHE, else ~/.cache/trivet-vm, else below build. */
export function cacheFolder(): string {
  const named = process.env.TRIVET_VM_CACHE;
  if (named) return named;
  try {
    accessSync(homedir(), constants.W_OK);
    return join(homedir(), ".cache", "trivet-vm");
  } catch {
    return join(process.cwd(), "build", "vm");
  }
}

class Apt {
  readonly #folder: string;
  readonly #options: string[] = [];

  constructor(folder: string) {
    this.#folder = folder;
    for (const name of ["lists/partial", "archives/partial"])
      mkdirSync(join(folder, name), { recursive: true });
    const settings = {
      "Dir::State::lists": join(folder, "lists"),
      "Dir::Cache": folder,
      "Dir::Cache::archives": "archives",
      "Acquire::Languages": "none",
      "Acquire::Retries": "2",
      // Without it apt, as root, downloads as a user who may not write here.
      ...(process.getuid?.() === 0 ? { "APT::Sandbox::User": "root" } : {}),
    };
    for (const [key, value] of Object.entries(settings))
      this.#options.push("-o", `${key}=${value}`);
  }
  #run(program: string, args: readonly string[]): string {
    try {
      return execFileSync(program, [...this.#options, ...args], {
        cwd: join(this.#folder, "archives"),
        encoding: "utf8",
        stdio: ["ignore", "pipe", "pipe"],
        maxBuffer: 1 << 26,
        env: { ...process.env, LC_ALL: "C" },
      });
    } catch (error) {
      const { stderr, code } = error as { stderr?: string; code?: string };
      throw new Error(
        `${program} ${args[0]} failed: ${code === "ENOENT" ? "no such program; kernels come from Debian's packages" : stderr}`,
      );
    }
  }
  update(): void {
    this.#run("apt-get", ["update", "-q"]);
  }
  names(): string[] {
    return this.#run("apt-cache", ["pkgnames", "linux-image-"]).split("\n");
  }
  /** The archive that the machine takes Debian from, with other suites of it. */
  useOtherSuites(): void {
    const format = ["indextargets", "--format", "$(REPO_URI) $(LABEL)", "Created-By: Packages"];
    const lines = this.#run("apt-get", format).split("\n");
    const archive = lines.find((line) => line.endsWith(" Debian"))?.split(" ")[0];
    if (archive === undefined) throw new Error("the machine's apt knows no Debian archive");
    const list = join(this.#folder, "sources.list");
    const keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
    const signed = existsSync(keys) ? `[signed-by=${keys}] ` : "";
    writeFileSync(
      list,
      OTHER_SUITES.map((suite) => `deb ${signed}${archive} ${suite} main\n`).join(""),
    );
    this.#options.push("-o", `Dir::Etc::SourceList=${list}`, "-o", "Dir::Etc::SourceParts=-");
    this.update();
  }
  /** Path of the package file. */
  download(name: string): string {
    const folder = join(this.#folder, "archives");
    const find = (): string | undefined =>
      readdirSync(folder).find((file) => file.startsWith(`${name}_`) && file.endsWith(".deb"));
    if (find() === undefined) this.#run("apt-get", ["download", "-q", name]);
    const file = find();
    if (file === undefined) throw new Error(`apt-get download left no file of ${name}`);
    return join(folder, file);
  }
}

function unpack(version: string, deb: string, into: string): void {
  const work = mkdtempSync(`${into}.`);
  try {
    const raw = join(work, "raw");
    mkdirSync(join(work, "made", "modules"), { recursive: true });
    execFileSync("dpkg-deb", ["--extract", deb, raw]);
    const image = readFileSync(join(raw, "boot", `vmlinuz-${version}`));
    writeFileSync(join(work, "made", "vmlinuz"), image);
    // Debian 13 and later have /lib below /usr.
    const folder = ["lib", "usr/lib"]
      .map((lib) => join(raw, lib, "modules", version))
      .find((path) => existsSync(path));
    if (folder === undefined) throw new Error(`the package of ${version} has no modules`);
    inOrder(folder, MODULES).forEach(({ name, data }, i) => {
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
