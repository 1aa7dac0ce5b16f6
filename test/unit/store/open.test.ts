import t from "tap";
import { Fault, type FaultCode } from "../../../src/base/fault.js";
import { renderRegionConfig } from "../../../src/region/config.js";
import { extentLayout, slotOffset } from "../../../src/region/layout.js";
import type { FakeDisk } from "../../kit/disk.js";
import { EMFILE } from "../../kit/files.js";
import { regionOf } from "../../kit/store.js";
import { freshDisk, plain, Rig, type RigOptions } from "./rig.js";

const REGION = regionOf(512, 20, 3);
const LAYOUT = extentLayout(REGION);
const PATH = "/r/00/000/001";
const value = (text: string) => plain(Buffer.alloc(512, text));

function faultOf(disk: FakeDisk, options: RigOptions = {}): Fault {
  try {
    Rig.open(disk, options);
  } catch (error) {
    if (error instanceof Fault) return error;
    throw error;
  }
  throw new Error("it opened");
}
function changed(change: (file: Buffer) => Buffer | undefined): FakeDisk {
  const disk = freshDisk(REGION);
  const file = change(Buffer.from(disk.get(PATH)!));
  if (file !== undefined) disk.put(PATH, file);
  return disk;
}
const edited = (edit: (file: Buffer) => void): FakeDisk =>
  changed((file) => {
    edit(file);
    return file;
  });

t.test("what is wrong with a region is said: what, where, and what was expected", async (t) => {
  const cases: [string, FakeDisk, FaultCode, RegExp][] = [];
  const add = (name: string, disk: FakeDisk, code: FaultCode, words: RegExp): void => {
    cases.push([name, disk, code, words]);
  };
  const empty = freshDisk(regionOf(512, 20, 1));
  empty.put("/r/region.json", Buffer.from(renderRegionConfig(REGION)));
  add("an extent is missing", empty, "TRIVET_E_EXTENT_MISSING", /\/r\/00\/000\/001: no such file/);
  const far = freshDisk(regionOf(512, 1, 1));
  far.put("/r/region.json", Buffer.from(renderRegionConfig(regionOf(512, 1, 5000))));
  add("a directory is missing", far, "TRIVET_E_EXTENT_MISSING", /00\/001: no such directory/);
  const nothing = changed(() => undefined);
  nothing.put("/r/region.json", Buffer.from("{}"));
  add("no region.json worth it", nothing, "TRIVET_E_REGION_CONFIG", /block_size/);
  const long = freshDisk(REGION);
  long.put("/r/region.json", Buffer.alloc(70_000, " "));
  add("an endless region.json", long, "TRIVET_E_REGION_CONFIG", /longer than any/);
  const size = LAYOUT.fileBytes;
  const expected = new RegExp(`file size \\d+ does not match expected ${size}`);
  add(
    "short",
    changed((f) => f.subarray(0, size - 1)),
    "TRIVET_E_EXTENT_SIZE",
    expected,
  );
  add(
    "empty",
    changed(() => Buffer.alloc(0)),
    "TRIVET_E_EXTENT_SIZE",
    expected,
  );
  add(
    "long",
    changed((f) => Buffer.concat([f, Buffer.alloc(1)])),
    "TRIVET_E_EXTENT_SIZE",
    expected,
  );
  add(
    "version",
    edited((f) => f.writeUInt32LE(3, LAYOUT.metadataAt + 17)),
    "TRIVET_E_EXTENT_METADATA",
    /version is 3/,
  );
  add(
    "dirty byte",
    edited((f) => f.writeUInt8(9, LAYOUT.metadataAt)),
    "TRIVET_E_EXTENT_METADATA",
    /dirty byte is 9/,
  );
  add(
    "a block that no slot fits",
    edited((f) => {
      f.writeUInt8(1, LAYOUT.metadataAt);
      for (const array of [0, 1])
        f.fill(
          "0102030405060708090001020304",
          slotOffset(LAYOUT, array, 7),
          slotOffset(LAYOUT, array, 7) + 20,
          "hex",
        );
    }),
    "TRIVET_E_EXTENT_CONTEXT",
    /no context slot fits block 7 of extent 1/,
  );
  const sqlite = freshDisk(REGION);
  sqlite.put(`${PATH}.db`, Buffer.from("SQLite format 3"));
  sqlite.put(`${PATH}.copy/001`, Buffer.from("x"));
  add("SQLite", sqlite, "TRIVET_E_REGION_SQLITE", /00\/000\/001.db exists/);
  for (const [name, disk, code, words] of cases) {
    const before = disk.paths().join();
    for (const readOnly of [false, true]) {
      const fault = faultOf(disk, { readOnly });
      t.equal(fault.code, code, name);
      t.ok(words.test(fault.message), fault.message);
    }
    t.equal(disk.paths().join(), before, "nothing was touched");
  }
});

t.test("no directory, too few open files, too small an arena", async (t) => {
  const { FakeDisk } = await import("../../kit/disk.js");
  t.equal(faultOf(new FakeDisk()).code, "TRIVET_E_REGION_MISSING");
  const fail = (call: { op: string; path: string }): number =>
    call.op === "open" && call.path === PATH ? EMFILE : 0;
  t.equal(faultOf(freshDisk(REGION), { fail }).code, "TRIVET_E_OPEN_FILES");
  const rig = new Rig(freshDisk(REGION), { arenaBytes: 256 * 1024 });
  rig.world.advance(1000);
  t.equal(rig.fault?.code, "TRIVET_E_MEMORY");
  t.equal(rig.arena.allocations, 0);
  t.equal(rig.files.openFiles, 0);
});

t.test("one writer at a time; readers need a region that nobody writes", async (t) => {
  const disk = freshDisk(REGION);
  const rig = Rig.open(disk);
  t.equal(faultOf(disk).code, "TRIVET_E_REGION_LOCKED");
  t.equal(faultOf(disk, { readOnly: true }).code, "TRIVET_E_REGION_LOCKED");
  t.equal(rig.close(), null);
  const readers = [Rig.open(disk, { readOnly: true }), Rig.open(disk, { readOnly: true })];
  t.equal(readers.length, 2);
});

t.test("a read-only region is never written", async (t) => {
  const disk = freshDisk(REGION);
  const writer = Rig.open(disk);
  writer.write(0, [value("a")]);
  writer.wait((then) => writer.store.closeExtent(0, then));
  writer.close();
  disk.put("/r/00/000/002.copy/002", Buffer.from("x"));
  disk.put("/r/00/000/002.replace/002", Buffer.from("x"));
  const calls = new Set<string>();
  const rig = Rig.open(disk, { readOnly: true, after: (call) => calls.add(call.op) });
  t.ok(rig.store.isDirty(0));
  t.ok(rig.read(0, 1)[0]!.data.equals(value("a").data), "a dirty extent is recovered in memory");
  t.equal(rig.write(0, [value("b")])?.code, "TRIVET_E_READ_ONLY");
  t.equal(rig.flush(1)?.code, "TRIVET_E_READ_ONLY");
  t.equal(rig.flush(1, 1n, 0)?.code, "TRIVET_E_READ_ONLY");
  const source = { host: "h", port: 1 };
  const replaced = rig.wait((then) => rig.store.replaceExtent(0, source, then));
  t.equal(replaced?.code, "TRIVET_E_READ_ONLY");
  t.equal(rig.close(), null);
  t.same([...calls].sort(), ["list", "open", "read"]);
});

t.test("requests that make no sense are answered with a Fault", async (t) => {
  const rig = Rig.open(freshDisk(REGION));
  const wrong = { ...value("a"), data: Buffer.alloc(512, "b") };
  t.equal(rig.write(0, [value("a"), wrong])?.code, "TRIVET_E_HASH");
  t.ok(
    rig.read(0, 1)[0]!.data.every((byte) => byte === 0),
    "nothing of it was written",
  );
  t.equal(rig.store.isDirty(0), false);
  t.equal(rig.write(59, [value("a"), value("b")])?.code, "TRIVET_E_RANGE");
  t.throws(() => rig.read(60, 1), { code: "TRIVET_E_RANGE" });
  t.same(rig.read(60, 0), [], "nothing at the end is something");
  t.equal(rig.flush(1, 1n, 4)?.code, "TRIVET_E_RANGE");
  t.equal(rig.flush(1, 1n, 3), null, "the number of extents is a limit");
  t.equal(rig.wait((then) => rig.store.closeExtent(3, then))?.code, "TRIVET_E_RANGE");
  t.equal(rig.wait((then) => rig.store.flushExtent(-1, 1, 1n, then))?.code, "TRIVET_E_RANGE");
  t.equal(rig.wait((then) => rig.store.reopenExtent(1, then))?.code, "TRIVET_E_PROTOCOL");
  t.equal(
    rig.wait((then) => rig.store.closeExtent(1, then)),
    null,
  );
  t.ok(rig.store.isClosed(1));
  t.equal(rig.wait((then) => rig.store.closeExtent(1, then))?.code, "TRIVET_E_EXTENT_CLOSED");
  t.equal(rig.write(19, [value("a"), value("b")])?.code, "TRIVET_E_EXTENT_CLOSED");
  t.throws(() => rig.read(15, 30), { code: "TRIVET_E_EXTENT_CLOSED" });
  t.equal(
    rig.wait((then) => rig.store.reopenAll(then)),
    null,
  );
  t.equal(rig.write(19, [value("a"), value("b")]), null);
  t.equal(
    rig.wait((then) => rig.store.flushExtent(0, 5, 2n, then)),
    null,
  );
  t.same([rig.store.flushNumber(0), rig.store.flushNumber(1)], [5, 0]);
  t.same([rig.store.isDirty(0), rig.store.isDirty(1)], [false, true]);
  t.equal(rig.flush(6, 2n, 0), null);
  t.ok(rig.store.isDirty(1), "a limit leaves later extents alone");
  t.equal(rig.store.flushNumber(0), 5, "a clean extent keeps its numbers");
});

t.test(
  "closing is safe while work is under way, and loses nothing that was acknowledged",
  async (t) => {
    for (let at = 0; at < 12; at++) {
      const disk = freshDisk(REGION);
      const rig = Rig.open(disk, { seed: at + 1, latencyMs: 3, heldBytesMax: 6 * 4096 });
      const acknowledged: number[] = [];
      let answers = 0;
      const codes = new Set<string>();
      for (let i = 0; i < 20; i++)
        rig.submitWrite(i, [value(String.fromCharCode(65 + i))], i % 3 === 0, (fault) => {
          answers += 1;
          if (fault === null) acknowledged.push(i);
          else codes.add(fault.code);
        });
      rig.submitRead(30, 10, () => {
        answers += 1;
      });
      rig.store.flush(
        1,
        1n,
        -1,
        {
          storeDone: () => {
            answers += 1;
          },
        },
        0,
      );
      rig.world.advance(at * 0.7);
      t.equal(rig.close(), null);
      t.equal(answers, 22);
      t.ok([...codes].every((code) => code === "TRIVET_E_STORE_CLOSED"));
      t.equal(rig.arena.allocations, 0);
      t.equal(rig.files.openFiles, 0);
      t.equal(rig.write(0, [value("z")])?.code, "TRIVET_E_STORE_CLOSED");
      const later = Rig.open(disk.copy());
      for (const i of acknowledged)
        if (!later.read(i, 1)[0]!.data.equals(value(String.fromCharCode(65 + i)).data))
          t.ok(false, `block ${i} after closing at ${at}`);
    }
  },
);
