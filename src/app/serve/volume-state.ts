import { randomUUID } from "node:crypto";
import { mkdirSync, readFileSync } from "node:fs";
import { mkdir, open, rename } from "node:fs/promises";
import { join } from "node:path";
import { Fault } from "../../base/fault.js";
import { parseUuid, type Uuid } from "../../base/ids.js";
import type { Notes } from "../../ports/notes.js";
import { syncDirectory } from "../files.js";
import { asFault } from "../report.js";

/**
 * What a volume remembers between two runs on this host: the id that its downstairs know it by, and the highest
 * generation it used, so that the next one is higher even when the clock was set back.
 */
export class VolumeState {
  readonly upstairsId: Uuid;
  /** 0: none was used here. */
  readonly lastUsed: bigint;
  readonly #folder: string;
  readonly #path: string;

  private constructor(folder: string, name: string, upstairsId: Uuid, lastUsed: bigint) {
    this.#folder = folder;
    this.#path = statePath(folder, name);
    this.upstairsId = upstairsId;
    this.lastUsed = lastUsed;
  }

  /** A file that cannot be understood is reported and replaced: it holds nothing that the clock does not give, usually. */
  static load(folder: string, name: string, notes: Notes): VolumeState {
    const path = statePath(folder, name);
    mkdirSync(folder, { recursive: true });
    let text: string | undefined;
    try {
      text = readFileSync(path, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
    const parsed = text === undefined ? undefined : parse(text);
    if (text !== undefined && parsed === undefined) {
      notes("warn", "state.unreadable", `${path} cannot be understood and is begun anew`);
    }
    const id = parsed?.upstairsId ?? (randomUUID() as Uuid);
    return new VolumeState(folder, name, id, parsed?.lastUsed ?? 0n);
  }

  /** Durable when it returns. Throws a Fault. */
  async save(generation: bigint): Promise<void> {
    const text = JSON.stringify({ upstairs_id: this.upstairsId, generation: `${generation}` });
    const temporary = `${this.#path}.${process.pid}`;
    try {
      await mkdir(this.#folder, { recursive: true });
      const file = await open(temporary, "w", 0o644);
      try {
        await file.writeFile(`${text}\n`);
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
const statePath = (folder: string, name: string): string =>
  join(folder, `${encodeURIComponent(name).replaceAll(".", "%2E").slice(0, 200)}.json`);

function parse(text: string): { upstairsId: Uuid; lastUsed: bigint } | undefined {
  try {
    const json = JSON.parse(text) as { upstairs_id?: unknown; generation?: unknown };
    const { upstairs_id: id, generation } = json;
    if (typeof id !== "string" || typeof generation !== "string") return undefined;
    const upstairsId = parseUuid(id);
    if (upstairsId === undefined || !/^\d{1,20}$/.test(generation)) return undefined;
    return { upstairsId, lastUsed: BigInt(generation) };
  } catch {
    return undefined;
  }
}

/** Where state is kept: as told, as systemd says, or where such things go for this user. */
export function defaultStateFolder(env: Readonly<Record<string, string | undefined>>): string {
  const fromSystemd = env.STATE_DIRECTORY?.split(":")[0];
  if (fromSystemd) return fromSystemd;
  if (process.getuid?.() === 0 || !env.HOME) return "/var/lib/trivet";
  return join(env.XDG_STATE_HOME || join(env.HOME, ".local/state"), "trivet");
}
