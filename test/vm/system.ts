import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Rig } from "../acceptance/rig.js";
import { freePort } from "../kit/programs.js";
import { layer } from "./debian.js";
import { programPath } from "./image.js";
import { WRITER } from "./installation.js";
import { stopComplaints, trouble } from "./journal.js";
import type { Kernel } from "./kernels.js";
import { Machine } from "./machine.js";
import type { Verdict } from "./stage.js";
import {
  BEFORE_IS_THERE,
  configuration,
  explained,
  MOUNT,
  START_TIMEOUT_MS,
  STOP_TIMEOUT_MS,
  template,
  UNITS,
} from "./template.js";
import { type Counts, total, Writer } from "./writers.js";

// A whole Debian with systemd whose volume is served, attached and mounted by units; the replicas are on this machine.
// What it does while it starts, runs and stops is judged on the way; what is on the replicas, whenever it is off.

const RESULTS = "/var/lib/vm";
const SLOTS = 512;
const SETTLED_MS = 5000;
const PROGRESS = { count: 40, timeoutMs: 300_000 };

export interface SystemOptions {
  /** MiB */
  readonly memory?: number;
  /** Further disks, seen as /dev/vdc and so on: bytes. */
  readonly more?: readonly number[];
  /** Its device is lost by design at times: what systemd and the kernel say about that is no complaint. */
  readonly hasErrors?: boolean;
}
export interface BootOptions {
  readonly isUnplugged?: boolean;
  /** They can be started later, by `rig`. */
  readonly isWithoutReplicas?: boolean;
}
export interface Examination {
  /** A file with what is on the volume. */
  readonly image: string;
}

export class System {
  readonly rig = new Rig();
  readonly #kernel: Kernel;
  readonly #folder = mkdtempSync(join(tmpdir(), "trivet-vm-"));
  readonly #disks: string[] = [];
  readonly #writers: Writer[] = [];
  readonly #counts: Counts[] = [];
  readonly #fsck = new Set<string>();
  readonly #wrong: string[] = [];
  readonly #memory: number;
  readonly #hasErrors: boolean;
  #guest: Machine | undefined;

  private constructor(kernel: Kernel, { memory = 1024, hasErrors = false }: SystemOptions) {
    this.#kernel = kernel;
    this.#memory = memory;
    this.#hasErrors = hasErrors;
  }
  get guest(): Machine {
    if (this.#guest === undefined) throw new Error("the system is off");
    return this.#guest;
  }

  /** It is off. */
  static async open(kernel: Kernel, options: SystemOptions = {}): Promise<System> {
    const { disks, regions } = await template(kernel);
    const system = new System(kernel, options);
    try {
      for (const [i, disk] of disks.entries()) {
        const path = join(system.#folder, `disk${i}.qcow2`);
        layer(disk, path, disk.endsWith(".qcow2") ? "qcow2" : "raw");
        system.#disks.push(path);
      }
      for (const [i, region] of regions.entries()) {
        system.rig.ports.push(await freePort());
        execFileSync("cp", ["-a", "--sparse=always", region, system.rig.region(i)]);
      }
      for (const [i, bytes] of (options.more ?? []).entries()) {
        const path = join(system.#folder, `more${i}`);
        writeFileSync(path, "");
        truncateSync(path, bytes);
        system.#disks.push(path);
      }
      return system;
    } catch (error) {
      await system.close();
      throw error;
    }
  }
  async close(): Promise<void> {
    await this.#guest?.kill();
    await this.rig.remove();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  complain(...texts: readonly string[]): void {
    this.#wrong.push(...texts);
  }
  get wrong(): readonly string[] {
    return [...new Set(this.#wrong)];
  }
  count(counts: Counts): void {
    this.#counts.push(counts);
  }

  // ---- start

  async boot({ isUnplugged = false, isWithoutReplicas = false }: BootOptions = {}): Promise<void> {
    if (!isWithoutReplicas) await this.rig.startAll();
    this.#guest = await Machine.boot(this.#kernel, {
      memory: this.#memory,
      disks: this.#disks,
      isSystem: true,
      isUnplugged,
      files: configuration(this.rig.ports),
    });
  }
  /** Until units have mounted the volume; what was on it before is there. */
  async mounted(): Promise<void> {
    const { guest } = this;
    await explained(guest, guest.until(`mountpoint -q ${MOUNT}`, START_TIMEOUT_MS, 1000));
    await guest.until(`systemctl -q is-active ${UNITS.mount}`);
    await guest.must(BEFORE_IS_THERE);
    // Each was ready before the next one was begun.
    const begins = [UNITS.server, UNITS.attachment, UNITS.mount];
    const times = await guest.must(
      `systemctl show -P ActiveEnterTimestampMonotonic ${begins.join(" ")} | grep .`,
    );
    const at = times.split("\n").map(Number);
    if (at.length !== 3 || at.some((time, i) => !(time > (at[i - 1] ?? 0))))
      this.complain(`${begins.join(", ")} were ready at ${at.join(", ")} µs`);
    await this.#listen("");
  }

  // ---- load

  /** Two writers, as services. */
  async load(name: string): Promise<void> {
    for (const mode of ["direct", "buffered"] as const) {
      const path = `${MOUNT}/${name}-${mode}`;
      const plan = { name: `${name}-${mode}`, path, slots: SLOTS, threads: 2, mode };
      const writer = new Writer(this.guest, { ...plan, results: RESULTS });
      await writer.startService(WRITER, MOUNT);
      this.#writers.push(writer);
    }
    await this.progress();
  }
  async progress(): Promise<void> {
    const running = this.#writers.filter(({ isStopped }) => !isStopped);
    const { count, timeoutMs } = PROGRESS;
    await explained(
      this.guest,
      Promise.all(running.map((writer) => writer.progress(count, timeoutMs))),
    );
  }
  /** Until nobody waits any more for what happened last. */
  async settled(): Promise<void> {
    const { timeoutMs } = PROGRESS;
    for (const writer of this.#writers)
      if (!writer.isStopped) await explained(this.guest, writer.settled(SETTLED_MS, timeoutMs));
  }
  async stopWriters(): Promise<void> {
    const running = this.#writers.filter(({ isStopped }) => !isStopped);
    if (running.length === 0) return;
    const names = running.map(({ plan }) => plan.name).join(" ");
    await this.guest.must(`systemctl stop ${names}`, STOP_TIMEOUT_MS);
    await this.judgeWriters();
  }
  /** Writers that have ended, also before the system was started again, against what is in their files. */
  async judgeWriters(): Promise<void> {
    await this.guest.must("sync; echo 3 >/proc/sys/vm/drop_caches");
    for (const writer of this.#writers.filter(({ isStopped }) => !isStopped)) {
      await writer.collect(this.guest);
      this.complain(...(await writer.examine(this.guest)));
      if (writer.acknowledged === 0) this.complain(`${writer.plan.name} wrote nothing`);
    }
  }

  // ---- end

  /** The whole system ends, as it is. Afterwards the replicas hold a file system that needs no mending, all the same one. */
  async end(verb: "poweroff" | "reboot"): Promise<Examination> {
    const { guest } = this;
    guest.run(`systemctl ${verb} --no-block`).catch(() => {});
    await guest.ended(STOP_TIMEOUT_MS);
    this.complain(...this.#trouble(guest.console()).map((line) => `on the console: ${line}`));
    await guest.kill();
    this.#guest = undefined;
    await this.rig.stopAll();
    const images = this.rig.exports();
    const [first, ...others] = images.map((path) => readFileSync(path));
    if (!others.every((image) => image.equals(first!))) this.complain("the regions differ");
    const { status, stdout } = spawnSync(programPath("e2fsck", "e2fsprogs"), ["-fn", images[0]!], {
      encoding: "utf8",
    });
    this.#fsck.add(status === 0 ? "clean" : `status ${status}`);
    if (status !== 0) this.complain(`e2fsck ended with ${status}:\n${stdout}`);
    return { image: images[0]! };
  }
  /** The end before this start: whether all was stopped in order, without an error. */
  async judgeLastEnd(): Promise<void> {
    const journal = await this.#listen("-1");
    this.complain(...stopComplaints(journal).map((text) => `at the last end: ${text}`));
  }
  #trouble(text: string): readonly string[] {
    return this.#hasErrors ? [] : trouble(text);
  }
  /** What systemd and the kernel said in this start ("") or an earlier one ("-1"). */
  async #listen(which: string): Promise<string> {
    const said = await this.guest.must(
      `journalctl -q -b ${which} --no-pager -o short-monotonic _PID=1 + _TRANSPORT=kernel`,
    );
    const start = which === "" ? "this start" : "the last start";
    this.complain(...this.#trouble(said).map((line) => `in ${start}: ${line}`));
    return said;
  }

  /** Stops all by hand, by the documented command, then the system. */
  async verdict(): Promise<Verdict> {
    await this.stopWriters();
    const units = [UNITS.mount, UNITS.attachment, UNITS.server].join(" ");
    await this.guest.must(`systemctl stop ${units}`, STOP_TIMEOUT_MS);
    this.complain(...stopComplaints(await this.#listen("")));
    await this.end("poweroff");
    return this.result();
  }
  result(): Verdict {
    const { writes, errors, stallMs, errno } = total(this.#writers);
    const all = [{ writes, errors, stallMs, errno }, ...this.#counts];
    const compared = this.#writers.reduce((sum, { acknowledged }) => sum + acknowledged, 0);
    return {
      counts: {
        writes: all.reduce((sum, one) => sum + one.writes, 0),
        errors: all.reduce((sum, one) => sum + one.errors, 0),
        stallMs: Math.max(...all.map((one) => one.stallMs)),
        errno: all.find((one) => one.errno !== 0)?.errno ?? 0,
      },
      fsck: [...this.#fsck].join(", "),
      compared,
      wrong: this.wrong,
    };
  }
}
