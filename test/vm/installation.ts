import { execFileSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { buildWriter, programPath } from "./image.js";

// What has been built here, with the Node that runs this, as a disk for a guest.

const ROOT = process.cwd();

interface Manifest {
  readonly dependencies?: Readonly<Record<string, string>>;
}
const manifest = (folder: string): Manifest =>
  JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as Manifest;

/** Needed for building only. */
const NOT_NEEDED = ["cmake-js", "node-addon-api"];

/** Folders of the packages that run, found as Node finds them: next to who asks, then further up. */
function packages(): Set<string> {
  const found = new Set<string>();
  const take = (from: string, name: string): void => {
    for (let at = from; ; at = dirname(at)) {
      const folder = join(at, "node_modules", name);
      if (existsSync(folder)) {
        if (found.has(folder)) return;
        found.add(folder);
        for (const other of Object.keys(manifest(folder).dependencies ?? {})) take(folder, other);
        return;
      }
      if (at === dirname(at) || at === dirname(ROOT)) throw new Error(`no package ${name}`);
    }
  };
  for (const name of Object.keys(manifest(ROOT).dependencies ?? {}))
    if (!NOT_NEEDED.includes(name)) take(ROOT, name);
  return found;
}

/** An ext4 image of a folder. Needs no privileges. */
function makeDisk(image: string, folder: string, bytes: number): void {
  const size = `${Math.ceil(bytes / 1024)}k`;
  const options = ["-q", "-F", "-E", "root_owner=0:0", "-d", folder, image, size];
  execFileSync(programPath("mkfs.ext4", "e2fsprogs"), options, { stdio: "pipe" });
}

/** Where the disk is mounted in the guest, as the units have it when nothing else is said. */
export const PROGRAM = "/opt/trivet";
export const TRIVET = `${PROGRAM}/build/bin/trivet`;
export const WRITER = "/opt/writer";

export function makeInstallation(image: string): void {
  const folder = mkdtempSync(join(tmpdir(), "trivet-vm-"));
  try {
    // Services are other users.
    chmodSync(folder, 0o755);
    const copy = (from: string, to: string): void => {
      mkdirSync(dirname(join(folder, to)), { recursive: true });
      cpSync(realpathSync(from), join(folder, to), { recursive: true, dereference: true });
    };
    copy(process.execPath, "node");
    const parts = ["package.json", "build/bin", "build/native/Release", "dist/src", "systemd"];
    for (const path of parts) copy(join(ROOT, path), join("trivet", path));
    writeFileSync(join(folder, "writer"), buildWriter(), { mode: 0o755 });
    for (const path of packages()) copy(path, join("trivet", path.slice(ROOT.length + 1)));
    const bytes = execFileSync("du", ["-sb", folder], { encoding: "utf8" }).split("\t")[0];
    makeDisk(image, folder, Number(bytes) * 1.2 + (32 << 20));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
