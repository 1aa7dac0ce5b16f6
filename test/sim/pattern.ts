// What a sector holds: the number of the write that put it there, its own number, and bytes that follow from both. A sector that
// was torn, misplaced or made up is told from any that was written.

export const SECTOR_BYTES = 512;

const scratch = Buffer.alloc(SECTOR_BYTES);
const ZEROS = Buffer.alloc(SECTOR_BYTES);

/** Stamp 0 is zeros. */
export function fillSector(bytes: Buffer, at: number, stamp: number, sector: number): void {
  if (stamp === 0) {
    bytes.fill(0, at, at + SECTOR_BYTES);
    return;
  }
  bytes.fill((stamp * 31 + sector * 7 + 1) & 0xff, at, at + SECTOR_BYTES);
  bytes.writeUInt32LE(stamp, at);
  bytes.writeUInt32LE(sector, at + SECTOR_BYTES - 4);
}

/** The stamp of what is there; −1: nothing that `fillSector` makes. */
export function sectorStamp(bytes: Buffer, at: number, sector: number): number {
  const stamp = bytes.readUInt32LE(at);
  const want = stamp === 0 ? ZEROS : scratch;
  if (stamp !== 0) fillSector(scratch, 0, stamp, sector);
  return bytes.compare(want, 0, SECTOR_BYTES, at, at + SECTOR_BYTES) === 0 ? stamp : -1;
}
