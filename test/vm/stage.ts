import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Program, Rig } from "../acceptance/rig.js";
import { TestProxy } from "../kit/proxy.js";
import { BLOCK_SIZE, type Client, DEVICE, EXPORT } from "./clients.js";
import type { Kernel } from "./kernels.js";
import { HOST, Machine } from "./machine.js";
import { type Counts, complaints, total, Writer, type WriterPlan } from "./writers.js";

// What every scenario stands on: three downstairs and a server on this machine, a guest that attached the volume
// and has a file system on it, writers in the guest; and the judgement at the end.

const GEOMETRY = { blockSize: BLOCK_SIZE, extentSize: 256, extentCount: 128 };
const MOUNT = "/mnt";
const HEALTHY_TIMEOUT_MS = 300_000;
const SLOTS = 2048;

export interface StageOptions {
  /** MiB of the guest. */
  readonly memory?: number;
  /** Whether the network to the replicas can be cut. */
  readonly proxies?: boolean;
}

export interface Verdict {
  readonly counts: Counts;
  /** What e2fsck said, in the guest and here. */
  readonly fsck: string;
  /** How many blocks were compared; complaints, when there are any. */
  readonly compared: number;
  readonly wrong: readonly string[];
}

/** Runs a program without stopping the proxies of this process. */
function run(command: string, args: readonly string[]): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const options = { maxBuffer: 1 << 26, timeout: 300_000 };
    const child = execFile(command, args, options, (error, stdout, stderr) => {
      if (error !== null && child.exitCode === null) reject(error);
      else resolve({ status: child.exitCode ?? 128, text: `${stdout}${stderr}` });
    });
  });
}
async function must(command: string, ...args: string[]): Promise<string> {
  const { status, text } = await run(command, args);
  if (status !== 0) throw new Error(`${command} ${args.join(" ")} ended with ${status}:\n${text}`);
  return text;
}
/** It is nobody's child here, so who has ended may still be listed. */
function runs(pid: number): boolean {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}
const TRIVET = join(process.cwd(), "build", "bin", "trivet");

export class Stage {
  readonly rig = new Rig();
  readonly client: Client;
  readonly proxies: TestProxy[] = [];
  readonly writers: Writer[] = [];
  #guest: Machine | undefined;
  readonly #servers: Program[] = [];
  /** The process that took over from the one that was started here. */
  #successor: number | undefined;
  #fsck: string[] = [];

  private constructor(client: Client) {
    this.client = client;
  }
  get guest(): Machine {
    if (this.#guest === undefined) throw new Error("there is no guest");
    return this.#guest;
  }

  static async open(kernel: Kernel, client: Client, options: StageOptions = {}): Promise<Stage> {
    const { memory } = options;
    const programs = client.programs();
    const stage = new Stage(client);
    const booting = Machine.boot(kernel, {
      programs,
      ...(memory === undefined ? {} : { memory }),
    });
    // Its failure is looked at below, when the rest runs.
    booting.catch(() => {});
    try {
      await stage.#serve(options.proxies === true);
      stage.#guest = await booting;
      return stage;
    } catch (error) {
      await booting.then((guest) => guest.kill()).catch(() => {});
      await stage.close();
      throw error;
    }
  }
  async #serve(proxies: boolean): Promise<void> {
    await this.rig.create(GEOMETRY);
    if (proxies)
      for (const [i, port] of this.rig.ports.entries()) {
        this.proxies[i] = await TestProxy.open(port);
        this.rig.detours.set(i, this.proxies[i].port);
      }
    await this.rig.startAll();
    await this.startServer();
  }
  async close(): Promise<void> {
    await this.#guest?.kill();
    if (this.#successor !== undefined && runs(this.#successor))
      process.kill(this.#successor, "SIGKILL");
    for (const proxy of this.proxies) proxy.close();
    await this.rig.remove();
  }

  get #control(): string {
    return join(this.rig.dir, "control");
  }
  async startServer(): Promise<void> {
    const args = ["--export", EXPORT, "--control", this.#control, "--arena", "64M"];
    this.#servers.push(await this.rig.serve(args));
  }
  /** What the servers noted, for who looks for a reason. */
  get notes(): string {
    return this.#servers
      .map(({ output }) => output)
      .join("\n")
      .split("\n")
      .slice(-60)
      .join("\n");
  }
  /** Another process takes the server's place, by `trivet restart`. */
  async handOver(): Promise<void> {
    const text = await must(TRIVET, "restart", "--control", this.#control, "--json");
    this.#successor = (JSON.parse(text) as { pid: number }).pid;
  }
  /** In order; answers the exit status, which is not known of a successor. */
  async stopServer(): Promise<number | string | undefined> {
    const pid = this.#successor;
    this.#successor = undefined;
    if (pid !== undefined) {
      process.kill(pid, "SIGTERM");
      for (const end = Date.now() + 60_000; runs(pid); await sleep(100))
        if (Date.now() > end) throw new Error(`process ${pid} has not ended`);
    }
    return this.rig.stopServer();
  }
  /** Until all replicas are there and equal, as `trivet status` says. */
  async healthy(): Promise<void> {
    for (const end = Date.now() + HEALTHY_TIMEOUT_MS; ; await sleep(2000)) {
      const { status, text } = await run(TRIVET, ["status", "--control", this.#control]);
      if (status === 0) return;
      if (Date.now() > end)
        throw new Error(
          `not well within ${HEALTHY_TIMEOUT_MS} ms:\n${text}\n${this.rig.server?.output}`,
        );
    }
  }

  // ---- in the guest

  attach(): Promise<void> {
    return this.client.attach(this.guest, { host: HOST, port: this.rig.nbdPort });
  }
  detach(): Promise<void> {
    return this.client.detach(this.guest);
  }
  async makeFileSystem(): Promise<void> {
    await this.guest.must(`mkfs.ext4 -q -F ${DEVICE}`);
  }
  async mount(): Promise<void> {
    await this.guest.must(`mount -t ext4 ${DEVICE} ${MOUNT}`);
  }
  async unmount(): Promise<void> {
    await this.guest.must(`umount ${MOUNT}`);
  }
  /** e2fsck must find nothing to do. */
  async check(): Promise<void> {
    const { status, output } = await this.guest.run(`e2fsck -fn ${DEVICE}`);
    this.#fsck.push(status === 0 ? "clean" : `status ${status}`);
    if (status !== 0) throw new Error(`e2fsck ended with ${status}:\n${output}`);
  }

  /** Two writers on files of their own, one around the page cache and one through it. */
  async write(prefix = ""): Promise<void> {
    const plans: WriterPlan[] = [
      { name: `${prefix}direct`, path: "", slots: SLOTS, threads: 4, mode: "direct" },
      { name: `${prefix}buffered`, path: "", slots: SLOTS, threads: 2, mode: "buffered" },
    ];
    for (const plan of plans) {
      const writer = new Writer(this.guest, { ...plan, path: `${MOUNT}/${plan.name}` });
      await writer.start();
      this.writers.push(writer);
    }
    await this.progress();
  }
  /** Every writer that runs gets on. */
  async progress(timeoutMs = 90_000, count = 40): Promise<void> {
    const running = this.writers.filter(({ isStopped }) => !isStopped);
    await Promise.all(running.map((writer) => writer.progress(count, timeoutMs)));
  }
  /** Attached, formatted, mounted and written to. */
  async load(): Promise<void> {
    await this.attach();
    await this.makeFileSystem();
    await this.mount();
    await this.write();
  }
  async stopWriters(): Promise<void> {
    for (const writer of this.writers) if (!writer.isStopped) await writer.stop();
  }

  // ---- the end

  /** Everything is stopped in order; then what the regions hold is judged here, without the guest. */
  async judge(): Promise<Verdict> {
    await this.healthy();
    await this.stopWriters();
    await this.unmount();
    await this.check();
    await this.detach();
    await this.guest.powerOff();
    this.#guest = undefined;
    return this.#examine();
  }

  async #examine(): Promise<Verdict> {
    const image = join(this.rig.dir, "volume");
    await must("nbdcopy", `nbd://127.0.0.1:${this.rig.nbdPort}/${EXPORT}`, image);
    const wrong: string[] = [];
    const status = await this.stopServer();
    if (status !== 0) wrong.push(`the server ended with ${status}`);
    await this.rig.stopAll();
    const volume = readFileSync(image);
    for (const [i, path] of this.rig.exports().entries())
      if (!readFileSync(path).equals(volume)) wrong.push(`replica ${i} is not what clients read`);
    const fsck = await run("/sbin/e2fsck", ["-fn", image]);
    this.#fsck.push(fsck.status === 0 ? "clean" : `status ${fsck.status}`);
    if (fsck.status !== 0) wrong.push(`e2fsck here: ${fsck.text}`);
    let compared = 0;
    for (const { plan, ledger, acknowledged } of this.writers) {
      const file = join(this.rig.dir, plan.name);
      const dump = `dump ${plan.path.slice(MOUNT.length)} ${file}`;
      await must("/sbin/debugfs", "-R", dump, image);
      wrong.push(...complaints(readFileSync(file), ledger).map((text) => `${plan.name}: ${text}`));
      compared += acknowledged;
    }
    if (compared === 0) wrong.push("nothing was acknowledged");
    const counts = total(this.writers);
    return { counts, fsck: [...new Set(this.#fsck)].join(", "), compared, wrong };
  }
}
