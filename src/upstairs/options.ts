import type { Fault } from "../base/fault.js";
import type { Generation, Uuid } from "../base/ids.js";
import {
  AUTO_FLUSH_MS,
  DIAL_TIMEOUT_MS,
  OFFLINE_BYTES_MAX,
  OFFLINE_GRACE_MS,
  OFFLINE_JOBS_MAX,
  PING_INTERVAL_MS,
  REDIAL_MS,
  REFUSED_REDIAL_MS,
  REPAIR_PATIENCE_MS,
  REPAIR_RETRY_MS,
  REPAIR_RETRY_MS_MAX,
  REPAIR_STEP_MS_MAX,
  SILENCE_MS_MAX,
} from "../base/limits.js";
import type { RegionDefinition } from "../crucible/region-definition.js";
import type { Arena } from "../ports/arena.js";
import type { Clock } from "../ports/clock.js";
import type { Hasher } from "../ports/hasher.js";
import type { Journal } from "../ports/journal.js";
import type { Notes } from "../ports/notes.js";
import type { Random } from "../ports/random.js";
import type { Address, Dialer } from "../ports/stream.js";
import type { Accept } from "./quorum.js";
import type { RecordKeeper } from "./record.js";

/** The outside, as the upstairs sees it. */
export interface UpstairsPorts {
  readonly dialer: Dialer;
  readonly arena: Arena;
  readonly hasher: Hasher;
  readonly clock: Clock;
  readonly random: Random;
  readonly notes: Notes;
  /** The write log; `nullJournal` where there is none. */
  readonly journal: Journal;
}

/**
 * Where the generation comes from (wire reference 5). `given`: this number or none. `clock`: the wall
 * clock in seconds, or `lastUsed` + 1 when that is higher; `save` makes it durable before any downstairs hears of it.
 */
export type GenerationSource =
  | { readonly kind: "given"; readonly value: bigint }
  | {
      readonly kind: "clock";
      readonly lastUsed: bigint;
      save(generation: Generation, then: (fault: Fault | null) => void): void;
    };

export interface UpstairsOptions {
  /** Exactly three, in an order that never changes: positions are client ids. */
  readonly targets: readonly Address[];
  /** Stable for the volume. */
  readonly upstairsId: Uuid;
  readonly generation: GenerationSource;
  readonly readOnly?: boolean;
  /** When a write without FUA is answered. `quorum`: two replicas have it. `buffered`: at once. */
  readonly ack?: "quorum" | "buffered";
  /** What the regions must look like; default: whatever the first to answer says. */
  readonly geometry?: Pick<RegionDefinition, "blockSize" | "extentSize" | "extentCount">;
  /** How long two wait for the third before the volume starts without it; null: for ever. Default 30 s. */
  readonly degradedAfterMs?: number | null;
  /** What may be done with regions that would be refused. */
  readonly accept?: Accept;
  /** What this host remembers of the volume's regions, and where to write it down. */
  readonly record?: RecordKeeper;
  readonly tuning?: Partial<Tuning>;
}

/** Numbers that have a good default. Times in milliseconds. */
export interface Tuning {
  readonly pingMs: number;
  readonly silenceMs: number;
  /** Pause before the first redial after a connection was lost; doubles up to `redialMs`. */
  readonly redialFirstMs: number;
  readonly redialMs: number;
  readonly dialTimeoutMs: number;
  readonly autoFlushMs: number;
  /** How often an activation that waits says for whom. */
  readonly waitNoteMs: number;
  /** Share of the arena for payloads of writes, and for answers of reads. */
  readonly writeShare: number;
  readonly readShare: number;
  /** More than this before an active replica, and writes wait (original's permits, wire reference 6.11). */
  readonly jobsMax: number;
  readonly bytesMax: number;
  /**
   * How long an offline replica may stay away before the two limits below count. Until then it costs memory, and when that is
   * used up a stall, but not its place in the volume: a restart is replayed, however fast the guest writes.
   */
  readonly offlineGraceMs: number;
  /** More than this held back for an offline replica, and it is given up for repair. */
  readonly offlineJobsMax: number;
  readonly offlineBytesMax: number;
  /** A job that a replica reports errors for this often, or for this long, ends the replica's part in the volume. */
  readonly reportsMax: number;
  readonly reportsMs: number;
  /** How often replicas are looked at for being stuck or slow (`patience`). */
  readonly patienceMs: number;
  /** A replica that alone keeps requests waiting, and does nothing for this long, is given up: the longest stall that one may cost. */
  readonly holdUpMs: number;
  /** The same for one that gets on, but is this far behind: with the limits above, less than 75 jobs or 3.75 MiB per second. */
  readonly lagMs: number;
  /** The same while it is being sent what it missed. */
  readonly catchUpMs: number;
  /** One that does nothing for this long, though nobody waits for it, gets a new connection. Longer than disks of sleeping boxes take. */
  readonly stuckMs: number;
  /** The same for a replica that copies an extent while it is repaired: enough for one of 512 MiB at 20 MB/s. */
  readonly copyHoldUpMs: number;
  /** Pause before a replica that was given up for what it did is tried again; doubles each time. */
  readonly pauseFirstMs: number;
  readonly pauseMaxMs: number;
  /** At work for this long, and it starts with the first pause again. */
  readonly calmMs: number;
  /** Closes in answer to PromoteToActive, in a row, before a replica counts as refusing. */
  readonly refusalsWhenActive: number;
  readonly refusalsAtStart: number;
  /**
   * At the start, how long refusals must have gone on: a connection of our own former life lingers up to 45 s. With a number
   * from the clock, which is above all that this host used before, that one refuses nobody.
   */
  readonly refusalsMs: number;
  readonly refusalsClockMs: number;
  /** Pause before a region that was refused is asked again. */
  readonly refusedMs: number;
  /** What is submitted when half of the write share holds payload that no flush covers. `barrier` frees memory without syncing disks, and gives up replay. */
  readonly relief: "flush" | "barrier";
  /** A read that its replica has not answered after this long, and much later than was to be expected, is asked at another one, too. */
  readonly hedgeMs: number;
  /** A replica that has answered no read for this long, though it has some, is read around. */
  readonly stallMs: number;
  /** More bad blocks than this within `badBlocksMs`, and a replica's part in the volume is over. */
  readonly badBlocksMax: number;
  readonly badBlocksMs: number;
  /** Bytes per second that repair copies at most; 0: no limit. */
  readonly repairBytesPerSecond: number;
  /** A replica under repair that is not done with one step of one extent after this long begins anew: flushes wait for it meanwhile. */
  readonly repairStepMs: number;
  /** One that alone keeps writes waiting for more than half of this has to go. */
  readonly repairPatienceMs: number;
  /** Pause before a replica whose repair failed is repaired again; doubles up to `repairRetryMsMax` while it gets nowhere. */
  readonly repairRetryMs: number;
  readonly repairRetryMsMax: number;
  /** How long an orderly stop waits for the final flush, and how long while fewer than two replicas are there. */
  readonly stopMs: number;
  readonly stopAloneMs: number;
  /** A session's first flush number lies up to so many steps of FLUSH_STEP above what it found. */
  readonly flushSteps: number;
}

const MIB = 1024 * 1024;

export const TUNING: Tuning = {
  pingMs: PING_INTERVAL_MS,
  silenceMs: SILENCE_MS_MAX,
  redialFirstMs: 1000,
  redialMs: REDIAL_MS,
  dialTimeoutMs: DIAL_TIMEOUT_MS,
  autoFlushMs: AUTO_FLUSH_MS,
  waitNoteMs: 30_000,
  writeShare: 0.6,
  readShare: 0.3,
  jobsMax: 1500,
  bytesMax: 75 * MIB,
  offlineGraceMs: OFFLINE_GRACE_MS,
  offlineJobsMax: OFFLINE_JOBS_MAX,
  offlineBytesMax: OFFLINE_BYTES_MAX,
  reportsMax: 100,
  reportsMs: 60_000,
  patienceMs: 1000,
  holdUpMs: 10_000,
  lagMs: 20_000,
  catchUpMs: 60_000,
  stuckMs: 60_000,
  copyHoldUpMs: 30_000,
  pauseFirstMs: 30_000,
  pauseMaxMs: 3_600_000,
  calmMs: 3_600_000,
  refusalsWhenActive: 1,
  refusalsAtStart: 3,
  refusalsMs: 50_000,
  refusalsClockMs: 20_000,
  refusedMs: REFUSED_REDIAL_MS,
  relief: "flush",
  hedgeMs: 30,
  stallMs: 500,
  badBlocksMax: 1000,
  badBlocksMs: 3_600_000,
  repairBytesPerSecond: 0,
  repairStepMs: REPAIR_STEP_MS_MAX,
  repairPatienceMs: REPAIR_PATIENCE_MS,
  repairRetryMs: REPAIR_RETRY_MS,
  repairRetryMsMax: REPAIR_RETRY_MS_MAX,
  stopMs: 60_000,
  stopAloneMs: 15_000,
  flushSteps: 2 ** 14,
};
