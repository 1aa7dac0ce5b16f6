import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import t, { type Test } from "tap";
import { makeFolder, removeFolder } from "../kit/folders.js";
import { type Outcome, run as program, trivet } from "../kit/programs.js";
import { must, run } from "./tools.js";

// The units as systemd's own tools judge them: installed into a root folder by the command that users type, all templates instantiated.

const ROOT = new URL("../../../", import.meta.url).pathname;
const EXAMPLE = "srv-photos.mount";
const GUEST = "vm1-guest.service";
const INSTANCES = [
  "trivet@photos.service",
  "trivet-attach@photos.service",
  "trivet-region@photos.service",
];
const UNITS = [...INSTANCES, "trivet@photos.socket", "trivet.slice", EXAMPLE, GUEST];

const roots: string[] = [];
t.teardown(() => roots.forEach(removeFolder));

/** A root folder with systemd's own units, and programs of the names that units start. */
function makeRoot(): string {
  const root = makeFolder();
  roots.push(root);
  chmodSync(root, 0o755);
  mkdirSync(join(root, "etc/systemd/system"), { recursive: true });
  cpSync("/usr/lib/systemd/system", join(root, "usr/lib/systemd/system"), {
    recursive: true,
    verbatimSymlinks: true,
  });
  const programs = [
    "build/bin/trivet",
    "build/native/Release/trivet-attach",
    "build/native/Release/trivet-flusher",
  ].map((name) => `opt/trivet/${name}`);
  for (const name of [...programs, "usr/bin/true", "usr/sbin/qm", "bin/sh"]) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    copyFileSync("/bin/true", join(root, name));
  }
  mkdirSync(join(root, "opt/trivet/systemd"));
  copyFileSync(join(ROOT, "systemd/README.md"), join(root, "opt/trivet/systemd/README.md"));
  return root;
}

const install = (root: string, ...more: string[]): Promise<Outcome> =>
  trivet(
    "install-units",
    "--prefix",
    root,
    "--program",
    "/opt/trivet",
    "--node",
    "/usr/bin/node",
    ...more,
  );
const uninstall = (root: string, ...more: string[]): Promise<Outcome> =>
  trivet("uninstall-units", "--prefix", root, ...more);

/** As `systemctl enable` does. */
function enable(root: string, wantedBy: string, unit: string): void {
  const folder = join(root, "etc/systemd/system", `${wantedBy}.wants`);
  mkdirSync(folder, { recursive: true });
  const template = unit.replace(/@.*(?=\.)/, "@");
  const local = join(root, "usr/local/lib/systemd/system", template);
  symlinkSync(existsSync(local) ? local.slice(root.length) : join("..", unit), join(folder, unit));
}

/** What systemd says about starting these units with all that they pull in. */
async function verify(root: string, ...units: string[]): Promise<{ said: string; status: number }> {
  const { stdout, stderr, status } = await run(
    "systemd-analyze",
    "verify",
    "--man=no",
    `--root=${root}`,
    ...units,
  );
  return { said: `${stdout}${stderr}`, status };
}
const CYCLE = /ordering cycle/;

async function everythingInstalled(t: Test): Promise<string> {
  const root = makeRoot();
  const made = await install(root);
  t.equal(made.status, 0, made.stderr);
  copyFileSync(join(ROOT, "systemd/examples", EXAMPLE), join(root, "etc/systemd/system", EXAMPLE));
  copyFileSync(
    join(ROOT, "systemd/examples/per-vm", GUEST),
    join(root, "etc/systemd/system", GUEST),
  );
  for (const unit of INSTANCES) enable(root, "multi-user.target", unit);
  enable(root, "sockets.target", "trivet@photos.socket");
  enable(root, "dev-trivet-photos.device", EXAMPLE);
  enable(root, "dev-trivet-vm1.device", GUEST);
  return root;
}

t.test(
  "systemd has nothing to say against any unit, nor against booting with all of them",
  async (t) => {
    const root = await everythingInstalled(t);
    const each = await verify(root, ...UNITS);
    t.equal(each.said, "");
    t.equal(each.status, 0);
    const boot = await verify(root, "multi-user.target", "dev-trivet-photos.device", ...UNITS);
    t.equal(CYCLE.test(boot.said), false, boot.said);
    t.equal(/trivet|photos/.test(boot.said), false, boot.said);
  },
);

t.test("it would say so if there were something", async (t) => {
  const root = await everythingInstalled(t);
  rmSync(join(root, "opt/trivet/build/bin/trivet"));
  t.ok(/trivet is not executable/.test((await verify(root, ...UNITS)).said));
  const slice = join(root, "usr/local/lib/systemd/system/trivet.slice");
  writeFileSync(slice, `${readFileSync(slice, "utf8")}MemoryMinn=1\n`);
  t.ok(/Unknown key.*MemoryMinn/.test((await verify(root, "trivet.slice")).said));
  // The mount as a local one, which is what made hosts boot without D-Bus.
  const mount = join(root, "etc/systemd/system", EXAMPLE);
  writeFileSync(mount, readFileSync(mount, "utf8").replace("_netdev,nofail,", ""));
  enable(root, "local-fs.target", EXAMPLE);
  t.ok(CYCLE.test((await verify(root, "multi-user.target", ...UNITS)).said));
});

/** Whether `later` is ordered after `earlier`, directly or not: a unit between them that wants it the other way round makes a circle then. */
async function isOrderedAfter(root: string, later: string, earlier: string): Promise<boolean> {
  const probe = join(root, "etc/systemd/system/probe.service");
  writeFileSync(
    probe,
    `[Unit]\nDefaultDependencies=no\nAfter=${later}\nBefore=${earlier}\nWants=${later} ${earlier}\n[Service]\nExecStart=/usr/bin/true\n`,
  );
  const { said } = await verify(root, "probe.service", later, earlier);
  rmSync(probe);
  return CYCLE.test(said);
}

t.test("what waits for what", async (t) => {
  const root = await everythingInstalled(t);
  const [server, attach, region] = INSTANCES as [string, string, string];
  // Stopping goes the other way round: unmount, detach, server, network.
  t.equal(await isOrderedAfter(root, EXAMPLE, attach), true);
  t.equal(await isOrderedAfter(root, attach, server), true);
  for (const unit of [server, attach, region]) {
    t.equal(await isOrderedAfter(root, unit, "network.target"), true, unit);
    t.equal(await isOrderedAfter(root, unit, "local-fs.target"), true, unit);
  }
  // A host without its network or replicas boots: nothing of the boot waits for any of these.
  const milestones = [
    "sysinit.target",
    "local-fs.target",
    "remote-fs.target",
    "basic.target",
    "multi-user.target",
  ];
  for (const milestone of milestones)
    for (const unit of [...INSTANCES, EXAMPLE])
      t.equal(await isOrderedAfter(root, milestone, unit), false, `${milestone} waits for ${unit}`);
  const dropIn = join(root, "etc/systemd/system/trivet@.service.d/default.conf");
  mkdirSync(dirname(dropIn));
  writeFileSync(dropIn, "[Unit]\nDefaultDependencies=yes\n");
  t.equal(await isOrderedAfter(root, "multi-user.target", server), true, "as it would for others");
});

t.test("the line for fstab is the same mount", async (t) => {
  const root = await everythingInstalled(t);
  const out = join(root, "generated");
  mkdirSync(out);
  const env = { SYSTEMD_FSTAB: join(ROOT, "systemd/examples/fstab") };
  const { status, stderr } = await program(
    "/usr/lib/systemd/system-generators/systemd-fstab-generator",
    [out, out, out],
    { env },
  );
  t.equal(status, 0, stderr);
  t.same(readdirSync(join(out, "dev-trivet-photos.device.wants")), [EXAMPLE]);
  for (const target of ["local-fs.target", "remote-fs.target"])
    for (const kind of ["wants", "requires"])
      t.equal(existsSync(join(out, `${target}.${kind}`, EXAMPLE)), false, `not by ${target}`);
  rmSync(join(root, "etc/systemd/system", EXAMPLE));
  copyFileSync(join(out, EXAMPLE), join(root, "etc/systemd/system", EXAMPLE));
  const boot = await verify(root, "multi-user.target", "dev-trivet-photos.device", ...UNITS);
  t.equal(/ordering cycle|trivet|photos/.test(boot.said), false, boot.said);
  t.equal(await isOrderedAfter(root, EXAMPLE, INSTANCES[1]!), true);
  t.equal(await isOrderedAfter(root, "remote-fs.target", EXAMPLE), false);
});

t.test("each service is rated below 3 by systemd-analyze security", async (t) => {
  const root = await everythingInstalled(t);
  const rate = (threshold: number, unit: string) =>
    run(
      "systemd-analyze",
      "security",
      "--no-pager",
      "--offline=yes",
      `--threshold=${threshold}`,
      `--root=${root}`,
      unit,
    );
  for (const unit of INSTANCES) {
    const { status, stdout } = await rate(30, unit);
    t.equal(status, 0, stdout);
    t.ok(/Overall exposure level for/.test(stdout), unit);
  }
  t.equal((await rate(1, INSTANCES[0]!)).status === 0, false, "a threshold is one");
});

t.test("the user and the folders are made as systemd reads them", async (t) => {
  const root = await everythingInstalled(t);
  const lib = join(root, "usr/local/lib");
  const sysusers = join(lib, "sysusers.d/trivet.conf");
  const isRoot = process.getuid?.() === 0;
  await must("systemd-sysusers", `--root=${root}`, ...(isRoot ? [] : ["--dry-run"]), sysusers);
  const user = isRoot ? readFileSync(join(root, "etc/passwd"), "utf8") : "";
  const expected = /^trivet:x:\d+:\d+:trivet [^:]*:\/var\/lib\/trivet:\/\S*nologin$/m;
  t.equal(expected.test(user), isRoot, user);
  const conf = join(lib, "tmpfiles.d/trivet.conf");
  // Owners are for root to give.
  if (!isRoot)
    writeFileSync(
      conf,
      readFileSync(conf, "utf8").replaceAll(/ (root root|trivet trivet) /g, " - - "),
    );
  const made = await run("systemd-tmpfiles", `--root=${root}`, "--create", conf);
  t.equal(made.status, 0, made.stderr);
  const modes = ["etc/trivet", "srv/trivet", "run/trivet", "run/trivet/attach"].map(
    (path) => `${path} ${(lstatSync(join(root, path)).mode & 0o777).toString(8)}`,
  );
  t.same(modes, ["etc/trivet 755", "srv/trivet 750", "run/trivet 755", "run/trivet/attach 755"]);
  writeFileSync(conf, "dd /etc/trivet\n");
  const bad = await run("systemd-tmpfiles", `--root=${root}`, "--create", conf);
  t.equal(bad.status === 0, false, "a mistake would be found");
});

t.test("udev takes the rule, where it can be asked", async (t) => {
  const root = await everythingInstalled(t);
  const rule = join(root, "usr/local/lib/udev/rules.d/61-trivet.rules");
  const version = await run("udevadm", "--version").catch(() => undefined);
  // 252 cannot say; our own reading of the rule is among the unit tests.
  if (version === undefined || Number(version.stdout.trim()) < 254) t.ok(existsSync(rule));
  else t.equal((await run("udevadm", "verify", rule)).status, 0);
});

function refused(t: Test, outcome: Outcome, status: number, code: string, detail: RegExp): void {
  t.equal(outcome.status, status, outcome.stderr);
  const line = outcome.stderr.trim().split("\n").at(-1) ?? "";
  t.ok(line.startsWith(`${code}: `), outcome.stderr);
  t.ok(detail.test(line), line);
}

/** Paths below a folder with their contents. */
const tree = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, encoding: "utf8" })
    .sort()
    .map((name) => {
      const stat = lstatSync(join(folder, name));
      return `${name} ${stat.mode.toString(8)} ${stat.isFile() ? readFileSync(join(folder, name), "latin1") : ""}`;
    });

t.test("install and uninstall leave no trace", async (t) => {
  const root = makeRoot();
  const before = tree(root);
  const dry = await install(root, "--dry-run");
  t.equal(dry.status, 0, dry.stderr);
  t.equal(dry.stdout.match(/^would install /gm)?.length, 10, dry.stdout);
  t.same(tree(root), before);
  const made = await install(root, "--json");
  t.equal(made.status, 0, made.stderr);
  const { files, prefix, dry_run } = JSON.parse(made.stdout);
  t.same({ prefix, dry_run }, { prefix: root, dry_run: false });
  for (const { path, state } of files) {
    t.equal(state, "installed");
    t.ok(existsSync(join(root, path)), path);
  }
  const unit = join(root, "usr/local/lib/systemd/system/trivet@.service");
  t.ok(/^Environment=TRIVET_NODE=\/usr\/bin\/node$/m.test(readFileSync(unit, "utf8")));
  t.ok(/^unchanged /m.test((await install(root)).stdout), "twice is once");
  t.equal((await uninstall(root, "--dry-run")).stdout.match(/^would remove /gm)?.length, 10);
  t.equal((await uninstall(root)).status, 0);
  t.same(tree(root), before);
  const again = await uninstall(root);
  t.equal(again.status, 0);
  t.ok(/^nothing is installed below /.test(again.stdout));
});

t.test("changed files stay, and that is said", async (t) => {
  const root = makeRoot();
  await install(root);
  const unit = join(root, "usr/local/lib/systemd/system/trivet@.service");
  writeFileSync(unit, "mine\n");
  const changed =
    /1 file is not as installed.*\/usr\/local\/lib\/systemd\/system\/trivet@\.service/;
  refused(t, await install(root), 4, "TRIVET_E_UNITS_CHANGED", changed);
  const taken = await uninstall(root);
  refused(t, taken, 4, "TRIVET_E_UNITS_CHANGED", changed);
  t.ok(
    /^left .*trivet@\.service, which is not as it was installed/m.test(taken.stdout),
    taken.stdout,
  );
  t.equal(readFileSync(unit, "utf8"), "mine\n");
  t.equal(existsSync(join(dirname(unit), "trivet.slice")), false);
  t.equal((await uninstall(root, "--force")).status, 0);
  t.equal(existsSync(join(root, "usr/local")), false);
});

t.test("what gets in the way is said", async (t) => {
  const root = await everythingInstalled(t);
  refused(
    t,
    await uninstall(root),
    4,
    "TRIVET_E_UNITS_IN_USE",
    /trivet-attach@photos\.service trivet-region@photos\.service trivet@photos\.service trivet@photos\.socket/,
  );
  t.ok(existsSync(join(root, "usr/local/lib/systemd/system/trivet@.service")));
  writeFileSync(join(root, "etc/systemd/system/trivet@.service"), "[Unit]\n");
  mkdirSync(join(root, "etc/lvm"));
  writeFileSync(
    join(root, "etc/lvm/lvm.conf"),
    'devices {\n # global_filter = [ "r|/dev/nbd|" ]\n}\n',
  );
  const warned = await install(root);
  t.equal(warned.status, 0, warned.stderr);
  t.ok(
    /^\/etc\/systemd\/system\/trivet@\.service counts instead/m.test(warned.stderr),
    warned.stderr,
  );
  t.ok(/^LVM reads network block devices here/m.test(warned.stderr), warned.stderr);
  const snippet = readFileSync(join(ROOT, "systemd/examples/lvm-global-filter.conf"), "utf8");
  writeFileSync(join(root, "etc/lvm/lvm.conf"), snippet);
  t.equal(/LVM/.test((await install(root)).stderr), false, "the example is what is asked for");
});

t.test("bad input", async (t) => {
  const root = makeRoot();
  const file = join(root, "file");
  writeFileSync(file, "");
  refused(t, await trivet("install-units", "x"), 2, "TRIVET_E_USAGE", /does not take "x"/);
  refused(
    t,
    await trivet("install-units", "--prefix"),
    2,
    "TRIVET_E_USAGE",
    /--prefix needs a value/,
  );
  refused(
    t,
    await trivet("uninstall-units", "--program", "/x"),
    2,
    "TRIVET_E_USAGE",
    /no option --program/,
  );
  refused(t, await install(file), 4, "TRIVET_E_FILE", /file/);
  refused(
    t,
    await trivet("install-units", "--prefix", root, "--program", "/opt/a b"),
    4,
    "TRIVET_E_UNITS_PLACE",
    /"\/opt\/a b"/,
  );
  const manifest = join(root, "usr/local/lib/trivet/units.json");
  mkdirSync(dirname(manifest), { recursive: true });
  writeFileSync(
    manifest,
    '{"version":1,"files":[{"path":"../etc/passwd","sha256":[]}],"folders":[]}',
  );
  refused(t, await uninstall(root), 3, "TRIVET_E_UNITS_MANIFEST", /units\.json is no list/);
  refused(t, await install(root), 3, "TRIVET_E_UNITS_MANIFEST", /units\.json is no list/);
  // The host itself is never touched when services could not run the program from where it is.
  const onHost = await trivet(
    "install-units",
    "--dry-run",
    "--program",
    root,
    "--node",
    "/nonexistent",
  );
  refused(t, onHost, 4, "TRIVET_E_UNITS_PLACE", /services could not use/);
});

t.test("trivet-flusher becomes the program, and hands no capability on", async (t) => {
  const flusher = join(ROOT, "build/native/Release/trivet-flusher");
  t.equal((await run(flusher)).status, 2);
  t.equal((await run(flusher, "/nonexistent")).status, 127);
  t.equal((await run(flusher, "/etc")).status, 126);
  const { status, stdout } = await run(flusher, "sh", "-c", 'echo "$0 $1"; exit 7', "a b", "c");
  t.equal(status, 7);
  t.equal(stdout, "a b c\n");
  if (process.getuid?.() !== 0) return;
  const capabilities = async (...before: string[]) => {
    const user = [
      "--reuid=65534",
      "--clear-groups",
      "--inh-caps=-all,+chown",
      "--ambient-caps=+chown",
    ];
    const said = await must(
      "setpriv",
      ...user,
      ...before,
      "grep",
      "-E",
      "^Cap(Inh|Prm|Eff|Amb)",
      "/proc/self/status",
    );
    return [...said.matchAll(/[0-9a-f]{16}/g)].map(([mask]) => Number.parseInt(mask, 16));
  };
  t.same(await capabilities(), [1, 1, 1, 1], "as a unit gives them");
  chmodSync(dirname(flusher), 0o755);
  t.same(await capabilities(flusher), [0, 0, 0, 0]);
});
