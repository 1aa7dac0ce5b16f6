import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import {
  findProgram,
  nodeForUnits,
  nodeOfServices,
  unusable,
} from "../../../../src/app/units/place.js";
import { plainPath } from "../../../../src/app/units/shipped.js";
import { makeFolder, removeFolder } from "../../../kit/folders.js";

const hidden = makeFolder("/tmp");
const folder = makeFolder("/dev/shm");
t.teardown(() => [hidden, folder].forEach(removeFolder));

t.test("what a service can use", async (t) => {
  chmodSync(folder, 0o755);
  const program = join(folder, "program");
  t.ok(/is not there/.test(unusable(program) ?? ""));
  writeFileSync(program, "", { mode: 0o755 });
  chmodSync(program, 0o755);
  t.equal(unusable(program), undefined);
  chmodSync(program, 0o700);
  t.ok(/only its owner/.test(unusable(program) ?? ""));
  chmodSync(program, 0o755);
  chmodSync(folder, 0o700);
  t.ok(unusable(program)?.includes(`others may not enter ${folder}`));
  chmodSync(folder, 0o755);
  writeFileSync(join(hidden, "program"), "");
  t.ok(/below \/tmp is hidden/.test(unusable(join(hidden, "program")) ?? ""));
  symlinkSync(join(hidden, "program"), join(folder, "link"));
  t.ok(/below \/tmp is hidden/.test(unusable(join(folder, "link")) ?? ""), "through a link");
});

t.test("which Node services get", async (t) => {
  const bin = join(folder, "bin");
  mkdirSync(bin);
  t.equal(nodeOfServices([bin]), undefined);
  writeFileSync(join(folder, "node20"), "", { mode: 0o755 });
  writeFileSync(join(folder, "node22"), "", { mode: 0o755 });
  symlinkSync(join(folder, "node20"), join(bin, "node"));
  const found = nodeOfServices([join(folder, "nothing"), bin]);
  t.equal(found, join(bin, "node"));
  t.equal(nodeForUnits(join(folder, "node20"), found), undefined, "they find the same one");
  t.equal(nodeForUnits(join(folder, "node22"), found), join(folder, "node22"));
  t.equal(findProgram("node", bin), join(bin, "node"));
  t.equal(findProgram("no-such-program", bin), undefined);
});

t.test("paths that units can name", async (t) => {
  for (const path of ["/opt/trivet", "/srv/a_b-1.2+3/x@y"])
    t.equal(plainPath("--program", path), path);
  for (const path of ["", "opt", "/a b", '/a"b', "/a%i", "/a$b", "/a\nb", "/a\\b", "/a;b", "/ä"])
    t.throws(() => plainPath("--program", path), { code: "TRIVET_E_UNITS_PLACE" }, path);
});
