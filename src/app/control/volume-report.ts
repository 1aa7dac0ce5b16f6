import type {
  Health,
  RepairReport,
  ReplicaReport,
  ReplicaWord,
  ScrubReport,
  StatusReport,
} from "../../control/report.js";
import type { ScrubStatus } from "../../upstairs/scrub-status.js";
import type { ReplicaStatus, UpstairsStatus } from "../../upstairs/status.js";
import { showBytes } from "../progress.js";

// A volume's status in the words of the control socket: pure, from what the upstairs counts to what people read.

/** What the server knows beside the upstairs. */
export interface ServerFacts {
  readonly volume: string;
  readonly version: string;
  readonly pid: number;
  readonly upMs: number;
  readonly memoryBytes: number;
  readonly addresses: readonly string[];
  readonly ack: string;
  readonly restart: StatusReport["restart"];
}

export function upstairsReport(status: UpstairsStatus, facts: ServerFacts): StatusReport {
  const replicas = status.replicas.map((replica, index) => replicaReport(replica, index, status));
  const { health, problems } = judge(status, replicas);
  const { reconciliation } = status;
  return {
    ...server(facts),
    health,
    problems,
    backing: "replicas",
    state: status.state,
    ending: status.ending,
    generation: `${status.generation}`,
    upstairs_id: status.upstairsId,
    session_id: status.sessionId,
    read_only: status.readOnly,
    size_bytes: status.sizeBytes,
    block_bytes: status.blockBytes,
    replicas,
    reconciliation:
      reconciliation === null ? null : { done: reconciliation.done, in_all: reconciliation.inAll },
    repair: repairReport(status),
    scrub: status.scrub === null ? null : scrubReport(status.scrub),
    heal: { ...status.heal },
    write_log:
      status.writeLog === null
        ? null
        : { rows: status.writeLog.rows, rows_max: status.writeLog.rowsMax },
    requests: {
      open: status.openRequests,
      waiting_writes: status.waitingWrites,
      jobs: status.jobs,
      next_job_id: status.nextJobId,
    },
    memory: { writes: share(status.writeMemory), reads: share(status.readMemory) },
    counts: snakeKeys(status.counts),
  };
}

/** A volume that lives in the server's memory has no replicas, and nothing that could fail by itself. */
export function memoryReport(
  facts: ServerFacts,
  device: { readonly sizeBytes: number; readonly blockBytes: number },
  readOnly: boolean,
): StatusReport {
  const nothing = { used_bytes: 0, size_bytes: 0 };
  return {
    ...server(facts),
    health: "ok",
    problems: [],
    backing: "memory",
    state: "active",
    ending: null,
    generation: "0",
    upstairs_id: null,
    session_id: null,
    read_only: readOnly,
    size_bytes: device.sizeBytes,
    block_bytes: device.blockBytes,
    replicas: [],
    reconciliation: null,
    repair: null,
    scrub: null,
    heal: {},
    write_log: null,
    requests: { open: 0, waiting_writes: 0, jobs: 0, next_job_id: 0 },
    memory: { writes: nothing, reads: nothing },
    counts: {},
  };
}

const server = (facts: ServerFacts) =>
  ({
    report: 1,
    volume: facts.volume,
    server: {
      version: facts.version,
      pid: facts.pid,
      up_ms: Math.round(facts.upMs),
      memory_bytes: facts.memoryBytes,
    },
    addresses: facts.addresses,
    ack: facts.ack,
    restart: facts.restart,
  }) as const;

function replicaReport(
  replica: ReplicaStatus,
  index: number,
  volume: UpstairsStatus,
): ReplicaReport {
  const state = wordOf(replica, volume);
  return {
    index,
    address: replica.address,
    state,
    about: about(state, replica, volume),
    mode: replica.mode,
    phase: replica.phase,
    region_uuid: replica.regionUuid,
    silent_ms: replica.silentMs === null ? null : Math.round(replica.silentMs),
    jobs: replica.jobs,
    bytes: replica.bytes,
    held_jobs: replica.heldJobs,
    held_bytes: replica.heldBytes,
    given_up: replica.givenUp,
    refused: replica.refused,
    trouble: replica.trouble,
    counts: {
      connections: replica.connections,
      replays: replica.replays,
      error_reports: replica.errorReports,
      job_errors: replica.jobErrors,
      bad_blocks: replica.badBlocks,
      reads_answered: replica.readsAnswered,
      read_bytes_answered: replica.readBytesAnswered,
    },
  };
}

function wordOf(replica: ReplicaStatus, volume: UpstairsStatus): ReplicaWord {
  if (volume.state === "ended" || volume.state === "idle") return "idle";
  if (replica.refused !== null) return "refused";
  if (replica.phase === "liveRepair") return "repairing";
  if (replica.mode === "faulted" || replica.mode === "replaced") return replica.mode;
  switch (replica.phase) {
    case "active":
      return "active";
    case "reconcile":
      return "reconciling";
    case "waitQuorum":
      return "waiting";
    default:
      return "away";
  }
}

function about(word: ReplicaWord, replica: ReplicaStatus, volume: UpstairsStatus): string {
  const why = replica.trouble === null ? "" : `: ${replica.trouble}`;
  switch (word) {
    case "active":
      return replica.jobs === 0 ? "at work" : `at work, ${requests(replica.jobs)} under way`;
    case "waiting":
      return "there, waiting for the others";
    case "reconciling":
      return "being made equal with the others";
    case "away":
      if (replica.mode === "offline")
        return `away${why}; ${requests(replica.heldJobs)} (${showBytes(replica.heldBytes)}) are kept for it`;
      return replica.silentMs === null ? `not connected${why}` : "connecting";
    case "faulted":
      return `out of the volume${because(replica)}; ${repairHope(replica)}`;
    case "replaced":
      return `another region in the place of one${why}; ${repairHope(replica)}`;
    case "repairing":
      return `being repaired${repairShare(volume)}`;
    case "refused":
      return `not let in: ${replica.refused}`;
    case "idle":
      return volume.state === "ended" ? "the volume has ended" : "not connected";
  }
}
/** Why it was given up says more than why it cannot be reached now. */
const because = ({ givenUp, trouble }: ReplicaStatus): string =>
  givenUp !== null ? `: ${givenUp}` : trouble !== null ? `: ${trouble}` : "";
const repairHope = ({ phase }: ReplicaStatus): string =>
  phase === "liveRepairReady"
    ? "it is there and waits to be repaired"
    : "it is repaired when it is back";
function repairShare({ repair }: UpstairsStatus): string {
  const { now } = repair;
  if (now === null) return "";
  const done = now.repaired + now.confirmed;
  const percent = Math.floor((100 * done) / now.extentCount);
  return ` from replica ${now.source}, ${percent} %`;
}
const requests = (count: number): string => `${count} ${count === 1 ? "request" : "requests"}`;

function judge(
  volume: UpstairsStatus,
  replicas: readonly ReplicaReport[],
): { readonly health: Health; readonly problems: readonly string[] } {
  const problems: string[] = [];
  if (volume.ending !== null) problems.push(volume.ending);
  if (volume.state === "activating")
    problems.push(
      `the volume is not served yet: ${volume.waitsBecause ?? "it waits for its replicas"}`,
    );
  else if (volume.state !== "active") problems.push(`the volume is ${volume.state}`);
  const atWork = replicas.filter(({ state }) => state === "active").length;
  const needed = volume.readOnly ? 1 : 2;
  const isServed = volume.state === "active" && atWork >= needed;
  if (volume.state === "active" && !isServed)
    problems.push(
      volume.readOnly
        ? "no replica is at work: reads wait"
        : `${atWork} of ${replicas.length} replicas are at work: writes wait until two are`,
    );
  for (const { index, address, state, about: text } of replicas)
    if (state !== "active") problems.push(`replica ${index} (${address}) is ${text}`);
  const { lost } = volume.heal;
  if (lost > 0)
    problems.push(
      `of ${lost} blocks no good copy is left: they read as errors until they are written`,
    );
  return { health: !isServed ? "down" : problems.length > 0 ? "degraded" : "ok", problems };
}

function repairReport({ repair }: UpstairsStatus): RepairReport {
  const { now, last, bytesPerSecond } = repair;
  return {
    running: now && {
      targets: now.targets,
      source: now.source,
      extent: now.extent,
      extent_count: now.extentCount,
      repaired: now.repaired,
      confirmed: now.confirmed,
      left: now.left,
      copied_bytes: now.copiedBytes,
      bytes_per_second: now.bytesPerSecond,
      remaining_ms: now.remainingMs,
    },
    last: last && {
      targets: last.targets,
      complete: last.isComplete,
      repaired: last.repaired,
      confirmed: last.confirmed,
      copied_bytes: last.copiedBytes,
      took_ms: Math.round(last.tookMs),
      reason: last.reason,
    },
    bytes_per_second_max: bytesPerSecond,
  };
}

const scrubReport = (scrub: ScrubStatus): ScrubReport => ({
  state: scrub.state,
  waits_for: scrub.waitsFor,
  from_block: scrub.fromBlock,
  block: scrub.block,
  blocks: scrub.blocks,
  replicas: scrub.replicas,
  compared_on_two: scrub.comparedOnTwo,
  differing: scrub.differing,
  repaired: scrub.repaired,
  undecided: scrub.undecided,
  lost: scrub.lost,
  overwritten: scrub.overwritten,
  bytes_per_second: scrub.bytesPerSecond,
  bytes_per_second_max: scrub.bytesPerSecondMax,
  elapsed_ms: Math.round(scrub.elapsedMs),
  remaining_ms: scrub.remainingMs === null ? null : Math.round(scrub.remainingMs),
});

const share = (memory: { readonly usedBytes: number; readonly sizeBytes: number }) => ({
  used_bytes: memory.usedBytes,
  size_bytes: memory.sizeBytes,
});

export const snakeKeys = (counts: Readonly<Record<string, number>>): Record<string, number> =>
  Object.fromEntries(
    Object.entries(counts).map(([key, value]) => [
      key.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      value,
    ]),
  );
