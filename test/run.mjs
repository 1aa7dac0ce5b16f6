// Runs everything that `npm test` promises, one stage after the other, and ends with the line
// `N passed, N failed`. A stage that cannot start, a file that says nothing, a skipped test: each is a failure.
//
//   node test/run.mjs [PARTS OF NAMES]   only stages and test files whose name contains one of the parts
import { spawn } from "node:child_process";
import { existsSync, readdirSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";

const UNIT_TIMEOUT_S = 120;
const WHOLE_TIMEOUT_S = 900;

const print = (text) => process.stdout.write(`${text}\n`);

/** Streams the lines of a program's stdout; resolves with its exit status (a signal counts as 128). */
function lines(root, args, onLine) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, {
      cwd: root,
      stdio: ["ignore", "pipe", "inherit"],
      env: { ...process.env, NO_COLOR: "1", TAP_SNAPSHOT: "" },
    });
    child.on("error", reject);
    const reader = createInterface({ input: child.stdout });
    reader.on("line", onLine);
    child.on("close", (status) => resolve(status ?? 128));
  });
}

class Tally {
  passed = 0;
  failed = 0;
  /** What went wrong, repeated at the end. */
  failures = [];

  pass(count = 1) {
    this.passed += count;
  }
  fail(name, text = "") {
    this.failed += 1;
    this.failures.push({ name, text });
  }
}

/** A program that passes or fails as a whole, prints `ok: ` lines, or ends with `N passed, N failed` itself. */
async function program(root, tally, name, args) {
  print(`\n== ${name}`);
  const started = Date.now();
  const output = [];
  const status = await lines(root, args, (line) => {
    output.push(line);
    print(line);
  });
  const counts = output.map((line) => /^(\d+) passed, (\d+) failed$/.exec(line)).findLast(Boolean);
  const ok = output.filter((line) => /^ok: /.test(line)).length;
  const passed = Number(counts?.[1] ?? (ok || (status === 0 ? 1 : 0)));
  const failed = Number(counts?.[2] ?? 0);
  tally.pass(passed);
  for (let i = 0; i < failed; i++) tally.fail(name, i === 0 ? output.join("\n") : "");
  if (status !== 0 && failed === 0) tally.fail(`${name} (status ${status})`, output.join("\n"));
  if (status === 0 && passed === 0 && failed === 0) tally.fail(`${name}: ran nothing`);
  print(`   ${((Date.now() - started) / 1000).toFixed(1)} s`);
}

/**
 * Test files under tap. Counted are the tests of each file (the first level below it), so that a
 * file with a thousand assertions in a loop does not drown the others.
 */
async function tap(root, tally, name, files, options) {
  print(`\n== ${name}: ${files.length} files`);
  const missing = new Set(files);
  let block = [];
  let tests = 0;
  let bad = 0;
  const status = await lines(
    root,
    [realpathSync(join(root, "node_modules/.bin/tap")), "--reporter=tap", ...options, ...files],
    (line) => {
      block.push(line);
      const inner = /^ {4}(not ok|ok) \d+(.*)$/.exec(line);
      if (inner !== null) {
        tests += 1;
        const skipped = / # (skip|to.?do)/i.test(inner[2]);
        if (inner[1] === "ok" && !skipped) tally.pass();
        else {
          bad += 1;
          tally.fail(inner[2].replace(/^ - /, ""));
        }
      }
      const outer = /^(not ok|ok) \d+ - (\S+)(.*)$/.exec(line);
      if (outer === null) return;
      const [, verdict, file, rest] = outer;
      missing.delete(file);
      const reasons = [];
      if (verdict !== "ok" && bad === 0) reasons.push("failed as a whole");
      if (verdict === "ok" && tests === 0) reasons.push("ran no test");
      for (const reason of reasons) tally.fail(`${file}: ${reason}`);
      const wrong = bad > 0 || reasons.length > 0;
      const time = /time=([\d.]+)ms/.exec(rest)?.[1] ?? "0";
      print(
        `${wrong ? "FAILED" : "ok"} ${file.replace(/^dist\/test\//, "")}: ${tests} tests, ${(time / 1000).toFixed(1)} s`,
      );
      if (wrong) print(block.join("\n"));
      block = [];
      tests = 0;
      bad = 0;
    },
  );
  for (const file of missing) tally.fail(`${file}: was not run`);
  if (status !== 0 && tally.failed === 0)
    tally.fail(`${name} (tap ended with ${status})`, block.join("\n"));
}

/** Compiled test files, by their sources: what an earlier build left behind does not count. */
function testFiles(root) {
  const found = [];
  const walk = (path) => {
    for (const entry of readdirSync(join(root, path), { withFileTypes: true })) {
      if (entry.isDirectory()) walk(`${path}/${entry.name}`);
      else if (entry.name.endsWith(".test.ts"))
        found.push(`dist/${path}/${entry.name.replace(/ts$/, "js")}`);
    }
  };
  walk("test");
  return found.sort();
}

/**
 * Tests that start whole systems. They wait more than they work, so three at a time; apart from the others, which keep the processors busy.
 * Those that take longest come first, so that none is left alone at the end.
 */
const WHOLE = ["kill", "power", "acceptance", "vm", "interop"].map((name) => `dist/test/${name}/`);

/** Returns the exit status. */
export async function runTests(root, parts) {
  const chosen = (name) => parts.length === 0 || parts.some((part) => name.includes(part));
  const tally = new Tally();
  const all = testFiles(root).filter(chosen);
  const whole = WHOLE.flatMap((folder) => all.filter((file) => file.startsWith(folder)));
  const others = all.filter((file) => !whole.includes(file));

  const biome = realpathSync(join(root, "node_modules/.bin/biome"));
  if (chosen("lint"))
    await program(root, tally, "lint", [biome, "check", "--error-on-warnings", "."]);
  if (others.length > 0) {
    await tap(root, tally, "unit, golden, property and tidy tests", others, [
      `--timeout=${UNIT_TIMEOUT_S}`,
    ]);
  }
  if (chosen("simulator"))
    await program(root, tally, "simulator", ["dist/test/sim/command.js", "--ci"]);
  const native = "native/test/run.mjs";
  if (chosen("native")) {
    if (existsSync(join(root, native))) await program(root, tally, "native", [native]);
    else tally.fail(`native: ${native} is missing`);
  }
  if (whole.length > 0) {
    await tap(
      root,
      tally,
      "whole programs: interop, acceptance, power cuts, kills, virtual machines",
      whole,
      ["--jobs=3", `--timeout=${WHOLE_TIMEOUT_S}`],
    );
  } else if (parts.length === 0) tally.fail("whole programs: there are no tests");

  if (tally.failures.length > 0) print("\n== what failed");
  for (const { name } of tally.failures) print(`- ${name}`);
  if (tally.passed + tally.failed === 0) print("\nno test matches");
  print(`\n${tally.passed} passed, ${tally.failed} failed`);
  return tally.failed > 0 || tally.passed === 0 ? 1 : 0;
}

if (process.argv[1] === import.meta.filename) {
  process.exitCode = await runTests(join(import.meta.dirname, ".."), process.argv.slice(2));
}
