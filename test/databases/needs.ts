import { accessSync, constants, existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Name } from "./options.js";

// What the machine must have, and who may be asked to run PostgreSQL.

const FOLDERS = (process.env.PATH ?? "").split(":").concat("/usr/sbin", "/sbin");
const POSTGRESQL = "/usr/lib/postgresql";

const SERVER_PROGRAMS = ["initdb", "postgres", "psql", "pgbench", "pg_amcheck", "pg_checksums"];
const PROGRAMS: Readonly<Record<string, string>> = {
  "qemu-storage-daemon": "qemu-system-common",
  nbdfuse: "libnbd-bin",
  "mkfs.ext4": "e2fsprogs",
  e2fsck: "e2fsprogs",
  losetup: "mount",
  mount: "mount",
  unshare: "util-linux",
};

const isThere = (program: string): boolean =>
  FOLDERS.some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });

/** The newest version whose server is installed. */
export function postgresqlFolder(): string | undefined {
  if (!existsSync(POSTGRESQL)) return undefined;
  return readdirSync(POSTGRESQL)
    .sort((a, b) => Number(b) - Number(a))
    .map((version) => join(POSTGRESQL, version, "bin"))
    .find((folder) => SERVER_PROGRAMS.every((program) => existsSync(join(folder, program))));
}

export interface Account {
  readonly uid: number;
  readonly gid: number;
}
/** PostgreSQL does not run as root. The account comes with its package. */
export function account(): Account | undefined {
  const line = readFileSync("/etc/passwd", "utf8").match(/^postgres:[^:]*:(\d+):(\d+):/m);
  return line === null ? undefined : { uid: Number(line[1]), gid: Number(line[2]) };
}

/** Sentences about what is missing; none: all is there. */
export function missing(names: readonly Name[]): string[] {
  const said: string[] = [];
  const packages = new Set<string>();
  for (const [program, from] of Object.entries(PROGRAMS)) if (!isThere(program)) packages.add(from);
  if (names.includes("sqlite") && !isThere("sqlite3")) packages.add("sqlite3");
  if (names.includes("postgresql") && (postgresqlFolder() === undefined || !account()))
    packages.add("postgresql");
  if (packages.size > 0)
    said.push(
      `packages are missing: apt-get install --no-install-recommends ${[...packages].join(" ")}`,
    );
  if (process.getuid?.() !== 0) said.push("file systems are mounted, so this has to run as root");
  for (const [path, what] of [
    ["/dev/fuse", "modprobe fuse"],
    ["/dev/loop-control", "modprobe loop"],
  ] as const)
    if (!existsSync(path))
      said.push(`there is no ${path}: ${what}; in a container it must be let in`);
  return said;
}
