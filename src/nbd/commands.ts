import { NbdError, OFFERS } from "./protocol.js";

// Commands and their rules as data: the number goes on the wire, the columns replace a page of ifs.

export const FLAG = { fua: 1, noHole: 2, df: 4, reqOne: 8 } as const;

export const Command = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
} as const;

type Row = {
  readonly name: keyof typeof Command;
  /** Changes data: refused on a read-only export. */
  readonly writes: boolean;
  /** Offset and length name a range of the export. */
  readonly ranged: boolean;
  /** Answer to a range that reaches past the end. */
  readonly past: NbdError;
  /** Flags it may carry besides FUA, which every command may. */
  readonly flags: number;
  /** Transmission flags without which those flags are refused. */
  readonly needs: number;
};

/** Indexed by command number. WRITE_ZEROES is served to whoever sends it: old kernels send it uninvited. */
export const COMMANDS: readonly Row[] = [
  { name: "read", writes: false, ranged: true, past: 22, flags: FLAG.df, needs: OFFERS.df },
  { name: "write", writes: true, ranged: true, past: 28, flags: 0, needs: 0 },
  { name: "disconnect", writes: false, ranged: false, past: 0, flags: 0, needs: 0 },
  { name: "flush", writes: false, ranged: false, past: 0, flags: 0, needs: 0 },
  { name: "trim", writes: true, ranged: true, past: 22, flags: 0, needs: 0 },
  { name: "cache", writes: false, ranged: true, past: 22, flags: 0, needs: 0 },
  { name: "writeZeroes", writes: true, ranged: true, past: 28, flags: FLAG.noHole, needs: 0 },
  { name: "blockStatus", writes: false, ranged: true, past: 22, flags: FLAG.reqOne, needs: 0 },
];

/**
 * What is wrong with a request, or NbdError.none. `offset` is a whole number that may be too large to
 * be exact (then it is past the end anyway); `length` is a u32.
 */
export function checkRequest(
  command: number,
  flags: number,
  offset: number,
  length: number,
  sizeBytes: number,
  offers: number,
  alignBytes: number,
): NbdError {
  const row = COMMANDS[command];
  if (row === undefined) return NbdError.invalid;
  if (flags !== 0 && (flags & ~FLAG.fua) !== 0) {
    if ((flags & ~(row.flags | FLAG.fua)) !== 0) return NbdError.invalid;
    if ((offers & row.needs) !== row.needs) return NbdError.invalid;
  }
  if (row.writes && (offers & OFFERS.readOnly) !== 0) return NbdError.notPermitted;
  if (!row.ranged) return NbdError.none;
  if (length === 0) return NbdError.invalid;
  if (offset > sizeBytes || length > sizeBytes - offset) return row.past;
  if (alignBytes > 1 && ((offset & (alignBytes - 1)) !== 0 || (length & (alignBytes - 1)) !== 0))
    return NbdError.invalid;
  return NbdError.none;
}
