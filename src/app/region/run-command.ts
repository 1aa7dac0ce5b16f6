import { isIP } from "node:net";
import type { Command, Input, OptionSpecs, Shell } from "../cli/command.js";
import { usage } from "../cli/usage.js";
import { parseChoice, parseCount, parseSize } from "../cli/values.js";
import type { DownstairsOptions, RegionToRun } from "../downstairs/run.js";
import { Lifetime } from "../lifetime.js";
import { processLog } from "../logging.js";
import { stderrProgress } from "../progress.js";
import { parseEngine, parseLevel } from "../serve/settings.js";

const PORT_DEFAULT = 3810;
const PORT_MAX = 65535;

const RUN_OPTIONS: OptionSpecs = {
  address: { value: "IP", short: "a", shownDefault: "127.0.0.1", help: "Address to listen on" },
  port: {
    value: "PORT",
    short: "p",
    shownDefault: `${PORT_DEFAULT}`,
    help: "Port of the first region, the next ones follow; repair listens 4000 above",
  },
  mode: { value: "rw|ro", shownDefault: "rw", help: "ro serves readers only" },
  arena: { value: "SIZE", help: "Memory for data under way" },
  engine: {
    value: "auto|ring|plain",
    shownDefault: "auto",
    help: "How the kernel is asked: by io_uring, or by plain system calls",
  },
  "log-level": { value: "LEVEL", shownDefault: "info", help: "trace, debug, info, warn or error" },
  "until-stdin-ends": { help: "Stop when standard input ends: for programs that start this one" },
};

export const RUN: Command = {
  name: "run",
  summary: "serve one or several regions to whoever has the volume",
  operands: [{ name: "DIR", required: true, multiple: true }],
  options: RUN_OPTIONS,
  details: [
    "Connections are neither encrypted nor authenticated: bind to a network that only your hosts reach.",
  ],
  async run(input, shell) {
    const address = parseIp(input.text("address") ?? "127.0.0.1");
    const first = parseCount("--port", input.text("port") ?? `${PORT_DEFAULT}`, 0, PORT_MAX);
    const readOnly = parseMode(input.text("mode") ?? "rw");
    const arena = input.text("arena");
    const regions = input.operands.map((directory, i) => ({
      directory,
      address,
      port: first === 0 ? 0 : first + i,
      readOnly,
    }));
    await runRegions(input, shell, regions, {
      engine: parseEngine("--engine", input.text("engine") ?? "auto"),
      ...(arena === undefined ? {} : { arenaBytes: pages(parseSize("--arena", arena)) }),
    });
  },
};

const PAGE_BYTES = 4096;
const pages = (bytes: number): number => Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;

export function parseIp(text: string): string {
  if (isIP(text) !== 0) return text;
  throw usage(`--address: "${text}" is no IP address`);
}

/** True: read-only. Any letter case. */
export const parseMode = (text: string): boolean =>
  parseChoice("--mode", text.toLowerCase(), ["rw", "ro"]) === "ro";

/** Serves until a signal comes. */
export async function runRegions(
  input: Input,
  shell: Shell,
  regions: readonly RegionToRun[],
  options: Partial<Pick<DownstairsOptions, "engine" | "arenaBytes">>,
): Promise<void> {
  const { runDownstairs } = await import("../downstairs/run.js");
  const hasLevel = shell.style === "trivet";
  const level = parseLevel("--log-level", (hasLevel && input.text("log-level")) || "info");
  const log = processLog(shell.style, level);
  const lifetime = new Lifetime();
  if (hasLevel && input.flag("until-stdin-ends")) lifetime.stopWithStdin();
  const opening = new Map<string, ReturnType<typeof stderrProgress>>();
  try {
    const running = await runDownstairs({
      ...options,
      regions,
      notes: log.notes,
      notifySocket: shell.env.NOTIFY_SOCKET,
      progress: (directory, done, total) => {
        const bar =
          opening.get(directory) ?? stderrProgress(`opening ${directory}`, total, "extents");
        opening.set(directory, bar);
        bar.advance(1);
        if (done === total) bar.done();
      },
    });
    lifetime.keepWatchdog(shell.env);
    try {
      const why = await lifetime.ended;
      log.notes("info", "downstairs.stopping", `stopping (${why})`);
    } finally {
      await running.stop();
    }
    log.notes("info", "downstairs.stopped", "stopped in order");
  } finally {
    await log.flush();
    lifetime.dispose();
  }
}
