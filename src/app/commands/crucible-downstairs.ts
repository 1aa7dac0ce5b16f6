import { Fault } from "../../base/fault.js";
import { MESSAGE_VERSION } from "../../crucible/version.js";
import type { Command, Group, Input } from "../cli/command.js";
import { usage } from "../cli/usage.js";
import { parseAddress, parseCount } from "../cli/values.js";
import { processLog } from "../logging.js";
import { stderrProgress } from "../progress.js";
import {
  COMPAT_DUMP,
  COMPAT_EXPORT,
  COMPAT_EXTENT_INFO,
  COMPAT_VERIFY,
  compatCreate,
} from "../region/compat.js";
import { parseIp, parseMode, runRegions } from "../region/run-command.js";
import { programVersion } from "../version.js";

const DATA = { value: "DIR", short: "d", help: "Region directory" } as const;
const PORT_DEFAULT = "9000";
const PORT_MAX = 65535;

/** Options that the original has and we do not, with what they are for. */
const NOT_YET: Readonly<Record<string, string>> = {
  oximeter: "sending metrics to oximeter",
  "trace-endpoint": "tracing",
  "cert-pem": "TLS",
  "key-pem": "TLS",
  "root-cert-pem": "TLS",
};

function refuseWhatIsNotThere(input: Input, names: readonly string[]): void {
  for (const name of names) {
    if (input.text(name) === undefined) continue;
    throw new Fault("TRIVET_E_NOT_YET", `--${name}: ${NOT_YET[name]} is not there yet`);
  }
}

const dataOf = (input: Input): string => {
  const directory = input.text("data");
  if (directory === undefined) throw usage("--data is missing");
  return directory;
};

async function clone(directory: string, source: string): Promise<void> {
  const address = parseAddress("the source", source);
  const { runClone } = await import("../downstairs/clone.js");
  const log = processLog("crucible-downstairs", "info");
  let bar: ReturnType<typeof stderrProgress> | undefined;
  try {
    await runClone({
      directory,
      source: address,
      notes: log.notes,
      progress: (_, total) => {
        bar ??= stderrProgress(`cloning from ${source}`, total, "extents");
        bar.advance(1);
      },
    });
  } finally {
    bar?.done();
    await log.flush();
  }
}

const CREATE: Command = {
  name: "create",
  summary: "make a region directory",
  operands: [],
  options: {
    "block-size": { value: "BYTES", shownDefault: "512", help: "A power of two, 512 to 32768" },
    data: DATA,
    "extent-size": { value: "BLOCKS", shownDefault: "100", help: "Blocks in one extent file" },
    "extent-count": { value: "N", shownDefault: "15", help: "Number of extent files" },
    "import-path": { value: "FILE", short: "i", help: "Fill the region from an image" },
    uuid: { value: "UUID", short: "u", help: "Name of the region" },
    encrypted: { help: "Blocks will be encrypted by the upstairs" },
    "clone-source": {
      value: "IP:PORT",
      help: "Fill it from a read-only downstairs' repair server",
    },
  },
  async run(input, shell) {
    const source = input.text("clone-source");
    if (source !== undefined) {
      if (input.text("import-path") !== undefined) {
        throw usage("give --import-path or --clone-source, not both");
      }
      parseAddress("--clone-source", source);
    }
    await compatCreate(input, shell);
    if (source !== undefined) await clone(dataOf(input), source);
  },
};

const RUN: Command = {
  name: "run",
  summary: "serve a region",
  operands: [],
  options: {
    address: { value: "IP", short: "a", shownDefault: "0.0.0.0", help: "Address to listen on" },
    data: DATA,
    port: {
      value: "PORT",
      short: "p",
      shownDefault: PORT_DEFAULT,
      help: "Port to listen on; repair listens 4000 above",
    },
    mode: { value: "rw|ro", shownDefault: "rw", help: "ro serves readers only" },
    lossy: { help: "For tests: delay and reorder jobs" },
    "read-errors": { help: "For tests: fail a quarter of the reads" },
    "write-errors": { help: "For tests: fail a quarter of the writes" },
    "flush-errors": { help: "For tests: fail a quarter of the flushes" },
    oximeter: { value: "IP:PORT", help: "Not there yet: metrics" },
    "trace-endpoint": { value: "URL", short: "t", help: "Not there yet: tracing" },
    "cert-pem": { value: "FILE", help: "Not there yet: certificate for TLS" },
    "key-pem": { value: "FILE", help: "Not there yet: key for TLS" },
    "root-cert-pem": { value: "FILE", help: "Not there yet: authority for TLS" },
  },
  async run(input, shell) {
    refuseWhatIsNotThere(input, Object.keys(NOT_YET));
    const region = {
      directory: dataOf(input),
      address: parseIp(input.text("address") ?? "0.0.0.0"),
      port: parseCount("--port", input.text("port") ?? PORT_DEFAULT, 0, PORT_MAX),
      readOnly: parseMode(input.text("mode") ?? "rw"),
      testModes: {
        lossy: input.flag("lossy"),
        readErrors: input.flag("read-errors"),
        writeErrors: input.flag("write-errors"),
        flushErrors: input.flag("flush-errors"),
      },
    };
    await runRegions(input, shell, [region], {});
  },
};

const CLONE: Command = {
  name: "clone",
  summary: "replace the data of a region by that of a read-only downstairs",
  operands: [],
  options: {
    data: DATA,
    source: { value: "IP:PORT", short: "s", help: "Its repair server" },
    "trace-endpoint": { value: "URL", short: "t", help: "Not there yet: tracing" },
  },
  async run(input) {
    refuseWhatIsNotThere(input, ["trace-endpoint"]);
    const source = input.text("source");
    if (source === undefined) throw usage("--source is missing");
    await clone(dataOf(input), source);
  },
};

const VERSION: Command = {
  name: "version",
  summary: "print the version of the program and of the protocol",
  operands: [],
  options: {},
  async run(_input, shell) {
    shell.print(`Crucible Version: trivet ${programVersion()}`);
    shell.print(`Upstairs <-> Downstairs Message Version: ${MESSAGE_VERSION}`);
  },
};

export const CRUCIBLE_DOWNSTAIRS: Group = {
  name: "crucible-downstairs",
  summary: "trivet in place of Crucible's storage server",
  commands: [
    CREATE,
    RUN,
    CLONE,
    COMPAT_DUMP,
    COMPAT_EXPORT,
    COMPAT_VERIFY,
    COMPAT_EXTENT_INFO,
    VERSION,
  ],
};
