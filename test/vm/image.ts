import { execFileSync } from "node:child_process";
import {
  existsSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { archive, type Entry } from "./cpio.js";
import type { Kernel } from "./kernels.js";

// The initramfs of a guest: a static busybox, this machine's own programs with their libraries, the writer,
// and the modules of a kernel. It takes a second to make, so it is made anew each time.

const GUEST = new URL("../../../test/vm/guest/", import.meta.url).pathname;
const PLACES = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/** Programs of the guest, by the Debian package that brings them. */
const PROGRAMS = {
  "nbd-client": "nbd-client",
  "mkfs.ext4": "e2fsprogs",
  e2fsck: "e2fsprogs",
} as const;

export function programPath(name: string, debian: string = name): string {
  const found = PLACES.map((place) => join(place, name)).find((path) => existsSync(path));
  if (found === undefined)
    throw new Error(`${name} is missing on this machine (package ${debian})`);
  return found;
}

/** Paths of the libraries and of the loader that a program needs; none when it is static. */
export function librariesOf(program: string): string[] {
  let text: string;
  try {
    text = execFileSync("ldd", [program], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  } catch (error) {
    const { stderr, stdout } = error as { stderr?: string; stdout?: string };
    if (/not a dynamic executable/.test(`${stderr}${stdout}`)) return [];
    throw error;
  }
  if (text.includes("not found")) throw new Error(`${program} lacks libraries:\n${text}`);
  return [...text.matchAll(/(\/\S+) \(0x/g)].map(([, path]) => path!);
}

/** Collects files by their place in the guest; folders come by themselves. */
class Tree {
  readonly #entries = new Map<string, Entry>();

  folder(path: string): void {
    if (path === "." || this.#entries.has(path)) return;
    this.folder(dirname(path));
    this.#entries.set(path, { kind: "folder", path });
  }
  file(path: string, data: Buffer, mode = 0o755): void {
    this.folder(dirname(path));
    this.#entries.set(path, { kind: "file", path, mode, data });
  }
  device(path: string, major: number, minor: number): void {
    this.folder(dirname(path));
    this.#entries.set(path, { kind: "device", path, major, minor });
  }
  /** A program of this machine and its libraries, where the loader looks for them. */
  program(path: string, place = `usr/sbin/${basename(path)}`): void {
    this.file(place, readFileSync(realpathSync(path)));
    for (const library of librariesOf(path))
      if (!this.#entries.has(library.slice(1)))
        this.file(library.slice(1), readFileSync(realpathSync(library)));
  }
  bytes(): Buffer {
    return archive([...this.#entries.values()]);
  }
}

/** The writer, compiled. */
export function buildWriter(): Buffer {
  const folder = mkdtempSync(join(tmpdir(), "trivet-vm-"));
  try {
    const out = join(folder, "writer");
    const flags = ["-O2", "-static", "-pthread", "-Wall", "-Wextra", "-Werror"];
    execFileSync("cc", [...flags, "-o", out, join(GUEST, "writer.c")], { stdio: "pipe" });
    return readFileSync(out);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export interface ImageParts {
  /** Further programs of this machine. */
  readonly programs?: readonly string[];
  /** Texts by path, put into a whole system before it is started. */
  readonly files?: Readonly<Record<string, string>>;
}

/** Writes the initramfs to `path`. */
export function makeImage(path: string, kernel: Kernel, parts: ImageParts = {}): void {
  const tree = new Tree();
  tree.device("dev/console", 5, 1);
  tree.file("init", readFileSync(join(GUEST, "init")));
  tree.file("agent", readFileSync(join(GUEST, "agent")), 0o644);
  const busybox = programPath("busybox", "busybox-static");
  if (librariesOf(busybox).length > 0)
    throw new Error("busybox is not static (package busybox-static)");
  tree.file("bin/busybox", readFileSync(busybox));
  for (const [name, debian] of Object.entries(PROGRAMS)) tree.program(programPath(name, debian));
  for (const program of parts.programs ?? []) tree.program(program);
  for (const [name, text] of Object.entries(parts.files ?? {}))
    tree.file(`files${name}`, Buffer.from(text), 0o644);
  tree.file("usr/sbin/writer", buildWriter());
  for (const module of kernel.modules)
    tree.file(`modules/${basename(module)}`, readFileSync(module), 0o644);
  if (existsSync("/etc/mke2fs.conf"))
    tree.file("etc/mke2fs.conf", readFileSync("/etc/mke2fs.conf"), 0o644);
  // e2fsprogs asks for it, and what is not there is said on every call.
  tree.file("etc/mtab", Buffer.alloc(0), 0o644);
  writeFileSync(path, tree.bytes());
}
