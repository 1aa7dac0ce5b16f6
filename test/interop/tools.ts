import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

// Starting foreign programs. They are the judges, so a missing one is a failure, not something to skip.

export interface Outcome {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Debian's python3-libnbd is for the system's python3. */
const ENVIRONMENT = { ...process.env, PATH: `/usr/bin:/usr/sbin:/sbin:${process.env.PATH}` };

export function run(command: string, ...args: string[]): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const options = { timeout: 100_000, maxBuffer: 1 << 26, env: ENVIRONMENT };
    execFile(command, args, options, (error, stdout, stderr) => {
      const code = error === null ? 0 : (error as { code?: unknown }).code;
      if (typeof code === "number") resolve({ status: code, stdout, stderr });
      else reject(error);
    });
  });
}

/** Succeeds, or throws with everything that the program said. */
export async function must(command: string, ...args: string[]): Promise<string> {
  const { status, stdout, stderr } = await run(command, ...args);
  if (status !== 0)
    throw new Error(`${command} ${args.join(" ")}\nended ${status}\n${stdout}\n${stderr}`);
  return stdout;
}

export function start(command: string, ...args: string[]): ChildProcess {
  return spawn(command, args, { env: ENVIRONMENT, stdio: ["ignore", "pipe", "inherit"] });
}

export function temporaryFolder(): { readonly path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), "trivet-"));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

export async function until(what: string, holds: () => boolean, timeoutMs = 10_000): Promise<void> {
  for (const end = Date.now() + timeoutMs; !holds(); ) {
    if (Date.now() > end) throw new Error(`waited ${timeoutMs} ms for ${what}`);
    await new Promise((next) => setTimeout(next, 20));
  }
}
