import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { readWriteLog } from "../../../../src/app/serve/log-place.js";
import { isMemoryFolder } from "../../../../src/host/log-file.js";
import { makeFolder, makeRuntimeFolder, removeFolder } from "../../../kit/folders.js";

const disk = makeFolder();
const memory = makeRuntimeFolder();
t.teardown(() => {
  removeFolder(disk);
  removeFolder(memory);
});
const shared = `/dev/shm/trivet-${process.getuid?.() ?? 0}`;

t.test("where a write log goes", async (t) => {
  t.same(readWriteLog("none", {}, "v"), { paths: [], isDefault: false });
  t.same(readWriteLog("/run/x.log", {}, "v"), { paths: ["/run/x.log"], isDefault: false });
  t.same(
    readWriteLog(undefined, { RUNTIME_DIRECTORY: memory }, "photos").paths,
    [join(memory, "photos.log"), join(shared, "photos.log")],
    "the runtime directory first, shared memory when it has no room",
  );
  t.same(
    readWriteLog(undefined, { RUNTIME_DIRECTORY: disk }, "photos").paths,
    [join(shared, "photos.log")],
    "not on a disk",
  );
  const odd = readWriteLog(undefined, { RUNTIME_DIRECTORY: memory }, "../a b/ü").paths[0]!;
  t.ok(odd.startsWith(`${memory}/`) && !odd.slice(memory.length + 1).includes("/"), odd);
  const below = join(disk, "old");
  mkdirSync(below);
  writeFileSync(join(below, "photos.log"), "");
  t.same(
    readWriteLog(undefined, { RUNTIME_DIRECTORY: below }, "photos").paths,
    [join(below, "photos.log")],
    "one that is there already is not passed over",
  );
});

t.test("what is memory", async (t) => {
  t.equal(isMemoryFolder("/dev/shm"), true);
  t.equal(isMemoryFolder("/dev/shm/not/there/yet"), true);
  t.equal(isMemoryFolder("/proc"), false);
  t.equal(isMemoryFolder(disk), isMemoryFolder("/tmp"));
});
