import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { basename } from "node:path";
import { Fault } from "../../base/fault.js";
import type { StatusReport } from "../../control/report.js";
import type { Input } from "../cli/command.js";
import { usage } from "../cli/usage.js";
import { parseAddress, showAddress } from "../cli/values.js";
import { ControlClient } from "../control/client.js";
import { connectTo } from "../control/find.js";
import { askStatus } from "../control/follow.js";
import { type Env, findControlSockets } from "../control/paths.js";
import { type ConfigValue, readConfigFile } from "../serve/config-file.js";
import { configPathOf, LISTEN_DEFAULT } from "../serve/settings.js";

/** What is to be attached: a volume, and where its server is. */
export interface Target {
  /** Names the attachment on this host. */
  readonly volume: string;
  /** "127.0.0.1:10809" or "unix:/run/x.sock": no names of hosts, as nobody can look one up while the device waits. */
  readonly server: string;
  /** Undefined: the only one that the server has, under the volume's name or none. */
  readonly exportName: string | undefined;
  /** The server's control socket; undefined when it cannot be asked. The caller closes it. */
  readonly client: ControlClient | undefined;
}

const UNIX = "unix:";

/** A word that is an address and no name: "unix:/run/x.sock", "10.0.0.1:10809". */
export const isAddress = (word: string): boolean =>
  word.startsWith(UNIX) || (/:\d{1,5}$/.test(word) && !word.includes("/"));

/** The volume that a word means, without asking anybody. */
export const volumeOf = (word: string): string =>
  word.endsWith(".toml") ? basename(word, ".toml") : basename(word);

export async function findTarget(word: string, input: Input, env: Env): Promise<Target> {
  return isAddress(word) ? await byAddress(word, input, env) : await byName(word, input, env);
}

async function byName(word: string, input: Input, env: Env): Promise<Target> {
  const file = configOf(word);
  const volume = volumeOf(word);
  const exportName =
    input.text("export") ??
    (file === undefined ? undefined : (file.get("export")?.texts[0] ?? volume));
  const isSilent = file?.get("control")?.texts[0] === "none" && input.text("control") === undefined;
  if (isSilent) {
    const server = await literal(configuredServer(file));
    return { volume, server, exportName, client: undefined };
  }
  const name = input.text("control") === undefined ? word : undefined;
  const client = await connectTo(input, name, env);
  try {
    const { addresses } = await askStatus(client);
    return { volume, server: await literal(nearest(addresses, volume)), exportName, client };
  } catch (error) {
    client.close();
    throw error;
  }
}

/** An address may be that of a server on this host, whose volume then has a name; others are called by their address. */
async function byAddress(word: string, input: Input, env: Env): Promise<Target> {
  const server = await literal(word);
  const exportName = input.text("export") ?? "";
  const local = await localServer(server, env);
  if (local !== undefined) return { ...local, server, exportName };
  const volume = exportName === "" ? server : `${server}/${exportName}`;
  return { volume, server, exportName, client: undefined };
}

async function localServer(
  server: string,
  env: Env,
): Promise<{ readonly volume: string; readonly client: ControlClient } | undefined> {
  for (const path of findControlSockets(env)) {
    let client: ControlClient | undefined;
    try {
      client = await ControlClient.connect(path);
      const report: StatusReport = await askStatus(client);
      if (report.addresses.some((address) => isSame(address, server)))
        return { volume: report.volume, client };
    } catch {
      // Not for us to ask, or gone.
    }
    client?.close();
  }
  return undefined;
}

const WILDCARD = /^(?:0\.0\.0\.0|\[::\]):/;
const LOOPBACK = /^(?:127\.\d+\.\d+\.\d+|\[::1\]):/;

/** `own`: what a server says it listens on. */
function isSame(own: string, asked: string): boolean {
  if (own === asked) return true;
  const port = (text: string): string => text.slice(text.lastIndexOf(":"));
  return WILDCARD.test(own) && LOOPBACK.test(asked) && port(own) === port(asked);
}

/** The best of what a server on this host listens on: a unix socket, else one of its addresses. */
export function nearest(addresses: readonly string[], volume: string): string {
  const found =
    addresses.find((one) => one.startsWith(UNIX)) ??
    addresses.find((one) => LOOPBACK.test(one)) ??
    addresses[0];
  if (found === undefined)
    throw new Fault("TRIVET_E_NO_SERVER", `the server of ${volume} listens nowhere`);
  return found.replace(/^0\.0\.0\.0:/, "127.0.0.1:").replace(/^\[::\]:/, "[::1]:");
}

function configuredServer(file: ReadonlyMap<string, ConfigValue>): string {
  const socket = file.get("socket")?.texts[0];
  if (socket !== undefined) return `${UNIX}${socket}`;
  return nearest([file.get("address")?.texts[0] ?? LISTEN_DEFAULT], "the volume");
}

/** An address with its host as a number. Throws TRIVET_E_USAGE, or TRIVET_E_DIAL when the name is not known. */
async function literal(text: string): Promise<string> {
  if (text.startsWith(UNIX)) {
    const path = text.slice(UNIX.length);
    if (!path.startsWith("/") || Buffer.byteLength(path) > 107)
      throw usage(`${text}: expected unix: and a path from / of at most 107 bytes`);
    return text;
  }
  const address = parseAddress("ADDRESS", text, { names: true });
  if (isIP(address.host) !== 0) return showAddress(address);
  try {
    const { address: host } = await lookup(address.host);
    return showAddress({ host, port: address.port });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new Fault("TRIVET_E_DIAL", `${address.host} is no known host (${code ?? error})`);
  }
}

/** Undefined: there is none by this name, or it is not for us to read; a path that is given must be there. */
function configOf(word: string): ReadonlyMap<string, ConfigValue> | undefined {
  try {
    return readConfigFile(configPathOf(word));
  } catch (error) {
    const isPath = word.includes("/") || word.endsWith(".toml");
    const isMissing = error instanceof Fault && error.message.startsWith("there is no file");
    if (isPath || !isMissing) throw error;
    return undefined;
  }
}
