import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { until } from "../kit/until.js";
import { command, Daemon } from "./programs.js";

// A volume as a disk with ext4 on it, on a machine whose kernel need not have nbd:
//
//   ext4 (kernel) ─ loop device ─ file of nbdfuse ─ NBD ─ qemu-storage-daemon ─ NBD ─ the volume's server
//
// nbdfuse gives up when its connection ends. The storage daemon in between connects again, and sends again what was under way, as a kernel
// device does. A sync of the loop device is one of the file, which nbdfuse and the daemon pass on as FLUSH.

/** For how long the server may be away before the file system sees an error. */
const PATIENCE_S = 600;
const START_MS = 30_000;

export class Disk {
  readonly #folder: string;
  #daemon: Daemon | undefined;
  #fuse: Daemon | undefined;
  #loop: string | undefined;
  #isMounted = false;

  /** `folder` is ours. */
  constructor(folder: string) {
    this.#folder = folder;
    mkdirSync(folder, { recursive: true });
    for (const path of [this.#fuseFolder, this.root]) mkdirSync(path, { recursive: true });
    // Databases come by here as a user of their own.
    chmodSync(folder, 0o755);
  }
  /** Where the file system is mounted. */
  get root(): string {
    return join(this.#folder, "root");
  }
  get #fuseFolder(): string {
    return join(this.#folder, "fuse");
  }

  /** `address`: of the volume, in the storage daemon's words. */
  async attach(address: string): Promise<void> {
    const ready = join(this.#folder, "daemon.pid");
    const socket = join(this.#folder, "daemon.sock");
    for (const path of [ready, socket]) rmSync(path, { force: true });
    const patience = `reconnect-delay=${PATIENCE_S},open-timeout=${START_MS / 1000}`;
    this.#daemon = new Daemon("qemu-storage-daemon", [
      "--blockdev",
      `driver=nbd,node-name=volume,${address},${patience}`,
      "--nbd-server",
      `addr.type=unix,addr.path=${socket}`,
      "--export",
      "type=nbd,id=volume,node-name=volume,name=volume,writable=on",
      "--pidfile",
      ready,
    ]);
    await this.#starts(this.#daemon, ready);
    const file = join(this.#fuseFolder, "nbd");
    this.#fuse = new Daemon("nbdfuse", [
      this.#fuseFolder,
      `nbd+unix:///volume?socket=${encodeURIComponent(socket)}`,
    ]);
    await this.#starts(this.#fuse, file);
    this.#loop = (await command("losetup", ["--find", "--show", file])).trim();
  }
  async #starts(daemon: Daemon, path: string): Promise<void> {
    const isThere = (): boolean => {
      if (daemon.hasEnded) throw new Error(`${daemon.name} has ended: ${daemon.output}`);
      return existsSync(path);
    };
    await until(`the start of ${daemon.name}`, isThere, START_MS);
  }
  async format(): Promise<void> {
    await command("mkfs.ext4", ["-q", "-E", "nodiscard", this.#loop!]);
  }
  async mount(): Promise<void> {
    await command("mount", ["-o", "errors=remount-ro", this.#loop!, this.root]);
    this.#isMounted = true;
  }
  async unmount(): Promise<void> {
    await command("umount", [this.root]);
    this.#isMounted = false;
  }
  /** Unmounted. Rejects when there is anything to mend. */
  async check(): Promise<void> {
    await command("e2fsck", ["-f", "-n", this.#loop!]);
  }
  /** Rejects when the file system has ever met an error, or one of the programs below it has ended. */
  assertSound(): void {
    const name = this.#loop!.split("/").at(-1);
    const errors = readFileSync(`/sys/fs/ext4/${name}/errors_count`, "utf8").trim();
    if (errors !== "0") throw new Error(`the file system has met ${errors} errors`);
    for (const daemon of [this.#daemon, this.#fuse])
      if (daemon!.hasEnded) throw new Error(`${daemon!.name} has ended: ${daemon!.output}`);
  }

  /** In order, unmounted before. */
  async detach(): Promise<void> {
    await command("losetup", ["--detach", this.#loop!]);
    this.#loop = undefined;
    await this.#unmountFuse();
    await this.#fuse!.ended;
    await this.#daemon!.kill("SIGTERM");
  }

  /** All that lies between the kernel and the server is gone from the moment of the call on, and with it what nobody synced. */
  async cut(): Promise<void> {
    await Promise.all([this.#daemon?.kill(), this.#fuse?.kill()]);
  }
  /** After `cut`, and after the end of whoever used the file system: what the kernel remembers of it is forgotten. */
  async forget(): Promise<void> {
    if (this.#isMounted) await this.unmount();
    if (this.#loop !== undefined) await command("losetup", ["--detach", this.#loop]);
    this.#loop = undefined;
    await this.#unmountFuse();
  }
  /** A loop device lets its file go a moment after it was detached. */
  async #unmountFuse(): Promise<void> {
    const isMounted = (): boolean =>
      readFileSync("/proc/self/mounts", "utf8").includes(` ${this.#fuseFolder} `);
    const isGone = async (): Promise<boolean> => {
      if (isMounted()) await command("umount", [this.#fuseFolder], { statuses: [0, 1, 32] });
      return !isMounted();
    };
    await until("the end of nbdfuse's mount", isGone, START_MS);
  }
  /** For the end, whatever has happened: what cannot be taken away now goes when its last user does. */
  async abandon(): Promise<void> {
    await this.cut();
    const lazily = (path: string): Promise<unknown> =>
      command("umount", ["-l", path], { statuses: [0, 1, 32] });
    if (this.#isMounted) await lazily(this.root);
    this.#isMounted = false;
    if (this.#loop !== undefined)
      await command("losetup", ["--detach", this.#loop], { statuses: [0, 1] });
    this.#loop = undefined;
    await lazily(this.#fuseFolder);
  }
}
