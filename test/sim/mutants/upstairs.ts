import { WriteLog } from "../../../src/journal/log.js";
import { DeviceStatus } from "../../../src/ports/device.js";
import { Core } from "../../../src/upstairs/core.js";
import { Engine } from "../../../src/upstairs/engine.js";
import { Flushes } from "../../../src/upstairs/flushes.js";
import { Copies } from "../../../src/upstairs/heal-copies.js";
import { Inspector } from "../../../src/upstairs/heal-inspect.js";
import { Mend } from "../../../src/upstairs/heal-mend.js";
import { JobTable, Kind, NONE, Part } from "../../../src/upstairs/job-table.js";
import { LiveRepair } from "../../../src/upstairs/live-repair.js";
import { Reissue } from "../../../src/upstairs/reissue.js";
import { RepairSender } from "../../../src/upstairs/repair-sender.js";
import { Sender } from "../../../src/upstairs/sender.js";
import { WriterMap } from "../../../src/upstairs/writer-map.js";
import { instead, type Mutant } from "./patch.js";

export const UPSTAIRS: Readonly<Record<string, Mutant>> = {
  "flush-by-one": {
    mix: "blackouts",
    seeds: 48,
    mutate: () =>
      instead(JobTable.prototype, "count", (count) => {
        return function (this: JobTable, slot, part) {
          const more = part === Part.done && this.kind[slot] === Kind.flush ? 1 : 0;
          return count.call(this, slot, part) + more;
        };
      }),
  },
  "flush-at-once": {
    mix: "blackouts",
    seeds: 12,
    mutate: () =>
      instead(Flushes.prototype, "ask", () => (client, tag) => {
        client.deviceDone(tag, DeviceStatus.ok, NONE, NONE);
      }),
  },
  "fua-forgotten": {
    mix: "blackouts",
    seeds: 16,
    mutate: () =>
      instead(Engine.prototype, "write", (write) => {
        return function (this: Engine, offset, length, at, _flags, client, tag) {
          write.call(this, offset, length, at, 0, client, tag);
        };
      }),
  },
  "replay-without-acknowledged": {
    mix: "replicas",
    seeds: 8,
    mutate: () =>
      instead(Core.prototype, "hold", (hold) => {
        return function (this: Core, slot, lane) {
          if (this.table.part[slot * 3 + lane.index] !== Part.done) hold.call(this, slot, lane);
        };
      }),
  },
  "dependency-never-sent": {
    mix: "network",
    seeds: 4,
    mutate: () =>
      instead(Core.prototype, "spread", (spread) => {
        return function (this: Core, slot) {
          const { table, lanes } = this;
          const foreign: number[] = [];
          for (let other = table.head; other !== NONE; other = table.next[other]!)
            if (table.kind[other] === Kind.read)
              for (const lane of lanes)
                if (table.part[other * 3 + lane.index] === Part.none)
                  foreign.push(other * 3 + lane.index);
          for (const at of foreign) table.part[at] = Part.sent;
          spread.call(this, slot);
          for (const at of foreign) table.part[at] = Part.none;
        };
      }),
  },
  "dependency-on-flush-dropped": {
    mix: "network",
    seeds: 12,
    mutate: () => instead(WriterMap.prototype, "raise", () => () => {}),
  },
  "hash-not-checked": {
    mix: "rot",
    seeds: 16,
    mutate: () => instead(Inspector.prototype, "isGood", () => () => true),
  },
  "healing-writes-over-newer": {
    mix: "rot",
    seeds: 48,
    mutate: () => instead(Mend.prototype, "overtaken", () => () => {}),
  },
  "healing-with-the-wrong-copy": {
    mix: "rot",
    seeds: 20,
    mutate: () => {
      const restores = [
        instead(Copies.prototype, "copyTo", (copyTo) => {
          return function (this: Copies, to, replica, i) {
            const other = this.holds.findIndex((hold, r) => hold !== NONE && r !== replica);
            copyTo.call(this, to, other < 0 ? replica : other, i);
          };
        }),
        instead(Copies.prototype, "agrees", () => () => true),
      ];
      return () => {
        for (const restore of restores) restore();
      };
    },
  },
  "repair-copies-nothing": {
    mix: "repairs",
    seeds: 12,
    mutate: () =>
      instead(RepairSender.prototype, "send", (send) => {
        return function (this: RepairSender, slot, lane, extent, order) {
          send.call(this, slot, lane, extent, order.do === "copy" ? { do: "noop" } : order);
        };
      }),
  },
  "writes-forgotten-by-repair": {
    mix: "repairs",
    seeds: 16,
    mutate: () =>
      instead(LiveRepair.prototype, "takes", (takes) => {
        return function (this: LiveRepair, slot) {
          return takes.call(this, slot) && slot % 2 !== 0;
        };
      }),
  },
  "dependencies-dropped": {
    mix: "network",
    seeds: 16,
    mutate: () =>
      instead(Sender.prototype, "depend", (depend) => {
        return function (this: Sender, slot, writers, repair) {
          depend.call(this, slot, writers, repair);
          this.candidates.clear();
          this.candidates.settle();
        };
      }),
  },
  "log-not-written-again": {
    mix: "hosts",
    seeds: 16,
    mutate: () =>
      instead(Reissue.prototype, "start", () => (_, then) => {
        then();
        return null;
      }),
  },
  "log-written-again-backwards": {
    mix: "hosts",
    seeds: 16,
    mutate: () =>
      instead(Reissue.prototype, "start", (start) => {
        return function (this: Reissue, entries, then) {
          return start.call(this, [...entries].reverse(), then);
        };
      }),
  },
  "log-covered-too-early": {
    mix: "hosts",
    seeds: 48,
    mutate: () =>
      instead(WriteLog.prototype, "answered", (answered) => {
        return function (this: WriteLog, row) {
          answered.call(this, row);
          this.covered(row);
        };
      }),
  },
};
