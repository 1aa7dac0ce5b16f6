import { invariant } from "../../src/base/invariant.js";
import { PIECE_BYTES_MAX } from "../../src/base/limits.js";
import type { Arena } from "../../src/ports/arena.js";
import { type BlockDevice, type DeviceClient, DeviceStatus, FUA } from "../../src/ports/device.js";
import type { World } from "./world.js";

export interface SlowOptions {
  readonly sizeBytes: number;
  readonly blockBytes?: number;
  /** Every operation takes a random time up to this, and answers in any order that the contract allows. */
  readonly delayMs?: number;
  /** Bytes that `place` may have given out and not got back. */
  readonly roomBytes?: number;
  readonly readOnly?: boolean;
}

export type SlowKind = "read" | "write" | "zeroes" | "trim" | "flush";
interface Operation {
  readonly kind: SlowKind;
  readonly offset: number;
  readonly length: number;
  readonly at: number;
  readonly flags: number;
  readonly client: DeviceClient;
  readonly tag: number;
  due: boolean;
}

/**
 * A block device as unhelpful as the contract allows: slow, out of order, short of room, volatile until
 * flushed, and failing on request. It checks what its users owe it: whole blocks, pieces that are not
 * too long, payload where it was placed, releases exactly once.
 */
export class SlowDevice implements BlockDevice {
  readonly sizeBytes: number;
  readonly blockBytes: number;
  readonly readOnly: boolean;
  readonly volatile = true;
  /** What reads see. */
  readonly current: Buffer;
  /** What a power cut leaves. */
  readonly stable: Buffer;
  /** Decides how an operation ends; it is asked when the operation is carried out. */
  verdict: (kind: SlowKind, offset: number, length: number) => DeviceStatus = () => DeviceStatus.ok;
  /** While true nothing is carried out. */
  isStuck = false;
  /** Of those that are due, these are not carried out. */
  holds: (kind: SlowKind, offset: number) => boolean = () => false;
  readonly carriedOut: { kind: SlowKind; offset: number; length: number; flags: number }[] = [];
  readonly #world: World;
  readonly #arena: Arena;
  readonly #delayMs: number;
  readonly #roomBytes: number;
  readonly #placed = new Map<number, number>();
  readonly #holds = new Set<number>();
  #placedBytes = 0;
  #wantRoom: DeviceClient[] = [];
  #operations: Operation[] = [];

  constructor(world: World, arena: Arena, options: SlowOptions) {
    this.#world = world;
    this.#arena = arena;
    this.sizeBytes = options.sizeBytes;
    this.blockBytes = options.blockBytes ?? 4096;
    this.readOnly = options.readOnly ?? false;
    this.#delayMs = options.delayMs ?? 10;
    this.#roomBytes = options.roomBytes ?? Number.POSITIVE_INFINITY;
    this.current = Buffer.alloc(options.sizeBytes);
    this.stable = Buffer.alloc(options.sizeBytes);
  }

  get inFlight(): number {
    return this.#operations.length;
  }
  /** Placed, or read and not released. */
  get heldPieces(): number {
    return this.#placed.size + this.#holds.size;
  }
  unstick(): void {
    this.isStuck = false;
    this.#carryOut();
  }

  place(offset: number, length: number, client: DeviceClient): number {
    this.#check(offset, length);
    invariant(length <= PIECE_BYTES_MAX, "a piece is not too long");
    const at = this.#placedBytes + length > this.#roomBytes ? -1 : this.#arena.alloc(length);
    if (at < 0) {
      this.#wantRoom.push(client);
      return -1;
    }
    this.#placedBytes += length;
    this.#placed.set(at, length);
    return at;
  }
  unplace(at: number): void {
    const length = this.#placed.get(at);
    invariant(length !== undefined, "what is given back was placed");
    this.#placed.delete(at);
    this.#placedBytes -= length;
    this.#arena.free(at);
    const waiting = this.#wantRoom;
    this.#wantRoom = [];
    for (const client of waiting) this.#world.post(() => client.deviceRoom());
  }
  read(offset: number, length: number, client: DeviceClient, tag: number): void {
    invariant(length <= PIECE_BYTES_MAX, "a piece is not too long");
    this.#submit("read", offset, length, -1, 0, client, tag);
  }
  write(
    offset: number,
    length: number,
    at: number,
    flags: number,
    client: DeviceClient,
    tag: number,
  ): void {
    invariant(this.#placed.get(at) === length, "payload lies where it was placed");
    this.#submit("write", offset, length, at, flags, client, tag);
  }
  writeZeroes(
    offset: number,
    length: number,
    flags: number,
    client: DeviceClient,
    tag: number,
  ): void {
    this.#submit("zeroes", offset, length, -1, flags, client, tag);
  }
  trim(offset: number, length: number, flags: number, client: DeviceClient, tag: number): void {
    this.#submit("trim", offset, length, -1, flags, client, tag);
  }
  flush(client: DeviceClient, tag: number): void {
    this.#submit("flush", 0, 0, -1, 0, client, tag);
  }
  release(hold: number): void {
    invariant(this.#holds.delete(hold), "what is released was held, once");
    this.#arena.free(hold);
  }

  #check(offset: number, length: number): void {
    invariant(length > 0 && offset >= 0, "an operation has a length");
    invariant(offset + length <= this.sizeBytes, "an operation is inside the device");
    invariant(offset % this.blockBytes === 0, "an offset is a multiple of the block size");
    invariant(length % this.blockBytes === 0, "a length is a multiple of the block size");
  }

  #submit(
    kind: SlowKind,
    offset: number,
    length: number,
    at: number,
    flags: number,
    client: DeviceClient,
    tag: number,
  ): void {
    if (kind !== "flush") this.#check(offset, length);
    const operation = { kind, offset, length, at, flags, client, tag, due: false };
    this.#operations.push(operation);
    this.#world.after(this.#world.chance() * this.#delayMs, () => {
      operation.due = true;
      this.#carryOut();
    });
  }

  /** Everything due that nothing earlier stands in the way of. */
  #carryOut(): void {
    if (this.isStuck) return;
    for (const operation of [...this.#operations]) {
      if (!operation.due || this.#isBlocked(operation)) continue;
      if (this.holds(operation.kind, operation.offset)) continue;
      this.#operations.splice(this.#operations.indexOf(operation), 1);
      this.#execute(operation);
    }
  }
  #isBlocked(operation: Operation): boolean {
    for (const earlier of this.#operations) {
      if (earlier === operation) return false;
      const overlaps =
        earlier.offset < operation.offset + operation.length &&
        operation.offset < earlier.offset + earlier.length;
      if (overlaps && !(earlier.kind === "read" && operation.kind === "read")) return true;
    }
    return false;
  }

  #execute(operation: Operation): void {
    const { kind, offset, length, at, flags } = operation;
    const end = offset + length;
    const status = this.verdict(kind, offset, length);
    this.carriedOut.push({ kind, offset, length, flags });
    let answerAt = -1;
    if (status === DeviceStatus.ok) {
      if (kind === "read") {
        answerAt = this.#arena.alloc(length);
        invariant(answerAt >= 0, "the fake arena has room for a read");
        this.#holds.add(answerAt);
        this.current.copy(this.#arena.bytes, answerAt, offset, end);
      } else if (kind === "write") this.#arena.bytes.copy(this.current, offset, at, at + length);
      else if (kind === "zeroes") this.current.fill(0, offset, end);
      else if (kind === "flush") this.current.copy(this.stable);
      if ((flags & FUA) !== 0) this.current.copy(this.stable, offset, offset, end);
    }
    if (kind === "write") this.unplace(at);
    operation.client.deviceDone(operation.tag, status, answerAt, answerAt);
  }
}
