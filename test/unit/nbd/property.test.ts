import fc from "fast-check";
import t from "tap";
import { UnalignedDevice } from "../../../src/volume/unaligned.js";
import {
  CMD,
  hex,
  infoData,
  type NbdClient,
  OPT,
  option,
  request,
  u32,
} from "../../kit/nbd-client.js";
import { NbdStage } from "../../kit/nbd-stage.js";
import { SlowDevice } from "../../kit/slow-device.js";

const BLOCK = 4096;
const SIZE = 16 * BLOCK;
const SEED = Number(process.env.SEED ?? 1);

type Sent = {
  readonly command: number;
  readonly offset: number;
  readonly length: number;
  readonly value: number;
  /** Bytes that a concurrent request may have changed. */
  readonly loose: Uint8Array;
};

/** One connection of the run, with what it is owed. */
class Party {
  readonly client: NbdClient;
  readonly structured: boolean;
  readonly owed = new Map<bigint, Sent>();
  readonly #parts = new Map<bigint, Buffer>();
  #cookie = 0n;

  constructor(client: NbdClient, structured: boolean) {
    this.client = client;
    this.structured = structured;
  }
  send(sent: Sent): void {
    const cookie = ++this.#cookie * 0x1_0000_0001n;
    this.owed.set(cookie, sent);
    const { command, offset, length, value } = sent;
    const payload = command === CMD.write ? Buffer.alloc(length, value) : Buffer.alloc(0);
    this.client.send(request({ command, cookie, offset, length, payload }));
  }
  /** Takes every reply that has come. */
  settle(answered: (sent: Sent, data: Buffer) => void): void {
    while (this.client.pending > 0) {
      if (this.client.peek(4).readUInt32BE(0) === 0x67446698) {
        const { cookie, error } = this.client.simple();
        const sent = this.#take(cookie, error);
        answered(sent, sent.command === CMD.read ? this.client.take(sent.length) : Buffer.alloc(0));
        continue;
      }
      const { flags, type, cookie, payload } = this.client.chunk();
      const sent = this.owed.get(cookie);
      if (sent === undefined || type !== 1) throw new Error(`a chunk of type ${type}`);
      const data = this.#parts.get(cookie) ?? Buffer.alloc(sent.length);
      payload.copy(data, Number(payload.readBigUInt64BE(0)) - sent.offset, 8);
      this.#parts.set(cookie, data);
      if (flags === 1) answered(this.#take(cookie, 0), data);
    }
  }
  #take(cookie: bigint, error: number): Sent {
    const sent = this.owed.get(cookie);
    if (sent === undefined || error !== 0) throw new Error(`cookie ${cookie}, error ${error}`);
    this.owed.delete(cookie);
    this.#parts.delete(cookie);
    return sent;
  }
}

type Step = {
  readonly party: number;
  readonly command: number;
  readonly offset: number;
  readonly length: number;
  readonly value: number;
  readonly waitMs: number;
};

t.test("any requests on several connections agree with a model", async (t) => {
  const step = fc.record({
    party: fc.nat(2),
    command: fc.constantFrom(CMD.write, CMD.write, CMD.read, CMD.read, CMD.zeroes, CMD.flush),
    offset: fc.oneof(fc.nat(SIZE - 1), fc.constantFrom(0, 512, BLOCK, 3 * BLOCK)),
    length: fc.oneof(fc.integer({ min: 1, max: 5 * BLOCK }), fc.constantFrom(1, 512, BLOCK)),
    value: fc.integer({ min: 1, max: 255 }),
    waitMs: fc.constantFrom(0, 0, 0, 3, 30),
  });
  const run = (seed: number, segmentBytes: number, steps: readonly Step[]) => {
    const stage = new NbdStage(seed, 4 * 1024 * 1024);
    const slow = new SlowDevice(stage.world, stage.arena, {
      sizeBytes: SIZE,
      delayMs: 20,
      roomBytes: 20 * BLOCK,
    });
    const device = new UnalignedDevice(stage.arena, slow);
    stage.serve({ exports: [{ name: "vol", device, blockBytes: BLOCK }] });
    const parties = [false, true, true].map(
      (structured) =>
        new Party(stage.connect({ segmentBytes }).negotiate("vol", { structured }), structured),
    );
    // What must be read: settled bytes; −1 where concurrent writes leave it open.
    const model = new Int16Array(SIZE);
    const inFlight = (): Sent[] => parties.flatMap((one) => [...one.owed.values()]);
    const changes = (one: Sent) => one.command === CMD.write || one.command === CMD.zeroes;
    const answered = (sent: Sent, data: Buffer) => {
      const { command, offset, length, value, loose } = sent;
      for (let i = 0; i < length && command !== CMD.flush; i++) {
        if (command === CMD.read) {
          const want = model[offset + i]!;
          if (loose[i] === 0 && want >= 0 && data[i] !== want)
            throw new Error(`byte ${offset + i} is ${data[i]}, not ${want}`);
        } else model[offset + i] = loose[i] === 1 ? -1 : command === CMD.write ? value : 0;
      }
    };
    const settle = () => {
      for (const party of parties) party.settle(answered);
    };
    for (const { party, command, offset, length: wanted, value, waitMs } of steps) {
      const length = Math.min(wanted, SIZE - offset);
      const sent: Sent = { command, offset, length, value, loose: new Uint8Array(length) };
      for (const other of inFlight()) {
        if (!changes(other) && !changes(sent)) continue;
        const from = Math.max(offset, other.offset);
        const to = Math.min(offset + length, other.offset + other.length);
        for (let at = from; at < to; at++) {
          if (changes(other)) sent.loose[at - offset] = 1;
          if (changes(sent)) other.loose[at - other.offset] = 1;
        }
      }
      parties[party]!.send(sent);
      stage.world.advance(waitMs);
      settle();
    }
    stage.world.advance(10_000);
    settle();
    if (inFlight().length > 0) throw new Error(`${inFlight().length} requests are not answered`);
    for (let at = 0; at < SIZE; at++)
      if (model[at]! >= 0 && slow.current[at] !== model[at])
        throw new Error(`in the end byte ${at} is ${slow.current[at]}, not ${model[at]}`);
    const inboxes: number = stage.arena.allocations;
    if (inboxes !== 3) throw new Error("memory was kept");
    for (const party of parties) party.client.send(request({ command: CMD.disc }));
    stage.world.advance(10);
    return stage.arena.allocations === 0 && parties.every((one) => one.client.isClosed);
  };
  const holds = fc.property(
    fc.integer({ min: 1 }),
    fc.constantFrom(1, 100, 5000, 1_000_000),
    fc.array(step, { maxLength: 40 }),
    run,
  );
  fc.assert(holds, { numRuns: 80, seed: SEED });
  t.pass("80 runs");
});

t.test("hostile bytes never crash, never hang others, never keep memory", async (t) => {
  const word = fc.constantFrom(
    option(OPT.go, infoData("vol")),
    option(OPT.structured),
    option(OPT.info, hex("ffffffff")),
    option(OPT.setMeta, hex("00000003 766f6c 00000001 0000000f 626173653a616c6c6f636174696f6e")),
    option(OPT.exportName, Buffer.from("vol")),
    option(OPT.list).subarray(0, 15),
    request({ command: CMD.write, offset: 10, length: 5000 }),
    request({ command: CMD.write, offset: 10, length: 0xffffffff }),
    request({ command: CMD.write, offset: SIZE, length: 70_000 }),
    request({ command: CMD.read, offset: 1, length: 5000 }),
    request({ command: CMD.status, flags: 0xffff, length: 5000 }),
    request({ command: CMD.disc }),
    u32(3),
    u32(0x25609513),
    Buffer.from("IHAVEOPT"),
  );
  const noise = fc.oneof(
    { weight: 3, arbitrary: word },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)) },
    { weight: 1, arbitrary: fc.nat(30_000).map((length) => Buffer.alloc(length, 0x25)) },
  );
  const holds = fc.property(
    fc.integer({ min: 1 }),
    fc.boolean(),
    fc.constantFrom(1, 60, 1_000_000),
    fc.array(noise, { maxLength: 12 }),
    (seed, polite, segmentBytes, parts) => {
      const stage = new NbdStage(seed, 4 * 1024 * 1024);
      const slow = new SlowDevice(stage.world, stage.arena, { sizeBytes: SIZE, delayMs: 5 });
      const device = new UnalignedDevice(stage.arena, slow);
      stage.serve({ exports: [{ name: "vol", device, blockBytes: BLOCK }] });
      const hostile = stage.connect({ segmentBytes });
      const other = stage.connect().negotiate("vol");
      if (polite) hostile.send(u32(3), option(OPT.go, infoData("vol")));
      for (const part of parts) {
        if (part.length > 0) hostile.send(part);
        stage.world.advance(seed % 4);
      }
      stage.world.advance(100);
      hostile.stream.destroy();
      other.send(request({ command: CMD.read, length: 100 }));
      stage.world.advance(1000);
      const answered = other.simple().error === 0;
      other.take(100);
      return answered && stage.arena.allocations === 1 && slow.heldPieces === 0;
    },
  );
  fc.assert(holds, { numRuns: 250, seed: SEED });
  t.pass("250 runs");
});
