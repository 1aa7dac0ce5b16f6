import { execFileSync } from "node:child_process";
import { accessSync, constants, existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

// Debian's packages, by apt with lists and caches of our own: the machine's configuration is read, never changed, and nothing
// is installed.

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

/** Suites of Debian that are asked when the machine's own have no kernel of a line. */
const OTHER_SUITES = ["bookworm", "bookworm-backports", "trixie", "trixie-backports"];

export function sourceLine(uri: string, suite: string): string {
  const keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
  return `deb ${existsSync(keys) ? `[signed-by=${keys}] ` : ""}${uri} ${suite} main\n`;
}

export class Apt {
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
  /** Where the machine takes Debian from: address and suite. Needs lists. */
  debian(): readonly { readonly uri: string; readonly suite: string }[] {
    const format = "$(REPO_URI) $(RELEASE) $(LABEL)";
    const text = this.#run("apt-get", ["indextargets", "--format", format, "Created-By: Packages"]);
    const found = text
      .split("\n")
      .map((line) => line.split(" "))
      .filter(([, , label = ""]) => /^Debian(-Security)?$/.test(label))
      .map(([uri = "", suite = ""]) => ({ uri, suite }));
    if (found.length === 0) throw new Error("the machine's apt knows no Debian archive");
    return found;
  }
  /** The archive that the machine takes Debian from, with other suites of it. */
  useOtherSuites(): void {
    const { uri } = this.debian()[0]!;
    const list = join(this.#folder, "sources.list");
    writeFileSync(list, OTHER_SUITES.map((suite) => sourceLine(uri, suite)).join(""));
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
