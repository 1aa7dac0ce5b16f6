import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { type SalvageOptions, type SalvageReport, salvage } from "../../src/app/region/salvage.js";
import type { OfflineWorkspace } from "../../src/app/region/workspace.js";
import { FakeArena } from "./arena.js";
import { FakeHasher } from "./hasher.js";

const USUAL: SalvageOptions = {
  force: false,
  liveAnyway: false,
  ciphertext: false,
  keepBad: false,
};

/** Runs salvages in this process, without the native part. */
export class Salvaging {
  readonly arena = new FakeArena();
  readonly workspace: OfflineWorkspace;
  /** Directories that somebody is said to have open. */
  readonly locked = new Set<string>();
  /** How often a lock was taken and given back. */
  locks = 0;
  unlocks = 0;

  private constructor(hasher: (arena: FakeArena) => FakeHasher) {
    this.workspace = {
      arena: this.arena,
      hasher: hasher(this.arena),
      lock: (directory) => {
        if (this.locked.has(directory)) throw new Error(`${directory} is locked`);
        this.locks += 1;
        return () => {
          this.unlocks += 1;
        };
      },
      isLocked: (directory) => this.locked.has(directory),
    };
  }
  static async start(): Promise<Salvaging> {
    const api = (await import("xxhash-wasm")).default;
    const hashes = await api();
    return new Salvaging((arena) => new FakeHasher(arena, hashes));
  }

  async run(
    directories: readonly string[],
    image: string,
    options: Partial<SalvageOptions> = {},
  ): Promise<SalvageReport> {
    const all = { ...USUAL, ...options };
    const quiet = () => ({ advance() {}, done() {} });
    return await salvage(directories, image, all, this.workspace, quiet);
  }

  /** The image and what was said about it; the image is removed. */
  async read(
    folder: string,
    directories: readonly string[],
    options: Partial<SalvageOptions> = {},
  ): Promise<{ image: Buffer; report: SalvageReport }> {
    const path = join(folder, "salvaged.img");
    const report = await this.run(directories, path, options);
    const image = readFileSync(path);
    rmSync(path);
    return { image, report };
  }
}

/** What is said about each block: "" where nothing is. */
export function remarks(report: SalvageReport): string[] {
  const { extentSize, extentCount } = report.geometry;
  const said = new Array<string>(extentSize * extentCount).fill("");
  for (const { extent, findings } of report.extents) {
    for (const { first, count, remark } of findings) {
      said.fill(remark, extent * extentSize + first, extent * extentSize + first + count);
    }
  }
  return said;
}
