import t from "tap";
import { InvariantError } from "../../../src/base/invariant.js";
import { type ExportOptions, ExportTable, NbdExport } from "../../../src/nbd/export.js";
import { MemoryDevice } from "../../../src/volume/memory.js";
import { UnalignedDevice } from "../../../src/volume/unaligned.js";
import { FakeArena } from "../../kit/arena.js";

const arena = new FakeArena();
const device = (blockBytes: number) => new MemoryDevice(arena, { sizeBytes: 65536, blockBytes });
const make = (options: Partial<ExportOptions>) =>
  new NbdExport({ name: "", device: device(4096), ...options });

t.test("block sizes", async (t) => {
  const unaligned = new UnalignedDevice(arena, device(32768));
  const rows: [Partial<ExportOptions>, number, number][] = [
    [{}, 4096, 4096],
    [{ device: device(512) }, 512, 4096],
    [{ device: device(1) }, 1, 4096],
    [{ device: device(32768) }, 32768, 32768],
    [{ device: unaligned, blockBytes: 32768 }, 32768, 32768],
    [{ device: unaligned, blockBytes: 32768, minimumBytes: 512 }, 512, 32768],
  ];
  for (const [options, minimum, preferred] of rows) {
    const made = make(options);
    t.same([made.minimumBytes, made.preferredBytes], [minimum, preferred]);
  }
  t.throws(() => make({ minimumBytes: 512 }), InvariantError, "less than the device serves");
  t.throws(() => make({ minimumBytes: 8192 }), InvariantError);
  t.throws(() => make({ name: "x".repeat(4097) }), InvariantError);
});

t.test("names", async (t) => {
  const [one, two] = [make({ name: "one" }), make({ name: "two" })];
  t.equal(new ExportTable([one, two]).find("two"), two);
  t.equal(new ExportTable([one, two]).find(""), one);
  t.equal(new ExportTable([one, two]).find("three"), undefined);
  t.equal(new ExportTable([one, two], true).find("three"), one);
  t.equal(new ExportTable([one, make({})]).find("") === one, false, "an export may be named so");
  t.equal(new ExportTable([]).find(""), undefined);
  t.throws(() => new ExportTable([one, make({ name: "one" })]), InvariantError);
});
