import { Fault } from "../../base/fault.js";
import { REGION_CONFIG_BYTES_MAX } from "../../base/limits.js";
import type { RegionDefinition } from "../../crucible/region-definition.js";
import type { Then } from "../../ports/files.js";
import { parseRegionConfig } from "../../region/config.js";
import {
  EXTENTS_PER_DIRECTORY,
  extentDirectory,
  extentPath,
  REGION_CONFIG_NAME,
} from "../../region/layout.js";
import { Commit, reserve } from "./commit.js";
import { Extents } from "./extents.js";
import { inOrder, inParallel } from "./flow.js";
import { Jobs } from "./jobs.js";
import { settleLeftovers } from "./leftovers.js";
import { Opening } from "./opening.js";
import { COMMITS, Store, type StoreParts } from "./store.js";

const ENOENT = -2;
/** Extents opened side by side, and the part of the free arena that may be used for it meanwhile. */
const OPENINGS_MAX = 32;
const OPENINGS_PART = 1 / 4;

export interface OpenOptions {
  /** The region directory, without a slash at the end. */
  readonly directory: string;
  readonly readOnly: boolean;
  /** Most bytes of written data in memory; default: a quarter of the arena, at most 64 MiB. */
  readonly heldBytesMax?: number;
  /** After each extent. */
  readonly progress?: (done: number, total: number) => void;
}

/**
 * Opens a region directory. Read-write: takes its lock, settles what repairs left, makes every file durable as it is.
 * Read-only: writes nothing, ignores unfinished repairs, keeps no lock, but refuses a region that is open
 * read-write somewhere. Dirty extents are recovered in memory in both cases and stay dirty.
 */
export function openStore(
  parts: StoreParts,
  options: OpenOptions,
  then: (fault: Fault | null, store: Store | null) => void,
): void {
  const { arena, tree } = parts;
  const { directory, readOnly } = options;
  const owned: number[] = [];
  let lockFile = -1;
  let extents: Extents | undefined;
  let region: RegionDefinition | undefined;
  const openings: Opening[] = [];
  const names: ReadonlySet<string>[] = [];
  let done = 0;

  const readConfig = (next: Then): void =>
    lockAndRead(parts, directory, readOnly, (fault, file, text) => {
      lockFile = file;
      if (fault !== null) return next(fault);
      next(
        caught(() => {
          region = parseRegionConfig(text, `${directory}/${REGION_CONFIG_NAME}`);
          extents = new Extents(region, directory);
          const openParts = { ...parts, extents, readOnly };
          const each = Opening.scratchBytes(extents);
          const room = Math.floor((arena.freeBytes * OPENINGS_PART) / each);
          const count = Math.max(1, Math.min(OPENINGS_MAX, room, region.extentCount));
          for (let i = 0; i < count; i++) {
            const at = reserve(arena, each, "opening extents");
            owned.push(at);
            openings.push(new Opening(openParts, at));
          }
        }),
      );
    });

  const listDirectories = (next: Then): void => {
    const count = Math.ceil(region!.extentCount / EXTENTS_PER_DIRECTORY);
    const list = (index: number, one: Then): void => {
      const path = `${directory}/${extentDirectory(index * EXTENTS_PER_DIRECTORY)}`;
      tree.list(path, (fault, found) => {
        names[index] = new Set(found ?? []);
        const text = `${path}: no such directory`;
        one(fault ?? (found === null ? new Fault("TRIVET_E_EXTENT_MISSING", text) : null));
      });
    };
    inParallel(count, 4, list, next);
  };

  const openExtents = (next: Then): void => {
    const free = [...openings];
    const open = (extent: number, one: Then): void => {
      const known = names[Math.floor(extent / EXTENTS_PER_DIRECTORY)]!;
      const steps = settleLeftovers(tree, extents!, extent, known, readOnly);
      const opening = free.pop()!;
      const ended = (fault: Fault | null): void => {
        free.push(opening);
        done += 1;
        options.progress?.(done, region!.extentCount);
        one(fault);
      };
      if (steps instanceof Fault) {
        // Answered later, like everything else here.
        tree.sizeOf(`${directory}/${extentPath(extent)}`, () => ended(steps));
        return;
      }
      if (steps.length > 0)
        parts.notes("info", "extent.settled", `extent ${extent}: leftovers of a repair settled`, {
          extent,
          region: directory,
        });
      inOrder([...steps, (last) => opening.open(extent, last)], ended);
    };
    inParallel(region!.extentCount, openings.length, open, next);
  };

  const giveUp = (fault: Fault): void => {
    if (extents !== undefined) for (const file of extents.files) if (file >= 0) tree.close(file);
    if (lockFile >= 0) tree.close(lockFile);
    for (const at of owned) arena.free(at);
    then(fault, null);
  };

  inOrder([readConfig, listDirectories, openExtents], (fault) => {
    if (fault !== null) return giveUp(fault);
    for (const at of owned.splice(1)) arena.free(at);
    let store: Store | undefined;
    const failed = caught(() => {
      const reserved = (length: number, what: string): number => {
        const at = reserve(arena, length, what);
        owned.push(at);
        return at;
      };
      const known = extents!;
      const jobsAt = reserved(Jobs.scratchBytes, "reading");
      const commitsAt = Array.from({ length: readOnly ? 0 : COMMITS }, () =>
        reserved(Commit.scratchBytes(known), "writing out"),
      );
      store = new Store(parts, {
        extents: known,
        readOnly,
        opening: openings[0]!,
        lockFile,
        scratch: owned,
        jobsAt,
        commitsAt,
        heldBytesMax: options.heldBytesMax,
      });
    });
    if (failed !== null) return giveUp(failed);
    then(null, store!);
  });
}

function caught(run: () => void): Fault | null {
  try {
    run();
    return null;
  } catch (error) {
    if (error instanceof Fault) return error;
    throw error;
  }
}

/** The text of region.json, and the descriptor that holds its lock, −1 when read-only. */
function lockAndRead(
  parts: StoreParts,
  directory: string,
  readOnly: boolean,
  then: (fault: Fault | null, lockFile: number, text: string) => void,
): void {
  const { arena, io, tree } = parts;
  const path = `${directory}/${REGION_CONFIG_NAME}`;
  tree.open(path, "read", (fault, file) => {
    if (fault !== null) {
      const missing = new Fault("TRIVET_E_REGION_MISSING", `${path}: no such file`);
      return then(fault.errno === ENOENT ? missing : fault, -1, "");
    }
    const fail = (failed: Fault): void => {
      tree.close(file);
      then(failed, -1, "");
    };
    if (!tree.lock(file))
      return fail(new Fault("TRIVET_E_REGION_LOCKED", `${directory} is open in another process`));
    const at = arena.alloc(REGION_CONFIG_BYTES_MAX + 1);
    if (at < 0) return fail(new Fault("TRIVET_E_MEMORY", "the arena is full"));
    const read = (_: number, got: number): void => {
      const text = arena.bytes.toString("utf8", at, at + Math.max(0, got));
      arena.free(at);
      if (got < 0) fail(new Fault("TRIVET_E_IO", `${path}: reading: error ${got}`, { errno: got }));
      else if (got > REGION_CONFIG_BYTES_MAX)
        fail(new Fault("TRIVET_E_REGION_CONFIG", `${path}: longer than any region.json`));
      else {
        if (readOnly) tree.close(file);
        then(null, readOnly ? -1 : file, text);
      }
    };
    io.read(file, 0, at, REGION_CONFIG_BYTES_MAX + 1, { fileDone: read }, 0);
  });
}
