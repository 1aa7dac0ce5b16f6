import { execFile } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { Program } from "../acceptance/rig.js";
import type { Outcome } from "../kit/programs.js";
import type { Network } from "./network.js";

// A box or a host: a network namespace, and folders of its own in the places where trivet has its files. So commands can be given as they are
// documented, and two machines share nothing but the network and the kernel.

const BIN = new URL("../../../build/bin/", import.meta.url).pathname;

/** Folders of the machine, and where they really are: on disk, or in memory as /run is. */
const FOLDERS = [
  { path: "/srv", on: "disk", name: "srv" },
  { path: "/var/lib", on: "disk", name: "lib" },
  { path: "/etc", on: "disk", name: "etc" },
  { path: "/run", on: "memory", name: "run" },
  { path: "/dev/shm", on: "memory", name: "shm" },
] as const;

/**
 * `ip netns exec` has given this shell a mount namespace, in which nothing is seen from outside. /etc is this machine's with what is ours
 * before it, the rest is empty at first.
 */
const ENTER = `set -e
disk=$1 memory=$2
shift 2
mount --bind "$disk/srv" /srv
mount --bind "$disk/lib" /var/lib
mount -t overlay overlay -o "lowerdir=$disk/etc:/etc" /etc
mount --bind "$memory/run" /run
mount --bind "$memory/shm" /dev/shm
exec "$@"`;

/** Nothing of tap, systemd or the user that starts this may reach the programs. */
function environment(more: Readonly<Record<string, string>>): NodeJS.ProcessEnv {
  const { HOME = "/root", LANG = "C.UTF-8", PATH = "/usr/sbin:/usr/bin:/sbin:/bin" } = process.env;
  return { HOME, LANG, PATH: `${BIN}:${PATH}`, ...more };
}

export interface Folders {
  readonly disk: string;
  readonly memory: string;
}

export class Machine {
  readonly name: string;
  readonly address: string;
  readonly #network: Network;
  readonly #folders: Folders;
  readonly #programs = new Set<Program>();

  /** `folders` are those of all machines. */
  constructor(network: Network, name: string, address: string, folders: Folders) {
    this.name = name;
    this.address = address;
    this.#network = network;
    this.#folders = { disk: join(folders.disk, name), memory: join(folders.memory, name) };
    for (const folder of FOLDERS)
      mkdirSync(join(this.#folders[folder.on], folder.name), { recursive: true });
    network.add(name, address);
  }

  /** Where a path of the machine is, seen from outside. */
  path(inside: string): string {
    for (const { path, on, name } of FOLDERS)
      if (inside.startsWith(`${path}/`))
        return join(this.#folders[on], name, inside.slice(path.length + 1));
    throw new Error(`${inside} is not in a folder of ${this.name}`);
  }
  makeFolder(inside: string): void {
    mkdirSync(this.path(inside), { recursive: true });
  }

  /** A command to its end, words separated by blanks. */
  run(command: string, timeoutMs = 120_000): Promise<Outcome> {
    return new Promise((resolve, reject) => {
      const options = { env: environment({}), maxBuffer: 1 << 26, timeout: timeoutMs };
      const child = execFile(
        "ip",
        this.#enter(command.split(" ")),
        options,
        (error, stdout, stderr) => {
          if (error !== null && child.exitCode === null)
            reject(new Error(`on ${this.name}: ${command}: ${child.signalCode ?? error.message}`));
          else resolve({ status: child.exitCode ?? 128, stdout, stderr });
        },
      );
    });
  }
  /** Rejects when it ends with another status than 0. */
  async must(command: string, timeoutMs?: number): Promise<string> {
    const { status, stdout, stderr } = await this.run(command, timeoutMs);
    if (status !== 0)
      throw new Error(`on ${this.name}: ${command} ended with ${status}:\n${stdout}${stderr}`);
    return stdout;
  }
  /** In the background. */
  start(words: readonly string[], env: Readonly<Record<string, string>> = {}): Program {
    const program = new Program("ip", this.#enter(words), environment(env));
    this.#programs.add(program);
    void program.exited.then(() => this.#programs.delete(program));
    return program;
  }
  #enter(words: readonly string[]): string[] {
    const { disk, memory } = this.#folders;
    const namespace = this.#network.namespaceOf(this.name);
    return ["netns", "exec", namespace, "/bin/sh", "-c", ENTER, "sh", disk, memory, ...words];
  }

  /** All its processes die at once. */
  async kill(): Promise<void> {
    const programs = [...this.#programs];
    this.#network.kill(this.name);
    await Promise.all(programs.map(({ exited }) => exited));
  }
  /** It dies and is taken away. */
  async remove(): Promise<void> {
    await this.kill();
    this.#network.remove(this.name);
  }
}
