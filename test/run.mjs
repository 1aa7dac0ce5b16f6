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
const WHOLE_JOBS = 3;

const print = (text) => process.stdout.write(`${text}\n`);

/** Streams the lines of a program's stdout; resolves with its exit status (a signal counts as 128). */
function lines(root, args, onLine, env = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, {
      cwd: root,
      stdio: ["ignore", "pipe", "inherit"],
      env: { ...process.env, NO_COLOR: "1", TAP_SNAPSHOT: "", ...env },
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
 * Reads TAP of test files. Counted are the tests of each file (the first level below it), so that a file with a thousand
 * assertions in a loop does not drown the others.
 */
class Report {
  #block = [];
  #tests = 0;
  #bad = 0;
  #tally;
  #missing;

  constructor(tally, files) {
    this.#tally = tally;
    this.#missing = new Set(files);
  }

  add(line) {
    this.#block.push(line);
    const inner = /^ {4}(not ok|ok) \d+(.*)$/.exec(line);
    if (inner !== null) {
      this.#tests += 1;
      const skipped = / # (skip|to.?do)/i.test(inner[2]);
      if (inner[1] === "ok" && !skipped) this.#tally.pass();
      else {
        this.#bad += 1;
        this.#tally.fail(inner[2].replace(/^ - /, ""));
      }
    }
    const outer = /^(not ok|ok) \d+ - (\S+)(.*)$/.exec(line);
    if (outer !== null) this.#file(outer[1], outer[2], outer[3]);
  }
  #file(verdict, file, rest) {
    this.#missing.delete(file);
    const reasons = [];
    if (verdict !== "ok" && this.#bad === 0) reasons.push("failed as a whole");
    if (verdict === "ok" && this.#tests === 0) reasons.push("ran no test");
    for (const reason of reasons) this.#tally.fail(`${file}: ${reason}`);
    const wrong = this.#bad > 0 || reasons.length > 0;
    const time = /time=([\d.]+)ms/.exec(rest)?.[1] ?? "0";
    print(
      `${wrong ? "FAILED" : "ok"} ${file.replace(/^dist\/test\//, "")}: ${this.#tests} tests, ${(time / 1000).toFixed(1)} s`,
    );
    if (wrong) print(this.#block.join("\n"));
    this.#block = [];
    this.#tests = 0;
    this.#bad = 0;
  }

  end() {
    for (const file of this.#missing) this.#tally.fail(`${file}: was not run`);
    return this.#block.join("\n");
  }
}

/** As many at a time as there are processors. */
async function tap(root, tally, name, files, options) {
  print(`\n== ${name}: ${files.length} files`);
  const report = new Report(tally, files);
  const runner = realpathSync(join(root, "node_modules/.bin/tap"));
  const args = [runner, "--reporter=tap", ...options, ...files];
  const status = await lines(root, args, (line) => report.add(line));
  const rest = report.end();
  if (status !== 0 && tally.failed === 0) tally.fail(`${name} (tap ended with ${status})`, rest);
}

/** In the order that is given, which tap does not keep; so many at a time. */
async function inOrder(root, tally, name, files, jobs, timeoutSeconds) {
  print(`\n== ${name}: ${files.length} files`);
  const queue = [...files];
  const worker = async () => {
    for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
      const report = new Report(tally, [file]);
      const started = Date.now();
      const env = { TAP_TIMEOUT: `${timeoutSeconds}` };
      const args = ["--enable-source-maps", file];
      const status = await lines(root, args, (line) => report.add(`    ${line}`), env);
      report.add(`${status === 0 ? "ok" : "not ok"} 1 - ${file} # time=${Date.now() - started}ms`);
    }
  };
  await Promise.all(Array.from({ length: jobs }, worker));
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
const WHOLE = ["kill/", "power/", "vm/", "acceptance/restart", "acceptance/", "interop/"];

/** Returns the exit status. */
export async function runTests(root, parts) {
  const chosen = (name) => parts.length === 0 || parts.some((part) => name.includes(part));
  const tally = new Tally();
  const all = testFiles(root).filter(chosen);
  const isOf = (place) => (file) => file.startsWith(`dist/test/${place}`);
  const whole = [...new Set(WHOLE.flatMap((place) => all.filter(isOf(place))))];
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
    const name = "whole programs: interop, acceptance, power cuts, kills, virtual machines";
    await inOrder(root, tally, name, whole, WHOLE_JOBS, WHOLE_TIMEOUT_S);
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
