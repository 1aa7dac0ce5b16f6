import t from "tap";
import { type DeviceClient, DeviceStatus } from "../../../src/ports/device.js";
import { Core } from "../../../src/upstairs/core.js";
import { Flushes } from "../../../src/upstairs/flushes.js";
import { JobTable, Kind, NONE, Part } from "../../../src/upstairs/job-table.js";
import type { Lane } from "../../../src/upstairs/lane.js";
import { WriterMap } from "../../../src/upstairs/writer-map.js";
import { hashApi } from "../../kit/replica.js";
import { storm } from "../../kit/upstairs-storm.js";

// Judges that find nothing prove nothing. Here the engine is broken on purpose, one rule at a time, and the storm must
// notice each.

const hash = await hashApi();

function findings(mutate: () => () => void): string[] {
  const restore = mutate();
  try {
    const found: string[] = [];
    for (let seed = 1; seed <= 6 && found.length === 0; seed++)
      found.push(...storm(hash, { seed, mishaps: 0.04, powerCuts: true, requests: 200 }).broken);
    return found;
  } finally {
    restore();
  }
}

const MUTANTS: Readonly<Record<string, { mutate: () => () => void; notices: RegExp }>> = {
  "a write is answered when one replica has it": {
    notices: /write \d+, block \d+ is there on 1 only/,
    mutate() {
      const { count } = JobTable.prototype;
      JobTable.prototype.count = function (slot, part) {
        const more = part === Part.done && this.kind[slot] === Kind.write ? 1 : 0;
        return count.call(this, slot, part) + more;
      };
      return () => {
        JobTable.prototype.count = count;
      };
    },
  },
  "a flush is answered at once": {
    notices: /is stable on \d only/,
    mutate() {
      const { ask } = Flushes.prototype;
      Flushes.prototype.ask = (client: DeviceClient, tag: number) =>
        client.deviceDone(tag, DeviceStatus.ok, NONE, NONE);
      return () => {
        Flushes.prototype.ask = ask;
      };
    },
  },
  "reads are named to replicas that never got them": {
    notices: /depends on \d+, which cannot be met/,
    mutate() {
      const { spread } = Core.prototype;
      Core.prototype.spread = function (slot) {
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
      return () => {
        Core.prototype.spread = spread;
      };
    },
  },
  "what was acknowledged but not flushed is not replayed": {
    notices: /differs in the end|stable on|there on/,
    mutate() {
      const { hold } = Core.prototype;
      Core.prototype.hold = function (slot: number, lane: Lane) {
        if (this.table.part[slot * 3 + lane.index] !== Part.done) hold.call(this, slot, lane);
      };
      return () => {
        Core.prototype.hold = hold;
      };
    },
  },
  "writes do not wait for earlier ones": {
    notices: /does not wait for/,
    mutate() {
      const { replace } = WriterMap.prototype;
      WriterMap.prototype.replace = function (start, count, id, to) {
        replace.call(this, start, count, id, to);
        to.clear();
      };
      return () => {
        WriterMap.prototype.replace = replace;
      };
    },
  },
  "reads do not wait for writes": {
    notices: /does not wait for/,
    mutate() {
      const { collect } = WriterMap.prototype;
      WriterMap.prototype.collect = () => {};
      return () => {
        WriterMap.prototype.collect = collect;
      };
    },
  },
  "a flush does not stand between before and after": {
    notices: /does not wait for|cannot be met/,
    mutate() {
      const { raise } = WriterMap.prototype;
      WriterMap.prototype.raise = () => {};
      return () => {
        WriterMap.prototype.raise = raise;
      };
    },
  },
};

for (const [name, { mutate, notices }] of Object.entries(MUTANTS))
  t.test(`noticed: ${name}`, async (t) => {
    const found = findings(mutate);
    t.ok(
      found.some((line) => notices.test(line)),
      found.slice(0, 3).join("; ") || "nothing was found",
    );
  });
