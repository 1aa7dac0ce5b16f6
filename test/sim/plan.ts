import type { Tuning } from "../../src/upstairs/options.js";
import { prng } from "../kit/world.js";

// What a seed stands for: the shape of the volume, the manners of network, disks and guests, and what goes wrong.

export type FaultKind =
  // The network between two machines.
  | "cut"
  | "stall"
  | "slow"
  // One replica.
  | "killReplica"
  | "cutPower"
  | "restartReplica"
  | "diskStall"
  | "diskErrors"
  | "diskFull"
  | "rot"
  | "misdirect"
  | "loseRegion"
  // Everybody at once.
  | "blackout"
  // The host.
  | "killHost"
  | "cutHostPower"
  | "restartHost"
  | "takeOver"
  | "clockJump"
  // Operators.
  | "replace"
  | "scrub"
  // Guests.
  | "dropGuest";

/** Kinds with their weights. */
export type Mix = Partial<Record<FaultKind, number>>;

const MIXES: Readonly<Record<string, Mix>> = {
  calm: {},
  network: { cut: 4, stall: 2, slow: 2, dropGuest: 1 },
  replicas: { killReplica: 4, cutPower: 4, restartReplica: 2, cut: 1 },
  disks: { diskStall: 2, diskErrors: 4, diskFull: 2, killReplica: 2, cut: 1, restartHost: 1 },
  blackouts: { blackout: 6, cut: 2, killReplica: 2, killHost: 1, stall: 2, slow: 2, diskStall: 4 },
  hosts: {
    killHost: 6,
    restartHost: 2,
    takeOver: 4,
    clockJump: 2,
    cutHostPower: 1,
    cut: 1,
    stall: 3,
    slow: 2,
    killReplica: 2,
    cutPower: 3,
  },
  rot: { rot: 8, misdirect: 4, scrub: 1, cut: 3, stall: 1, killReplica: 1, dropGuest: 1 },
  repairs: {
    loseRegion: 3,
    replace: 2,
    killReplica: 2,
    cutPower: 1,
    cut: 3,
    stall: 1,
    killHost: 2,
    takeOver: 2,
    diskErrors: 1,
    scrub: 1,
  },
  everything: {
    cut: 3,
    stall: 1,
    slow: 1,
    killReplica: 3,
    cutPower: 3,
    restartReplica: 1,
    diskStall: 1,
    diskErrors: 1,
    diskFull: 1,
    killHost: 3,
    cutHostPower: 1,
    restartHost: 1,
    takeOver: 2,
    clockJump: 1,
    loseRegion: 1,
    blackout: 1,
    replace: 1,
    scrub: 1,
    dropGuest: 1,
  },
};
export const MIX_NAMES: readonly string[] = Object.keys(MIXES);

export interface Plan {
  readonly seed: number;
  readonly mixName: string;
  readonly mix: Mix;
  readonly requests: number;
  readonly blockSize: number;
  readonly extentSize: number;
  readonly extentCount: number;
  readonly latencyMs: number;
  readonly jitterMs: number;
  readonly choppy: number;
  readonly diskMs: number;
  readonly heldBytesMax: number | undefined;
  readonly arenaBytes: number;
  /** Rows of the write log; 0: there is none. */
  readonly logRows: number;
  readonly ack: "quorum" | "buffered";
  readonly tuning: Partial<Tuning>;
  /** Null: a volume never starts without its third replica. */
  readonly degradedAfterMs: number | null;
  readonly guests: number;
  readonly depth: number;
  /** Most sectors of a request. */
  readonly sectorsMax: number;
  readonly reads: number;
  readonly flushes: number;
  /** Mean pause between bursts of requests, and between faults. */
  readonly pauseMs: number;
  readonly faultMs: number;
  readonly faultsMax: number;
}

export interface PlanOptions {
  readonly requests?: number;
  readonly mix?: string;
}

export function planOf(seed: number, options: PlanOptions = {}): Plan {
  const chance = prng(seed ^ 0x5eed);
  const pick = <T>(...of: readonly T[]): T => of[Math.floor(chance() * of.length)]!;
  const mixName = options.mix ?? pick("calm", ...MIX_NAMES, "everything", "everything");
  const isLarge = chance() < 0.3;
  const isPatient = chance() < 0.4;
  const isTight = chance() < 0.25;
  const drawn = { offlineGraceMs: pick(0, 0, 1000, 15_000), offlineJobsMax: pick(3, 30, 1000) };
  // A replica whose disk rots may not be the only one that is left to repair another from.
  const impatience = MIXES[mixName]?.rot === undefined ? drawn : {};
  const quick: Partial<Tuning> = {
    pingMs: 500,
    silenceMs: 4000,
    redialFirstMs: 50,
    redialMs: 500,
    dialTimeoutMs: 500,
    ...impatience,
    refusalsMs: 6000,
  };
  const requests = options.requests ?? 2000;
  const pauseMs = pick(20, 100, 400) * (isPatient ? 5 : 1);
  // How long the requests take, roughly, when nothing goes wrong.
  const inAllMs = (requests / 40) * pauseMs;
  const faults = (requests / 2000) * pick(8, 20, 50);
  const tight: Partial<Tuning> = {
    jobsMax: pick(4, 12, 40),
    bytesMax: pick(20_000, 100_000),
  };
  return {
    seed,
    mixName,
    mix: MIXES[mixName]!,
    requests,
    blockSize: isLarge ? 4096 : 512,
    extentSize: isLarge ? pick(3, 5) : pick(7, 16, 20),
    extentCount: pick(2, 4, 6),
    latencyMs: pick(0.05, 0.3, 2),
    jitterMs: pick(0, 0.2, 1),
    choppy: pick(0, 0, 0.1, 0.4),
    diskMs: pick(0, 1, 1, 4),
    heldBytesMax: pick(undefined, undefined, 8 * 4096),
    arenaBytes: (isTight ? 4 : 8) * 1024 * 1024,
    logRows: pick(0, 64, 1024, 1024),
    ack: chance() < 0.4 ? "buffered" : "quorum",
    tuning: { ...(isPatient ? {} : quick), ...(isTight ? tight : {}) },
    degradedAfterMs: pick(null, 0, 300, 30_000),
    guests: pick(1, 2, 3),
    depth: pick(1, 4, 16),
    sectorsMax: pick(4, 8, 40),
    reads: pick(0.2, 0.45, 0.7),
    flushes: pick(0.01, 0.04, 0.1),
    pauseMs,
    faultMs: inAllMs / faults,
    faultsMax: 2 * faults,
  };
}
