import { basename } from "node:path";
import { Fault } from "../../base/fault.js";
import type { StatusReport } from "../../control/report.js";
import type { Input, OptionSpecs } from "../cli/command.js";
import { usage } from "../cli/usage.js";
import { readConfigFile } from "../serve/config-file.js";
import { configPathOf } from "../serve/settings.js";
import { ControlClient } from "./client.js";
import { type Env, findControlSockets } from "./paths.js";

// Which server a command means: the one whose socket is named, the one of a volume, or the only one that runs.

export const WHOM_OPTIONS: OptionSpecs = {
  control: {
    value: "PATH",
    help: "Control socket of the server, when it is not where it usually is",
  },
};
export const WHOM_DETAILS = [
  "NAME is the volume, as in trivet serve NAME. Without it the only server that runs here is meant.",
];

/** Throws a Fault that says what to name, or that nobody is there. */
export async function connectTo(
  input: Input,
  name: string | undefined,
  env: Env,
): Promise<ControlClient> {
  const path = input.text("control");
  if (path !== undefined && name !== undefined)
    throw usage("give NAME or --control, not both: each names a server");
  if (path !== undefined) return await ControlClient.connect(path);
  if (name === undefined) return await onlyOne(env);
  const configured = configuredPath(name);
  if (configured === "none")
    throw new Fault("TRIVET_E_NO_SERVER", `the file of ${name} says control = "none"`);
  if (configured !== undefined) return await ControlClient.connect(configured);
  const volume = name.endsWith(".toml") ? basename(name, ".toml") : name;
  const { clients, faults } = await connectAll(findControlSockets(env, volume));
  const [client, ...others] = clients;
  for (const other of others) other.close();
  if (client !== undefined) return client;
  throw forbidden(faults) ?? new Fault("TRIVET_E_NO_SERVER", `no server of ${volume} runs here`);
}

async function onlyOne(env: Env): Promise<ControlClient> {
  const { clients, faults } = await connectAll(findControlSockets(env));
  const [client, ...others] = clients;
  if (client === undefined)
    throw forbidden(faults) ?? new Fault("TRIVET_E_NO_SERVER", "no server runs here");
  if (others.length === 0) return client;
  const names = await Promise.all(clients.map(volumeOf));
  for (const one of clients) one.close();
  throw usage(`${clients.length} servers run here, name one: ${names.sort().join(", ")}`);
}

async function connectAll(
  paths: readonly string[],
): Promise<{ readonly clients: ControlClient[]; readonly faults: Fault[] }> {
  const clients: ControlClient[] = [];
  const faults: Fault[] = [];
  for (const path of paths) {
    try {
      clients.push(await ControlClient.connect(path));
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      faults.push(error);
    }
  }
  return { clients, faults };
}

const forbidden = (faults: readonly Fault[]): Fault | undefined =>
  faults.find(({ code }) => code === "TRIVET_E_PERMISSION");

async function volumeOf(client: ControlClient): Promise<string> {
  try {
    return ((await client.ask({ do: "status" })) as StatusReport).volume;
  } catch {
    return client.path;
  }
}

/** What the volume's file says, when there is one and we may read it. */
function configuredPath(name: string): string | undefined {
  try {
    return readConfigFile(configPathOf(name)).get("control")?.texts[0];
  } catch (error) {
    // A volume may have been served without a file, or the file is not for us to read.
    const isPath = name.includes("/") || name.endsWith(".toml");
    if (isPath && error instanceof Fault) throw error;
    return undefined;
  }
}
