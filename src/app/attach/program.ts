import { execFile, spawn } from "node:child_process";
import * as v from "valibot";
import { FAULTS, Fault, type FaultCode } from "../../base/fault.js";
import { describe } from "../../host/errno.js";
import { addon, nativeProgram } from "../../host/native.js";

// The native program that speaks to the kernel: started, and its one line of JSON read.

const PROGRAM = "trivet-attach";
/** Some sectors in hexadecimal digits, and a little more. */
const ANSWER_BYTES_MAX = 16 * 1024 * 1024;

const failure = v.object({ error: v.string(), detail: v.string(), errno: v.number() });
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const probed = v.object({ size: count, flags: count, preferred: count, read: v.array(v.string()) });
const attached = v.object({
  attached: v.string(),
  index: count,
  size: count,
  block: count,
  pid: count,
});
const disconnected = v.object({ disconnected: v.string() });

export interface Probe {
  readonly sizeBytes: number;
  /** 0: the server does not say. */
  readonly preferredBytes: number;
  /** In the order of what was asked for. */
  readonly read: readonly Buffer[];
}
export interface Attached {
  readonly node: string;
  readonly sizeBytes: number;
  readonly blockBytes: number;
  readonly pid: number;
}
export interface Range {
  readonly offset: number;
  readonly length: number;
}

/** The size of an export and bytes of it, by a connection of its own. TRIVET_E_TIMEOUT: taken, and not answered in time. */
export async function probe(
  server: string,
  exportName: string,
  ranges: readonly Range[],
  patienceSeconds: number,
): Promise<Probe> {
  const words = ["probe", "--server", server, "--export", exportName];
  words.push("--patience", `${patienceSeconds}`);
  for (const { offset, length } of ranges) words.push("--read", `${offset},${length}`);
  const answer = understand(probed, await ask(words));
  return {
    sizeBytes: answer.size,
    preferredBytes: answer.preferred,
    read: answer.read.map((text) => Buffer.from(text, "hex")),
  };
}

/** Starts the program that attaches and supervises; resolves when the device is there, and leaves it running by itself. */
export async function startRun(words: readonly string[]): Promise<Attached> {
  const child = spawn(nativeProgram(PROGRAM), ["run", ...words], {
    detached: true,
    stdio: ["ignore", "pipe", "ignore"],
  });
  // Whoever does not want to wait any longer does not want the device either.
  const stop = (): void => {
    child.kill("SIGTERM");
  };
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const signal of signals) process.on(signal, stop);
  try {
    const line = await new Promise<string>((resolve, reject) => {
      const heard: Buffer[] = [];
      child.once("error", reject);
      child.stdout.on("data", (chunk: Buffer) => heard.push(chunk));
      child.stdout.once("end", () => resolve(Buffer.concat(heard).toString("utf8")));
    });
    const { attached: node, size, block, pid } = understand(attached, line);
    return { node, sizeBytes: size, blockBytes: block, pid };
  } finally {
    for (const signal of signals) process.off(signal, stop);
    child.unref();
  }
}

/** This process becomes the program that attaches and supervises: no second one has to stay. Comes back only by a Fault. */
export function becomeRun(words: readonly string[]): never {
  const path = nativeProgram(PROGRAM);
  const error = addon().execute(path, [PROGRAM, "run", ...words, "--plain", "--notify"]);
  throw new Fault("TRIVET_E_NATIVE", `${path} cannot be started: ${describe(error)}`);
}

export async function disconnect(root: string, index: number, force: boolean): Promise<void> {
  const words = ["disconnect", `${index}`, "--root", root];
  understand(disconnected, await ask(force ? [...words, "--force"] : words));
}

function ask(words: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { maxBuffer: ANSWER_BYTES_MAX };
    const child = execFile(nativeProgram(PROGRAM), words, options, (error, stdout) => {
      // A status other than 0 comes with a line that says why.
      if (error !== null && child.exitCode === null) reject(error);
      else resolve(stdout);
    });
    child.stdin?.end();
  });
}

/** The answer in its shape; throws the Fault that it tells of. */
function understand<T>(shape: v.GenericSchema<unknown, T>, line: string): T {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    value = undefined;
  }
  const answer = v.safeParse(shape, value);
  if (answer.success) return answer.output;
  const failed = v.safeParse(failure, value);
  if (failed.success && Object.hasOwn(FAULTS, failed.output.error))
    throw new Fault(failed.output.error as FaultCode, failed.output.detail, {
      errno: -failed.output.errno,
    });
  throw new Fault("TRIVET_E_NATIVE", `${PROGRAM} answered ${JSON.stringify(line.slice(0, 200))}`);
}
