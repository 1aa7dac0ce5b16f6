import { basename, join } from "node:path";
import { Fault } from "../../base/fault.js";
import type { Generation } from "../../base/ids.js";
import { DEGRADED_AFTER_MS } from "../../base/limits.js";
import type { Level } from "../../ports/notes.js";
import type { Address } from "../../ports/stream.js";
import { blockShift } from "../../region/geometry.js";
import type { Accept } from "../../upstairs/quorum.js";
import type { Input, OptionSpecs } from "../cli/command.js";
import { usage } from "../cli/usage.js";
import {
  parseAddress,
  parseChoice,
  parseDuration,
  parseGeneration,
  parseSize,
  showAddress,
} from "../cli/values.js";
import type { ControlSetting } from "../control/listener.js";
import { controlPath } from "../control/paths.js";
import { type ConfigValue, readConfigFile } from "./config-file.js";
import { readWriteLog, type WriteLogSetting } from "./log-place.js";
import { defaultStateFolder } from "./volume-state.js";

export const LISTEN_DEFAULT = "127.0.0.1:10809";
const ARENA_DEFAULT = "256M";
const DAY_MS = 86_400_000;
/** Disks rot slowly, and other disks fail often enough: a month is what others do, too. */
const SCRUB_EVERY_MS = 30 * DAY_MS;
/** A terabyte in a day, and little for a disk or a network. */
const SCRUB_RATE_DEFAULT = "16M";
const SCRUB_BYTES_PER_SECOND = parseSize("--scrub-rate", SCRUB_RATE_DEFAULT);
const ARENA_BYTES_MIN = 32 * 1024 * 1024;
const CONFIG_FOLDER = "/etc/trivet";

export const SERVE_OPTIONS: OptionSpecs = {
  target: {
    value: "HOST:PORT",
    short: "t",
    multiple: true,
    help: "A downstairs; give three, always in the same order",
  },
  memory: { value: "SIZE", help: "Serve a scratch disk from memory instead of targets" },
  address: {
    value: "IP:PORT",
    multiple: true,
    shownDefault: `${LISTEN_DEFAULT} without --socket`,
    help: "Listen here for NBD clients",
  },
  socket: { value: "PATH", multiple: true, help: "Listen on a unix socket" },
  export: { value: "NAME", help: "Name of the export; clients get it for the empty name, too" },
  gen: {
    value: "N",
    short: "g",
    shownDefault: "seconds since 1970, or the last used + 1",
    help: "Generation: the highest one has the volume",
  },
  ack: {
    value: "quorum|buffered",
    shownDefault: "quorum",
    help: "Answer a write when two replicas have it, or when the write log does",
  },
  "degraded-after": {
    value: "TIME|never",
    shownDefault: "30s",
    help: "How long two replicas wait for the third before the volume starts without it",
  },
  "accept-empty": {
    help: "Once: empty regions may stand for replicas that are lost",
  },
  "accept-foreign": {
    help: "Once: a region that holds data of something else is written over",
  },
  "accept-older": {
    help: "Once: one replica and an older one are enough to start",
  },
  "repair-rate": {
    value: "SIZE",
    shownDefault: "0",
    help: "Bytes per second that repair copies, at most; 0: no limit",
  },
  "scrub-every": {
    value: "TIME|never",
    shownDefault: "30d",
    help: "How often all blocks of the replicas are compared, and mended",
  },
  "scrub-rate": {
    value: "SIZE",
    shownDefault: SCRUB_RATE_DEFAULT,
    help: "Bytes per second compared, at most; 0: as fast as clients leave room for",
  },
  "read-only": { help: "Refuse writes; for downstairs in read-only mode" },
  "block-size": { value: "BYTES", shownDefault: "1", help: "Smallest request, for --memory" },
  arena: { value: "SIZE", shownDefault: ARENA_DEFAULT, help: "Memory for data under way" },
  engine: {
    value: "auto|ring|plain",
    shownDefault: "auto",
    help: "How the kernel is asked: by io_uring, or by plain system calls",
  },
  "state-dir": {
    value: "DIR",
    help: "Where the last used generation and the ids of the regions are kept",
  },
  "write-log": {
    value: "PATH|none",
    shownDefault: "NAME.log in the runtime directory",
    help: "Keeps what was acknowledged over the death of the server; on a tmpfs",
  },
  control: {
    value: "PATH|none",
    shownDefault: "NAME.control in the runtime directory",
    help: "Socket for trivet status and its like",
  },
  "hand-over": {
    help: "When told to stop, leave clients with the service manager for the next start",
  },
  "log-level": { value: "LEVEL", shownDefault: "info", help: "trace, debug, info, warn or error" },
};

export type Backing =
  | { readonly kind: "memory"; readonly sizeBytes: number; readonly blockBytes: number }
  | { readonly kind: "targets"; readonly targets: readonly Address[] };

export type Engine = "auto" | "ring" | "plain";

/** Everything that a server for one volume is told. Options were read and checked; nothing reads them again. */
export interface ServeSettings {
  /** Names the volume's state on this host. */
  readonly volume: string;
  readonly backing: Backing;
  readonly addresses: readonly Address[];
  readonly sockets: readonly string[];
  /** False: the address is only the default. */
  readonly listensExplicitly: boolean;
  readonly exportName: string;
  /** Also serve names that do not exist. */
  readonly anyName: boolean;
  readonly generation: Generation | undefined;
  readonly ack: "quorum" | "buffered";
  readonly readOnly: boolean;
  /** Milliseconds; null: never. */
  readonly degradedAfterMs: number | null;
  readonly accept: Accept;
  /** Milliseconds; null: only when asked. */
  readonly scrubEveryMs: number | null;
  /** 0: no limit. */
  readonly repairBytesPerSecond: number;
  /** 0: no limit. */
  readonly scrubBytesPerSecond: number;
  readonly arenaBytes: number;
  readonly engine: Engine;
  readonly stateFolder: string;
  readonly writeLog: WriteLogSetting;
  /** Undefined: none. */
  readonly control: ControlSetting | undefined;
  /** A service manager keeps what is open over a restart. */
  readonly handOver: boolean;
  readonly logLevel: Level;
}

/** Options from a file with those of the command line over them. */
class Sources {
  readonly #input: Input;
  readonly #file: ReadonlyMap<string, ConfigValue>;
  constructor(input: Input, file: ReadonlyMap<string, ConfigValue>) {
    this.#input = input;
    this.#file = file;
  }
  list(name: string): readonly string[] {
    const typed = this.#input.list(name);
    return typed.length > 0 ? typed : (this.#file.get(name)?.texts ?? []);
  }
  flag(name: string): boolean {
    return this.#input.flag(name) || this.#file.get(name)?.isTrue === true;
  }
  /** Reads a value; what is wrong is said with the option's name, or the file's place and key. */
  get<T>(name: string, read: (what: string, text: string) => T): T | undefined {
    return this.all(name, read)[0];
  }
  all<T>(name: string, read: (what: string, text: string) => T): readonly T[] {
    const place = this.#input.list(name).length > 0 ? undefined : this.#file.get(name)?.place;
    if (place === undefined) return this.#input.list(name).map((text) => read(`--${name}`, text));
    try {
      return this.list(name).map((text) => read(`${place}: ${name}`, text));
    } catch (error) {
      if (!(error instanceof Fault) || error.code !== "TRIVET_E_USAGE") throw error;
      throw new Fault("TRIVET_E_CONFIG", error.message);
    }
  }
}

/** `photos` is /etc/trivet/photos.toml; anything with a slash or the ending .toml is a path. */
export const configPathOf = (operand: string): string =>
  operand.includes("/") || operand.endsWith(".toml")
    ? operand
    : join(CONFIG_FOLDER, `${operand}.toml`);

export function readSettings(
  input: Input,
  env: Readonly<Record<string, string | undefined>>,
): ServeSettings {
  const operand = input.operands[0];
  const path = operand === undefined ? undefined : configPathOf(operand);
  const sources = new Sources(input, path === undefined ? new Map() : readConfigFile(path));
  const backing = readBacking(input, sources);
  const exportName = sources.get("export", parseExportName);
  const sockets = sources.all("socket", (_, text) => text);
  const named = sources.all("address", (what, text) => parseAddress(what, text, { anyPort: true }));
  const listenHere = named.length === 0 && sockets.length === 0;
  const volume = path === undefined ? volumeName(backing, exportName) : basename(path, ".toml");
  return {
    volume,
    backing,
    addresses: listenHere ? [parseAddress("--address", LISTEN_DEFAULT)] : named,
    sockets,
    listensExplicitly: !listenHere,
    exportName: exportName ?? (path === undefined ? "" : basename(path, ".toml")),
    anyName: false,
    generation: sources.get("gen", parseGeneration),
    ack: sources.get("ack", (w, text) => parseChoice(w, text, ["quorum", "buffered"])) ?? "quorum",
    readOnly: sources.flag("read-only"),
    degradedAfterMs: readDegradedAfter(sources),
    repairBytesPerSecond: sources.get("repair-rate", parseSize) ?? 0,
    scrubEveryMs: readScrubEvery(sources),
    scrubBytesPerSecond: sources.get("scrub-rate", parseSize) ?? SCRUB_BYTES_PER_SECOND,
    accept: {
      empty: sources.flag("accept-empty"),
      foreign: sources.flag("accept-foreign"),
      older: sources.flag("accept-older"),
    },
    arenaBytes: readArena(sources, backing),
    engine: sources.get("engine", parseEngine) ?? "auto",
    stateFolder: sources.get("state-dir", (_, text) => text) ?? defaultStateFolder(env),
    writeLog: readWriteLog(
      sources.get("write-log", (_, text) => text),
      env,
      volume,
    ),
    control: readControl(
      sources.get("control", (_, text) => text),
      env,
      volume,
    ),
    handOver: sources.flag("hand-over"),
    logLevel: sources.get("log-level", parseLevel) ?? "info",
  };
}

/** A server for a backing about which nothing else was said. */
export function defaultSettings(
  backing: Backing,
  env: Readonly<Record<string, string | undefined>>,
): ServeSettings {
  const volume = volumeName(backing, undefined);
  return {
    volume,
    backing,
    addresses: [parseAddress("--address", LISTEN_DEFAULT)],
    sockets: [],
    listensExplicitly: false,
    exportName: "",
    anyName: false,
    generation: undefined,
    ack: "quorum",
    readOnly: false,
    degradedAfterMs: DEGRADED_AFTER_MS,
    repairBytesPerSecond: 0,
    scrubEveryMs: SCRUB_EVERY_MS,
    scrubBytesPerSecond: SCRUB_BYTES_PER_SECOND,
    accept: {},
    arenaBytes: parseSize("--arena", ARENA_DEFAULT),
    engine: "auto",
    stateFolder: defaultStateFolder(env),
    writeLog: readWriteLog(undefined, env, volume),
    control: readControl(undefined, env, volume),
    handOver: false,
    logLevel: "info",
  };
}

function readBacking(input: Input, sources: Sources): Backing {
  // A target or --memory on the command line replaces either of the file.
  const typedMemory = input.text("memory") !== undefined;
  const typedTargets = input.list("target").length > 0;
  if (typedMemory && typedTargets) throw usage("give --target three times or --memory, not both");
  const memory = typedTargets ? undefined : sources.get("memory", parseSize);
  const targets = typedMemory
    ? []
    : sources.all("target", (what, text) => parseAddress(what, text, { names: true }));
  if (memory !== undefined && targets.length > 0) {
    throw new Fault(
      "TRIVET_E_CONFIG",
      "the file names both targets and memory; one of them is meant",
    );
  }
  if (memory !== undefined) {
    const blockBytes = sources.get("block-size", parseSize) ?? 1;
    if (blockBytes !== 1) blockShift(blockBytes, "--block-size");
    if (memory === 0 || memory % blockBytes !== 0) {
      throw usage(`--memory: ${memory} bytes is no whole number of blocks of ${blockBytes}`);
    }
    return { kind: "memory", sizeBytes: memory, blockBytes };
  }
  checkTargets(targets);
  return { kind: "targets", targets };
}

/** Exactly three, all different: a replica that stands for two would be no replica. */
export function checkTargets(targets: readonly Address[]): void {
  if (targets.length === 0) throw usage("give --target three times, --memory, or a volume's name");
  if (targets.length !== 3) throw usage(`there are ${targets.length} targets, expected 3`);
  const seen = new Set<string>();
  for (const target of targets.map(showAddress)) {
    if (seen.has(target)) {
      throw new Fault("TRIVET_E_SAME_REGION", `${target} is named twice as a target`);
    }
    seen.add(target);
  }
}

/** A second at least: replicas that are all there should be found before anybody is left out. */
function readDegradedAfter(sources: Sources): number | null {
  const read = (what: string, text: string): number | null => {
    if (text === "never") return null;
    const ms = parseDuration(what, text);
    if (ms < 1000) throw usage(`${what}: ${text} is too short; expected 1s or more, or never`);
    return ms;
  };
  const found = sources.get("degraded-after", read);
  return found === undefined ? DEGRADED_AFTER_MS : found;
}

/** Null: never. A day at least, so that one is not followed by the next at once. */
function readScrubEvery(sources: Sources): number | null {
  const read = (what: string, text: string): number | null => {
    if (text === "never") return null;
    const everyMs = parseDuration(what, text);
    if (everyMs < DAY_MS) throw usage(`${what}: ${text} is less than 1d`);
    return everyMs;
  };
  const found = sources.get("scrub-every", read);
  return found === undefined ? SCRUB_EVERY_MS : found;
}

function readArena(sources: Sources, backing: Backing): number {
  const asked = sources.get("arena", parseSize) ?? parseSize("--arena", ARENA_DEFAULT);
  if (asked < ARENA_BYTES_MIN) throw usage(`--arena: ${asked} bytes is less than 32M`);
  const own = backing.kind === "memory" ? backing.sizeBytes : 0;
  const page = 4096;
  return Math.ceil((asked + own) / page) * page;
}

export function readControl(
  text: string | undefined,
  env: Readonly<Record<string, string | undefined>>,
  volume: string,
): ControlSetting | undefined {
  if (text === "none") return undefined;
  if (text === undefined) return { path: controlPath(env, volume), isDefault: true };
  return { path: text, isDefault: false };
}

export const parseEngine = (what: string, text: string): Engine =>
  parseChoice(what, text, ["auto", "ring", "plain"]);

export const parseLevel = (what: string, text: string): Level =>
  parseChoice(what, text, ["trace", "debug", "info", "warn", "error"]);

const EXPORT_NAME_BYTES_MAX = 4096;

function parseExportName(what: string, text: string): string {
  const bytes = Buffer.byteLength(text);
  if (bytes <= EXPORT_NAME_BYTES_MAX) return text;
  throw usage(`${what}: a name of ${bytes} bytes is longer than ${EXPORT_NAME_BYTES_MAX}`);
}

const volumeName = (backing: Backing, exportName: string | undefined): string =>
  exportName ?? (backing.kind === "memory" ? "memory" : backing.targets.map(showAddress).join("+"));
