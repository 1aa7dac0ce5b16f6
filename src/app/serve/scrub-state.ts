import { readFileSync } from "node:fs";
import { mkdir, open, rename } from "node:fs/promises";
import { join } from "node:path";
import * as v from "valibot";
import { Fault } from "../../base/fault.js";
import type { Notes } from "../../ports/notes.js";
import { syncDirectory } from "../files.js";
import { asFault } from "../report.js";

/** How far the comparing of a volume's replicas is, between two runs of the server. Times in seconds since 1970. */
export interface ScrubRecord {
  /** Where one that was interrupted goes on; null: none was. */
  readonly position: number | null;
  /** When the last one reached the end; null: none did here. */
  readonly completedAt: number | null;
  /** When this host first served the volume: what the first scrub is reckoned from. */
  readonly knownSince: number;
  /** Somebody stopped one: none begins by itself before this time. */
  readonly notBefore: number;
}

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const schema = v.object({
  version: v.literal(1),
  position: v.nullable(count),
  completed_at: v.nullable(count),
  known_since: count,
  not_before: count,
});

/** Keeps the record in a small file beside the volume's state. Losing it costs a scrub that begins anew, and nothing else. */
export class ScrubState {
  readonly #folder: string | undefined;
  readonly #path: string;
  record: ScrubRecord;
  #writing: Promise<void> = Promise.resolve();

  private constructor(folder: string | undefined, path: string, record: ScrubRecord) {
    this.#folder = folder;
    this.#path = path;
    this.record = record;
  }

  /** `folder` undefined: nothing is kept. */
  static load(
    folder: string | undefined,
    volume: string,
    nowSeconds: number,
    notes: Notes,
  ): ScrubState {
    const fresh = { position: null, completedAt: null, knownSince: nowSeconds, notBefore: 0 };
    if (folder === undefined) return new ScrubState(undefined, "", fresh);
    const path = scrubStatePath(folder, volume);
    try {
      return new ScrubState(folder, path, parse(readFileSync(path, "utf8")));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT")
        notes("warn", "state.unreadable", `${path} cannot be understood and is begun anew`);
      return new ScrubState(folder, path, fresh);
    }
  }

  /** Durable when it resolves. Rejects with a Fault. Writes follow each other. */
  save(record: ScrubRecord): Promise<void> {
    this.record = record;
    this.#writing = this.#writing.then(
      () => this.#write(),
      () => this.#write(),
    );
    return this.#writing;
  }
  async #write(): Promise<void> {
    if (this.#folder === undefined) return;
    const { position, completedAt, knownSince, notBefore } = this.record;
    const text = JSON.stringify({
      version: 1,
      position,
      completed_at: completedAt,
      known_since: knownSince,
      not_before: notBefore,
    });
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
export const scrubStatePath = (folder: string, volume: string): string =>
  join(folder, `${encodeURIComponent(volume).replaceAll(".", "%2E").slice(0, 200)}.scrub.json`);

/** Throws when it is no such text. */
function parse(text: string): ScrubRecord {
  const found = v.parse(schema, JSON.parse(text));
  return {
    position: found.position,
    completedAt: found.completed_at,
    knownSince: found.known_since,
    notBefore: found.not_before,
  };
}
