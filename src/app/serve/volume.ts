import { Fault } from "../../base/fault.js";
import type { Generation, Uuid } from "../../base/ids.js";
import { HAND_OVER_FLUSH_MS } from "../../base/limits.js";
import type { VolumeControl } from "../../control/volume-control.js";
import type { Host } from "../../host/open.js";
import type { BlockDevice } from "../../ports/device.js";
import type { Journal } from "../../ports/journal.js";
import type { Notes } from "../../ports/notes.js";
import type { Address } from "../../ports/stream.js";
import type { GenerationSource } from "../../upstairs/options.js";
import type { RecordKeeper } from "../../upstairs/record.js";
import { Upstairs } from "../../upstairs/upstairs.js";
import { MemoryDevice } from "../../volume/memory.js";
import { showAddress } from "../cli/values.js";
import { memoryControl, upstairsControl } from "../control/adapter.js";
import { memoryReport, type ServerFacts } from "../control/volume-report.js";
import type { Lifetime } from "../lifetime.js";
import { programVersion } from "../version.js";
import type { Restarts } from "./restart.js";
import { ScrubPlan } from "./scrub-plan.js";
import { ScrubState } from "./scrub-state.js";
import type { ServeSettings } from "./settings.js";
import type { VolumeState } from "./volume-state.js";

// What a server serves: a volume on replicas, or a piece of memory.

const GENERATION_MAX = 2n ** 64n - 1n;

export interface Volume {
  readonly device: BlockDevice;
  readonly control: VolumeControl;
  /** Why no other process can go on with it; null: one can. */
  readonly bound: string | null;
  /** Whether writes can be answered. */
  readonly isAlive: boolean;
  /** Resolves with true when requests can be served. */
  activate(): Promise<true>;
  /** In order. Rejects with a Fault. */
  stop(): Promise<void>;
  /**
   * For a successor: in order when nothing is under way and the last flush does not take too long; otherwise as by a death, so that the
   * successor finishes the write log. Afterwards nothing of ours can reach a replica that a successor has promoted itself on. Rejects with a
   * Fault when there must be none.
   */
  leave(isQuiet: boolean): Promise<void>;
}

/** What a volume needs of the server around it. */
export interface VolumeTerms {
  readonly settings: ServeSettings;
  readonly notes: Notes;
  readonly lifetime: Lifetime;
  readonly host: Host;
  readonly journal: Journal;
  /** Undefined: it cannot be kept, or there is none. */
  readonly state: VolumeState | undefined;
  readonly volumeId: Uuid;
  readonly restarts: Restarts;
}

export function openVolume(run: VolumeTerms, addresses: () => readonly string[]): Volume {
  const { settings, restarts } = run;
  const { backing } = settings;
  const facts = serverFacts(settings, addresses, restarts);
  if (backing.kind === "targets") return openTargets(run, backing.targets, facts);
  const { sizeBytes, blockBytes } = backing;
  const device = new MemoryDevice(run.host.arena, { sizeBytes, blockBytes });
  const control = memoryControl(() => memoryReport(facts(), device, settings.readOnly));
  const bound = "a volume in memory ends with its server";
  const done = async (): Promise<void> => {};
  return {
    device,
    control,
    bound,
    isAlive: true,
    activate: async () => true,
    stop: done,
    leave: done,
  };
}

function serverFacts(
  settings: ServeSettings,
  addresses: () => readonly string[],
  restarts: Restarts,
): () => ServerFacts {
  const startedMs = performance.now();
  return () => ({
    volume: settings.volume,
    version: programVersion(),
    pid: process.pid,
    upMs: performance.now() - startedMs,
    memoryBytes: process.memoryUsage.rss(),
    addresses: addresses(),
    ack: settings.ack,
    restart: restarts.report,
  });
}

function openTargets(
  run: VolumeTerms,
  targets: readonly Address[],
  facts: () => ServerFacts,
): Volume {
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
  const restart: VolumeControl["restart"] = (program) => {
    const { state: stage, generation } = upstairs.status();
    if (generation === GENERATION_MAX)
      return new Fault("TRIVET_E_REFUSED", `no generation is above ${generation} for a successor`);
    return stage === "active"
      ? run.restarts.begin(program)
      : new Fault(
          "TRIVET_E_NOT_ACTIVE",
          "the volume is not in use, so there is nothing to hand over",
        );
  };
  return {
    device: upstairs,
    control: { ...upstairsControl(upstairs, scrubs, facts), restart },
    bound: null,
    get isAlive() {
      const there = upstairs.status().replicas.filter(({ phase }) => phase === "active").length;
      return there >= (settings.readOnly ? 1 : 2);
    },
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
    leave: async (isQuiet) => {
      const how = isQuiet ? await stopWithin(upstairs, HAND_OVER_FLUSH_MS) : "late";
      if (how === "late") await new Promise((resolve) => upstairs.abandon(resolve));
      await scrubs.end();
      if (superseded !== undefined) throw superseded;
      const about = how === "done" ? "everything is flushed" : "the write log goes with it";
      notes("info", "server.left", `the volume is left to a successor: ${about}`);
    },
  };
}

/** "late": it goes on, and has to be abandoned. */
async function stopWithin(upstairs: Upstairs, limitMs: number): Promise<"done" | "late"> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<"late">((resolve) => {
    timer = setTimeout(resolve, limitMs, "late");
  });
  const done = stop(upstairs).then((fault) => (fault === null ? "done" : "late"));
  const how = await Promise.race([done, late]);
  clearTimeout(timer);
  return how;
}

function makeScrubPlan({ settings, host, notes, state }: VolumeTerms, volume: Upstairs): ScrubPlan {
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

export function makeUpstairs(
  { settings, notes, host, journal, state, volumeId }: VolumeTerms,
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

export const activate = (upstairs: Upstairs): Promise<true> =>
  new Promise((resolve, reject) => {
    upstairs.activate((fault) => (fault === null ? resolve(true) : reject(fault)));
  });
export const stop = (upstairs: Upstairs): Promise<Fault | null> =>
  new Promise((resolve) => upstairs.stop(resolve));

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
