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

/** For qemu-io on 64 MiB: patterns, FUA, zeros and requests off the blocks, and what must be read after them. */
export const QEMU_IO_COMMANDS = [
  "write -P 7 0 64k",
  "write -f -P 8 512 1024",
  "write -f -P 9 65000 3000000",
  "write -z 2M 1M",
  "write -z -u 5000000 100001",
  "discard 8M 4M",
  "flush",
  "read -P 7 0 512",
  "read -P 8 512 1024",
  "read -P 7 1536 60000",
  "read -P 9 65000 2032152",
  "read -P 0 2M 1M",
  "read -P 0 5000000 100001",
];
