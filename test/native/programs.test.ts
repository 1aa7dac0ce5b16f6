import { spawnSync } from "node:child_process";
import t from "tap";

// The C++ programs, built with sanitizers. Without cmake there is nothing to build them with.
t.test("C++ programs under sanitizers", { timeout: 600_000 }, async (t) => {
  if (spawnSync("cmake", ["--version"]).status !== 0) {
    t.pass("skipped: cmake is not installed");
    return;
  }
  const run = spawnSync(process.execPath, ["native/test/run.mjs"], { encoding: "utf8" });
  const lines = run.stdout.split("\n").filter((line) => /^(not )?ok: /.test(line));
  for (const line of lines) t.ok(line.startsWith("ok"), line);
  t.equal(run.status, 0, run.stdout);
  t.equal(lines.length, 8, "all of them ran");
});
