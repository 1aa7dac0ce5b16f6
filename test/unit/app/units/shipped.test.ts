import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { parseCommandLine } from "../../../../src/app/cli/parse.js";
import { TRIVET } from "../../../../src/app/commands/trivet.js";
import { parseConfig } from "../../../../src/app/serve/config-file.js";
import { PROGRAM_ROOT, SOURCE_NAMES, shippedFiles } from "../../../../src/app/units/shipped.js";
import { EXIT_STATUS } from "../../../../src/base/fault.js";
import { NBD_CONNECTIONS_MAX } from "../../../../src/base/limits.js";

// The sources in systemd/: all are shipped, and what they say of our programs is so.

const SYSTEMD = join(PROGRAM_ROOT, "systemd");
const source = (name: string): string => readFileSync(join(SYSTEMD, name), "utf8");
const SERVICES = ["trivet@.service", "trivet-attach@.service", "trivet-region@.service"];

/** All values of a key, in order. */
const values = (text: string, key: string): string[] =>
  text
    .split("\n")
    .filter((line) => line.startsWith(`${key}=`))
    .map((line) => line.slice(key.length + 1));

t.test("every file but README and examples is installed", async (t) => {
  const there = readdirSync(SYSTEMD, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(SYSTEMD.length + 1))
    .filter((name) => name !== "README.md" && !name.startsWith("examples/"));
  t.same(there.sort(), [...SOURCE_NAMES].sort());
});

t.test("the program's place and its Node are written into the units", async (t) => {
  const plain = shippedFiles({ program: "/opt/trivet", node: undefined });
  for (const { path, text } of plain) t.ok(path.startsWith("usr/local/lib/"), path) && t.ok(text);
  const moved = shippedFiles({ program: "/srv/t", node: "/usr/local/node20/bin/node" });
  t.same(
    moved.filter(({ text }) => text.includes("/opt/trivet")).map(({ path }) => path),
    [],
  );
  const services = moved.filter(({ path }) => path.endsWith(".service"));
  t.equal(services.length, SERVICES.length);
  for (const { text } of services) {
    t.equal(values(text, "Environment")[0], "TRIVET_NODE=/usr/local/node20/bin/node");
    t.ok(text.includes("/srv/t/build/bin/trivet "));
    t.ok(text.indexOf("[Service]") < text.indexOf("Environment=TRIVET_NODE"));
  }
  t.same(
    plain.filter(({ text }) => text.includes("TRIVET_NODE")),
    [],
  );
});

t.test("commands in units are commands that there are", async (t) => {
  let seen = 0;
  for (const name of SERVICES)
    for (const key of ["ExecStart", "ExecStop"])
      for (const line of values(source(name), key)) {
        const words = line.replaceAll("%i", "photos").replace(" $OPTIONS", "").split(" ");
        const at = words.findIndex((word) => word.endsWith("/build/bin/trivet"));
        t.ok(at >= 0, line);
        const args = words
          .slice(at + 1)
          .map((word) => word.replace(/\$\{ADDRESS\}/, "10.0.0.1").replace(/\$\{PORT\}/, "3810"));
        t.equal(parseCommandLine(TRIVET, args).kind, "run", line);
        seen += 1;
      }
  t.ok(seen >= 2);
});

t.test("numbers that the program defines", async (t) => {
  const { usage, data, superseded, decision } = EXIT_STATUS;
  const prevented = (name: string) =>
    values(source(name), "RestartPreventExitStatus")[0]?.split(" ").map(Number);
  t.same(prevented("trivet@.service"), [usage, superseded, decision]);
  t.same(prevented("trivet-region@.service"), [usage, data]);
  t.same(prevented("trivet-attach@.service"), [usage, data]);
  t.ok(
    Number(values(source("trivet@.service"), "FileDescriptorStoreMax")[0]) > NBD_CONNECTIONS_MAX,
  );
  t.ok(Number(values(source("trivet@.socket"), "Backlog")[0]) >= NBD_CONNECTIONS_MAX);
});

t.test("one file per VM: the examples are files that a volume and a region can have", async (t) => {
  const volume = parseConfig(source("examples/per-vm/vm1.toml"), "vm1.toml");
  const n = 1;
  t.same(
    volume.get("target")?.texts.map((target) => target.split(":")[1]),
    Array(3).fill(`${3900 + 10 * n}`),
  );
  t.same(volume.get("address")?.texts, [`127.0.0.1:${10809 + n}`]);
  t.same(values(source("examples/per-vm/attach-vm1.env"), "OPTIONS"), [`/dev/nbd${n}`]);
  const region = source("examples/per-vm/region-vm1.env");
  t.same(values(region, "PORT"), [`${3900 + 10 * n}`]);
  t.ok(volume.get("target")?.texts.includes(`${values(region, "ADDRESS")[0]}:${3900 + 10 * n}`));
});

t.test("what DefaultDependencies=no leaves out is said", async (t) => {
  for (const name of SERVICES) {
    const text = source(name);
    t.same(values(text, "DefaultDependencies"), ["no"], name);
    t.same(values(text, "Requires"), ["sysinit.target"], name);
    t.same(values(text, "Conflicts"), ["shutdown.target"], name);
    t.same(values(text, "Before"), ["shutdown.target"], name);
    t.ok(values(text, "After").includes("sysinit.target basic.target"), name);
    // By itself, or it would be stopped together with the network.
    t.ok(values(text, "After").join(" ").split(" ").includes("network.target"), name);
  }
});

t.test("what happens to a server happens to nothing above it", async (t) => {
  // Each of these would stop or restart the attachment, or the mount, when the server is restarted, or when it dies.
  const strong =
    /^(?:Requires|Requisite|BindsTo|PartOf|StopPropagatedFrom|PropagatesStopTo|Upholds)=.*trivet/m;
  for (const name of [...SERVICES, "trivet@.socket", "examples/srv-photos.mount"])
    t.equal(strong.test(source(name)), false, name);
  t.equal(/x-systemd\.(?:requires|device-bound)/.test(source("examples/fstab")), false);
  t.ok(values(source("trivet-attach@.service"), "Wants")[0]?.includes("trivet@%i.service"));
  t.ok(values(source("examples/srv-photos.mount"), "Wants")[0]?.includes("trivet-attach@photos"));
});

t.test("a system call that is filtered is an error, and no death", async (t) => {
  // Node asks for pkey_alloc, which @system-service of systemd 252 lacks, and is killed by SIGSYS otherwise.
  for (const name of SERVICES) {
    t.ok(values(source(name), "SystemCallFilter").includes("@system-service"), name);
    t.same(values(source(name), "SystemCallErrorNumber"), ["EPERM"], name);
  }
});

t.test("no unit waits by the clock", async (t) => {
  for (const name of SERVICES) t.equal(/\bsleep\b|\btimeout \d/.test(source(name)), false, name);
});
