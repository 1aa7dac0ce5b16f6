import { EIO, ENOSPC, type FilesOptions } from "../kit/files.js";
import type { World } from "../kit/world.js";

/** What is wrong with a disk at the moment; survives the processes that use it. */
export class DiskTrouble {
  /** Chance of a call to fail, and with what. */
  failing = 0;
  errno = EIO;
  /** Calls take this much longer until then. */
  stalledUntilMs = 0;
  /** Offset at which the next write lands that belongs below `misdirectBelow`; −1: each goes where it belongs. */
  misdirectTo = -1;
  misdirectBelow = 0;
  /** A sync has failed since the disk was new: what it holds of that time is not known. */
  hasFailedSync = false;
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  heal(): void {
    this.failing = 0;
    this.stalledUntilMs = 0;
    this.misdirectTo = -1;
  }

  readonly options: FilesOptions = {
    fail: (call) => {
      if (this.failing === 0) return 0;
      const writes = call.op !== "read" && call.op !== "list" && call.op !== "sizeOf";
      if (this.errno === ENOSPC && (!writes || call.op === "sync")) return 0;
      if (this.#world.chance() >= this.failing) return 0;
      if (call.op === "sync") this.hasFailedSync = true;
      return this.errno;
    },
    misdirect: (call) => {
      const to = this.misdirectTo;
      const isBlocks = call.path.includes("/00/") && call.offset < this.misdirectBelow;
      if (to < 0 || !isBlocks || call.offset === to) return call.offset;
      if (to + call.length > this.misdirectBelow) return call.offset;
      this.misdirectTo = -1;
      return to;
    },
    delay: () => Math.max(0, this.stalledUntilMs - this.#world.nowMs()),
  };
}
