import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createConnection, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { Program } from "../acceptance/rig.js";
import { type ImageParts, makeImage, programPath } from "./image.js";
import type { Kernel } from "./kernels.js";

// A virtual machine under emulation, and commands in it over its second serial line (guest/agent). The first
// is the console. The guest reaches this machine's loopback as 10.0.2.2.

/** This machine, seen from a guest. */
export const HOST = "10.0.2.2";
const BOOT_TIMEOUT_MS = 300_000;
/**
 * Linux patches its own code while it starts, with a breakpoint in the meantime, and a processor that is emulated beside the one that
 * patches may run into one that is gone again. Nothing of ours has run by then: it is started anew.
 */
const EMULATOR_FAULT = /Oops: int3|^\[ +\d+\.\d+\] int3: /m;
const BOOTS = 3;
const RUN_TIMEOUT_MS = 300_000;
/** A whole system on two busy processors. */
const SYSTEM_BOOT_TIMEOUT_MS = 900_000;
// On a busy machine the emulated timer is late, which the kernel would take for a broken board.
const COMMAND_LINE = "console=ttyS0 panic=-1 loglevel=6 random.trust_cpu=on no_timer_check";

export interface Outcome {
  readonly status: number;
  /** Both outputs, lines joined. */
  readonly output: string;
}
interface Waiting {
  readonly lines: string[];
  readonly end: (status: number) => void;
  readonly fail: (error: Error) => void;
}

export interface MachineOptions extends ImageParts {
  /** MiB */
  readonly memory?: number;
  readonly processors?: number;
  /** Images, seen as /dev/vda and so on; those that end with .qcow2 are in that format. */
  readonly disks?: readonly string[];
  /** The first disk holds a whole system, which is started. */
  readonly isSystem?: boolean;
  /** Starts without a network. */
  readonly isUnplugged?: boolean;
}

export class Machine {
  readonly #dir: string;
  readonly #qemu: Program;
  readonly #waiting = new Map<number, Waiting>();
  #line: Socket | undefined;
  #ready: (() => void) | undefined;
  #next = 1;
  #rest = "";
  #gone: string | undefined;

  private constructor(dir: string, kernel: Kernel, options: MachineOptions) {
    this.#dir = dir;
    const initrd = join(dir, "initrd");
    makeImage(initrd, kernel, options);
    const words = [
      ["-accel", "tcg,thread=multi"],
      ["-cpu", "max"],
      ["-smp", `${options.processors ?? 2}`],
      ["-m", `${options.memory ?? 512}`],
      ["-display", "none", "-monitor", "none", "-no-reboot", "-nodefaults"],
      ["-kernel", kernel.image],
      ["-initrd", initrd],
      ["-append", `${COMMAND_LINE}${options.isSystem === true ? " root=/dev/vda" : ""}`],
      ["-serial", `file:${this.#console}`],
      ["-chardev", `socket,id=agent,path=${this.#socket},server=on,wait=off`],
      ["-serial", "chardev:agent"],
      ["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,id=card"],
      ["-qmp", `unix:${this.#control},server=on,wait=off`],
      ...(options.disks ?? []).map((file) => {
        const format = file.endsWith(".qcow2") ? "qcow2" : "raw";
        return ["-drive", `file=${file},format=${format},if=virtio,cache=unsafe`];
      }),
      ...(options.isUnplugged === true ? ["-S"] : []),
    ];
    // It must not outlive a test that was killed.
    const command = [programPath("qemu-system-x86_64", "qemu-system-x86"), ...words.flat()];
    this.#qemu = new Program(programPath("setpriv", "util-linux"), [
      "--pdeathsig=KILL",
      ...command,
    ]);
    void this.#qemu.exited.then((status) => this.#end(`the machine ended (${status})`));
  }
  get #socket(): string {
    return join(this.#dir, "agent.sock");
  }
  get #control(): string {
    return join(this.#dir, "control.sock");
  }
  get #console(): string {
    return join(this.#dir, "console.log");
  }

  /** Resolves when the guest takes commands. */
  static async boot(kernel: Kernel, options: MachineOptions = {}): Promise<Machine> {
    for (let left = BOOTS - 1; ; left--) {
      try {
        return await Machine.#boot(kernel, options);
      } catch (error) {
        if (left === 0 || !EMULATOR_FAULT.test((error as Error).message)) throw error;
      }
    }
  }
  static async #boot(kernel: Kernel, options: MachineOptions): Promise<Machine> {
    const machine = new Machine(mkdtempSync(join(tmpdir(), "trivet-vm-")), kernel, options);
    try {
      const ready = new Promise<void>((resolve) => {
        machine.#ready = resolve;
      });
      await machine.#connect();
      if (options.isUnplugged === true) {
        await machine.plug(false);
        await machine.#command({ execute: "cont" });
      }
      const limit = options.isSystem === true ? SYSTEM_BOOT_TIMEOUT_MS : BOOT_TIMEOUT_MS;
      await machine.#within(limit, "the guest to boot", ready);
      return machine;
    } catch (error) {
      const text = `${(error as Error).message}\n${machine.console()}`;
      await machine.kill();
      throw new Error(text);
    }
  }

  async #connect(): Promise<void> {
    for (const end = Date.now() + BOOT_TIMEOUT_MS; ; await sleep(50)) {
      if (this.#gone !== undefined) throw new Error(`${this.#gone}:\n${this.#qemu.output}`);
      const socket = createConnection(this.#socket);
      const isOpen = await new Promise<boolean>((resolve) => {
        socket.once("connect", () => resolve(true));
        socket.once("error", () => resolve(false));
      });
      if (isOpen) {
        socket.on("error", () => {});
        socket.on("data", (data) => this.#take(data.toString("latin1")));
        this.#line = socket;
        return;
      }
      socket.destroy();
      if (Date.now() > end) throw new Error("the machine opened no serial line");
    }
  }

  #take(text: string): void {
    const lines = `${this.#rest}${text}`.replaceAll("\r", "").split("\n");
    this.#rest = lines.pop()!;
    for (const line of lines) {
      if (line === "ready") this.#ready?.();
      const [, number = "", kind, more = ""] = /^(\d+) ([|=]) (.*)$/.exec(line) ?? [];
      const waiting = this.#waiting.get(Number(number));
      if (waiting === undefined) continue;
      if (kind === "|") waiting.lines.push(more);
      else {
        this.#waiting.delete(Number(number));
        waiting.end(Number(more));
      }
    }
  }
  #end(why: string): void {
    this.#gone ??= why;
    for (const waiting of this.#waiting.values())
      waiting.fail(new Error(`${why}\n${this.console()}`));
    this.#waiting.clear();
  }

  #within<T>(ms: number, what: string, promise: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`waited ${ms} ms for ${what}`)), ms);
      const over = this.#qemu.exited.then(() => {
        throw new Error(`the machine ended while one waited for ${what}`);
      });
      Promise.race([promise, over])
        .then(resolve, reject)
        .finally(() => clearTimeout(timer));
    });
  }

  /** Runs a line of shell in the guest. Several may be under way. */
  async run(command: string, timeoutMs = RUN_TIMEOUT_MS): Promise<Outcome> {
    if (this.#gone !== undefined) throw new Error(this.#gone);
    if (command.includes("\n")) throw new Error("a command is one line");
    const number = this.#next++;
    const lines: string[] = [];
    const ended = new Promise<number>((resolve, reject) => {
      this.#waiting.set(number, { lines, end: resolve, fail: reject });
    });
    this.#line?.write(`${number} ${command}\n`);
    try {
      const status = await this.#within(timeoutMs, `"${command}" in the guest`, ended);
      return { status, output: lines.join("\n") };
    } catch (error) {
      this.#waiting.delete(number);
      const blocked = await this.#blocked();
      throw new Error(`${(error as Error).message}\n${lines.join("\n")}\n${blocked}`);
    }
  }
  /** The same; throws when the status is not 0. */
  async must(command: string, timeoutMs = RUN_TIMEOUT_MS): Promise<string> {
    const { status, output } = await this.run(command, timeoutMs);
    if (status !== 0)
      throw new Error(`"${command}" in the guest ended with ${status}:\n${output}\n${this.tail()}`);
    return output;
  }
  /** Polls until a command succeeds. */
  async until(command: string, timeoutMs = 60_000, pauseMs = 200): Promise<string> {
    for (const end = Date.now() + timeoutMs; ; await sleep(pauseMs)) {
      const { status, output } = await this.run(command, Math.max(timeoutMs, RUN_TIMEOUT_MS));
      if (status === 0) return output;
      if (Date.now() > end)
        throw new Error(`"${command}" in the guest did not hold within ${timeoutMs} ms\n${output}`);
    }
  }

  /** What the kernel says about tasks that wait: the reason of most things that take too long. */
  async #blocked(): Promise<string> {
    if (this.#gone === undefined) {
      this.#line?.write("0 echo w >/proc/sysrq-trigger\n");
      await sleep(1500);
    }
    return this.tail(120);
  }

  console(): string {
    try {
      return readFileSync(this.#console, "utf8");
    } catch {
      return "";
    }
  }
  tail(lines = 30): string {
    return this.console().split("\n").slice(-lines).join("\n");
  }

  /** Pulls the guest's network cable, or puts it back. */
  async plug(up: boolean): Promise<void> {
    await this.#command({ execute: "set_link", arguments: { name: "card", up } });
  }
  /** One command of QEMU's monitor protocol. */
  async #command(command: object): Promise<void> {
    const socket = createConnection(this.#control);
    try {
      const lines = createInterface({ input: socket })[Symbol.asyncIterator]();
      for (const text of [undefined, { execute: "qmp_capabilities" }, command]) {
        if (text !== undefined) socket.write(`${JSON.stringify(text)}\n`);
        for (;;) {
          const { value, done } = await lines.next();
          if (done === true) throw new Error("the machine's monitor is gone");
          const answer = JSON.parse(value) as { error?: { desc: string }; event?: string };
          if (answer.error !== undefined) throw new Error(answer.error.desc);
          if (answer.event === undefined) break;
        }
      }
    } finally {
      socket.destroy();
    }
  }

  /** Waits until it has switched itself off, or begun to start again: both end it. */
  async ended(timeoutMs: number): Promise<void> {
    const late = sleep(timeoutMs, true, { ref: false });
    const isLate = await Promise.race([this.#qemu.exited.then(() => false), late]);
    if (isLate)
      throw new Error(`it has not ended within ${timeoutMs} ms\n${await this.#blocked()}`);
  }

  /** Switches the guest off as by its button, and waits. */
  async powerOff(): Promise<void> {
    this.#line?.write("0 poweroff -f\n");
    const late = sleep(20_000, "late", { ref: false });
    await Promise.race([this.#qemu.exited, late]);
    await this.kill();
  }
  async kill(): Promise<void> {
    await this.#qemu.stop("SIGKILL");
    this.#line?.destroy();
    rmSync(this.#dir, { recursive: true, force: true });
  }
}
