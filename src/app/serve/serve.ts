import { Fault } from "../../base/fault.js";
import type { Generation, Uuid } from "../../base/ids.js";
import type { VolumeControl } from "../../control/volume-control.js";
import type { Host } from "../../host/open.js";
import { NbdServer } from "../../nbd/server.js";
import type { BlockDevice } from "../../ports/device.js";
import type { Journal } from "../../ports/journal.js";
import type { Notes } from "../../ports/notes.js";
import type { Address } from "../../ports/stream.js";
import type { GenerationSource } from "../../upstairs/options.js";
import type { RecordKeeper } from "../../upstairs/record.js";
import { Upstairs } from "../../upstairs/upstairs.js";
import { MemoryDevice } from "../../volume/memory.js";
import { UnalignedDevice } from "../../volume/unaligned.js";
import type { Shell } from "../cli/command.js";
import { showAddress } from "../cli/values.js";
import { memoryControl, upstairsControl } from "../control/adapter.js";
import { ControlListener } from "../control/listener.js";
import { memoryReport, type ServerFacts } from "../control/volume-report.js";
import { Lifetime } from "../lifetime.js";
import { processLog } from "../logging.js";
import { showBytes } from "../progress.js";
import { asFault } from "../report.js";
import { programVersion } from "../version.js";
import { Doorway } from "./doorway.js";
import { openKeptHost, openPlainHost } from "./kept-host.js";
import { passedSockets } from "./passed-sockets.js";
import { ScrubPlan } from "./scrub-plan.js";
import { ScrubState } from "./scrub-state.js";
import type { ServeSettings } from "./settings.js";
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
 * Resolves after an orderly stop; rejects with a Fault when it cannot start or was superseded.
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
    const state = loadState(settings, notes);
    const volumeId = state?.upstairsId ?? idOfName(settings.volume);
    const terms = { settings, volumeId, notes, notifySocket: shell.env.NOTIFY_SOCKET };
    const hasLog = settings.backing.kind === "targets" && !settings.readOnly;
    for (;;) {
      const kept = hasLog ? await openKeptHost(terms) : openPlainHost(terms);
      const { host, journal } = kept;
      const work = { settings, shell, hooks, notes, lifetime, host, journal, state, volumeId };
      try {
        if (!needsFinishing(settings, journal)) {
          await run(work);
          return;
        }
        if (!(await finishLog(work))) return;
      } finally {
        await kept.close();
      }
    }
  } finally {
    await log?.flush();
    if (hooks.lifetime === undefined) lifetime.dispose();
  }
}

interface Run {
  readonly settings: ServeSettings;
  readonly shell: Shell;
  readonly hooks: ServeHooks;
  readonly notes: Notes;
  readonly lifetime: Lifetime;
  readonly host: Host;
  readonly journal: Journal;
  /** Undefined: it cannot be kept, or there is none. */
  readonly state: VolumeState | undefined;
  readonly volumeId: Uuid;
}

async function run(work: Run): Promise<void> {
  const { settings, shell, hooks, notes, lifetime, host } = work;
  const doorway = new Doorway();
  const descriptors = passedSockets(process.env);
  // Whoever passes sockets has decided where to listen.
  const passed = descriptors.length > 0 && !settings.listensExplicitly;
  const addresses = passed ? [] : settings.addresses;
  await doorway.bind(host, addresses, settings.sockets, descriptors);
  let volume: Volume | undefined;
  let control: ControlListener | undefined;
  try {
    volume = openVolume(work, doorway);
    if (settings.control !== undefined) {
      control = new ControlListener(host, notes, settings.control, volume.control);
      await control.open();
    }
    const isActive = await lifetime.until(volume.activate());
    if (isActive === undefined) return;
    const { device } = volume;
    const server = new NbdServer(
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
    try {
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
      const why = await lifetime.ended;
      notes("info", "server.stopping", `stopping (${why})`);
    } finally {
      host.notify("STOPPING=1");
      doorway.close();
      await drain(server, notes);
    }
  } finally {
    doorway.close();
    try {
      await volume?.stop();
    } finally {
      // Last, so that it can be asked how far the stop is.
      control?.close();
    }
  }
  notes("info", "server.stopped", "stopped in order");
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

interface Volume {
  readonly device: BlockDevice;
  readonly control: VolumeControl;
  /** Resolves with true when requests can be served. */
  activate(): Promise<true>;
  stop(): Promise<void>;
}

function openVolume(run: Run, doorway: Doorway): Volume {
  const { settings } = run;
  const { backing } = settings;
  const facts = serverFacts(settings, doorway);
  if (backing.kind === "targets") return openTargets(run, backing.targets, facts);
  const { sizeBytes, blockBytes } = backing;
  const device = new MemoryDevice(run.host.arena, { sizeBytes, blockBytes });
  const control = memoryControl(() => memoryReport(facts(), device, settings.readOnly));
  return { device, control, activate: async () => true, stop: async () => {} };
}

function serverFacts(settings: ServeSettings, doorway: Doorway): () => ServerFacts {
  const startedMs = performance.now();
  return () => ({
    volume: settings.volume,
    version: programVersion(),
    pid: process.pid,
    upMs: performance.now() - startedMs,
    memoryBytes: process.memoryUsage.rss(),
    addresses: doorway.addresses,
    ack: settings.ack,
  });
}

function openTargets(run: Run, targets: readonly Address[], facts: () => ServerFacts): Volume {
  const { settings, notes, state } = run;
  const actual = state?.targetsFor(targets) ?? targets;
  warnOfMoved(targets, actual, notes);
  warnOfSharedHosts(actual, notes);
  warnOfFlags(settings, notes);
  let superseded: Fault | undefined;
  const upstairs = makeUpstairs(run, targets, (fault) => {
    superseded = fault;
    run.lifetime.fail(fault);
  });
  const scrubs = makeScrubPlan(run, upstairs);
  return {
    device: upstairs,
    control: upstairsControl(upstairs, scrubs, facts),
    activate: async () => {
      const isActive = await activate(upstairs);
      scrubs.begin();
      return isActive;
    },
    stop: async () => {
      const fault = await stop(upstairs);
      await scrubs.end();
      // Why it was superseded is said already.
      if (fault !== null && superseded === undefined) throw fault;
    },
  };
}

function makeScrubPlan({ settings, host, notes, state }: Run, volume: Upstairs): ScrubPlan {
  const folder = state === undefined ? undefined : settings.stateFolder;
  const nowSeconds = Math.floor(host.clock.wallSeconds());
  return new ScrubPlan({
    volume,
    state: ScrubState.load(folder, settings.volume, nowSeconds, notes),
    clock: host.clock,
    notes,
    everyMs: settings.scrubEveryMs,
    bytesPerSecond: settings.scrubBytesPerSecond,
  });
}

function makeUpstairs(
  { settings, notes, host, journal, state, volumeId }: Run,
  targets: readonly Address[],
  superseded: (fault: Fault) => void,
): Upstairs {
  return new Upstairs(
    {
      targets: state?.targetsFor(targets) ?? targets,
      upstairsId: volumeId,
      generation: generationSource(settings, state),
      readOnly: settings.readOnly,
      ack: settings.ack,
      degradedAfterMs: settings.degradedAfterMs,
      accept: settings.accept,
      tuning: { repairBytesPerSecond: settings.repairBytesPerSecond },
      ...(state === undefined ? {} : { record: recordKeeper(state, targets) }),
    },
    {
      dialer: host.dialer,
      arena: host.arena,
      hasher: host.hasher,
      clock: host.clock,
      random: host.random,
      notes,
      journal,
    },
    { superseded },
  );
}

const activate = (upstairs: Upstairs): Promise<true> =>
  new Promise((resolve, reject) => {
    upstairs.activate((fault) => (fault === null ? resolve(true) : reject(fault)));
  });
const stop = (upstairs: Upstairs): Promise<Fault | null> =>
  new Promise((resolve) => upstairs.stop(resolve));

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

function generationSource(
  settings: ServeSettings,
  state: VolumeState | undefined,
): GenerationSource {
  if (settings.generation !== undefined) return { kind: "given", value: settings.generation };
  return {
    kind: "clock",
    lastUsed: state?.lastUsed ?? 0n,
    save: (generation: Generation, then) => {
      if (state === undefined) {
        queueMicrotask(() => then(null));
        return;
      }
      state.save(generation).then(
        () => then(null),
        (error) => then(error instanceof Fault ? error : new Fault("TRIVET_E_FILE", `${error}`)),
      );
    },
  };
}

const recordKeeper = (state: VolumeState, configured: readonly Address[]): RecordKeeper => ({
  last: state.record,
  save: (record, then) => {
    state.saveRecord(record, configured).then(
      () => then(null),
      (error) => then(error instanceof Fault ? error : new Fault("TRIVET_E_FILE", `${error}`)),
    );
  },
});

/** A replica was replaced while the volume was in use, and whoever wrote the configuration does not know it yet. */
function warnOfMoved(
  configured: readonly Address[],
  actual: readonly Address[],
  notes: Notes,
): void {
  for (const [place, address] of actual.entries()) {
    const [was, is] = [showAddress(configured[place]!), showAddress(address)];
    if (was === is) continue;
    notes(
      "warn",
      "volume.target-moved",
      `target ${place} was replaced: ${is} is used, not ${was} as configured. Write ${is} into the configuration, here and on every host that may take the volume over`,
    );
  }
}

/** They are for one start. */
function warnOfFlags({ accept }: ServeSettings, notes: Notes): void {
  for (const [name, isGiven] of Object.entries(accept))
    if (isGiven)
      notes(
        "warn",
        "volume.accept",
        `accept-${name} is given: a check that keeps data from being lost is off. Leave it out at the next start`,
      );
}

function warnOfSharedHosts(targets: readonly Address[], notes: Notes): void {
  const hosts = new Map<string, number>();
  for (const { host } of targets) hosts.set(host, (hosts.get(host) ?? 0) + 1);
  for (const [host, count] of hosts) {
    if (count === 1) continue;
    notes(
      "warn",
      "volume.single-point-of-failure",
      `${count} of 3 replicas are on ${host}: the volume does not survive the loss of that host`,
    );
  }
}
