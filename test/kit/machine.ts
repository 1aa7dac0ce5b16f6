import { mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { System } from "../../src/app/attach/system.js";
import { makeFolder, removeFolder } from "./folders.js";

/** A made-up machine: /proc and /sys in a folder of their own. */
export class Machine {
  readonly root = makeFolder();
  readonly system = new System(this.root);

  constructor() {
    this.put("/sys/module/nbd/initstate", "live\n");
    this.put("/proc/swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n");
    this.put("/proc/self/mountinfo", "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n");
    this.put("/sys/block/sda/size", "1000\n");
  }
  remove(): void {
    removeFolder(this.root);
  }

  put(path: string, text: string): void {
    const full = join(this.root, path);
    mkdirSync(dirname(full), { recursive: true });
    writeFileSync(full, text);
  }
  link(path: string, to: string): void {
    const full = join(this.root, path);
    mkdirSync(dirname(full), { recursive: true });
    symlinkSync(to, full);
  }

  /** A device that nobody has attached, with sysfs as of Linux 6.12. */
  device(index: number): void {
    const folder = `/sys/block/nbd${index}`;
    this.put(`${folder}/size`, "0\n");
    this.put(`${folder}/dev`, `43:${32 * index}\n`);
    this.put(`${folder}/queue/logical_block_size`, "512\n");
    mkdirSync(join(this.root, folder, "holders"), { recursive: true });
  }
  attached(index: number, pid: number, backend = ""): void {
    const folder = `/sys/block/nbd${index}`;
    this.device(index);
    this.put(`${folder}/pid`, `${pid}\n`);
    this.put(`${folder}/size`, "32768\n");
    this.put(`${folder}/queue/logical_block_size`, "4096\n");
    if (backend !== "") this.put(`${folder}/backend`, `${backend}\n`);
  }
  partition(index: number, number: number): void {
    const folder = `/sys/block/nbd${index}/nbd${index}p${number}`;
    this.put(`${folder}/dev`, `43:${32 * index + number}\n`);
    mkdirSync(join(this.root, folder, "holders"), { recursive: true });
  }
  process(pid: number, program: string, ...opened: string[]): void {
    this.put(`/proc/${pid}/comm`, `${program}\n`);
    for (const [fd, path] of opened.entries()) this.link(`/proc/${pid}/fd/${fd}`, path);
  }
  ended(pid: number): void {
    rmSync(join(this.root, "proc", `${pid}`), { recursive: true, force: true });
  }
  record(volume: string, device: string, pid: number, file = `${volume}.json`): void {
    const facts = { device, pid, volume, server: "unix:/run/x.sock", export: volume };
    this.put(`/run/trivet/attach/${file}`, `${JSON.stringify(facts)}\n`);
  }
}
