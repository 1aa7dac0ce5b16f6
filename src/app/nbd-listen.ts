import { Fault } from "../base/fault.js";
import type { Host } from "../host/open.js";
import type { Listener, ListenOptions } from "../host/sockets.js";
import { NbdServer, type NbdServerOptions } from "../nbd/server.js";
import type { Notes } from "../ports/notes.js";
import type { Address } from "../ports/stream.js";

export interface NbdListenOptions extends NbdServerOptions {
  readonly tcp?: readonly Address[];
  /** `mode`: permission bits of the socket file; whoever may open it has the data. */
  readonly unix?: readonly { readonly path: string; readonly mode?: number }[];
  /** The environment to look for sockets in that a service manager (or libnbd) passed. They are taken out of it. */
  readonly activation?: NodeJS.ProcessEnv;
  readonly notes: Notes;
}

export interface NbdService {
  readonly server: NbdServer;
  /** "127.0.0.1:10809", "unix:/run/trivet/vol.sock": what clients can connect to. */
  readonly addresses: readonly string[];
  /** No new clients; what is under way is answered. Resolves when the devices have nothing of ours any more. */
  stop(): Promise<void>;
}

/** An NBD server on any number of sockets. Rejects with a Fault, and then listens nowhere. */
export async function serveNbd(host: Host, options: NbdListenOptions): Promise<NbdService> {
  const { arena, clock } = host;
  const server = new NbdServer({ arena, clock, notes: options.notes }, options);
  const passed = options.activation === undefined ? [] : passedSockets(options.activation);
  const wanted: ListenOptions[] = [
    ...passed.map((descriptor) => ({ kind: "inherited", descriptor }) as const),
    ...(options.tcp ?? []).map((address) => ({ kind: "tcp", ...address }) as const),
    ...(options.unix ?? []).map((socket) => ({ kind: "unix", ...socket }) as const),
  ];
  const listeners: Listener[] = [];
  try {
    for (const one of wanted)
      listeners.push(await host.listen(one, (stream) => server.accept(stream)));
  } catch (error) {
    for (const listener of listeners) listener.close();
    throw error;
  }
  let stopped: Promise<void> | undefined;
  return {
    server,
    addresses: listeners.map((listener) => listener.address),
    stop: () => {
      stopped ??= new Promise((resolve) => {
        for (const listener of listeners) listener.close();
        server.stop(resolve);
      });
      return stopped;
    },
  };
}

const FIRST_PASSED = 3;
const PASSED_MAX = 64;

/**
 * Socket activation as in sd_listen_fds(3): LISTEN_FDS descriptors from 3 on, meant for us if LISTEN_PID is our
 * process. The variables are removed, so that programs we start do not take them for theirs.
 */
export function passedSockets(environment: NodeJS.ProcessEnv, pid = process.pid): number[] {
  const { LISTEN_PID, LISTEN_FDS } = environment;
  delete environment.LISTEN_PID;
  delete environment.LISTEN_FDS;
  delete environment.LISTEN_FDNAMES;
  if (LISTEN_PID === undefined || LISTEN_FDS === undefined) return [];
  if (LISTEN_PID !== String(pid)) return [];
  const count = /^\d{1,4}$/.test(LISTEN_FDS) ? Number(LISTEN_FDS) : Number.NaN;
  if (!(count <= PASSED_MAX))
    throw new Fault(
      "TRIVET_E_LISTEN",
      `LISTEN_FDS is ${JSON.stringify(LISTEN_FDS)}, expected a number of sockets up to ${PASSED_MAX}`,
    );
  return Array.from({ length: count }, (_, i) => FIRST_PASSED + i);
}
