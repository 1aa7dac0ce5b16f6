import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { StatusReport } from "../../src/control/report.js";
import { NbdClient } from "../acceptance/client.js";
import { type Program, READY } from "../acceptance/rig.js";
import { BLOCK_BYTES } from "../kill/ledger.js";
import { makeFolder, makeRuntimeFolder } from "../kit/folders.js";
import { within } from "../kit/within.js";
import { Book } from "./book.js";
import {
  BOXES,
  CONFIG,
  config,
  createCommand,
  DOCUMENTED,
  FRESH_BOX,
  HOSTS,
  REGION,
  RUNTIME,
  runCommand,
  SOCKET,
  STATE,
} from "./documented.js";
import { Machine } from "./machine.js";
import { Network, Unable } from "./network.js";
import { type Plan, Writer } from "./writer.js";

// What the acts are played on: boxes with a region each, hosts of which one has the volume, and the writer in that one.

/** Small enough to be compared whole, with extents enough for a repair to be more than one step. */
export const SIZE = "64M";
const BLOCKS = (64 * 2 ** 20) / BLOCK_BYTES;
const READ_BYTES = 2 ** 20;
const LOOK_MS = 200;

export interface Box {
  readonly machine: Machine;
  region: Program | undefined;
}
export interface Host {
  readonly machine: Machine;
  server: Program | undefined;
}
/** A writer with little to do, and one with as much as two processors that everything runs on can stand. */
export type Pace = "gentle" | "hard";
const PACES = {
  gentle: { depth: 4, pauseMs: 40 },
  hard: { depth: 8, pauseMs: 8 },
} as const satisfies Record<Pace, Partial<Plan>>;

export class Stage {
  readonly network: Network;
  readonly boxes: Box[] = [];
  readonly hosts: readonly [Host, Host];
  readonly book = new Book(BLOCKS);
  /** The one that must see no error. */
  writer: Writer | undefined;
  readonly #folders = { disk: makeFolder(), memory: makeRuntimeFolder() };
  readonly #writers: Writer[] = [];
  readonly #seed: number;

  private constructor(network: Network, seed: number) {
    this.network = network;
    this.#seed = seed;
    const [a, b] = HOSTS.map(({ name, address }) => this.#machine(name, address));
    this.hosts = [
      { machine: a!, server: undefined },
      { machine: b!, server: undefined },
    ];
    for (const { name, address } of BOXES) this.#addBox(name, address);
  }
  /** Namespaces and folders, nothing in them yet. Throws Unable where that cannot be had. */
  static async open(prefix: string, seed: number): Promise<Stage> {
    const network = Network.open(prefix);
    let stage: Stage | undefined;
    try {
      stage = new Stage(network, seed);
      const { status, stderr } = await stage.hosts[0].machine.run("true");
      if (status !== 0)
        throw new Unable(`machines cannot have folders of their own here: ${stderr.trim()}`);
      return stage;
    } catch (error) {
      if (stage === undefined) network.close();
      else stage.close(false);
      throw error;
    }
  }
  /** Everything ends and is taken away. Answers where the files are, when they are kept. */
  close(keep: boolean): string {
    const { disk, memory } = this.#folders;
    this.network.close();
    const gone = { recursive: true, force: true, maxRetries: 20 };
    rmSync(memory, gone);
    if (!keep) rmSync(disk, gone);
    return disk;
  }

  #machine(name: string, address: string): Machine {
    return new Machine(this.network, name, address, this.#folders);
  }
  #addBox(name: string, address: string): Box {
    const box = { machine: this.#machine(name, address), region: undefined };
    this.boxes.push(box);
    return box;
  }

  // ---- boxes

  /** By the documented commands; answers what was typed. */
  async deploy(box: Box): Promise<string[]> {
    const create = createCommand(SIZE);
    const run = runCommand(box.machine.address);
    await box.machine.must(create);
    box.region = box.machine.start(run.split(" "));
    await box.region.prints("is served on");
    return [create, run];
  }
  /** The third box is gone for good, and another one is there, empty. */
  async freshBox(): Promise<Box> {
    const lost = this.boxes.pop()!;
    await lost.machine.remove();
    return this.#addBox(FRESH_BOX.name, FRESH_BOX.address);
  }

  // ---- hosts

  configure(host: Host, isReplaced: boolean): void {
    host.machine.makeFolder("/etc/trivet");
    writeFileSync(host.machine.path(CONFIG), config(isReplaced));
  }
  /** As the unit does; resolves at once. */
  start(host: Host): Program {
    host.machine.makeFolder(RUNTIME);
    const env = { RUNTIME_DIRECTORY: RUNTIME };
    host.server = host.machine.start(DOCUMENTED.serve.split(" "), env);
    return host.server;
  }
  /** Resolves when clients are let in. */
  async serve(host: Host): Promise<void> {
    await this.start(host).prints(READY);
  }
  /** What `trivet status photos` says, in one line: exit status, first line, worst problem. */
  async status(host: Host): Promise<string> {
    const { status, stdout, stderr } = await host.machine.run(DOCUMENTED.status);
    const lines = stdout.split("\n");
    const first = lines[0]?.replace(/^volume\s+/, "") ?? "";
    const [problem, ...more] = lines.filter((line) => line.startsWith("! "));
    const rest = more.length > 0 ? `(and ${more.length} more)` : undefined;
    const said = [first, problem?.replace("! ", "– "), rest].filter(Boolean).join(" ");
    return `${status}: ${said === "" ? stderr.split(":")[0] : said}`;
  }
  async report(host: Host): Promise<StatusReport> {
    return JSON.parse(await this.#json(host)) as StatusReport;
  }
  async #json(host: Host): Promise<string> {
    const { status, stdout, stderr } = await host.machine.run(`${DOCUMENTED.status} --json`);
    if (stdout === "") throw new Error(`${DOCUMENTED.status} ended with ${status}: ${stderr}`);
    return stdout;
  }
  /** The whole volume, over NBD. */
  async read(host: Host): Promise<Buffer> {
    const client = await NbdClient.connect({ path: host.machine.path(SOCKET) });
    const pieces: Buffer[] = [];
    for (let at = 0; at < client.sizeBytes; at += READ_BYTES)
      pieces.push(await client.read(at, Math.min(READ_BYTES, client.sizeBytes - at)));
    client.close();
    return Buffer.concat(pieces);
  }
  /** Write logs that were put aside. */
  logsAside(host: Host): number {
    const folder = host.machine.path(STATE);
    return readdirSync(folder).filter((name) => name.endsWith(".log")).length;
  }

  // ---- the writer

  /** Another one begins, in all of the volume or in the first half of it. */
  async write(host: Host, pace: Pace, half = false): Promise<Writer> {
    const session = this.#writers.length + 1;
    const plan = {
      session,
      seed: this.#seed + session,
      first: 0,
      count: half ? BLOCKS / 2 : BLOCKS,
      ...PACES[pace],
    };
    const journal = join(this.#folders.disk, `writer${session}`);
    const writer = new Writer(host.machine, journal, plan, this.book);
    this.#writers.push(writer);
    this.writer = writer;
    await this.until(`writer ${session} is answered`, () => writer.answers > 0);
    return writer;
  }
  /** In order: nothing is left open. */
  async stopWriter(): Promise<void> {
    const writer = this.writer!;
    this.writer = undefined;
    const status = await within("the end of the writer", 120_000, writer.stop());
    if (status !== 0 || writer.errors.length > 0)
      throw new Error(
        `the writer ended with ${status}: ${writer.errors[0] ?? said(writer.program)}`,
      );
  }
  /** So many more answers. */
  async progress(count: number, timeoutMs?: number): Promise<void> {
    const writer = this.writer!;
    const wanted = writer.catchUp().answers + count;
    await this.until(`${count} more answers`, () => writer.answers >= wanted, timeoutMs);
  }
  /** Rejects when it takes too long, or the writer ends or sees an error meanwhile. */
  async until(
    what: string,
    test: () => boolean | Promise<boolean>,
    timeoutMs = 60_000,
  ): Promise<void> {
    for (const end = performance.now() + timeoutMs; ; await sleep(LOOK_MS)) {
      const writer = this.writer?.catchUp();
      if (writer !== undefined && (writer.errors.length > 0 || hasEnded(writer.program)))
        throw new Error(`the writer saw an error: ${writer.errors[0] ?? said(writer.program)}`);
      if (await test()) return;
      if (performance.now() > end) throw new Error(`${timeoutMs / 1000} s and not yet: ${what}`);
    }
  }
  /** Three replicas at work, as its status says. */
  async well(host: Host, timeoutMs = 240_000): Promise<void> {
    const isWell = async (): Promise<boolean> => (await this.report(host)).health === "ok";
    await this.until("the status is well", isWell, timeoutMs);
  }

  // ---- the end

  /** All of it stops in order; answers complaints. */
  async stop(host: Host): Promise<string[]> {
    const wrong: string[] = [];
    const programs = [
      { name: host.machine.name, program: host.server! },
      ...this.boxes.map(({ machine, region }) => ({ name: machine.name, program: region! })),
    ];
    for (const { name, program } of programs) {
      const status = await within(`the end of ${name}`, 90_000, program.stop("SIGTERM"));
      if (status !== 0) wrong.push(`${name} ended with ${status}: ${said(program)}`);
    }
    return wrong;
  }
  /** Every region, verified; answers their images. */
  async images(): Promise<Buffer[]> {
    const images: Buffer[] = [];
    for (const { machine } of this.boxes) {
      await machine.must(`trivet region verify ${REGION}`);
      await machine.must(`trivet region export ${REGION} /srv/photos.img`);
      images.push(readFileSync(machine.path("/srv/photos.img")));
    }
    return images;
  }
  /** What servers and regions said last, for who looks for a reason. */
  trace(): string {
    const programs = [
      ...this.hosts.map(({ machine, server }) => ({ name: machine.name, program: server })),
      ...this.boxes.map(({ machine, region }) => ({ name: machine.name, program: region })),
    ];
    return programs
      .filter(({ program }) => program !== undefined)
      .map(({ name, program }) => `--- ${name}\n${said(program!, 25)}`)
      .join("\n");
  }
}

const hasEnded = ({ child }: Program): boolean =>
  child.exitCode !== null || child.signalCode !== null;
const said = ({ output }: Program, lines = 5): string =>
  output.trim().split("\n").slice(-lines).join("\n");
