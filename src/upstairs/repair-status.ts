/** A live repair that is running, as others see it. */
export interface RepairStatus {
  /** Replicas that are being made equal, and the one that they copy from. */
  readonly targets: readonly number[];
  readonly source: number;
  /** The extent at work, or the last one that was. */
  readonly extent: number;
  readonly extentCount: number;
  /** Extents copied, found equal, and not looked at yet. */
  readonly repaired: number;
  readonly confirmed: number;
  readonly left: number;
  readonly copiedBytes: number;
  /** Copied bytes over all the time so far, rests included. */
  readonly bytesPerSecond: number;
  /** Null: nothing to tell from. */
  readonly remainingMs: number | null;
  /** On the clock's own scale. */
  readonly startedMs: number;
}

/** How the last one ended. */
export interface RepairOutcome {
  readonly targets: readonly number[];
  readonly isComplete: boolean;
  readonly repaired: number;
  readonly confirmed: number;
  readonly copiedBytes: number;
  readonly tookMs: number;
  /** Why it was not complete. */
  readonly reason: string | null;
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"] as const;

/** Bytes for people: three digits at least, two decimals at most. */
export function bytesText(bytes: number): string {
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(value < 10 ? 2 : 1)} ${UNITS[unit]}`;
}

export function timeText(ms: number): string {
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

export function progressText(status: RepairStatus): string {
  const done = status.repaired + status.confirmed;
  const rest = status.remainingMs === null ? "" : `, ${timeText(status.remainingMs)} left`;
  return `${done} of ${status.extentCount} extents: ${status.repaired} copied, ${status.confirmed} equal, ${bytesText(status.bytesPerSecond)}/s${rest}`;
}
