import { existsSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { ROOT, read } from "./sources.js";

/** The table of faults in the upstairs README: what happened, what the guest sees, which tests show it. */
function rows(): readonly { readonly fault: string; readonly tests: readonly string[] }[] {
  const text = read("src/upstairs/README.md");
  const from = text.indexOf("\n## Faults\n");
  const section = text.slice(from, text.indexOf("\n## ", from + 1));
  return section
    .split("\n")
    .filter((line) => line.startsWith("|"))
    .slice(2)
    .filter((line) => !/^\| *(-+|Fault) *\|/.test(line))
    .map((line) => {
      const cells = line.split("|").slice(1, -1);
      const last = cells.at(-1) ?? "";
      return {
        fault: (cells[0] ?? "").trim(),
        tests: [...last.matchAll(/`([^`]+)`/g)].map(([, name]) => name!),
      };
    });
}

t.test("each fault of the table names tests that exist", async (t) => {
  const found = rows();
  t.ok(found.length >= 30, `${found.length} faults`);
  const wrong: string[] = [];
  for (const { fault, tests } of found) {
    if (tests.length === 0) wrong.push(`${fault}: no test`);
    for (const name of tests)
      if (!existsSync(join(ROOT, "test", `${name}.test.ts`))) wrong.push(`${fault}: ${name}`);
  }
  t.same(wrong, []);
});
