import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import t from "tap";
import { type FileReport, install, uninstall } from "../../../../src/app/units/install.js";
import { MANIFEST_PATH, type ShippedFile } from "../../../../src/app/units/shipped.js";
import { makeRuntimeFolder, removeFolder } from "../../../kit/folders.js";

const LIB = "usr/local/lib";
const UNIT = `${LIB}/systemd/system/trivet@.service`;
const RULE = `${LIB}/udev/rules.d/61-trivet.rules`;
const files = (...texts: [path: string, text: string][]): ShippedFile[] =>
  texts.map(([path, text]) => ({ path, text }));
const FIRST = files([UNIT, "one\n"], [RULE, "rule\n"]);

const states = (reports: readonly FileReport[]) =>
  Object.fromEntries(reports.map(({ path, state }) => [path, state]));

/** Everything below a folder: paths with their contents. */
function tree(folder: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const name of readdirSync(folder, { recursive: true, encoding: "utf8" }).sort()) {
    const path = join(folder, name);
    const stat = lstatSync(path);
    if (stat.isDirectory()) found[`${name}/`] = "";
    else
      found[name] = stat.isSymbolicLink() ? `-> ${readlinkSync(path)}` : readFileSync(path, "utf8");
  }
  return found;
}

const prefixes: string[] = [];
t.teardown(() => prefixes.forEach(removeFolder));
function place() {
  // In memory: everything is synced.
  const prefix = makeRuntimeFolder();
  prefixes.push(prefix);
  const terms = { prefix, dryRun: false, force: false };
  return {
    prefix,
    terms,
    forced: { ...terms, force: true },
    dry: { ...terms, dryRun: true },
    at: (path: string) => join(prefix, path),
    text: (path: string) => readFileSync(join(prefix, path), "utf8"),
  };
}

t.test("there and away again, and nothing is left", async (t) => {
  const { prefix, terms, dry, at, text } = place();
  t.same(states(install(FIRST, dry)), { [UNIT]: "installed", [RULE]: "installed" });
  t.same(tree(prefix), {}, "a dry run writes nothing");
  t.same(states(install(FIRST, terms)), { [UNIT]: "installed", [RULE]: "installed" });
  t.equal(text(UNIT), "one\n");
  t.same(states(install(FIRST, terms)), { [UNIT]: "unchanged", [RULE]: "unchanged" });
  const before = tree(prefix);
  t.same(states(uninstall(dry)), { [UNIT]: "removed", [RULE]: "removed" });
  t.same(tree(prefix), before);
  rmSync(at(RULE));
  t.same(states(uninstall(terms)), { [UNIT]: "removed", [RULE]: "gone" });
  t.same(tree(prefix), {});
  t.same(uninstall(terms), [], "there is nothing to take away");
});

t.test("what was there before stays", async (t) => {
  const { prefix, terms, at } = place();
  mkdirSync(at(`${LIB}/systemd/system`), { recursive: true });
  writeFileSync(at(`${LIB}/systemd/system/other.service`), "other");
  mkdirSync(at(`${LIB}/empty`));
  const before = tree(prefix);
  install(FIRST, terms);
  uninstall(terms);
  t.same(tree(prefix), before, "empty folders of others included");
  install(FIRST, terms);
  writeFileSync(at(`${LIB}/udev/rules.d/70-mine.rules`), "mine");
  uninstall(terms);
  t.equal(existsSync(at(`${LIB}/udev/rules.d/70-mine.rules`)), true, "also in a folder of ours");
});

t.test("everybody may read it, whatever the umask", async (t) => {
  const { terms, at } = place();
  const umask = process.umask(0o077);
  try {
    install(FIRST, terms);
  } finally {
    process.umask(umask);
  }
  t.equal(statSync(at(UNIT)).mode & 0o777, 0o644);
  t.equal(statSync(at(`${LIB}/systemd`)).mode & 0o777, 0o755);
});

t.test("a new version replaces the old one, and takes along what it no longer has", async (t) => {
  const { terms, at, text } = place();
  install(FIRST, terms);
  const second = files([UNIT, "two\n"], [`${LIB}/modprobe.d/trivet.conf`, "options\n"]);
  t.same(states(install(second, terms)), {
    [UNIT]: "replaced",
    [`${LIB}/modprobe.d/trivet.conf`]: "installed",
    [RULE]: "removed",
  });
  t.equal(text(UNIT), "two\n");
  t.equal(existsSync(at(RULE)), false);
  t.equal(statSync(at(UNIT)).mode & 0o777, 0o644);
  writeFileSync(at(UNIT), "one\n");
  t.equal(states(uninstall(terms))[UNIT], "left", "whoever put the old one back wants it");
  rmSync(at(UNIT));
  uninstall(terms);
  t.same(tree(terms.prefix), {});
});

t.test("work of others is left alone until --force", async (t) => {
  const { terms, forced, at, text } = place();
  mkdirSync(at(`${LIB}/systemd/system`), { recursive: true });
  writeFileSync(at(UNIT), "mine\n");
  t.same(states(install(FIRST, terms)), { [UNIT]: "left", [RULE]: "installed" });
  t.equal(text(UNIT), "mine\n");
  t.same(states(uninstall(terms)), { [RULE]: "removed" }, "it was never installed");
  t.equal(text(UNIT), "mine\n");

  t.same(states(install(FIRST, forced)), { [UNIT]: "replaced", [RULE]: "installed" });
  t.equal(text(UNIT), "one\n");
  writeFileSync(at(UNIT), "edited\n");
  t.same(states(install(FIRST, terms))[UNIT], "left");
  t.same(states(uninstall(terms)), { [UNIT]: "left", [RULE]: "removed" });
  t.equal(text(UNIT), "edited\n");
  t.same(states(uninstall(terms)), { [UNIT]: "left" }, "it is still known");
  t.same(states(uninstall(forced)), { [UNIT]: "removed" });
  t.equal(existsSync(at(MANIFEST_PATH)), false);
});

t.test("links and folders in the place of a file", async (t) => {
  const { prefix, terms, forced, at, text } = place();
  install(FIRST, terms);
  rmSync(at(UNIT));
  writeFileSync(at("elsewhere"), "one\n");
  symlinkSync(at("elsewhere"), at(UNIT));
  t.same(states(install(FIRST, terms))[UNIT], "left", "even if it leads to the same");
  t.same(states(uninstall(terms))[UNIT], "left");
  install(FIRST, forced);
  t.equal(lstatSync(at(UNIT)).isFile(), true);
  t.equal(readFileSync(join(prefix, "elsewhere"), "utf8"), "one\n", "not through the link");
  rmSync(at(RULE));
  mkdirSync(at(`${RULE}/inner`), { recursive: true });
  t.same(states(install(FIRST, forced))[RULE], "left", "a folder is nobody's to force");
  t.same(states(uninstall(forced))[RULE], "left");
  t.equal(existsSync(at(`${RULE}/inner`)), true);
  t.equal(text(MANIFEST_PATH).includes(RULE), true);
});

t.test("an installation that was cut short can be taken away", async (t) => {
  const { prefix, terms, at, text } = place();
  install(FIRST, terms);
  const manifest = text(MANIFEST_PATH);
  // A folder that cannot be written to stops it half-way.
  const second = files([UNIT, "two\n"], [RULE, "other\n"]);
  mkdirSync(at(`${RULE}.${process.pid}.new`));
  t.throws(() => install(second, terms), { code: "EISDIR" });
  t.equal(text(UNIT), "two\n");
  t.equal(text(MANIFEST_PATH) === manifest, false);
  rmSync(at(`${RULE}.${process.pid}.new`), { recursive: true, force: true });
  t.equal(text(RULE), "rule\n");
  t.same(states(uninstall(terms)), { [UNIT]: "removed", [RULE]: "removed" }, "new and old");
  t.same(tree(prefix), {});
});

t.test("a list that is none", async (t) => {
  const { terms, at } = place();
  install(FIRST, terms);
  const good = JSON.parse(readFileSync(at(MANIFEST_PATH), "utf8"));
  const hash = "0".repeat(64);
  const bad = [
    "",
    "{",
    "[]",
    "null",
    JSON.stringify({ ...good, version: 2 }),
    JSON.stringify({ ...good, more: 1 }),
    JSON.stringify({ ...good, files: [{ path: "etc/passwd", sha256: [hash] }] }),
    JSON.stringify({ ...good, files: [{ path: `${LIB}/../../../etc/passwd`, sha256: [hash] }] }),
    JSON.stringify({ ...good, files: [{ path: "/etc/passwd", sha256: [hash] }] }),
    JSON.stringify({ ...good, files: [{ path: UNIT, sha256: ["x"] }] }),
    JSON.stringify({ ...good, folders: ["etc"] }),
    JSON.stringify({ ...good, folders: ["usr/.."] }),
    JSON.stringify({ ...good, folders: [7] }),
  ];
  for (const text of bad) {
    writeFileSync(at(MANIFEST_PATH), text);
    for (const work of [() => install(FIRST, terms), () => uninstall(terms)])
      t.throws(work, { code: "TRIVET_E_UNITS_MANIFEST" }, text);
  }
  t.ok(existsSync(at(UNIT)));
  rmSync(at(MANIFEST_PATH));
  chmodSync(at(UNIT), 0o600);
  t.same(states(install(FIRST, terms))[UNIT], "unchanged", "a new list is made");
  uninstall(terms);
  t.equal(existsSync(at(UNIT)), false);
});

t.test("any order of installing, editing and taking away", async (t) => {
  const paths = ["a", "b/c", "b/d"].map((name) => `${LIB}/${name}`);
  const version = fc.dictionary(fc.constantFrom(...paths), fc.constantFrom("1", "2"), {
    noNullPrototype: true,
  });
  const action = fc.oneof(
    fc.record({ do: fc.constant("install" as const), version }),
    fc.record({ do: fc.constant("uninstall" as const) }),
    fc.record({ do: fc.constant("edit" as const), path: fc.constantFrom(...paths) }),
    fc.record({ do: fc.constant("delete" as const), path: fc.constantFrom(...paths) }),
  );
  fc.assert(
    fc.property(fc.array(action, { maxLength: 8 }), (actions) => {
      const { prefix, terms, forced } = place();
      const edited = new Set<string>();
      for (const one of actions) {
        if (one.do === "install") install(files(...Object.entries(one.version)), terms);
        if (one.do === "uninstall") uninstall(terms);
        if (one.do === "edit") {
          mkdirSync(join(prefix, one.path, ".."), { recursive: true });
          writeFileSync(join(prefix, one.path), "edited");
          edited.add(one.path);
        }
        if (one.do === "delete") {
          rmSync(join(prefix, one.path), { force: true });
          edited.delete(one.path);
        }
        const now = tree(prefix);
        for (const path of edited) if (now[path] !== "edited") return false;
        if (one.do === "install")
          for (const [path, text] of Object.entries(one.version))
            if (!edited.has(path) && now[path] !== text) return false;
      }
      uninstall(terms);
      const left = Object.keys(tree(prefix)).filter((path) => !path.endsWith("/"));
      const expected = new Set([
        ...edited,
        ...(left.includes(MANIFEST_PATH) ? [MANIFEST_PATH] : []),
      ]);
      if (left.length !== expected.size || !left.every((path) => expected.has(path))) return false;
      uninstall(forced);
      removeFolder(prefix);
      return true;
    }),
    { seed: 5, numRuns: 300 },
  );
  t.pass("edited files were never touched, and nothing else was left");
});
