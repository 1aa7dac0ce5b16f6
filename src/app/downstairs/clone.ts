import { resolve } from "node:path";
import { cloneRegion } from "../../downstairs/clone.js";
import { HttpRepairClient } from "../../host/http-client.js";
import { openHost } from "../../host/open.js";
import type { Notes } from "../../ports/notes.js";
import type { Address } from "../../ports/stream.js";
import { extentLayout } from "../../region/layout.js";
import { openRegion, settled } from "./run.js";

const CLONE_ARENA_BYTES = 64 * 1024 * 1024;

export interface CloneOptions {
  /** An existing region of the same geometry with another uuid; its data is replaced. */
  readonly directory: string;
  /** The repair server of a downstairs that runs read-only. */
  readonly source: Address;
  readonly notes: Notes;
  readonly engine?: "auto" | "ring" | "plain";
  /** After each extent. */
  readonly progress?: (done: number, total: number) => void;
}

/** Rejects with a Fault. What was copied then is whole, and the command can be given again. */
export async function runClone(options: CloneOptions): Promise<void> {
  const { source, notes, progress } = options;
  const host = openHost({ arenaBytes: CLONE_ARENA_BYTES, engine: options.engine ?? "auto" });
  try {
    let fileBytes = 0;
    const peer = new HttpRepairClient(() => fileBytes);
    const store = await openRegion(host, resolve(options.directory), false, { notes, peer });
    try {
      fileBytes = extentLayout(store.definition).fileBytes;
      await settled((then) => cloneRegion(store, peer, source, progress ?? (() => {}), then));
    } finally {
      await settled((then) => store.close(then));
    }
  } finally {
    await host.close();
  }
}
