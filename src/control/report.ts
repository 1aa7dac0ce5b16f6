import type { Uuid } from "../base/ids.js";

// What a server says about its volume. The same object is the answer on the control socket and the JSON that
// `trivet status --json` prints, so it holds only what both have: no bigints (64-bit numbers are decimal strings), no
// undefined, snake_case keys.

/** `ok`: three replicas at work. `degraded`: requests are served, and something needs attention. `down`: requests wait or fail. */
export type Health = "ok" | "degraded" | "down";

/** One word per replica; `about` is the sentence for people. */
export type ReplicaWord =
  /** At work. */
  | "active"
  /** There, and no decision about it yet: the volume is being activated. */
  | "waiting"
  /** Made equal with the others before the volume is served. */
  | "reconciling"
  /** Its connection is being made, or is away; what it misses is kept for it. */
  | "away"
  /** It was given up, or missed too much: only repair brings it back. */
  | "faulted"
  /** Another region takes its place, and is to be repaired. */
  | "replaced"
  /** It is being copied from another one. */
  | "repairing"
  /** It is there, and may not join: `refused` says why. */
  | "refused"
  /** The volume has ended or not begun. */
  | "idle";

export interface ReplicaReport {
  readonly index: number;
  readonly address: string;
  readonly state: ReplicaWord;
  readonly about: string;
  readonly mode: string;
  readonly phase: string;
  readonly region_uuid: Uuid | null;
  readonly silent_ms: number | null;
  readonly jobs: number;
  readonly bytes: number;
  readonly held_jobs: number;
  readonly held_bytes: number;
  /** Why it was given up; null when it was not. */
  readonly given_up: string | null;
  /** Why it may not join, with the flag that overrules it. */
  readonly refused: string | null;
  readonly trouble: string | null;
  readonly counts: Readonly<Record<string, number>>;
}

/** Live repair. */
export interface RepairReport {
  readonly running: {
    readonly targets: readonly number[];
    readonly source: number;
    readonly extent: number;
    readonly extent_count: number;
    readonly repaired: number;
    readonly confirmed: number;
    readonly left: number;
    readonly copied_bytes: number;
    readonly bytes_per_second: number;
    readonly remaining_ms: number | null;
  } | null;
  readonly last: {
    readonly targets: readonly number[];
    readonly complete: boolean;
    readonly repaired: number;
    readonly confirmed: number;
    readonly copied_bytes: number;
    readonly took_ms: number;
    readonly reason: string | null;
  } | null;
  /** 0: no limit. */
  readonly bytes_per_second_max: number;
}

/** The scrub that runs, or the last one of this server. */
export interface ScrubReport {
  readonly state: "running" | "waiting" | "done" | "stopped";
  readonly waits_for: string | null;
  readonly from_block: number;
  readonly block: number;
  readonly blocks: number;
  readonly replicas: number;
  readonly compared_on_two: number;
  readonly differing: number;
  readonly repaired: number;
  readonly undecided: number;
  readonly lost: number;
  readonly overwritten: number;
  readonly bytes_per_second: number;
  readonly bytes_per_second_max: number;
  readonly elapsed_ms: number;
  readonly remaining_ms: number | null;
}

export interface ShareReport {
  readonly used_bytes: number;
  readonly size_bytes: number;
}

export interface StatusReport {
  /** Raised when a key changes its meaning; new keys do not raise it. */
  readonly report: 1;
  readonly volume: string;
  readonly server: {
    readonly version: string;
    readonly pid: number;
    readonly up_ms: number;
    readonly memory_bytes: number;
  };
  /** The last restart that was asked for; null: none was. */
  readonly restart: {
    readonly state: "starting" | "leaving" | "failed";
    readonly pid: number;
    readonly failed: string | null;
  } | null;
  readonly health: Health;
  /** Sentences, worst first; empty exactly when `health` is ok. */
  readonly problems: readonly string[];
  readonly backing: "replicas" | "memory";
  readonly state: string;
  readonly ending: string | null;
  readonly addresses: readonly string[];
  /** Decimal, as it may exceed what a JSON number holds. */
  readonly generation: string;
  readonly upstairs_id: string | null;
  readonly session_id: string | null;
  readonly read_only: boolean;
  readonly ack: string;
  readonly size_bytes: number;
  readonly block_bytes: number;
  readonly replicas: readonly ReplicaReport[];
  readonly reconciliation: { readonly done: number; readonly in_all: number } | null;
  readonly repair: RepairReport | null;
  readonly scrub: ScrubReport | null;
  /** Blocks found bad by reads, and what was done about them. */
  readonly heal: Readonly<Record<string, number>>;
  /** Writes that a successor would have to write again; null: there is no log. */
  readonly write_log: { readonly rows: number; readonly rows_max: number } | null;
  readonly requests: {
    readonly open: number;
    readonly waiting_writes: number;
    readonly jobs: number;
    readonly next_job_id: number;
  };
  readonly memory: { readonly writes: ShareReport; readonly reads: ShareReport };
  readonly counts: Readonly<Record<string, number>>;
}
