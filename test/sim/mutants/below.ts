import { type Claimant, ReadWriteActivation } from "../../../src/downstairs/activation.js";
import { Held } from "../../../src/downstairs/store/held.js";
import { Store } from "../../../src/downstairs/store/store.js";
import { DeviceStatus } from "../../../src/ports/device.js";
import { METADATA_BYTES } from "../../../src/region/layout.js";
import { RangeQueue } from "../../../src/volume/range-queue.js";
import { UnalignedDevice } from "../../../src/volume/unaligned.js";
import { type FakeDisk, FileNode } from "../../kit/disk.js";
import { FakeFiles } from "../../kit/files.js";
import { instead, type Mutant } from "./patch.js";

/** The store leaves out the syncs of what it wrote to an extent file since the one before. */
function withoutSync(of: "data" | "slots"): () => void {
  const written = new Map<string, Set<string>>();
  const paths = new Map<FakeFiles, Map<number, string>>();
  const pathOf = (files: FakeFiles, file: number): string => paths.get(files)?.get(file) ?? "";
  const note = (disk: FakeDisk, path: string, offset: number, length: number): void => {
    const node = disk.find(path);
    if (!(node instanceof FileNode)) return;
    const seen = written.get(path) ?? new Set();
    written.set(path, seen);
    const isRecord = offset >= node.size - METADATA_BYTES && length > 1;
    const isData = offset % 512 === 0 && length % 512 === 0;
    seen.add(isRecord ? "record" : isData ? "data" : "slots");
  };
  const restores = [
    instead(FakeFiles.prototype, "open", (open) => {
      return function (this: FakeFiles, path, mode, then) {
        open.call(this, path, mode, (fault, file) => {
          const own = paths.get(this) ?? new Map<number, string>();
          paths.set(this, own.set(file, path));
          then(fault, file);
        });
      };
    }),
    instead(FakeFiles.prototype, "writeGather", (write) => {
      return function (this: FakeFiles, file, offset, pieces, count, done, tag, op) {
        let length = 0;
        for (let i = 0; i < count; i++) length += pieces[2 * i + 1]!;
        note(this.disk, pathOf(this, file), offset, length);
        write.call(this, file, offset, pieces, count, done, tag, op);
      };
    }),
    instead(FakeFiles.prototype, "sync", (sync) => {
      return function (this: FakeFiles, file, dataOnly, done, tag) {
        const path = pathOf(this, file);
        const seen = written.get(path);
        written.delete(path);
        if (seen?.has(of) !== true) sync.call(this, file, dataOnly, done, tag);
        else this.sizeOf(path, () => done.fileDone(tag, 0));
      };
    }),
  ];
  return () => {
    for (const restore of restores) restore();
  };
}

export const BELOW: Readonly<Record<string, Mutant>> = {
  "generation-not-checked": {
    mix: "hosts",
    seeds: 12,
    mutate: () =>
      instead(ReadWriteActivation.prototype, "claim", (claim) => {
        // Whoever comes is let in, and whoever was there is not told.
        const holders = new WeakMap<ReadWriteActivation, Claimant>();
        return function (this: ReadWriteActivation, claimant) {
          const before = holders.get(this);
          if (before !== undefined) this.leave(before);
          holders.set(this, claimant);
          return claim.call(this, claimant);
        };
      }),
  },
  "dirty-told-as-clean": {
    mix: "everything",
    seeds: 32,
    mutate: () => instead(Store.prototype, "isDirty", () => () => false),
  },
  "extent-not-replaced": {
    mix: "hosts",
    seeds: 8,
    mutate: () =>
      instead(Store.prototype, "replaceExtent", () => {
        return function (this: Store, extent, _source, then) {
          // Nearly nothing: it only is opened and closed again.
          this.reopenExtent(extent, (fault) =>
            fault === null ? this.closeExtent(extent, then) : then(fault),
          );
        };
      }),
  },
  "held-not-read": {
    mix: "calm",
    seeds: 4,
    mutate: () =>
      instead(Held.prototype, "find", (find) => {
        return function (this: Held, extent, block) {
          return block % 7 === 0 ? -1 : find.call(this, extent, block);
        };
      }),
  },
  "data-not-synced": { mix: "replicas", seeds: 40, mutate: () => withoutSync("data") },
  "slots-not-synced": { mix: "replicas", seeds: 20, mutate: () => withoutSync("slots") },
  "neighbours-lose-each-other": {
    mix: "calm",
    seeds: 32,
    mutate: () => instead(RangeQueue.prototype, "conflicts", () => () => false),
  },
  "flush-not-passed-on": {
    mix: "blackouts",
    seeds: 12,
    mutate: () =>
      instead(UnalignedDevice.prototype, "flush", () => (client, tag) => {
        client.deviceDone(tag, DeviceStatus.ok, -1, -1);
      }),
  },
};
