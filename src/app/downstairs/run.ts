import { resolve } from "node:path";
import { Fault } from "../../base/fault.js";
import { STORE_HELD_BYTES_MAX } from "../../base/limits.js";
import { RepairRoutes } from "../../control/repair-routes.js";
import { RegionServer } from "../../downstairs/region-server.js";
import type { Statistics } from "../../downstairs/statistics.js";
import { openStore } from "../../downstairs/store/open.js";
import type { Store } from "../../downstairs/store/store.js";
import { NO_TROUBLE, type TestModes } from "../../downstairs/test-modes.js";
import { HttpRepairClient } from "../../host/http-client.js";
import { type HttpServer, inspectPath, serveHttp } from "../../host/http-server.js";
import { type Host, openHost } from "../../host/open.js";
import type { Notes } from "../../ports/notes.js";
import type { Address } from "../../ports/stream.js";
import { regionConfigObject } from "../../region/config.js";
import { extentLayout, extentPath } from "../../region/layout.js";
import { announced, repairPortFor, showEndpoint } from "./endpoint.js";

// One process that serves one or several regions: what `trivet region run` and `crucible-downstairs run` are. Regions
// share memory, disk engine and process, and nothing else: each has ports of its own.

export interface RegionToRun {
  readonly directory: string;
  /** IP address of both servers. */
  readonly address: string;
  /** 0: one of the system's choice. */
  readonly port: number;
  /** Default: the data port + 4000; of the system's choice when the data port is. */
  readonly repairPort?: number;
  readonly readOnly?: boolean;
  readonly testModes?: Partial<TestModes>;
}

export interface DownstairsOptions {
  readonly regions: readonly RegionToRun[];
  readonly notes: Notes;
  /** Memory for data of all regions; default 256 MiB for the first and 192 MiB for each other. Used pages only cost memory. */
  readonly arenaBytes?: number;
  readonly engine?: "auto" | "ring" | "plain";
  /** Value of NOTIFY_SOCKET. */
  readonly notifySocket?: string | undefined;
  /** While a region is opened: extents done, and how many there are. */
  readonly progress?: (directory: string, done: number, total: number) => void;
}

export interface RunningRegion {
  readonly directory: string;
  /** What is really listened on. */
  readonly data: Address;
  readonly repair: Address;
  readonly statistics: Statistics;
  /** Connections: peer, state of negotiation, jobs. */
  readonly connections: RegionServer["connections"];
}

export interface RunningDownstairs {
  readonly regions: readonly RunningRegion[];
  readonly engine: string;
  /** Stops accepting, ends connections, writes out what is held in memory (without a flush: dirty extents stay dirty), unlocks. */
  stop(): Promise<void>;
}

const MIB = 1024 * 1024;

/** Resolves when every region is served. Rejects with a Fault, and then nothing is left open. */
export async function runDownstairs(options: DownstairsOptions): Promise<RunningDownstairs> {
  const { regions, notes } = options;
  if (regions.length === 0) throw new Fault("TRIVET_E_USAGE", "no region was named");
  const arenaBytes = options.arenaBytes ?? (64 + 192 * regions.length) * MIB;
  const host = openHost({
    arenaBytes,
    engine: options.engine ?? "auto",
    notifySocket: options.notifySocket,
  });
  // What all regions hold must leave room for frames on arrival and for answers.
  const heldBytesMax = Math.min(STORE_HELD_BYTES_MAX, arenaBytes / (2 * regions.length + 2));
  const served: ServedRegion[] = [];
  const stop = async (): Promise<void> => {
    host.notify("STOPPING=1");
    const ended = await Promise.allSettled(served.map((region) => region.stop()));
    await host.close();
    for (const end of ended) if (end.status === "rejected") throw end.reason;
  };
  try {
    for (const region of regions)
      served.push(await serveRegion(host, region, heldBytesMax, options));
  } catch (error) {
    await stop().catch(() => {});
    throw error;
  }
  host.notify("READY=1");
  for (const { directory, data, repair } of served)
    notes("info", "downstairs.serving", `${directory} is served on ${showEndpoint(data)}`, {
      region: directory,
      data: showEndpoint(data),
      repair: showEndpoint(repair),
      engine: host.engine,
    });
  return { regions: served, engine: host.engine, stop };
}

interface ServedRegion extends RunningRegion {
  stop(): Promise<void>;
}

async function serveRegion(
  host: Host,
  region: RegionToRun,
  heldBytesMax: number,
  options: DownstairsOptions,
): Promise<ServedRegion> {
  const directory = resolve(region.directory);
  const { address, port } = region;
  const repairPort = region.repairPort ?? repairPortFor(port);
  const notes: Notes = (level, event, text, fields) =>
    options.notes(level, event, text, { region: directory, ...fields });
  const store = await openRegion(host, directory, region.readOnly ?? false, {
    notes,
    heldBytesMax,
    progress: (done, total) => options.progress?.(directory, done, total),
  });
  let http: HttpServer | undefined;
  try {
    const { arena, clock, random } = host;
    const testModes = { ...NO_TROUBLE, ...region.testModes };
    const surroundings = { store, arena, clock, random, notes, testModes };
    const server = new RegionServer(surroundings, (stream) => announced(repair, stream.local));
    http = await serveRepair(host, store, directory, { host: address, port: repairPort }, () => {
      for (const { peer, state, jobs, running } of server.connections)
        notes("info", "downstairs.work", `${peer} has ${jobs} jobs`, { peer, state, running });
    });
    const repair = http.address;
    const listener = await host.listen({ kind: "tcp", host: address, port }, (stream) =>
      server.accept(stream),
    );
    const stop = async (): Promise<void> => {
      listener.close();
      await http?.close();
      await settled((then) => server.close(then));
    };
    return {
      directory,
      data: { host: address, port: listener.port },
      repair,
      statistics: server.statistics,
      get connections() {
        return server.connections;
      },
      stop,
    };
  } catch (error) {
    await http?.close();
    await settled((then) => store.close(then));
    throw error;
  }
}

/** Opens a region directory with everything that repairs need. Rejects with a Fault. */
export function openRegion(
  host: Host,
  directory: string,
  readOnly: boolean,
  options: {
    readonly notes: Notes;
    readonly heldBytesMax?: number;
    readonly peer?: HttpRepairClient;
    readonly progress?: (done: number, total: number) => void;
  },
): Promise<Store> {
  const { arena, fileIo, files, hasher, clock } = host;
  const { notes, heldBytesMax, progress } = options;
  let fileBytes = 0;
  const peer = options.peer ?? new HttpRepairClient(() => fileBytes);
  const parts = { arena, io: fileIo, tree: files, hasher, clock, notes, peer };
  const limits = heldBytesMax === undefined ? {} : { heldBytesMax };
  const reports = progress === undefined ? {} : { progress };
  return new Promise((done, fail) => {
    openStore(parts, { directory, readOnly, ...limits, ...reports }, (fault, store) => {
      if (store === null) {
        fail(fault);
        return;
      }
      fileBytes = extentLayout(store.definition).fileBytes;
      done(store);
    });
  });
}

function serveRepair(
  host: Host,
  store: Store,
  directory: string,
  at: Address,
  work: () => void,
): Promise<HttpServer> {
  const routes = new RepairRoutes(
    {
      info: regionConfigObject(store.definition),
      extentCount: store.definition.extentCount,
      readOnly: store.readOnly,
      isClosed: (extent) => store.isClosed(extent),
      pathOf: (extent) => `${directory}/${extentPath(extent)}`,
      work,
    },
    inspectPath,
    () => host.random.uuid(),
  );
  return serveHttp(at, (request, then) => routes.handle(request, then));
}

/** Rejects with the fault that `run` answers. */
export function settled(run: (then: (fault: Fault | null) => void) => void): Promise<void> {
  return new Promise((done, fail) => {
    run((fault) => {
      if (fault === null) done();
      else fail(fault);
    });
  });
}
