import type { Uuid } from "../base/ids.js";
import type { Address } from "../ports/stream.js";
import type { HealStatus } from "./heal.js";
import type { VolumeState } from "./members.js";
import type { Membership } from "./membership.js";
import type { Mode, Phase } from "./negotiation.js";
import type { RepairOutcome, RepairStatus } from "./repair-status.js";
import type { ScrubStatus } from "./scrub-status.js";

export interface ReplicaStatus {
  readonly address: string;
  readonly phase: Phase;
  readonly mode: Mode;
  readonly regionUuid: Uuid | null;
  /** Milliseconds since a frame came in, to within a ping; null: not connected. */
  readonly silentMs: number | null;
  /** Sent and not done. */
  readonly jobs: number;
  readonly bytes: number;
  /** Held back until it returns. */
  readonly heldJobs: number;
  readonly heldBytes: number;
  readonly connections: number;
  readonly replays: number;
  readonly errorReports: number;
  readonly jobErrors: number;
  readonly badBlocks: number;
  readonly readsAnswered: number;
  readonly readBytesAnswered: number;
  /** What went wrong last, when it is not well. */
  readonly trouble: string | null;
  /** Why it was given up; null when it was not, or is repaired since. */
  readonly givenUp: string | null;
  /** Why the region that answers there is not used, and what would overrule that. */
  readonly refused: string | null;
}

export interface UpstairsStatus {
  readonly state: VolumeState;
  /** Why it ended by itself. */
  readonly ending: string | null;
  readonly generation: bigint;
  readonly upstairsId: Uuid;
  readonly sessionId: Uuid;
  readonly readOnly: boolean;
  /** Not in use yet, and those that are there are not enough: why, when it is not only that they are too few. */
  readonly waitsBecause: string | null;
  /** In use with fewer than three replicas in step. */
  readonly degraded: boolean;
  readonly sizeBytes: number;
  readonly blockBytes: number;
  readonly replicas: readonly ReplicaStatus[];
  /** Steps of a reconciliation that is running. */
  readonly reconciliation: { readonly done: number; readonly inAll: number } | null;
  readonly openRequests: number;
  readonly waitingWrites: number;
  /** Jobs kept, until a flush covers them everywhere. */
  readonly jobs: number;
  readonly nextJobId: number;
  readonly writeMemory: { readonly usedBytes: number; readonly sizeBytes: number };
  readonly readMemory: { readonly usedBytes: number; readonly sizeBytes: number };
  /** Writes in the write log that no flush covers; null: there is no log. */
  readonly writeLog: { readonly rows: number; readonly rowsMax: number } | null;
  readonly heal: HealStatus;
  /** The scrub that runs, or the last one. */
  readonly scrub: ScrubStatus | null;
  /** Live repair: the one that runs, how the last one ended, the limit in bytes per second (0: none). */
  readonly repair: {
    readonly now: RepairStatus | null;
    readonly last: RepairOutcome | null;
    readonly bytesPerSecond: number;
  };
  readonly counts: Readonly<Record<string, number>>;
}

export function upstairsStatus(membership: Membership, nowMs: number): UpstairsStatus {
  const { engine, members, activation } = membership;
  const { ids } = members;
  const { core } = engine;
  const { steps: reconciliation } = activation.reconciling;
  const { rows, rowsMax } = core.ports.journal;
  return {
    state: members.state,
    ending: membership.ending.fault?.line ?? null,
    generation: members.generation,
    upstairsId: ids.upstairsId,
    sessionId: ids.sessionId,
    readOnly: members.readOnly,
    waitsBecause: members.state === "activating" ? activation.why : null,
    degraded: members.state === "active" && core.activeCount < 3,
    sizeBytes: core.sizeBytes,
    blockBytes: core.blockBytes,
    replicas: members.replicas.map((replica, index) => {
      const lane = core.lanes[index]!;
      return {
        address: showAddress(replica.address),
        phase: replica.phase,
        mode: replica.mode,
        regionUuid: replica.region?.uuid ?? null,
        silentMs: replica.isConnected ? nowMs - replica.lastHeardMs : null,
        jobs: lane.sentJobs,
        bytes: lane.sentBytes,
        heldJobs: lane.heldJobs,
        heldBytes: lane.heldBytes,
        connections: replica.connections,
        replays: lane.replays,
        errorReports: lane.errorReports,
        jobErrors: lane.jobErrors,
        badBlocks: lane.badBlocks,
        readsAnswered: lane.readsAnswered,
        readBytesAnswered: lane.readBytesAnswered,
        trouble: replica.trouble?.message ?? null,
        givenUp: replica.givenUpFor?.message ?? null,
        refused: replica.refused?.message ?? null,
      };
    }),
    reconciliation:
      reconciliation === null
        ? null
        : { done: reconciliation.stepsDone, inAll: reconciliation.stepsInAll },
    openRequests: engine.openCount,
    waitingWrites: engine.waitingWrites,
    jobs: core.table.liveCount,
    nextJobId: core.nextJobId,
    writeMemory: { usedBytes: core.writeShare.usedBytes, sizeBytes: core.writeShare.sizeBytes },
    readMemory: { usedBytes: core.readShare.usedBytes, sizeBytes: core.readShare.sizeBytes },
    writeLog: rowsMax === 0 ? null : { rows, rowsMax },
    heal: engine.heal.status,
    scrub: engine.scrub.status,
    repair: {
      now: engine.repair.status,
      last: engine.repair.last,
      bytesPerSecond: engine.repair.rate,
    },
    counts: {
      ...engine.counts,
      ...engine.readCounts,
      flushesSubmitted: engine.flushesSubmitted,
      barriersSubmitted: engine.barriersSubmitted,
      reconciliations: activation.reconciling.count,
      repairsCompleted: engine.repair.completed,
      repairsAborted: engine.repair.aborted,
    },
  };
}

const showAddress = ({ host, port }: Address): string =>
  host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
