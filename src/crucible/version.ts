/** The only version that we speak. */
export const MESSAGE_VERSION = 13;

/**
 * What changed in which version, as far as it matters to anyone who meets an older peer. HereIAm, YesItsMe and
 * VersionMismatch keep their encoding over all versions; nothing else does.
 */
export const VERSION_HISTORY: readonly { readonly version: number; readonly change: string }[] = [
  { version: 13, change: "LastFlush is no longer answered: LastFlushAck is gone" },
  { version: 12, change: "Barrier and BarrierAck were added" },
  { version: 11, change: "reads return a ReadBlockContext per block" },
  { version: 10, change: "reads and writes name a start and a length, not single blocks" },
  { version: 9, change: "positions are absolute block numbers" },
];

/**
 * Whether a downstairs goes on with a HereIAm: one that names 13 as its version or among its
 * alternatives (wire reference 4.3).
 */
export function speaksOurs(version: number, alternateVersions: readonly number[]): boolean {
  return version === MESSAGE_VERSION || alternateVersions.includes(MESSAGE_VERSION);
}
