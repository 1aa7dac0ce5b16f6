import { Fault } from "../../base/fault.js";
import { type Command, EXIT, type Group, type Input, type Shell } from "../cli/command.js";
import { parseAddress, parseSize, showAddress } from "../cli/values.js";
import { stderrProgress } from "../progress.js";
import type { ControlClient } from "./client.js";
import { connectTo, WHOM_DETAILS, WHOM_OPTIONS } from "./find.js";
import { askStatus, follow } from "./follow.js";
import { repairLines, scrubLines, statusLines } from "./status-text.js";

// The commands that talk to a running server.

const NAME = { name: "NAME", required: false } as const;
const JSON_OPTION = { json: { help: "Print one JSON object, for scripts" } } as const;
const RATE_HELP = "Bytes per second, at most; 0: no limit";
const WATCH_MS = 1_000;

/** Runs `work` with a connection to the server that is meant. */
async function withServer(
  input: Input,
  name: string | undefined,
  shell: Shell,
  work: (client: ControlClient) => Promise<void>,
): Promise<void> {
  const client = await connectTo(input, name, shell.env);
  try {
    await work(client);
  } finally {
    client.close();
  }
}

export const STATUS: Command = {
  name: "status",
  summary: "what a running server knows: replicas, repair, scrub, memory",
  operands: [NAME],
  options: {
    json: { help: "Print one JSON object, for scripts; with --watch one a second" },
    watch: { short: "w", help: "Go on until interrupted" },
    ...WHOM_OPTIONS,
  },
  details: [
    ...WHOM_DETAILS,
    "",
    `Ends with 0 when all is well, ${EXIT.degraded} when the volume is served but something needs attention, ${EXIT.down} when`,
    "requests wait, 5 when no server can be asked. 64-bit numbers are strings in JSON.",
  ],
  run: (input, shell) =>
    withServer(input, input.operands[0], shell, async (client) => {
      const isText = !input.flag("json");
      for (;;) {
        const report = await askStatus(client);
        if (input.flag("watch") && isText && process.stdout.isTTY) shell.print("\x1b[H\x1b[J");
        if (isText) for (const line of statusLines(report)) shell.print(line);
        else shell.print(JSON.stringify(report));
        shell.endWith(EXIT[report.health]);
        if (!input.flag("watch")) return;
        await new Promise((resolve) => setTimeout(resolve, WATCH_MS));
      }
    }),
};

export const REPLACE: Command = {
  name: "replace",
  summary:
    "put a replica elsewhere, or a fresh region in the place of a lost one, while the volume is in use",
  operands: [{ name: "OLD", required: true }, { name: "NEW", required: true }, NAME],
  options: {
    "accept-foreign": { help: "Also when the region at NEW holds data of something else" },
    wait: { help: "Show how the repair comes on, until it is done" },
    ...JSON_OPTION,
    ...WHOM_OPTIONS,
  },
  details: [
    "OLD and NEW are HOST:PORT. The region at NEW has the same geometry (trivet region create), and is repaired from the other",
    "two, which have to be at work. The server remembers NEW; write it into the volume's file as well.",
    ...WHOM_DETAILS,
    "",
    "Example: trivet replace 10.0.0.3:3810 10.0.0.9:3810 photos --wait",
  ],
  run: async (input, shell) => {
    const [old, replacement] = ["OLD", "NEW"].map((what, i) =>
      parseAddress(what, input.operands[i]!, { names: true }),
    ) as [ReturnType<typeof parseAddress>, ReturnType<typeof parseAddress>];
    const [from, to] = [showAddress(old), showAddress(replacement)];
    await withServer(input, input.operands[2], shell, async (client) => {
      const acceptForeign = input.flag("accept-foreign");
      const result = await client.ask({ do: "replace", old, new: replacement, acceptForeign });
      if (result === "missing")
        throw new Fault("TRIVET_E_REPLACE", `no replica of this volume is at ${from}`);
      if (input.flag("wait")) await follow(client, to);
      if (input.flag("json")) shell.print(JSON.stringify({ result }));
      else shell.print(replaced(`${result}`, from, to, input.flag("wait")));
    });
  },
};

function replaced(result: string, from: string, to: string, hasWaited: boolean): string {
  const reminder = `Write ${to} in the place of ${from} into the volume's configuration, here and on every host that may take it over.`;
  if (hasWaited) return `${to} is at work. ${reminder}`;
  switch (result) {
    case "started":
      return `${to} takes the place of ${from} and is repaired; trivet status --watch shows how far it is. ${reminder}`;
    case "startedAlready":
      return `${to} takes the place of another replica already, and is not repaired yet.`;
    default:
      return `${to} is a replica of this volume already.`;
  }
}

export const SCRUB: Group = {
  name: "scrub",
  summary: "compare all blocks of the replicas, and mend what differs",
  commands: [
    {
      name: "start",
      summary: "begin, or go on where the last one was interrupted",
      operands: [NAME],
      options: {
        rate: { value: "SIZE", shownDefault: "scrub-rate of the server", help: RATE_HELP },
        wait: { help: "Show how it comes on, until it is done" },
        ...WHOM_OPTIONS,
      },
      details: WHOM_DETAILS,
      run: (input, shell) =>
        withServer(input, input.operands[0], shell, async (client) => {
          const text = input.text("rate");
          const rate = text === undefined ? null : parseSize("--rate", text);
          await client.ask({ do: "scrubStart", rate });
          if (!input.flag("wait")) {
            shell.print("The scrub runs; trivet scrub status shows how far it is.");
            return;
          }
          await followScrub(client, shell);
        }),
    },
    {
      name: "stop",
      summary: "stop the one that runs; the next goes on where it was",
      operands: [NAME],
      options: WHOM_OPTIONS,
      details: WHOM_DETAILS,
      run: (input, shell) =>
        withServer(input, input.operands[0], shell, async (client) => {
          await client.ask({ do: "scrubStop" });
          shell.print("No scrub runs.");
        }),
    },
    {
      name: "status",
      summary: "how far the one that runs is, or what the last one found",
      operands: [NAME],
      options: { ...JSON_OPTION, ...WHOM_OPTIONS },
      details: WHOM_DETAILS,
      run: (input, shell) =>
        withServer(input, input.operands[0], shell, async (client) => {
          const report = await askStatus(client);
          if (input.flag("json")) shell.print(JSON.stringify(report.scrub));
          else for (const line of scrubLines(report)) shell.print(line);
        }),
    },
  ],
};

async function followScrub(client: ControlClient, shell: Shell): Promise<void> {
  let report = await askStatus(client);
  const total = (report.scrub?.blocks ?? 0) * report.block_bytes;
  const progress = stderrProgress("scrub", total);
  let shown = (report.scrub?.from_block ?? 0) * report.block_bytes;
  try {
    for (;;) {
      const { scrub } = report;
      if (scrub === null) break;
      progress.advance(scrub.block * report.block_bytes - shown);
      shown = scrub.block * report.block_bytes;
      if (scrub.state === "done" || scrub.state === "stopped") break;
      await new Promise((resolve) => setTimeout(resolve, WATCH_MS / 4));
      report = await askStatus(client);
    }
  } finally {
    progress.done();
  }
  for (const line of scrubLines(report)) shell.print(line);
  if ((report.scrub?.lost ?? 0) > 0) shell.endWith(EXIT.degraded);
}

export const REPAIR: Group = {
  name: "repair",
  summary: "live repair of replicas that missed too much",
  commands: [
    {
      name: "status",
      summary: "how far the one that runs is, or how the last one ended",
      operands: [NAME],
      options: { ...JSON_OPTION, ...WHOM_OPTIONS },
      details: WHOM_DETAILS,
      run: (input, shell) =>
        withServer(input, input.operands[0], shell, async (client) => {
          const report = await askStatus(client);
          if (input.flag("json")) shell.print(JSON.stringify(report.repair));
          else for (const line of repairLines(report)) shell.print(line);
        }),
    },
    {
      name: "rate",
      summary: "bytes per second that repair copies at most, until the server is restarted",
      operands: [{ name: "SIZE", required: true }, NAME],
      options: WHOM_OPTIONS,
      details: [
        "0: no limit. repair-rate in the volume's file is for all starts.",
        ...WHOM_DETAILS,
      ],
      run: async (input, shell) => {
        const rate = parseSize("SIZE", input.operands[0]!);
        await withServer(input, input.operands[1], shell, async (client) => {
          await client.ask({ do: "repairRate", rate });
          for (const line of repairLines(await askStatus(client))) shell.print(line);
        });
      },
    },
  ],
};
