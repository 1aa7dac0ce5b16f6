import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import {
  controlFileName,
  findControlSockets,
  makeRuntimeFolder,
  runtimeFolder,
} from "../../../../src/app/control/paths.js";
import { makeFolder, removeFolder } from "../../../kit/folders.js";

const folder = makeFolder();
t.teardown(() => removeFolder(folder));

t.test("names of volumes become short names of files, different ones different", async (t) => {
  t.equal(controlFileName("photos"), "photos.control");
  t.equal(controlFileName("../../etc/x"), "%2E.%2F..%2Fetc%2Fx.control");
  t.equal(controlFileName(".."), "%2E..control");
  const long = [
    "10.0.0.1:3810+10.0.0.2:3810+10.0.0.3:3810",
    "10.0.0.1:3810+10.0.0.2:3810+10.0.0.3:3811",
  ];
  const names = long.map(controlFileName);
  t.ok(names[0] !== names[1]);
  for (const name of names) t.ok(name.length <= 48 && !name.includes("/"), name);
});

t.test("a unit's runtime folder comes first", async (t) => {
  t.equal(runtimeFolder({ RUNTIME_DIRECTORY: "/run/trivet/photos:/x" }), "/run/trivet/photos");
  t.ok(runtimeFolder({ XDG_RUNTIME_DIR: "/run/user/7" }).endsWith("/trivet"));
});

t.test("sockets are found where servers put them", async (t) => {
  const env = { RUNTIME_DIRECTORY: folder };
  mkdirSync(join(folder, "music"));
  writeFileSync(join(folder, "photos.control"), "");
  writeFileSync(join(folder, "nbd.sock"), "");
  writeFileSync(join(folder, "music", "music.control"), "");
  const found = findControlSockets(env).filter((path) => path.startsWith(folder));
  t.same(found, [join(folder, "music", "music.control"), join(folder, "photos.control")]);
  t.same(findControlSockets(env, "music"), [join(folder, "music", "music.control")]);
  t.same(findControlSockets(env, "videos"), []);
});

t.test("no socket is put where somebody else may put one", async (t) => {
  const open = join(folder, "open");
  mkdirSync(open);
  chmodSync(open, 0o777);
  t.throws(() => makeRuntimeFolder(open), { code: "TRIVET_E_PERMISSION" });
  chmodSync(open, 0o755);
  makeRuntimeFolder(open);
  makeRuntimeFolder(join(open, "a", "b"));
  t.pass("made with what is above it");
});
