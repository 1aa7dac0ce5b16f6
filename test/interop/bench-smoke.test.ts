import { execFile } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { makeFolder, removeFolder } from "../kit/folders.js";
import type { Outcome } from "../kit/programs.js";

// The measuring scripts for repair, memory and restarts, at their smallest: they run, measure something, and clean up. No figure
// is judged here.

const ROOT = new URL("../../../", import.meta.url).pathname;

function bench(name: string, ...args: string[]): Promise<Outcome> {
  const env = { ...process.env };
  delete env.NODE_OPTIONS;
  return new Promise((resolve) => {
    const script = join(ROOT, "dist", "bench", name, "run.js");
    execFile(
      process.execPath,
      ["--enable-source-maps", script, ...args],
      { cwd: ROOT, env, timeout: 400_000 },
      (error, stdout, stderr) => {
        const status = error === null ? 0 : typeof error.code === "number" ? error.code : 128;
        resolve({ status, stdout, stderr });
      },
    );
  });
}

/** The first figure of a row of the table that is printed. */
const figure = (stdout: string, row: string): number => {
  const line = stdout.split("\n").find((text) => text.startsWith(`| ${row} |`));
  return Number.parseFloat(line?.split("|")[2] ?? "");
};

t.test("memory: samples, a table, a file", async (t) => {
  const folder = makeFolder();
  const csv = join(folder, "samples.csv");
  const small = ["0.1", "--every", "1", "--warm", "0", "--size", "64M", "--dir", folder];
  const { status, stdout, stderr } = await bench("memory", ...small, "--csv", csv);
  t.equal(status, 0, stderr);
  t.ok(/^7 samples in 0\.1 minutes/.test(stdout), stdout);
  t.ok(figure(stdout, "resident") > figure(stdout, "anonymous"), stdout);
  t.ok(figure(stdout, "shared") > 0, stdout);
  const rows = readFileSync(csv, "utf8").trim().split("\n");
  t.equal(rows.length, 8);
  t.ok(/^seconds,resident_mib,/.test(rows[0]!));
  t.same(readdirSync(folder), ["samples.csv"], "nothing is left behind");
  removeFolder(folder);
});

t.test("repair: a fresh region in the place of a lost one", async (t) => {
  const folder = makeFolder();
  const small = ["--size", "64M", "--rounds", "1", "--seconds", "1", "--dir", folder];
  const { status, stdout, stderr } = await bench("repair", ...small);
  t.equal(status, 0, stderr);
  for (const row of [
    "guest, three replicas, IOPS",
    "guest, two replicas, IOPS",
    "repair, under load, s",
    "repair, idle, MiB/s on disk",
    "file copy, holes kept, s",
    "file copy, holes filled, s",
  ]) {
    t.ok(figure(stdout, row) > 0, `${row}\n${stdout}`);
  }
  t.same(readdirSync(folder), [], "nothing is left behind");
  removeFolder(folder);
});

t.test("restart: with a client, and without one", async (t) => {
  const folder = makeFolder();
  const small = ["--size", "16M", "--rounds", "1", "--dir", folder];
  const { status, stdout, stderr } = await bench("restart", ...small);
  t.equal(status, 0, stderr);
  for (const row of ["1", "16"]) t.ok(figure(stdout, row) > 0, stdout);
  t.same(readdirSync(folder), [], "nothing is left behind");
  removeFolder(folder);
});

t.test("help", async (t) => {
  for (const name of ["memory", "repair", "restart"]) {
    const { status, stdout } = await bench(name, "--help");
    t.equal(status, 0);
    t.ok(stdout.includes(`npm run bench:${name} -- [`), stdout);
  }
});
