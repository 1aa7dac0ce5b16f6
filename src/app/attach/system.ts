import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { deviceIndex, deviceNode } from "./device-name.js";

/** One nbd device, as sysfs shows it. */
export interface Device {
  readonly index: number;
  /** "/dev/nbd3" */
  readonly node: string;
  /** The process that attached it; 0: it is not attached. */
  readonly attachedBy: number;
  readonly sizeBytes: number;
  readonly blockBytes: number;
  /** Who it belongs to, as whoever attached it said; "" when nobody said so. */
  readonly backend: string;
}

/** What keeps a device from being let go. */
export interface Use {
  readonly kind: "mount" | "swap" | "holder" | "open";
  /** "is mounted on /srv (as nbd0p1)" */
  readonly text: string;
}

/**
 * What /sys and /proc tell about devices and who uses them. It only reads, and everything may change a moment later: whoever acts
 * on it has to live with the kernel's saying no. Files that are missing or not for us to read say nothing.
 */
export class System {
  readonly root: string;

  /** `root`: what stands before every path; "" but in tests. */
  constructor(root: string) {
    this.root = root;
  }

  get hasModule(): boolean {
    return this.#list("/sys/module").includes("nbd");
  }

  /** By number. */
  devices(): readonly Device[] {
    return this.#list("/sys/block")
      .map(deviceIndex)
      .filter((index) => index !== undefined)
      .sort((a, b) => a - b)
      .map((index) => this.#device(index));
  }

  /** Undefined: there is no such device. */
  device(index: number): Device | undefined {
    return this.#list("/sys/block").includes(`nbd${index}`) ? this.#device(index) : undefined;
  }

  /** The name of a process's program as the kernel has it; "" when there is no such process. */
  programOf(pid: number): string {
    return pid > 0 ? this.#read(`/proc/${pid}/comm`) : "";
  }

  /** All that uses a device or one of its partitions. `except`: processes that may have it open. */
  usesOf({ index }: Device, except: readonly number[]): readonly Use[] {
    const names = this.#namesOf(index);
    return [
      ...this.#mounts(names),
      ...this.#swaps(names),
      ...this.#holders(index, names),
      ...this.#openers(names, except),
    ];
  }

  #device(index: number): Device {
    const folder = `/sys/block/nbd${index}`;
    return {
      index,
      node: deviceNode(index),
      attachedBy: this.#number(`${folder}/pid`),
      sizeBytes: 512 * this.#number(`${folder}/size`),
      blockBytes: this.#number(`${folder}/queue/logical_block_size`),
      backend: this.#read(`${folder}/backend`),
    };
  }

  /** The device and its partitions: their names, and how mountinfo calls them. */
  #namesOf(index: number): ReadonlyMap<string, string> {
    const name = `nbd${index}`;
    const found = new Map([[name, this.#read(`/sys/block/${name}/dev`)]]);
    for (const entry of this.#list(`/sys/block/${name}`))
      if (entry.startsWith(`${name}p`))
        found.set(entry, this.#read(`/sys/block/${name}/${entry}/dev`));
    return found;
  }

  /** "36 35 43:1 / /mnt rw,noatime shared:1 - ext4 /dev/nbd0p1 rw": number, parent, device, root, place, …, type, source. */
  #mounts(names: ReadonlyMap<string, string>): readonly Use[] {
    const uses: Use[] = [];
    for (const line of this.#read("/proc/self/mountinfo").split("\n")) {
      const [mount = "", source = ""] = line.split(" - ");
      const [, , numbers, , place] = mount.split(" ");
      if (numbers === undefined || place === undefined) continue;
      // Some file systems have numbers of their own; then only the source tells.
      const from = withoutEscapes(source.split(" ")[1] ?? "");
      for (const [name, own] of names)
        if ((own !== "" && own === numbers) || from === `/dev/${name}`)
          uses.push({ kind: "mount", text: `is mounted on ${withoutEscapes(place)}${part(name)}` });
    }
    return uses;
  }

  #swaps(names: ReadonlyMap<string, string>): readonly Use[] {
    const files = this.#read("/proc/swaps")
      .split("\n")
      .slice(1)
      .map((line) => withoutEscapes(line.split(/\s/)[0] ?? ""));
    return [...names.keys()]
      .filter((name) => files.includes(`/dev/${name}`))
      .map((name) => ({ kind: "swap", text: `is used as swap${part(name)}` }));
  }

  #holders(index: number, names: ReadonlyMap<string, string>): readonly Use[] {
    const uses: Use[] = [];
    for (const name of names.keys()) {
      const folder = name === `nbd${index}` ? "" : `/${name}`;
      for (const holder of this.#list(`/sys/block/nbd${index}${folder}/holders`))
        uses.push({ kind: "holder", text: `is held by ${this.#describe(holder)}${part(name)}` });
    }
    return uses;
  }

  #describe(holder: string): string {
    const name = this.#read(`/sys/block/${holder}/dm/name`);
    if (name === "") return holder.startsWith("md") ? `the RAID ${holder}` : holder;
    const isLvm = this.#read(`/sys/block/${holder}/dm/uuid`).startsWith("LVM-");
    return `${isLvm ? "the LVM volume" : "the device mapper's"} ${name} (${holder})`;
  }

  #openers(names: ReadonlyMap<string, string>, except: readonly number[]): readonly Use[] {
    const uses: Use[] = [];
    for (const entry of this.#list("/proc")) {
      const pid = Number(entry);
      if (!/^\d+$/.test(entry) || except.includes(pid)) continue;
      const program = this.programOf(pid);
      // It looks at every device that changes, and is gone at once.
      if (program === "systemd-udevd" || program === "(udev-worker)") continue;
      const opened = new Set(
        this.#list(`/proc/${pid}/fd`).map((fd) => this.#link(`/proc/${pid}/fd/${fd}`)),
      );
      for (const name of names.keys())
        if (opened.has(`/dev/${name}`))
          uses.push({ kind: "open", text: `is open in ${program} (process ${pid})${part(name)}` });
    }
    return uses;
  }

  #list(path: string): readonly string[] {
    return quietly([], () => readdirSync(join(this.root, path)));
  }
  /** Without the end of the last line; "" when it cannot be read. */
  #read(path: string): string {
    return quietly("", () => readFileSync(join(this.root, path), "utf8").trimEnd());
  }
  #number(path: string): number {
    const value = Number(this.#read(path));
    return Number.isSafeInteger(value) && value > 0 ? value : 0;
  }
  #link(path: string): string {
    return quietly("", () => readlinkSync(join(this.root, path)));
  }
}

const part = (name: string): string => (/p\d+$/.test(name) ? ` (as ${name})` : "");

/** Spaces and the like stand as \040 in /proc. */
const withoutEscapes = (text: string): string =>
  text.replaceAll(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );

function quietly<T>(otherwise: T, read: () => T): T {
  try {
    return read();
  } catch {
    return otherwise;
  }
}
