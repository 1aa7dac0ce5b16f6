import { EIO, ENOSPC, type FileCall, type FilesOptions } from "../kit/files.js";

/** What is wrong with a disk at the moment; survives the processes that use it. */
export class DiskTrouble {
  /** Chance of a call to fail, and with what. */
  failing = 0;
  errno = EIO;
  /** Calls take this much longer until then. */
  stalledUntilMs = 0;
  /** Offset at which the next write lands instead of its own; −1: none is misdirected. */
  misdirectTo = -1;
  /** A sync has failed since the disk was new: what it holds of that time is not known. */
  hasFailedSync = false;
  chance: () => number = () => 1;
  nowMs: () => number = () => 0;
  onFailure: (call: FileCall, errno: number) => void = () => {};
  /** After each call that had its effect. */
  onCall: (call: FileCall) => void = () => {};

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
      if (this.chance() >= this.failing) return 0;
      if (call.op === "sync") this.hasFailedSync = true;
      this.onFailure(call, this.errno);
      return this.errno;
    },
    delay: () => Math.max(0, this.stalledUntilMs - this.nowMs()),
    after: (call) => this.onCall(call),
  };
}
