import { closeSync, openSync } from "node:fs";
import { Fault } from "../../base/fault.js";
import type { Arena } from "../../ports/arena.js";
import type { Hasher } from "../../ports/hasher.js";
import { configPath } from "./directory.js";

/** What the offline commands need of the native part: memory that can be hashed. */
export interface Workspace {
  readonly arena: Arena;
  readonly hasher: Hasher;
}

export interface OfflineWorkspace extends Workspace {
  /**
   * Takes the lock of a region, so that nobody changes it meanwhile. Throws TRIVET_E_REGION_LOCKED. The answer gives
   * it back.
   */
  lock(directory: string): () => void;
  /** The same without complaint: true when another process has the region open. */
  isLocked(directory: string): boolean;
}

const ARENA_BYTES = 128 * 1024 * 1024;

/** Lends the native part to `use`, and closes it however that ends. */
export async function withWorkspace<T>(
  use: (workspace: OfflineWorkspace) => Promise<T>,
): Promise<T> {
  const { openHost } = await import("../../host/open.js");
  const host = openHost({ arenaBytes: ARENA_BYTES, engine: "plain" });
  const tryLock = (directory: string): number => {
    const file = openSync(configPath(directory), "r");
    if (host.files.lock(file)) return file;
    closeSync(file);
    return -1;
  };
  try {
    return await use({
      arena: host.arena,
      hasher: host.hasher,
      lock(directory) {
        const file = tryLock(directory);
        if (file < 0) {
          throw new Fault("TRIVET_E_REGION_LOCKED", `${directory} is open in another process`);
        }
        return () => closeSync(file);
      },
      isLocked(directory) {
        const file = tryLock(directory);
        if (file >= 0) closeSync(file);
        return file < 0;
      },
    });
  } finally {
    await host.close();
  }
}
