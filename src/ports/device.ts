/** How a request ended. The NBD edge maps these to the eight errors that may travel. */
export const DeviceStatus = {
  ok: 0,
  /** The storage failed for good. */
  io: 1,
  /** A write past the end, or no space. */
  noSpace: 2,
  readOnly: 3,
  invalid: 4,
  /** We are going away (stopping or superseded). */
  shutdown: 5,
} as const;
export type DeviceStatus = (typeof DeviceStatus)[keyof typeof DeviceStatus];

/** Flag of a write: answer only when it is stable. */
export const FUA = 1;

/**
 * A block device: where `nbd` and `upstairs` meet. No request allocates: the requester names each by
 * an integer tag of its own and is called back with it, never before the call returned… with one
 * exception: a device may call back synchronously, so requesters must have their slot ready first.
 *
 * Requests in flight may be executed in any order, except that overlapping writes are applied in
 * order of submission and a read submitted after a write that overlaps it sees that write. A zeroing may
 * take its place among them at any time before it is answered.
 *
 * Memory. A writer asks `place` where to put the payload, fills it and hands it to `write`, which
 * takes it over. A read's data is at `at` when `deviceDone` is called; the requester gives it back by
 * `release(hold)`. Reads never wait for memory that only a write could free: `place` keeps a reserve for them, which
 * must hold more than all readers together keep unreleased.
 */
export interface BlockDevice {
  readonly sizeBytes: number;
  /** Unit of addressing: a power of two. Every offset and length is a multiple (see volume/unaligned for a way round). */
  readonly blockBytes: number;
  readonly readOnly: boolean;
  /** True when a flush may be omitted by nobody: writes are volatile until flushed. */
  readonly volatile: boolean;
  /**
   * Where to put the payload of a write to [offset, offset+length), length ≤ PIECE_BYTES_MAX; −1 when
   * there is no room: then `client.deviceRoom()` is called once when it is worth asking again.
   */
  place(offset: number, length: number, client: DeviceClient): number;
  /** Gives back what `place` returned, unused. */
  unplace(at: number): void;
  /** length ≤ PIECE_BYTES_MAX. Memory for the answer is found by the device; it may wait for it. */
  read(offset: number, length: number, client: DeviceClient, tag: number): void;
  write(
    offset: number,
    length: number,
    at: number,
    flags: number,
    client: DeviceClient,
    tag: number,
  ): void;
  /** Any length. Reads as zeros afterwards. */
  writeZeroes(
    offset: number,
    length: number,
    flags: number,
    client: DeviceClient,
    tag: number,
  ): void;
  /** Any length. A hint. */
  trim(offset: number, length: number, flags: number, client: DeviceClient, tag: number): void;
  /** Answered when every write answered before is stable, whoever submitted it. */
  flush(client: DeviceClient, tag: number): void;
  release(hold: number): void;
}

export interface DeviceClient {
  /** For reads that succeeded `at` is where the data lies, and `hold` what to release; otherwise both −1. */
  deviceDone(tag: number, status: DeviceStatus, at: number, hold: number): void;
  deviceRoom(): void;
}
