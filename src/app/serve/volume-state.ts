import { createHash, randomUUID } from "node:crypto";
import { mkdirSync, readFileSync } from "node:fs";
import { mkdir, open, rename } from "node:fs/promises";
import { join } from "node:path";
import { Fault } from "../../base/fault.js";
import type { Uuid } from "../../base/ids.js";
import type { Notes } from "../../ports/notes.js";
import type { Address } from "../../ports/stream.js";
import type { VolumeRecord } from "../../upstairs/record.js";
import { showAddress } from "../cli/values.js";
import { syncDirectory } from "../files.js";
import { asFault } from "../report.js";
import { parseState, type StateContent, stateText } from "./state-file.js";

/**
 * What a volume remembers between two runs on this host: the id that its downstairs know it by, the highest generation it
 * used, so that the next one is higher even when the clock was set back, and which regions it is made of.
 */
export class VolumeState {
  readonly #folder: string;
  readonly #path: string;
  #content: StateContent;
  /** Writes follow each other; each one writes what is known when its turn comes. */
  #writing: Promise<void> = Promise.resolve();

  private constructor(folder: string, name: string, content: StateContent) {
    this.#folder = folder;
    this.#path = statePath(folder, name);
    this.#content = content;
  }

  get upstairsId(): Uuid {
    return this.#content.upstairsId;
  }
  /** 0: none was used here. */
  get lastUsed(): bigint {
    return this.#content.lastUsed;
  }
  get record(): VolumeRecord | null {
    return this.#content.record;
  }

  /** A file that cannot be understood is reported and replaced: without it the regions themselves have to tell. */
  static load(folder: string, name: string, notes: Notes): VolumeState {
    const path = statePath(folder, name);
    mkdirSync(folder, { recursive: true });
    let text: string | undefined;
    try {
      text = readFileSync(path, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
    const parsed = text === undefined ? undefined : parseState(text);
    if (text !== undefined && parsed === undefined) {
      notes("warn", "state.unreadable", `${path} cannot be understood and is begun anew`);
    } else if (parsed?.isPartial) {
      notes(
        "warn",
        "state.partial",
        `${path} is of another version, or damaged: what was understood is used, the rest is begun anew`,
      );
    }
    const fresh = {
      upstairsId: randomUUID() as Uuid,
      lastUsed: 0n,
      record: null,
      configured: [],
    };
    return new VolumeState(folder, name, parsed?.content ?? fresh);
  }

  /** Where the replicas are: as configured, or where they were moved to since that was configured. */
  targetsFor(configured: readonly Address[]): readonly Address[] {
    const { record, configured: before } = this.#content;
    const isSame = configured.map(showAddress).join() === before.map(showAddress).join();
    return isSame && record !== null ? record.targets : configured;
  }

  /** Durable when it resolves. Rejects with a Fault. */
  async save(generation: bigint): Promise<void> {
    this.#content = { ...this.#content, lastUsed: generation };
    await this.#write();
  }
  async saveRecord(record: VolumeRecord, configured: readonly Address[]): Promise<void> {
    this.#content = { ...this.#content, record, configured };
    if (record.generation > this.lastUsed)
      this.#content = { ...this.#content, lastUsed: record.generation };
    await this.#write();
  }
  #write(): Promise<void> {
    this.#writing = this.#writing.then(
      () => this.#writeNow(),
      () => this.#writeNow(),
    );
    return this.#writing;
  }
  async #writeNow(): Promise<void> {
    const temporary = `${this.#path}.${process.pid}`;
    try {
      await mkdir(this.#folder, { recursive: true });
      const file = await open(temporary, "w", 0o644);
      try {
        await file.writeFile(stateText(this.#content));
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(temporary, this.#path);
      await syncDirectory(this.#folder);
    } catch (error) {
      throw asFault(error) ?? new Fault("TRIVET_E_FILE", `${this.#path} could not be written`);
    }
  }
}

/** Names of volumes may hold anything; names of files may not. */
export const fileNameOf = (volume: string): string =>
  encodeURIComponent(volume).replaceAll(".", "%2E").slice(0, 200);
const statePath = (folder: string, name: string): string =>
  join(folder, `${fileNameOf(name)}.json`);

/** For a volume whose state cannot be kept: the same id at every start. */
export function idOfName(volume: string): Uuid {
  const hex = createHash("sha256").update(volume).digest("hex");
  return hex.replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*$/, "$1-$2-8$3-8$4-$5") as Uuid;
}

/** Where state is kept: as told, as systemd says, or where such things go for this user. */
export function defaultStateFolder(env: Readonly<Record<string, string | undefined>>): string {
  const fromSystemd = env.STATE_DIRECTORY?.split(":")[0];
  if (fromSystemd) return fromSystemd;
  if (process.getuid?.() === 0 || !env.HOME) return "/var/lib/trivet";
  return join(env.XDG_STATE_HOME || join(env.HOME, ".local/state"), "trivet");
}
