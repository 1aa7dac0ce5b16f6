import { setImmediate as nextTurn } from "node:timers/promises";
import { Fault } from "../../base/fault.js";
import { HAND_OVER_ALONE_MS, HAND_OVER_PARK_MS } from "../../base/limits.js";
import { notifyManager } from "../../host/notify.js";
import type { Host } from "../../host/open.js";
import type { LeftSession } from "../../nbd/connection.js";
import { NbdServer } from "../../nbd/server.js";
import type { BlockDevice } from "../../ports/device.js";
import type { Journal } from "../../ports/journal.js";
import type { Notes } from "../../ports/notes.js";
import { UnalignedDevice } from "../../volume/unaligned.js";
import type { Shell } from "../cli/command.js";
import { ControlListener, isControl } from "../control/listener.js";
import { Lifetime } from "../lifetime.js";
import { processLog } from "../logging.js";
import { showBytes } from "../progress.js";
import { asFault } from "../report.js";
import { Doorway, discard } from "./doorway.js";
import { closeDescriptors, type Inheritance, type PassedListener } from "./inheritance.js";
import { openKeptHost, openPlainHost } from "./kept-host.js";
import { passedSockets } from "./passed-sockets.js";
import { Restarts } from "./restart.js";
import type { ServeSettings } from "./settings.js";
import { isActivated, restore, store } from "./store.js";
import { inheritFromPredecessor, Successor } from "./successor.js";
import {
  activate,
  makeUpstairs,
  openVolume,
  stop,
  type Volume,
  type VolumeTerms,
} from "./volume.js";
import { idOfName, VolumeState } from "./volume-state.js";

const SECTOR_BYTES = 512;
/** How long an orderly stop waits for requests that the volume has not answered, as when replicas are away. */
const DRAIN_MS = 20_000;

/** What a server that is up tells whoever composed it. */
export interface Serving {
  readonly sizeBytes: number;
  readonly blockBytes: number;
  readonly addresses: readonly string[];
  readonly port: number;
}

export interface ServeHooks {
  readonly notes?: Notes;
  readonly lifetime?: Lifetime;
  ready?(serving: Serving): void;
}

/**
 * One volume, from start to end: listeners first, then the volume, then clients; at the end clients, volume, listeners.
 * Or all of it goes to a successor, and what one before us left is what we begin with. Resolves after an orderly stop; rejects with a Fault
 * when it cannot start or was superseded.
 */
export async function serve(
  settings: ServeSettings,
  shell: Shell,
  hooks: ServeHooks = {},
): Promise<void> {
  const log = hooks.notes === undefined ? processLog(shell.style, settings.logLevel) : undefined;
  const notes = hooks.notes ?? log!.notes;
  const lifetime = hooks.lifetime ?? new Lifetime();
  try {
    const passed = passedSockets(process.env);
    const socket = shell.env.NOTIFY_SOCKET;
    const { volume } = settings;
    const { inheritance: stored, others } = restore(passed, socket, volume, notes);
    const activated = others.map(({ descriptor }) => descriptor);
    const inheritance = stored ?? (await inheritFromPredecessor(process.env, volume));
    await serveInTurn({ settings, shell, hooks, notes, lifetime, activated, inheritance });
  } finally {
    await log?.flush();
    if (hooks.lifetime === undefined) lifetime.dispose();
  }
}

interface Setting {
  readonly settings: ServeSettings;
  readonly shell: Shell;
  readonly hooks: ServeHooks;
  readonly notes: Notes;
  readonly lifetime: Lifetime;
  /** Sockets that a service manager listens on. */
  readonly activated: readonly number[];
  readonly inheritance: Inheritance | null;
}

/** More than once only when a log has to be finished first, or a successor did not do. */
async function serveInTurn(setting: Setting): Promise<void> {
  const { shell, notes } = setting;
  const notifySocket = shell.env.NOTIFY_SOCKET;
  const restarts = new Restarts(notes, process.env);
  let { inheritance, activated } = setting;
  for (;;) {
    const settings = inheritance === null ? setting.settings : afterAnother(setting.settings);
    const state = loadState(settings, notes);
    const volumeId = state?.upstairsId ?? idOfName(settings.volume);
    const terms = { settings, volumeId, notes, notifySocket };
    const hasLog = settings.backing.kind === "targets" && !settings.readOnly;
    const passedLog = inheritance?.log ?? null;
    if (!hasLog && passedLog !== null)
      throw new Fault("TRIVET_E_HAND_OVER", "a write log was left, and this volume keeps none");
    const kept = hasLog ? await openKeptHost(terms, passedLog) : openPlainHost(terms);
    const { host, journal } = kept;
    const work = { ...setting, settings, host, journal, state, volumeId, restarts };
    let left: Left | null = null;
    let isFinished = false;
    try {
      isFinished = !needsFinishing(settings, journal);
      if (isFinished) left = await run({ ...work, inheritance, activated });
      else if (!(await finishLog(work))) return;
    } finally {
      if (left?.to === undefined) await kept.close();
    }
    if (left === null) {
      if (isFinished) return;
      continue;
    }
    const { to, listeners, clients } = left;
    if (to === undefined) {
      store(notifySocket!, settings.volume, { listeners, clients, log: null }, notes);
      return;
    }
    const all = { listeners, clients, log: await kept.leave() };
    if (await isPassed(to, settings.volume, all, restarts)) {
      notifyManager(notifySocket, `MAINPID=${to.pid}`);
      notes("info", "server.succeeded", `process ${to.pid} serves the volume now`);
      return;
    }
    inheritance = { ...all, taken: () => {} };
    // They are among the listeners now.
    activated = [];
  }
}

/** What was meant for one start is not for the next: the generation has to grow, and checks that were off are on again. */
const afterAnother = (settings: ServeSettings): ServeSettings => ({
  ...settings,
  generation: undefined,
  accept: {},
});

async function isPassed(
  to: Successor,
  volume: string,
  all: Pick<Inheritance, "listeners" | "clients" | "log">,
  restarts: Restarts,
): Promise<boolean> {
  let why = "the successor ended before it served";
  try {
    to.pass(volume, all);
  } catch (error) {
    const fault = asFault(error);
    if (fault === undefined) throw error;
    why = fault.message;
    to.kill();
  }
  to.close();
  if (await to.serves()) return true;
  restarts.failed(to.pid, why);
  return false;
}

interface Run extends Setting, VolumeTerms {
  readonly settings: ServeSettings;
  readonly notes: Notes;
  readonly lifetime: Lifetime;
}

/** Everything of a server that goes on elsewhere. */
interface Left {
  /** Undefined: with the service manager, until the next start. */
  readonly to: Successor | undefined;
  readonly listeners: readonly PassedListener[];
  readonly clients: readonly LeftSession[];
}

/** Null: it ended. */
async function run(work: Run): Promise<Left | null> {
  const { settings, notes, lifetime, host, activated, inheritance } = work;
  const doorway = new Doorway();
  const inherited = inheritance?.listeners ?? [];
  // Whoever passes sockets has decided where to listen.
  const areActivated = activated.length > 0 || inherited.some(({ key }) => isActivated(key));
  const addresses = areActivated && !settings.listensExplicitly ? [] : settings.addresses;
  const doors = inherited.filter((one) => !isControl(one));
  await doorway.bind(host, addresses, settings.sockets, activated, doors);
  let volume: Volume | undefined;
  let control: ControlListener | undefined;
  let left: Left | null = null;
  try {
    volume = openVolume(work, () => doorway.addresses);
    const asked = inherited.find(isControl);
    if (settings.control !== undefined) {
      control = new ControlListener(host, notes, settings.control, volumeControl(work, volume));
      await control.open(asked);
    } else if (asked !== undefined) discard(asked);
    const isActive = await lifetime.until(volume.activate());
    if (isActive === undefined) return null;
    left = await serveClients(work, volume, doorway, control);
  } finally {
    doorway.close();
    try {
      if (left === null) await volume?.stop();
    } finally {
      // Last, so that it can be asked how far the stop is.
      control?.close();
    }
  }
  if (left === null) notes("info", "server.stopped", "stopped in order");
  return left;
}

/** A server that is part of another program is not ours to start again. */
function volumeControl({ hooks }: Run, { control }: Volume): Volume["control"] {
  if (hooks.lifetime === undefined) return control;
  return {
    ...control,
    restart: () => new Fault("TRIVET_E_REFUSED", "a demo is not restarted"),
  };
}

/** From the first client to the last, or to the moment at which they are left to somebody else. */
async function serveClients(
  work: Run,
  volume: Volume,
  doorway: Doorway,
  control: ControlListener | undefined,
): Promise<Left | null> {
  const { settings, shell, hooks, notes, lifetime, host, inheritance, restarts } = work;
  const { device } = volume;
  const server = makeServer(work, device);
  let left: Left | null = null;
  try {
    inheritance?.taken();
    for (const client of inheritance?.clients ?? []) goOn(server, host, client, notes);
    doorway.open((stream) => server.accept(stream));
    announce(device, doorway, host, notes);
    hooks.ready?.({
      sizeBytes: device.sizeBytes,
      blockBytes: device.blockBytes,
      addresses: doorway.addresses,
      port: doorway.port,
    });
    host.notify("READY=1");
    lifetime.keepWatchdog(shell.env);
    const why = await Promise.race([lifetime.ended, restarts.wanted]);
    const to = why instanceof Successor ? why : undefined;
    const isKept = settings.handOver && why === "SIGTERM" && shell.env.NOTIFY_SOCKET;
    notes("info", "server.stopping", to ? `leaving to process ${to.pid}` : `stopping (${why})`);
    if (volume.bound === null && (to !== undefined || isKept)) {
      const listeners = [...doorway.leave(), ...(control?.leave() ?? [])];
      left = { to, listeners, clients: await leave(server, volume) };
    }
  } finally {
    if (left === null) {
      host.notify("STOPPING=1");
      doorway.close();
      await drain(server, notes);
    }
  }
  return left;
}

function makeServer({ settings, host, notes }: Run, device: BlockDevice): NbdServer {
  return new NbdServer(
    { arena: host.arena, clock: host.clock, notes },
    {
      exports: [
        {
          name: settings.exportName,
          device: device.blockBytes === 1 ? device : new UnalignedDevice(host.arena, device),
          blockBytes: device.blockBytes,
          // Sectors are served whatever the blocks are, and some clients cannot merge (nbdfuse).
          minimumBytes: Math.min(device.blockBytes, SECTOR_BYTES),
          readOnly: settings.readOnly,
        },
      ],
      anyName: settings.anyName,
    },
  );
}

/** A client of our predecessor. One whose connection is broken is none any more. */
function goOn(
  server: NbdServer,
  host: Host,
  { descriptor, state }: LeftSession,
  notes: Notes,
): void {
  try {
    server.goOn(host.adopt(descriptor), state);
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    notes("info", "nbd.lost", error.message);
    closeDescriptors([descriptor]);
  }
}

/** Clients first, with whatever is under way; then nothing of ours may reach the replicas any more. */
async function leave(server: NbdServer, volume: Volume): Promise<LeftSession[]> {
  const limitMs = volume.isAlive ? HAND_OVER_PARK_MS : HAND_OVER_ALONE_MS;
  const isQuiet = await new Promise<boolean>((resolve) => server.park(limitMs, resolve));
  await nextTurn();
  const clients = server.leave();
  await volume.leave(isQuiet && volume.isAlive);
  return clients;
}

/** Lets clients go when their requests are answered. Requests that cannot be answered end with the volume. */
async function drain(server: NbdServer, notes: Notes): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const isLate = await Promise.race([
    new Promise<boolean>((resolve) => server.stop(() => resolve(false))),
    new Promise<boolean>((resolve) => {
      timer = setTimeout(resolve, DRAIN_MS, true);
    }),
  ]);
  clearTimeout(timer);
  if (isLate)
    notes(
      "warn",
      "server.drain-timeout",
      `requests are unanswered after ${DRAIN_MS / 1000} s: their clients are let go without an answer`,
    );
}

function announce(device: BlockDevice, doorway: Doorway, host: Host, notes: Notes): void {
  const size = showBytes(device.sizeBytes);
  notes("info", "server.ready", `serving ${size} on ${doorway.addresses.join(" and ")}`, {
    size_bytes: device.sizeBytes,
    block_bytes: device.blockBytes,
    engine: host.engine,
  });
}

/**
 * A generation was given that is above the one that a log is finished with. Finishing has to be done with the lower one, because only then
 * a host that took over meanwhile can refuse it; what was asked for is used afterwards.
 */
const needsFinishing = ({ generation }: ServeSettings, { resume }: Journal): boolean =>
  resume !== null && generation !== undefined && generation > resume.generation + 1n;

/** A short session that writes the log again and stops. False: it was interrupted by the end of the process. */
async function finishLog(run: Run): Promise<boolean> {
  const { settings, lifetime, notes } = run;
  if (settings.backing.kind !== "targets") return true;
  const upstairs = makeUpstairs(run, settings.backing.targets, () => {});
  try {
    return (await lifetime.until(activate(upstairs))) === true;
  } catch (error) {
    // The log is put aside. To go on without it is what an explicit generation asks for.
    if (!(error instanceof Fault) || error.code !== "TRIVET_E_SUPERSEDED") throw error;
    notes(
      "warn",
      "log.passed-over",
      `going on with generation ${settings.generation} as asked for, without the write log`,
    );
    return true;
  } finally {
    await stop(upstairs);
  }
}

/** Without a place for state the clock alone gives generations, which is right as long as it is. */
function loadState(settings: ServeSettings, notes: Notes): VolumeState | undefined {
  if (settings.backing.kind !== "targets") return undefined;
  try {
    return VolumeState.load(settings.stateFolder, settings.volume, notes);
  } catch (error) {
    const fault = asFault(error);
    if (fault === undefined) throw error;
    notes(
      "warn",
      "state.unavailable",
      `the last used generation cannot be kept, the clock alone gives it: ${fault.message}`,
    );
    return undefined;
  }
}
