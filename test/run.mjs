// Runs everything that `npm test` promises, one stage after the other, and ends with the line
// `N passed, N failed`. A stage that cannot start, a file that says nothing, a skipped test: each is a failure.
//
//   node test/run.mjs [PARTS OF NAMES]   only stages and test files whose name contains one of the parts
import { spawn } from "node:child_process";
import { existsSync, readdirSync, realpathSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const UNIT_TIMEOUT_S = 120;
const WHOLE_TIMEOUT_S = 900;
const HANGING_S = 60;
const WHOLE_JOBS = 3;

const print = (text) => process.stdout.write(`${text}\n`);

/** Streams the lines of a program's stdout; resolves with its exit status (a signal counts as 128). */
function lines(root, args, onLine, { env = {}, timeout = 0 } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, {
      cwd: root,
      stdio: ["ignore", "pipe", "inherit"],
      timeout,
      killSignal: "SIGKILL",
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
 * Test files, so many at a time, in the order that is given. Each is started as it is: what tap's own runner would load into each
 * (for types, mocks, coverage) takes longer than most of them, and it sorts them by name.
 */
async function tap(root, tally, name, files, jobs, timeoutSeconds) {
  print(`\n== ${name}: ${files.length} files`);
  const queue = [...files];
  const worker = async () => {
    for (let file = queue.shift(); file !== undefined; file = queue.shift())
      await testFile(root, tally, file, timeoutSeconds);
  };
  await Promise.all(Array.from({ length: jobs }, worker));
}

/** Counted are the outermost tests of a file, so that one with a thousand assertions in a loop does not drown the others. */
async function testFile(root, tally, file, timeoutSeconds) {
  const started = Date.now();
  const output = [];
  let tests = 0;
  let bad = 0;
  const onLine = (line) => {
    output.push(line);
    const [, verdict, rest] = /^(not ok|ok) \d+(.*)$/.exec(line) ?? [];
    if (verdict === undefined) return;
    tests += 1;
    const skipped = / # (skip|to.?do)/i.test(rest);
    if (verdict === "ok" && !skipped) tally.pass();
    else {
      bad += 1;
      tally.fail(rest.replace(/^ - /, ""));
    }
  };
  const args = ["--enable-source-maps", file];
  const status = await lines(root, args, onLine, {
    env: { TAP_TIMEOUT: `${timeoutSeconds}` },
    // It ends itself, unless it hangs so that it cannot.
    timeout: (timeoutSeconds + HANGING_S) * 1000,
  });
  const reasons = [];
  if (status !== 0 && bad === 0) reasons.push(`failed as a whole (status ${status})`);
  if (status === 0 && tests === 0) reasons.push("ran no test");
  for (const reason of reasons) tally.fail(`${file}: ${reason}`);
  const wrong = bad > 0 || reasons.length > 0;
  const seconds = ((Date.now() - started) / 1000).toFixed(1);
  const short = file.replace(/^dist\/test\//, "");
  print(`${wrong ? "FAILED" : "ok"} ${short}: ${tests} tests, ${seconds} s`);
  if (wrong) print(output.join("\n"));
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
    const name = "unit, golden, property and tidy tests";
    await tap(root, tally, name, others, availableParallelism(), UNIT_TIMEOUT_S);
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
    await tap(root, tally, name, whole, WHOLE_JOBS, WHOLE_TIMEOUT_S);
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
