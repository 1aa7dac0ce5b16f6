// Partition tables count in blocks, so one that was made on blocks of 512 bytes cannot be found on blocks of 4096: the partitions are
// gone, and the next tool offers to make new ones. Bytes in, verdict out.

/** So much from the beginning of a volume is to be looked at: blocks 0 and 1, however large they are. */
export const HEAD_BYTES = 8192;
/** What shows which file system lies at the beginning of a partition. */
export const START_BYTES = 8192;

const BLOCK_SIZES = [512, 1024, 2048, 4096] as const;
const SIGNATURE = 0xaa55;
const MBR_ENTRIES_AT = 446;
const MBR_ENTRY_BYTES = 16;
const PROTECTIVE = 0xee;

export interface Table {
  readonly kind: "GPT" | "MBR";
  /** Block sizes for which it makes sense. */
  readonly fits: readonly number[];
  /** First blocks of the partitions of an MBR. */
  readonly starts: readonly number[];
}

/** Undefined: there is none. `head`: the first HEAD_BYTES, or less of a smaller volume. */
export function findTable(head: Buffer, sizeBytes: number): Table | undefined {
  const headers = BLOCK_SIZES.filter((size) => hasGptHeader(head, size));
  if (headers.length > 0) return { kind: "GPT", fits: headers, starts: [] };
  const entries = mbrEntries(head);
  if (entries.length === 0) return undefined;
  const end = Math.max(...entries.map(({ start, count }) => start + count));
  return {
    kind: "MBR",
    fits: BLOCK_SIZES.filter((size) => end * size <= sizeBytes),
    starts: entries.map(({ start }) => start),
  };
}

/** "EFI PART" at block 1, which says itself that it is block 1. */
function hasGptHeader(head: Buffer, blockBytes: number): boolean {
  if (head.length < blockBytes + 32) return false;
  return (
    head.toString("latin1", blockBytes, blockBytes + 8) === "EFI PART" &&
    head.readBigUInt64LE(blockBytes + 24) === 1n
  );
}

interface Entry {
  readonly start: number;
  readonly count: number;
}

/** Partitions of an MBR; none when it is the first block of a file system, which ends in the same two bytes. */
function mbrEntries(head: Buffer): readonly Entry[] {
  if (head.length < 512 || head.readUInt16LE(510) !== SIGNATURE) return [];
  const found: Entry[] = [];
  for (let i = 0; i < 4; i++) {
    const at = MBR_ENTRIES_AT + i * MBR_ENTRY_BYTES;
    const entry = head.subarray(at, at + MBR_ENTRY_BYTES);
    if (entry.every((byte) => byte === 0)) continue;
    const [status, type] = [entry[0]!, entry[4]!];
    const [start, count] = [entry.readUInt32LE(8), entry.readUInt32LE(12)];
    const isSound = (status === 0 || status === 0x80) && type !== 0 && start > 0 && count > 0;
    // The cover of a GPT whose header is gone says nothing.
    if (!isSound || type === PROTECTIVE) return [];
    found.push({ start, count });
  }
  const sorted = found.toSorted((a, b) => a.start - b.start);
  const overlaps = sorted.some(
    (one, i) => i > 0 && sorted[i - 1]!.start + sorted[i - 1]!.count > one.start,
  );
  return overlaps ? [] : found;
}

/** Whether something that is found at the beginning of partitions lies here. */
export function startsWithContent(bytes: Buffer): boolean {
  const has = (at: number, text: string): boolean =>
    bytes.length >= at + text.length && bytes.toString("latin1", at, at + text.length) === text;
  return (
    has(0x438, "\x53\xef") || // ext2, ext3, ext4
    has(0, "XFSB") ||
    has(0, "LUKS\xba\xbe") ||
    has(512, "LABELONE") || // LVM
    has(3, "NTFS    ") ||
    has(54, "FAT") ||
    has(82, "FAT32") ||
    has(4086, "SWAPSPACE2") ||
    has(4096, "\xfc\x4e\x2b\xa9") // md, version 1.2
  );
}

/**
 * The block size that the table was made with when it is not `blockBytes`; undefined when all is well, or nobody can say.
 * `read` gives bytes of the volume; it is asked only where an MBR makes sense for several sizes.
 */
export async function otherBlockSize(
  table: Table,
  blockBytes: number,
  read: (offset: number, length: number) => Promise<Buffer>,
): Promise<number | undefined> {
  if (!table.fits.includes(blockBytes)) return table.fits[0];
  if (table.kind === "GPT") return undefined;
  const [start] = table.starts;
  if (start === undefined) return undefined;
  if (startsWithContent(await read(start * blockBytes, START_BYTES))) return undefined;
  for (const size of table.fits)
    if (size !== blockBytes && startsWithContent(await read(start * size, START_BYTES)))
      return size;
  return undefined;
}
