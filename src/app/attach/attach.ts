import { execFile } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { Fault } from "../../base/fault.js";
import type { StatusReport } from "../../control/report.js";
import { notifyManager } from "../../host/notify.js";
import type { Input, Shell } from "../cli/command.js";
import { usage } from "../cli/usage.js";
import { parseDuration, parseSize } from "../cli/values.js";
import { askStatus } from "../control/follow.js";
import { makeRuntimeFolder } from "../control/paths.js";
import { showBytes } from "../progress.js";
import { deviceIndex } from "./device-name.js";
import { findTable, HEAD_BYTES, otherBlockSize } from "./partition-table.js";
import { plan } from "./plan.js";
import { type Attached, becomeRun, type Probe, probe, startRun } from "./program.js";
import { backendOf, isSupervisor, recordFolder, recordPath } from "./records.js";
import { type Device, System } from "./system.js";
import { findTarget, type Target } from "./target.js";

/** The kernel's own bounds for a block of a device on this page size. */
const BLOCK_MIN = 512;
const BLOCK_MAX = 4096;
/** Before it is said that a server lets us wait, and how long it may in one go. */
const PROBE_FIRST_SECONDS = 3;
const PROBE_SECONDS = 30;
const ASK_MS = 500;
const SUPERVISOR_END_MS = 5_000;
const SECONDS_MAX = 86_400;

/** Options of the kernel's device, as they are given to the native program. */
interface Terms {
  readonly blockBytes: number | undefined;
  readonly words: readonly string[];
}

/** `trivet attach`. Resolves when the device is there; with --foreground the process becomes the one that keeps it connected. */
export async function attach(input: Input, shell: Shell): Promise<void> {
  const [word = "", deviceWord] = input.operands;
  const index = deviceWord === undefined ? undefined : parseDevice(deviceWord);
  const adopt = input.flag("adopt");
  if (adopt && index === undefined)
    throw usage("--adopt needs the device: trivet attach NAME /dev/nbdN --adopt");
  const terms = readTerms(input);
  const system = new System(shell.env.TRIVET_ROOT ?? "");
  needRoot(system, "attach");
  await needModule(system);
  const target = await findTarget(word, input, shell.env);
  const { volume } = target;
  try {
    const foreground = input.flag("foreground");
    const way = plan(system, { volume, index, adopt, foreground });
    if (way.kind === "there") {
      const { device, supervisor } = way.attachment;
      const text = `${volume} is attached as ${device.node} already`;
      report(input, shell, volume, text, { ...device, pid: supervisor });
      return;
    }
    await waitUntilActive(target, shell);
    const answer = await ask(target, shell);
    const words = [
      ...["--server", target.server, "--export", answer.exportName, "--volume", volume],
      ...["--record", recordPath(system.root, volume), "--root", system.root],
      ...terms.words,
    ];
    let done: Attached;
    makeRuntimeFolder(recordFolder(system.root));
    if (way.kind === "adopt") {
      await endSupervisor(system, way.supervisor);
      done = await start([...words, "--adopt", "--device", `${way.device.index}`], foreground);
    } else {
      const blockBytes = await chooseBlockSize(terms.blockBytes, target, answer);
      const more = ["--block-size", `${blockBytes}`, "--backend", backendOf(volume)];
      done = await connect([...words, ...more], way.candidates, foreground, index !== undefined);
    }
    const { node, sizeBytes } = done;
    const size = `${showBytes(sizeBytes)} in blocks of ${done.blockBytes} bytes`;
    report(input, shell, volume, `${volume} is attached as ${node}: ${size}`, done);
  } finally {
    target.client?.close();
  }
}

const start = (words: readonly string[], foreground: boolean): Promise<Attached> =>
  foreground ? becomeRun(words) : startRun([...words, "--log", "kernel"]);

/** Takes the first device that the kernel gives: another program may be quicker. Without candidates the kernel makes a new one. */
async function connect(
  words: readonly string[],
  candidates: readonly Device[],
  foreground: boolean,
  isNamed: boolean,
): Promise<Attached> {
  for (const { index } of candidates) {
    try {
      return await start([...words, "--device", `${index}`], foreground);
    } catch (error) {
      const isBusy = error instanceof Fault && error.code === "TRIVET_E_DEVICE_BUSY";
      if (!isBusy || isNamed) throw error;
    }
  }
  return await start([...words, "--device", "auto"], foreground);
}

/** Asks the process that keeps a device connected to leave that to us; the device stays attached. */
export async function endSupervisor(system: System, pid: number): Promise<void> {
  if (pid === 0) return;
  process.kill(pid, "SIGTERM");
  const deadline = performance.now() + SUPERVISOR_END_MS;
  while (isSupervisor(system, pid)) {
    if (performance.now() > deadline)
      throw new Fault(
        "TRIVET_E_DEVICE",
        `process ${pid}, which keeps the device connected, does not end`,
      );
    await sleep(20);
  }
}

function report(input: Input, shell: Shell, volume: string, text: string, device: Attached): void {
  const { node, sizeBytes, blockBytes, pid } = device;
  const facts = { volume, device: node, pid, size_bytes: sizeBytes, block_bytes: blockBytes };
  shell.print(input.flag("json") ? JSON.stringify(facts) : text);
}

export function parseDevice(text: string): number {
  const index = deviceIndex(text);
  if (index === undefined)
    throw usage(`"${text}" is no device of the kernel's nbd; expected /dev/nbdN`);
  return index;
}

function readTerms(input: Input): Terms {
  const words: string[] = [];
  const pass = <T>(option: string, name: string, read: (what: string, text: string) => T): void => {
    const text = input.text(option);
    if (text !== undefined) words.push(name, `${read(`--${option}`, text)}`);
  };
  pass("timeout", "--timeout", (what, text) => parseSeconds(what, text, 0));
  pass("dead-timeout", "--dead-timeout", (what, text) => parseSeconds(what, text, 1));
  pass("read-ahead", "--read-ahead", (what, text) => parseKib(what, text, 1024 * 1024));
  pass("max-request", "--max-request", (what, text) => parseKib(what, text, 32 * 1024));
  const text = input.text("block-size");
  return {
    blockBytes: text === undefined ? undefined : parseBlockSize("--block-size", text),
    words,
  };
}

function parseSeconds(what: string, text: string, least: number): number {
  const seconds = parseDuration(what, text) / 1000;
  if (Number.isInteger(seconds) && seconds >= least && seconds <= SECONDS_MAX) return seconds;
  throw usage(`${what}: ${text} is no whole number of seconds from ${least} s to 1 d`);
}

function parseKib(what: string, text: string, most: number): number {
  const kib = parseSize(what, text) / 1024;
  if (Number.isInteger(kib) && kib >= 4 && kib <= most) return kib;
  throw usage(`${what}: ${text} is not from 4K to ${most}K, in whole KiB`);
}

function parseBlockSize(what: string, text: string): number {
  const bytes = parseSize(what, text);
  if (bytes >= BLOCK_MIN && bytes <= BLOCK_MAX && (bytes & (bytes - 1)) === 0) return bytes;
  throw usage(`${what}: ${text} is none of 512, 1024, 2048 and 4096, which the kernel takes`);
}

export function needRoot({ root }: System, what: string): void {
  // Below another root there is no kernel that could refuse.
  if (root !== "" || process.getuid?.() === 0) return;
  throw new Fault("TRIVET_E_PERMISSION", `only root can ${what} devices of the kernel`);
}

/** Loads the module when it is missing and may be loaded. */
async function needModule(system: System): Promise<void> {
  if (system.hasModule) return;
  const why = system.root === "" ? await modprobe() : "";
  if (!system.hasModule)
    throw new Fault(
      "TRIVET_E_NO_NBD",
      `the kernel's module nbd is not loaded${why === "" ? "" : `: ${why}`}`,
    );
}

const modprobe = (): Promise<string> =>
  new Promise((resolve) => {
    const env = { ...process.env, PATH: `${process.env.PATH ?? ""}:/usr/sbin:/sbin` };
    execFile("modprobe", ["nbd"], { env }, (error, _, stderr) => {
      if (error === null) resolve("");
      else if (error.code === "ENOENT") resolve("there is no modprobe that could load it");
      else resolve(stderr.trim().split("\n")[0] || error.message.split("\n")[0]!);
    });
  });

/** Without a control socket the server is asked for its export, which it answers when the volume is active. */
async function waitUntilActive({ client, volume }: Target, shell: Shell): Promise<void> {
  if (client === undefined) return;
  let said = "";
  for (;;) {
    const status = await askStatus(client);
    if (status.state === "active") break;
    const why = reasonOf(status);
    if (why !== said) {
      shell.warn(`${volume} is not active yet: ${why}; waiting`);
      notifyManager(shell.env.NOTIFY_SOCKET, `STATUS=waiting for the volume: ${why}`);
    }
    said = why;
    await sleep(ASK_MS);
  }
  if (said !== "") shell.warn(`${volume} is active`);
}

const reasonOf = ({ problems, state }: StatusReport): string => problems[0] ?? `it is ${state}`;

interface Answer {
  readonly exportName: string;
  readonly found: Probe;
}

/** Size and preferred block size. A server without a file may have its only export under the volume's name, or under none. */
async function ask(target: Target, shell: Shell): Promise<Answer> {
  const first = target.exportName ?? target.volume;
  try {
    return await askFor(target, first, shell);
  } catch (error) {
    const isUnknown = error instanceof Fault && error.code === "TRIVET_E_REFUSED";
    if (target.exportName !== undefined || !isUnknown) throw error;
    return await askFor(target, "", shell);
  }
}

async function askFor(target: Target, exportName: string, shell: Shell): Promise<Answer> {
  for (let seconds = PROBE_FIRST_SECONDS; ; seconds = PROBE_SECONDS) {
    try {
      return { exportName, found: await probe(target.server, exportName, [], seconds) };
    } catch (error) {
      if (!(error instanceof Fault) || error.code !== "TRIVET_E_TIMEOUT") throw error;
      if (seconds === PROBE_FIRST_SECONDS)
        shell.warn(`${target.server} does not answer yet, as its volume is not active; waiting`);
    }
  }
}

/** That of the volume, unless one is given; in any case one with which a partition table that is there already is found again. */
async function chooseBlockSize(
  given: number | undefined,
  { client, server, volume }: Target,
  { exportName, found }: Answer,
): Promise<number> {
  // A server tells the size of its blocks there; to NBD clients it only says what it prefers.
  const own = client === undefined ? 0 : (await askStatus(client)).block_bytes;
  const wanted = own >= BLOCK_MIN ? own : found.preferredBytes;
  const blockBytes = given ?? Math.min(Math.max(wanted, BLOCK_MIN), BLOCK_MAX);
  const read = async (offset: number, length: number): Promise<Buffer> => {
    const left = Math.min(length, found.sizeBytes - offset);
    if (left <= 0) return Buffer.alloc(0);
    const ranges = [{ offset, length: left }];
    return (await probe(server, exportName, ranges, PROBE_SECONDS)).read[0]!;
  };
  const table = findTable(await read(0, HEAD_BYTES), found.sizeBytes);
  const other = table && (await otherBlockSize(table, blockBytes, read));
  if (table !== undefined && other !== undefined)
    throw new Fault(
      "TRIVET_E_BLOCK_SIZE",
      `${volume} has a partition table (${table.kind}) that was made with blocks of ${other} bytes; with ${blockBytes} its partitions would not be found`,
    );
  return blockBytes;
}
