import fc from "fast-check";
import t from "tap";
import { PIECE_BYTES_MAX } from "../../../src/base/limits.js";
import {
  type BlockDevice,
  type DeviceClient,
  DeviceStatus,
  FUA,
} from "../../../src/ports/device.js";
import { MemoryDevice } from "../../../src/volume/memory.js";
import { UnalignedDevice } from "../../../src/volume/unaligned.js";
import { FakeArena } from "../../kit/arena.js";
import { SlowDevice } from "../../kit/slow-device.js";
import { World } from "../../kit/world.js";

const BLOCK = 4096;

/** Submits operations and keeps a model of what must be read; complains about anything else. */
class Prober implements DeviceClient {
  readonly #arena: FakeArena;
  readonly #device: BlockDevice;
  readonly model: Buffer;
  readonly #done = new Map<number, (status: DeviceStatus, at: number, hold: number) => void>();
  /** Writes that found no room, in order. */
  readonly #roomless: (() => boolean)[] = [];
  #tag = 0;
  /** Reads under way: bytes that a later write touched may be either. */
  readonly #reads: { offset: number; expected: Buffer; touched: Uint8Array }[] = [];

  constructor(arena: FakeArena, device: BlockDevice) {
    this.#arena = arena;
    this.#device = device;
    this.model = Buffer.alloc(device.sizeBytes);
  }
  get pending(): number {
    return this.#done.size + this.#roomless.length;
  }

  write(offset: number, length: number, value: number, flags = 0): void {
    const attempt = () => {
      const at = this.#device.place(offset, length, this);
      if (at < 0) return false;
      this.#arena.bytes.fill(value, at, at + length);
      this.#change(offset, length, value);
      this.#device.write(offset, length, at, flags, this, this.#expect());
      return true;
    };
    if (this.#roomless.length > 0 || !attempt()) this.#roomless.push(attempt);
  }
  zeroes(offset: number, length: number, flags = 0): void {
    this.#change(offset, length, 0);
    this.#device.writeZeroes(offset, length, flags, this, this.#expect());
  }
  trim(offset: number, length: number): void {
    this.#device.trim(offset, length, 0, this, this.#expect());
  }
  read(offset: number, length: number): void {
    const entry = {
      offset,
      expected: Buffer.from(this.model.subarray(offset, offset + length)),
      touched: new Uint8Array(length),
    };
    this.#reads.push(entry);
    const tag = this.#tag++;
    this.#done.set(tag, (status, at, hold) => {
      this.#reads.splice(this.#reads.indexOf(entry), 1);
      if (status !== DeviceStatus.ok) throw new Error(`read ended ${status}`);
      for (let i = 0; i < length; i++)
        if (entry.touched[i] === 0 && this.#arena.bytes[at + i] !== entry.expected[i])
          throw new Error(
            `byte ${offset + i} is ${this.#arena.bytes[at + i]}, not ${entry.expected[i]}`,
          );
      if (hold >= 0) this.#device.release(hold);
    });
    this.#device.read(offset, length, this, tag);
  }

  deviceDone(tag: number, status: DeviceStatus, at: number, hold: number): void {
    const then = this.#done.get(tag);
    if (then === undefined) throw new Error(`nobody waits for ${tag}`);
    this.#done.delete(tag);
    then(status, at, hold);
  }
  deviceRoom(): void {
    while (this.#roomless.length > 0 && this.#roomless[0]!()) this.#roomless.shift();
  }
  #expect(): number {
    this.#done.set(this.#tag, (status) => {
      if (status !== DeviceStatus.ok) throw new Error(`ended ${status}`);
    });
    return this.#tag++;
  }
  #change(offset: number, length: number, value: number): void {
    this.model.fill(value, offset, offset + length);
    for (const read of this.#reads)
      for (let i = 0; i < read.touched.length; i++)
        if (read.offset + i >= offset && read.offset + i < offset + length) read.touched[i] = 1;
  }
}

function slow(
  seed: number,
  blocks: number,
  options: { roomBytes?: number; delayMs?: number } = {},
) {
  const world = new World(seed);
  const arena = new FakeArena();
  const below = new SlowDevice(world, arena, { sizeBytes: blocks * BLOCK, ...options });
  return { world, arena, below, device: new UnalignedDevice(arena, below) };
}

t.test("two neighbouring sub-block writes in flight keep both", async (t) => {
  const { world, arena, below, device } = slow(3, 4);
  const prober = new Prober(arena, device);
  for (let i = 0; i < 8; i++) prober.write(512 * i, 512, i + 1);
  world.advance(1000);
  t.equal(prober.pending, 0);
  for (let i = 0; i < 8; i++) t.equal(below.current[512 * i + 511], i + 1);
  t.equal(arena.allocations, 0);
});

t.test("aligned requests go straight through, with nothing remembered", async (t) => {
  const { arena, below, device } = slow(3, 4);
  const seen: number[] = [];
  const client: DeviceClient = {
    deviceDone: (tag) => seen.push(tag),
    deviceRoom() {},
  };
  const tags: [DeviceClient, number][] = [];
  const spy = (given: DeviceClient, tag: number) => tags.push([given, tag]);
  below.read = (_o, _l, given, tag) => spy(given, tag);
  below.write = (_o, _l, _a, _f, given, tag) => spy(given, tag);
  below.writeZeroes = (_o, _l, _f, given, tag) => spy(given, tag);
  device.read(BLOCK, BLOCK, client, 1);
  device.write(BLOCK, BLOCK, device.place(BLOCK, BLOCK, client), 0, client, 2);
  device.writeZeroes(0, 2 * BLOCK, 0, client, 3);
  t.same(
    tags.map(([given, tag]) => [given === client, tag]),
    [
      [true, 1],
      [true, 2],
      [true, 3],
    ],
  );
  t.equal(arena.allocations, 1);
});

t.test("an aligned write submitted during a read-modify-write is not undone by it", async (t) => {
  for (let seed = 1; seed <= 30; seed++) {
    const { world, arena, below, device } = slow(seed, 2);
    const prober = new Prober(arena, device);
    prober.write(100, 50, 7);
    prober.write(0, BLOCK, 9);
    world.advance(1000);
    if (!below.current.subarray(0, BLOCK).every((byte) => byte === 9)) t.fail(`seed ${seed}`);
  }
  t.pass("30 seeds");
});

t.test("reads see what was written before them, also while it is being merged", async (t) => {
  const { world, arena, device } = slow(5, 2);
  const prober = new Prober(arena, device);
  prober.write(4000, 200, 3);
  prober.read(0, 2 * BLOCK);
  prober.read(3999, 3);
  world.advance(1000);
  t.equal(prober.pending, 0);
  t.equal(arena.allocations, 0);
});

t.test("zeroing from the middle of one block to the middle of another", async (t) => {
  const { world, arena, below, device } = slow(6, 8);
  const prober = new Prober(arena, device);
  for (let block = 0; block < 8; block++) prober.write(block * BLOCK, BLOCK, 0xff);
  world.advance(100);
  prober.zeroes(BLOCK + 1, 4 * BLOCK);
  prober.zeroes(7 * BLOCK + 10, 20);
  prober.trim(7 * BLOCK + 40, 20);
  world.advance(100);
  t.equal(prober.pending, 0);
  t.ok(below.current.equals(prober.model));
  t.equal(below.carriedOut.filter((one) => one.kind === "trim").length, 0, "nothing whole to trim");
  prober.trim(10, 2 * BLOCK);
  world.advance(100);
  t.same(
    below.carriedOut.at(-1),
    { kind: "trim", offset: BLOCK, length: BLOCK, flags: 0 },
    "rounded inward",
  );
  t.equal(arena.allocations, 0);
});

t.test("FUA reaches every part", async (t) => {
  const { world, arena, below, device } = slow(7, 8);
  const prober = new Prober(arena, device);
  prober.write(10, 100, 1, FUA);
  prober.zeroes(BLOCK + 5, 3 * BLOCK, FUA);
  world.advance(100);
  const writes = below.carriedOut.filter((one) => one.kind !== "read");
  t.equal(writes.length, 4);
  t.ok(writes.every((one) => one.flags === FUA));
});

t.test("a failed edge read fails the write and gives its memory back", async (t) => {
  for (const kind of ["write", "zeroes"] as const) {
    const { world, arena, below, device } = slow(8, 4);
    below.verdict = (what, offset) =>
      what === "read" && offset === BLOCK ? DeviceStatus.io : DeviceStatus.ok;
    const outcomes: number[] = [];
    const client: DeviceClient = {
      deviceDone: (_tag, status) => outcomes.push(status),
      deviceRoom() {},
    };
    if (kind === "write") {
      const at = device.place(10, BLOCK, client);
      device.write(10, BLOCK, at, 0, client, 1);
    } else device.writeZeroes(10, BLOCK, 0, client, 1);
    world.advance(100);
    t.same(outcomes, [DeviceStatus.io]);
    t.equal(arena.allocations, 0);
    device.write(0, BLOCK, device.place(0, BLOCK, client), 0, client, 2);
    world.advance(100);
    t.same(outcomes, [DeviceStatus.io, DeviceStatus.ok], "nobody is left locked out");
  }
});

t.test("what was placed and not used is given back", async (t) => {
  const { arena, device } = slow(8, 4);
  const client: DeviceClient = { deviceDone() {}, deviceRoom() {} };
  const places = [device.place(10, 20, client), device.place(BLOCK + 7, 20, client)];
  places.push(device.place(0, BLOCK, client));
  t.equal(arena.allocations, 3);
  for (const at of places) device.unplace(at);
  t.equal(arena.allocations, 0);
});

for (const roomBytes of [5 * BLOCK, 1000 * BLOCK])
  t.test(`any mixture agrees with a model, with room for ${roomBytes} bytes`, async (t) => {
    const blocks = 6;
    const size = blocks * BLOCK;
    const operation = fc.record({
      kind: fc.constantFrom("write", "write", "read", "zeroes", "pause"),
      offset: fc.oneof(fc.nat(size - 1), fc.constantFrom(0, 511, BLOCK, BLOCK - 1, 3 * BLOCK)),
      length: fc.oneof(fc.integer({ min: 1, max: 3 * BLOCK }), fc.constantFrom(1, 512, BLOCK)),
      value: fc.integer({ min: 1, max: 255 }),
    });
    // A zeroing is put in order when it has room, so with little of it the model would not know when that is.
    const scarce = roomBytes < 100 * BLOCK;
    const holds = fc.property(
      fc.integer({ min: 1 }),
      fc.array(operation, { maxLength: 60 }),
      (seed, operations) => {
        const { world, arena, below, device } = slow(seed, blocks, { roomBytes });
        const prober = new Prober(arena, device);
        for (const { kind, offset, length: wanted, value } of operations) {
          const length = Math.min(wanted, size - offset);
          if (kind === "write") prober.write(offset, length, value);
          else if (kind === "read") prober.read(offset, length);
          else if (kind === "zeroes" && !(scarce && prober.pending > 0))
            prober.zeroes(offset, length);
          else world.advance(value / 30);
        }
        world.advance(100_000);
        return (
          prober.pending === 0 && below.current.equals(prober.model) && arena.allocations === 0
        );
      },
    );
    fc.assert(holds, { numRuns: 200, seed: Number(process.env.SEED ?? 1) });
    t.pass("200 runs");
  });

t.test("over memory a payload is received in place and merged there", async (t) => {
  const arena = new FakeArena();
  const below = new MemoryDevice(arena, { sizeBytes: 2 * PIECE_BYTES_MAX, blockBytes: BLOCK });
  const prober = new Prober(arena, new UnalignedDevice(arena, below));
  prober.write(0, PIECE_BYTES_MAX, 5);
  prober.write(PIECE_BYTES_MAX - 3, 3, 6);
  prober.zeroes(100, 10_000);
  prober.write(PIECE_BYTES_MAX, 1, 8);
  prober.read(0, PIECE_BYTES_MAX);
  prober.read(PIECE_BYTES_MAX, PIECE_BYTES_MAX);
  t.equal(prober.pending, 0);
  below.close();
  t.equal(arena.allocations, 0);
});
