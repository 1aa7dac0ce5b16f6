/** Counters of a server since it started. Plain numbers: engines add, others read. */
export const Count = {
  accepted: 0,
  refused: 1,
  negotiated: 2,
  protocolFaults: 3,
  reads: 4,
  readBytes: 5,
  writes: 6,
  writeBytes: 7,
  flushes: 8,
  trims: 9,
  zeroes: 10,
  otherRequests: 11,
  errors: 12,
} as const;
export type CountName = keyof typeof Count;

export class Statistics {
  readonly counts = new Float64Array(Object.keys(Count).length);

  snapshot(): Record<CountName, number> {
    const rows = Object.entries(Count).map(([name, i]) => [name, this.counts[i]!]);
    return Object.fromEntries(rows) as Record<CountName, number>;
  }
}
