import { dirname, join, normalize } from "node:path";
import t from "tap";
import { filesBelow, parse, read } from "./sources.js";

/** npm packages by the folders that may use them. */
const PACKAGES: Readonly<Record<string, readonly string[]>> = {
  pino: ["host"],
  "smol-toml": ["app"],
  valibot: ["app", "control", "region"],
  "@msgpack/msgpack": ["control"],
};

/** The table in src/README.md: folder to the folders that it may import. */
function rules(): Map<string, { folders: Set<string>; node: boolean }> {
  const found = new Map<string, { folders: Set<string>; node: boolean }>();
  const rows = read("src/README.md").matchAll(/^\| `(\w+)` +\|[^|]*\| ([^|]*?) *\|$/gm);
  for (const [, folder = "", may = ""] of rows) {
    const words = may.split(", ").map((word) => word.replaceAll("`", ""));
    found.set(folder, { folders: new Set(words), node: words.includes("node:") });
  }
  return found;
}

/** "@noble/ciphers" of "@noble/ciphers/aes.js". */
const packageOf = (name: string): string =>
  name
    .split("/")
    .slice(0, name.startsWith("@") ? 2 : 1)
    .join("/");
const folderOf = (path: string): string => path.split("/")[1]!;

t.test("the table covers every folder of src", async (t) => {
  const folders = new Set(filesBelow("src", ".ts").map(folderOf));
  t.same(
    [...folders].filter((folder) => !rules().has(folder)),
    [],
  );
  t.ok(rules().size >= 12, "the table was found");
});

t.test("folders import only what the table in src/README.md allows", async (t) => {
  const table = rules();
  const wrong: string[] = [];
  for (const path of filesBelow("src", ".ts")) {
    const folder = folderOf(path);
    const rule = table.get(folder);
    if (rule === undefined) continue;
    const everything = rule.folders.has("everything");
    for (const name of parse(path).imports) {
      if (name.startsWith(".")) {
        const target = normalize(join(dirname(path), name));
        const other = folderOf(target);
        const inside = target.startsWith("src/");
        if (!inside || (other !== folder && !everything && !rule.folders.has(other))) {
          wrong.push(`${path} imports ${target}`);
        }
      } else if (name.startsWith("node:")) {
        if (!rule.node && !everything) wrong.push(`${path} imports ${name}`);
      } else {
        const main = packageOf(name);
        if (!PACKAGES[main]?.includes(folder)) wrong.push(`${path} imports the package ${name}`);
      }
    }
  }
  t.same(wrong, []);
});

t.test("every runtime dependency has its place, and only those", async (t) => {
  const { dependencies } = JSON.parse(read("package.json")) as { dependencies: object };
  const building = ["cmake-js", "node-addon-api"];
  t.same(
    Object.keys(dependencies)
      .filter((name) => !building.includes(name))
      .sort(),
    Object.keys(PACKAGES).sort(),
  );
});

t.test("app is imported by tests and launchers only, and by app itself", async (t) => {
  const wrong = filesBelow("src", ".ts")
    .filter((path) => folderOf(path) !== "app")
    .filter((path) => parse(path).imports.some((name) => name.includes("/app/")));
  t.same(wrong, []);
});

t.test("bench and tests import no other packages than the declared ones", async (t) => {
  const { dependencies, devDependencies } = JSON.parse(read("package.json")) as {
    dependencies: object;
    devDependencies: object;
  };
  const known = new Set([...Object.keys(dependencies), ...Object.keys(devDependencies)]);
  const wrong: string[] = [];
  for (const path of filesBelow("test", ".ts")) {
    for (const name of parse(path).imports) {
      if (!/^(\.|node:)/.test(name) && !known.has(packageOf(name))) wrong.push(`${path}: ${name}`);
    }
  }
  t.same(wrong, []);
});
