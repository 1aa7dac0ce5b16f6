import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import type { RegionDefinition } from "../../src/crucible/region-definition.js";
import { parseRegionConfig } from "../../src/region/config.js";
import { makeFolder, removeFolder } from "../kit/folders.js";
import { freePort, run, Server, serveRegion } from "../kit/programs.js";
import { type Contents, contentsOf, mark, type Recording, readRecording } from "./recording.js";

const SOURCE = new URL("../../../test/power/shim/recorder.cc", import.meta.url).pathname;
const BUILD = new URL("../../../build/power/", import.meta.url).pathname;
const DRIVER = new URL("fixture/record-driver.js", import.meta.url).href;

/** Compiles the recorder, if it is not there or older than its source. */
export function recorderPath(): string {
  const path = join(BUILD, "recorder.so");
  if (existsSync(path) && statSync(path).mtimeMs > statSync(SOURCE).mtimeMs) return path;
  mkdirSync(BUILD, { recursive: true });
  // Several tests may do this at the same time.
  const fresh = `${path}.${process.pid}`;
  const flags = ["-std=c++20", "-O1", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"];
  execFileSync(process.env.CXX ?? "c++", [...flags, "-o", fresh, SOURCE, "-ldl"]);
  execFileSync("mv", [fresh, path]);
  return path;
}

export type Engine = "plain" | "ring";
export interface Shape {
  readonly blockSize: number;
  readonly extentSize: number;
  readonly extentCount: number;
  readonly encrypted?: boolean;
}
export interface RunOptions {
  readonly engine?: Engine;
  /** The process kills itself before its n-th sync of a file. */
  readonly dieAt?: number;
  /** What each sync takes at least. */
  readonly pauseUs?: number;
  /** Default: a free one. */
  readonly port?: number;
}

/** One directory whose every change is recorded, and the programs that change it. */
export class Stage {
  readonly #folder = makeFolder();
  readonly #log = join(this.#folder, "log");
  readonly directory = join(this.#folder, "disk");
  readonly #seen = new Map<string, Contents>();
  #checkpoints = 0;

  constructor() {
    mkdirSync(this.directory);
  }
  remove(): void {
    removeFolder(this.#folder);
  }
  /** The recorded region. */
  get region(): string {
    return join(this.directory, "r");
  }
  get definition(): RegionDefinition {
    return parseRegionConfig(readFileSync(join(this.region, "region.json"), "utf8"), this.region);
  }
  /** A directory that nobody watches. */
  beside(name: string): string {
    return join(this.#folder, name);
  }
  environment(options: RunOptions = {}): Record<string, string> {
    const { engine, dieAt, pauseUs } = options;
    return {
      LD_PRELOAD: recorderPath(),
      RECORD_LOG: this.#log,
      RECORD_DIR: this.directory,
      ...(engine === "ring"
        ? { RECORD_SKIP: "trivet.node", NODE_OPTIONS: `--import=${DRIVER}` }
        : {}),
      ...(dieAt === undefined ? {} : { RECORD_DIE: `${dieAt}` }),
      ...(pauseUs === undefined ? {} : { RECORD_PAUSE: `${pauseUs}` }),
    };
  }

  /** Runs a command under the recorder to its end, and looks at what it has left. */
  async record(program: string, ...args: string[]): Promise<void> {
    const { status, stderr } = await run(program, args, { env: this.environment() });
    if (status !== 0) throw new Error(`${program} ${args.join(" ")} ended ${status}\n${stderr}`);
  }
  async create(shape: Shape): Promise<void> {
    await this.record(
      "crucible-downstairs",
      "create",
      "--data",
      this.region,
      ...shapeOptions(shape),
    );
    this.mark("created");
  }
  /** A region and its server that nobody watches. */
  async serveBeside(
    name: string,
    shape: Shape,
  ): Promise<{ server: Server; port: number; path: string }> {
    const path = this.beside(name);
    const made = await run("crucible-downstairs", [
      "create",
      "--data",
      path,
      ...shapeOptions(shape),
    ]);
    if (made.status !== 0) throw new Error(made.stderr);
    const { server, port } = await serveRegion(path);
    return { server, port, path };
  }
  mark(text: string): void {
    mark(this.#log, text);
  }
  async serve(options: RunOptions = {}): Promise<{ server: Server; port: number }> {
    const port = options.port ?? (await freePort());
    const engine = ["--engine", options.engine ?? "plain"];
    const args = ["region", "run", this.region, "--port", `${port}`, ...engine];
    const server = new Server("trivet", args, { env: this.environment(options) });
    await server.says(/is served on/);
    return { server, port };
  }
  /** Waits for a program that was recorded, and looks at what it has left. */
  async ended(server: Server): Promise<number> {
    const status = await server.ended();
    this.#look(`exit ${server.child.pid}`);
    return status;
  }
  /** Nothing may be under way: what is there now must be what the recording makes of it. */
  checkpoint(): void {
    this.#look(`look ${++this.#checkpoints}`);
  }
  #look(text: string): void {
    this.#seen.set(text, contentsOf(this.directory));
    this.mark(text);
  }
  recording(): Recording {
    return readRecording(readFileSync(this.#log), this.directory, this.#seen);
  }
}

const shapeOptions = (shape: Shape): string[] => [
  "--uuid",
  randomUUID(),
  "--block-size",
  `${shape.blockSize}`,
  "--extent-size",
  `${shape.extentSize}`,
  "--extent-count",
  `${shape.extentCount}`,
  ...(shape.encrypted === true ? ["--encrypted"] : []),
];
