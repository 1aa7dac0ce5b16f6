// The whole set-up, from a fresh Debian 12 machine to a built program, then what was asked for:
//
//   node native/setup.mjs start [ARGS of trivet demo]
//   node native/setup.mjs test [PARTS OF TEST FILE NAMES]
//   node native/setup.mjs build
//
// Needs nothing but Node. Each step compares what is there with what it was made from, so the second
// run costs well under a second. Everything a step prints goes to stderr; stdin is never read.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  accessSync,
  constants,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { writeLaunchers } from "./bin.mjs";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
const NODE_MIN = [20, 19];

/** Debian packages, each with its reason. */
const BUILD_PACKAGES = {
  "ca-certificates": "npm talks TLS",
  cmake: "describes the native build",
  "g++": "compiles it",
  "liburing-dev": "io_uring",
  "libuv1-dev": "the loop that Node runs on, for builds whose headers lack uv.h",
  "libxxhash-dev": "XXH64, the protocol's integrity hash",
  make: "runs the native build",
};
const TEST_PACKAGES = {
  "busybox-static": "the shell of virtual machines",
  e2fsprogs: "mkfs.ext4 and e2fsck on a volume",
  fio: "load with verification, by its nbd engine",
  fuse3: "nbdfuse mounts by it",
  "libnbd-bin": "nbdinfo, nbdcopy, nbdfuse: foreign NBD clients",
  "nbd-client": "another one, which lists exports, and attaches in virtual machines",
  nbdkit: "a foreign NBD server to compare with",
  "python3-libnbd": "nbdsh: any single request",
  "qemu-system-x86": "real kernels, under emulation",
  "qemu-utils": "qemu-img and qemu-io: a second independent client",
  systemd: "systemd-analyze, systemd-sysusers and systemd-tmpfiles judge the units",
  "xz-utils": "unpacks kernel modules",
};

function say(text) {
  process.stderr.write(`set-up: ${text}\n`);
}
function stop(text, status = 4) {
  process.stderr.write(`set-up: ${text}\n`);
  process.exit(status);
}

/** Runs a program with its output on stderr; stops everything when it fails. */
function run(what, program, args, options = {}) {
  const result = spawnSync(program, args, {
    cwd: ROOT,
    stdio: ["ignore", 2, 2],
    env: { ...process.env, ...options.env },
  });
  if (result.error) stop(`${what}: ${program} could not be started (${result.error.code})`);
  if (result.status !== 0) {
    stop(`${what} failed (${program} ${args.join(" ")}: ${result.signal ?? result.status})`);
  }
}
function ask(program, args) {
  const result = spawnSync(program, args, {
    cwd: ROOT,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });
  return { found: !result.error, ok: result.status === 0, text: result.stdout ?? "" };
}

// ---- Node ------------------------------------------------------------------------------------------

function checkNode() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major > NODE_MIN[0] || (major === NODE_MIN[0] && minor >= NODE_MIN[1])) return;
  stop(`Node ${process.versions.node} is too old: ${NODE_MIN.join(".")} or later is needed`);
}

// ---- Debian packages -------------------------------------------------------------------------------

function missingPackages(names) {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query's own placeholders
  const answer = ask("dpkg-query", ["-W", "-f", "${Package} ${db:Status-Status}\\n", ...names]);
  if (!answer.found) return undefined;
  const installed = new Set();
  for (const line of answer.text.split("\n")) {
    const [name, status] = line.split(" ");
    if (status === "installed") installed.add(name);
  }
  return names.filter((name) => !installed.has(name));
}

function installPackages(wanted) {
  const missing = missingPackages(Object.keys(wanted));
  if (missing === undefined) {
    say(
      `this is no Debian system; it is up to you that these are there: ${Object.keys(wanted).join(", ")}`,
    );
    return;
  }
  if (missing.length === 0) return;
  for (const name of missing) say(`missing: ${name} (${wanted[name]})`);
  const install = ["apt-get", "install", "-y", "--no-install-recommends", ...missing];
  const isRoot = process.getuid() === 0;
  if (!isRoot && !ask("sudo", ["-n", "true"]).ok) {
    stop(
      `packages are missing. As root, run this, then start again:\n\n  apt-get update && ${install.join(" ")}\n`,
    );
  }
  // sudo resets the environment, so that the variables stand in the command.
  const prefix = [...(isRoot ? [] : ["sudo", "-n"]), "env", "DEBIAN_FRONTEND=noninteractive"];
  const apt = (args) => run("installing Debian packages", prefix[0], [...prefix.slice(1), ...args]);
  apt(["apt-get", "update", "-q"]);
  apt([install[0], "-q", "-o", "Dpkg::Use-Pty=0", ...install.slice(1)]);
}

// ---- npm packages ----------------------------------------------------------------------------------

const readJson = (path) => JSON.parse(readFileSync(join(ROOT, path), "utf8"));

/** True when node_modules holds what the lock file asks for. Optional packages may be another platform's. */
function modulesAreCurrent() {
  let installed;
  try {
    installed = readJson("node_modules/.package-lock.json").packages;
  } catch {
    return false;
  }
  for (const [path, wanted] of Object.entries(readJson("package-lock.json").packages)) {
    if (path === "" || wanted.optional) continue;
    if (installed[path]?.version !== wanted.version) return false;
    if (installed[path]?.integrity !== wanted.integrity) return false;
  }
  return true;
}

function npm(what, args) {
  const own = process.env.npm_execpath ?? "";
  const env = {};
  try {
    const home = process.env.HOME ?? "";
    if (!lstatSync(home).isDirectory()) throw new Error("no directory");
    accessSync(home, constants.W_OK);
  } catch {
    // npm wants to write below HOME; services and containers often have none.
    env.npm_config_cache = join(ROOT, "build/npm-cache");
  }
  if (/npm-cli\.c?js$/.test(own)) run(what, process.execPath, [own, ...args], { env });
  else run(what, "npm", args, { env });
}

function installModules() {
  if (modulesAreCurrent()) return;
  if (lstatSync(join(ROOT, "node_modules"), { throwIfNoEntry: false })?.isSymbolicLink()) {
    stop(
      "node_modules is a link to a place that does not match package-lock.json: mend it there, or remove the link",
    );
  }
  say("installing npm packages");
  npm("npm ci", ["ci", "--include=dev", "--no-fund", "--no-audit"]);
}

// ---- building --------------------------------------------------------------------------------------

/** Files below `folder`, sorted, as paths relative to the root. */
function filesBelow(folder, accept) {
  const found = [];
  const walk = (path) => {
    for (const entry of readdirSync(join(ROOT, path), { withFileTypes: true })) {
      const inner = join(path, entry.name);
      if (entry.isDirectory()) walk(inner);
      else if (accept(inner)) found.push(inner);
    }
  };
  if (existsSync(join(ROOT, folder))) walk(folder);
  return found.sort();
}

/** Builds by `make` unless the stamp says that it was made from these very files, and `product` still exists. */
function upToDate(stampPath, files, extra, product, make) {
  const hash = createHash("sha256").update(JSON.stringify(extra));
  for (const path of files) hash.update(`\0${path}\0`).update(readFileSync(join(ROOT, path)));
  const stamp = hash.digest("hex");
  const at = join(ROOT, stampPath);
  if (product() && existsSync(at) && readFileSync(at, "utf8") === stamp) return;
  make();
  mkdirSync(dirname(at), { recursive: true });
  writeFileSync(at, stamp);
}

function buildNative() {
  const inputs = filesBelow(
    "native",
    (p) => /\.(c|cc|cpp|h|hpp|inc|txt|cmake)$/.test(p) && !p.startsWith("native/test/"),
  );
  upToDate(
    "build/.native-stamp",
    [...inputs, "native/package.json"].filter((p) => existsSync(join(ROOT, p))),
    [process.versions.node, process.arch, readJson("package.json").scripts["build:native"]],
    () =>
      filesBelow("build/native", (p) => p.endsWith(".node")).length > 0 &&
      existsSync(join(ROOT, "build/native/Release/trivet-attach")),
    () => {
      say("building the native part");
      npm("the native build", ["run", "--silent", "build:native"]);
    },
  );
}

/** Compiled files whose source is gone would still be run and tested. */
function removeStale() {
  for (const folder of ["src", "test", "bench"]) {
    for (const path of filesBelow(join("dist", folder), (p) => /\.js(\.map)?$/.test(p))) {
      const source = relative("dist", path).replace(/\.js(\.map)?$/, ".ts");
      if (!existsSync(join(ROOT, source))) rmSync(join(ROOT, path));
    }
  }
}

function buildTypeScript() {
  const isSource = (p) => p.endsWith(".ts");
  const inputs = ["src", "test", "bench"].flatMap((folder) => filesBelow(folder, isSource));
  upToDate(
    "dist/.stamp",
    [...inputs, "tsconfig.json"],
    [readJson("node_modules/typescript/package.json").version],
    () => existsSync(join(ROOT, "dist/src/app/main.js")),
    () => {
      say("compiling TypeScript");
      removeStale();
      run("tsc", process.execPath, ["node_modules/typescript/bin/tsc", "-p", "."]);
    },
  );
}

// ---- what was asked for ----------------------------------------------------------------------------

const [what = "", ...args] = process.argv.slice(2);
if (!["start", "test", "build"].includes(what))
  stop("usage: node native/setup.mjs start|test|build", 2);
checkNode();
installPackages(what === "test" ? { ...BUILD_PACKAGES, ...TEST_PACKAGES } : BUILD_PACKAGES);
installModules();
buildNative();
buildTypeScript();
writeLaunchers(ROOT);

// In this process: signals and the terminal then belong to the program itself.
if (what === "start") {
  const { main } = await import("../dist/src/app/main.js");
  await main("trivet", ["demo", ...args]);
} else if (what === "test") {
  const { runTests } = await import("../test/run.mjs");
  process.exitCode = await runTests(ROOT, args);
}
