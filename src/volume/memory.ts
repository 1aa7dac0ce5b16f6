import { Fault } from "../base/fault.js";
import { invariant } from "../base/invariant.js";
import type { Arena } from "../ports/arena.js";
import { type BlockDevice, type DeviceClient, DeviceStatus } from "../ports/device.js";

export interface MemoryOptions {
  readonly sizeBytes: number;
  /** A power of two; default 1, which needs no alignment from anybody. */
  readonly blockBytes?: number;
  readonly readOnly?: boolean;
}

/**
 * A device that is a piece of the arena: for tests, benchmarks and scratch disks. Payload is received
 * right where it belongs and read data is sent from there, so nothing is ever copied. A write that is
 * cut off in its middle leaves what had arrived, as it may. Answers before the call returns.
 */
export class MemoryDevice implements BlockDevice {
  readonly sizeBytes: number;
  readonly blockBytes: number;
  readonly readOnly: boolean;
  readonly volatile = false;
  readonly #arena: Arena;
  readonly #store: number;

  constructor(arena: Arena, options: MemoryOptions) {
    this.#arena = arena;
    this.sizeBytes = options.sizeBytes;
    this.blockBytes = options.blockBytes ?? 1;
    this.readOnly = options.readOnly ?? false;
    invariant(this.sizeBytes % this.blockBytes === 0, "a device is a whole number of blocks");
    this.#store = arena.alloc(this.sizeBytes);
    if (this.#store < 0)
      throw new Fault(
        "TRIVET_E_MEMORY",
        `${this.sizeBytes} bytes for a memory device do not fit into an arena with ${arena.freeBytes} bytes free`,
      );
    arena.bytes.fill(0, this.#store, this.#store + this.sizeBytes);
  }

  /** Gives the memory back. Nothing may be in flight. */
  close(): void {
    this.#arena.free(this.#store);
  }

  place(offset: number): number {
    return this.#store + offset;
  }
  unplace(): void {}
  read(offset: number, _length: number, client: DeviceClient, tag: number): void {
    client.deviceDone(tag, DeviceStatus.ok, this.#store + offset, -1);
  }
  write(
    offset: number,
    _length: number,
    at: number,
    _flags: number,
    client: DeviceClient,
    tag: number,
  ): void {
    invariant(at === this.#store + offset, "payload lies where it was placed");
    client.deviceDone(tag, DeviceStatus.ok, -1, -1);
  }
  writeZeroes(
    offset: number,
    length: number,
    _flags: number,
    client: DeviceClient,
    tag: number,
  ): void {
    this.#arena.bytes.fill(0, this.#store + offset, this.#store + offset + length);
    client.deviceDone(tag, DeviceStatus.ok, -1, -1);
  }
  trim(_offset: number, _length: number, _flags: number, client: DeviceClient, tag: number): void {
    client.deviceDone(tag, DeviceStatus.ok, -1, -1);
  }
  flush(client: DeviceClient, tag: number): void {
    client.deviceDone(tag, DeviceStatus.ok, -1, -1);
  }
  release(): void {}
}
