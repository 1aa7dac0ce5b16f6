import { existsSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { filesBelow, parse, ROOT, read } from "./sources.js";

const LINES_MAX = 500;

const texts = (): string[] =>
  ["src", "test", "native", "systemd", ".ci"]
    .flatMap((folder) =>
      [".ts", ".mjs", ".cc", ".cpp", ".h", ".hpp", ".md", ".txt", ".service", "run"].flatMap((e) =>
        filesBelow(folder, e),
      ),
    )
    .filter((path) => !path.startsWith("test/golden/"))
    .concat(["README.md", "CHANGELOG.md", "package.json", "tsconfig.json", "biome.json"]);

t.test("code files stay small", async (t) => {
  const wrong = texts()
    .filter((path) => /\.(ts|mjs|cc|cpp|h|hpp)$/.test(path))
    .map((path) => ({ path, lines: read(path).split("\n").length - 1 }))
    .filter(({ lines }) => lines > LINES_MAX);
  t.same(wrong, []);
});

t.test("nothing in the tree names the machine or the place it was written on", async (t) => {
  // Put together here, so that this file does not match itself.
  const forbidden = [
    ["..", "shared"].join("/"),
    ["", "work", ""].join("/"),
    ["registry", "npmjs"].join("."),
    ["", "home", ""].join("/"),
    ["/tmp", "bash_jobs"].join("/"),
    ["FIX", "ME"].join(""),
    ["TO", "DO"].join(""),
  ];
  const wrong: string[] = [];
  for (const path of texts()) {
    const text = read(path);
    for (const word of forbidden) if (text.includes(word)) wrong.push(`${path}: ${word}`);
  }
  t.same(wrong, []);
  t.equal(
    read("package-lock.json").includes('"resolved": "http'),
    false,
    "the lock file names no host",
  );
});

t.test("no test is left out or runs alone", async (t) => {
  const wrong = filesBelow("test", ".ts").filter((path) =>
    /\b(?:t|tap)\.(?:skip|only|todo)\b|\{[^}]*\b(?:skip|todo|only): *(?:true|["'`])/.test(
      parse(path).text,
    ),
  );
  t.same(
    wrong.filter((path) => !path.startsWith("test/tidy/")),
    [],
  );
});

t.test("every test file is one that is run, or helps one that is", async (t) => {
  const all = filesBelow("test", ".ts");
  const used = new Set(
    all.flatMap((path) =>
      parse(path)
        .imports.filter((name) => name.startsWith("."))
        .map((name) => join(path, "..", name).replace(/\.js$/, ".ts")),
    ),
  );
  // Started as programs of their own by the tests beside them.
  const started = (path: string) => /\/(?:kit|fixtures?)\//.test(path);
  t.same(
    all.filter((path) => !path.endsWith(".test.ts") && !used.has(path) && !started(path)),
    [],
  );
});

t.test("test files assert something", async (t) => {
  const wrong = filesBelow("test", ".test.ts").filter(
    (path) =>
      !/\bt\.(?:equal|same|ok|notOk|throws|rejects|pass|match)\(|expect|check/.test(read(path)),
  );
  t.same(wrong, []);
});

t.test("areas that a maintainer must learn about have a README", async (t) => {
  const areas = [
    "src",
    "src/app",
    "src/control",
    "src/host",
    "src/nbd",
    "src/crucible",
    "src/region",
  ];
  areas.push("src/upstairs", "src/downstairs", "src/volume", "native", "systemd", "test/golden");
  t.same(
    areas.filter((folder) => !existsSync(join(ROOT, folder, "README.md"))),
    [],
  );
});
