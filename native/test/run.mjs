// Builds the C++ test programs with sanitizers and runs them: one line per program, exit status 1 when one fails.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const native = fileURLToPath(new URL("..", import.meta.url));
const PROGRAMS = [
  ...["arena", "hash", "siv", "siv_blocks", "siv_crew", "siv_wiped", "sys", "net", "ring", "plain", "loop"],
  ...["attach_message", "attach_handshake", "attach_supervisor", "attach_run"],
];
const BUILDS = [
  { sanitize: "address,undefined", programs: PROGRAMS },
  // Only these have threads.
  { sanitize: "thread", programs: ["plain", "siv_crew"] },
];
const environment = {
  ...process.env,
  ASAN_OPTIONS: "detect_leaks=1:abort_on_error=0",
  UBSAN_OPTIONS: "halt_on_error=1:print_stacktrace=1",
};

function run(command, args) {
  const result = spawnSync(command, args, {
    encoding: "utf8",
    env: environment,
    timeout: 300_000,
  });
  const output = `${result.stdout ?? ""}${result.stderr ?? ""}${result.error?.message ?? ""}`;
  return { good: result.status === 0, output };
}

let failed = false;
for (const { sanitize, programs } of BUILDS) {
  const folder = fileURLToPath(
    new URL(`../../build/native-test-${sanitize.replace(",", "-")}`, import.meta.url),
  );
  const steps = [
    [
      "-S",
      native,
      "-B",
      folder,
      "-DTRIVET_TESTS=ON",
      `-DSANITIZE=${sanitize}`,
      "-DCMAKE_BUILD_TYPE=RelWithDebInfo",
    ],
    ["--build", folder, "--target", ...programs.map((name) => `test_${name}`)],
  ];
  for (const step of steps) {
    const { good, output } = run("cmake", step);
    if (good) continue;
    process.stdout.write(`not ok: build for ${sanitize}\n${output}\n`);
    process.exit(1);
  }
  for (const name of programs) {
    const started = performance.now();
    const { good, output } = run(`${folder}/test_${name}`, []);
    const took = `${Math.round(performance.now() - started)} ms`;
    process.stdout.write(
      `${good ? "ok" : "not ok"}: ${name} (${sanitize}), ${took}${output === "" ? "" : `\n${output}`}\n`,
    );
    failed ||= !good;
  }
}
process.exit(failed ? 1 : 0);
