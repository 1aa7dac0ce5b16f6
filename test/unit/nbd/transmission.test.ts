import t from "tap";
import { NBD_REFUSED_BYTES_MAX, PIECE_BYTES_MAX } from "../../../src/base/limits.js";
import { DeviceStatus, FUA } from "../../../src/ports/device.js";
import { MemoryDevice } from "../../../src/volume/memory.js";
import { UnalignedDevice } from "../../../src/volume/unaligned.js";
import { CMD, type NbdClient, type RequestFields, request, u32 } from "../../kit/nbd-client.js";
import { NbdStage } from "../../kit/nbd-stage.js";
import { SlowDevice, type SlowOptions } from "../../kit/slow-device.js";

const MIB = 1024 * 1024;
const SIZE = 4 * MIB;
const E = { perm: 1, io: 5, inval: 22, nospc: 28, overflow: 75 };
const FLAG = { fua: 1, noHole: 2, df: 4, reqOne: 8, fastZero: 16, payloadLen: 32 };

function memoryStage(
  options: { blockBytes?: number; readOnly?: boolean; sizeBytes?: number } = {},
) {
  const stage = new NbdStage();
  const device = new MemoryDevice(stage.arena, { sizeBytes: SIZE, ...options });
  const baseline = stage.arena.allocations;
  const server = stage.serve({ exports: [{ name: "vol", device }] });
  return { stage, device, server, baseline };
}

function slowStage(options: Partial<SlowOptions> = {}, seed = 1) {
  const stage = new NbdStage(seed);
  const slow = new SlowDevice(stage.world, stage.arena, { sizeBytes: SIZE, ...options });
  const device = new UnalignedDevice(stage.arena, slow);
  const server = stage.serve({ exports: [{ name: "vol", device, blockBytes: 4096 }] });
  return { stage, slow, server };
}

for (const segmentBytes of [1, 7, 65536])
  t.test(`write, read, flush in segments of ${segmentBytes}`, async (t) => {
    const { stage, baseline } = memoryStage();
    const client = stage.connect({ segmentBytes }).negotiate("vol");
    const payload = Buffer.from("hello, trivet".repeat(100));
    client.send(
      request({ command: CMD.write, cookie: 0x1122334455667788n, offset: 5000, payload }),
    );
    t.same(client.simple(), { error: 0, cookie: 0x1122334455667788n });
    client.send(
      request({ command: CMD.read, cookie: 2, offset: 5000, length: payload.length }),
      request({ command: CMD.flush, cookie: 3 }),
    );
    t.same(client.simple(), { error: 0, cookie: 2n });
    t.same(client.take(payload.length), payload);
    t.same(client.simple(), { error: 0, cookie: 3n });
    client.send(request({ command: CMD.disc }));
    stage.world.settle();
    t.equal(client.isClosed, true);
    t.equal(stage.arena.allocations, baseline);
  });

t.test("a write and a read of many pieces", async (t) => {
  const { stage } = memoryStage({ sizeBytes: 4 * MIB });
  const client = stage.connect().negotiate("vol");
  const payload = Buffer.alloc(3 * MIB + 17, 1);
  payload[2 * MIB + 5] = 7;
  client.send(request({ command: CMD.write, offset: 1000, payload }));
  t.equal(client.error(), 0);
  client.send(request({ command: CMD.read, offset: 1000, length: payload.length }));
  t.equal(client.simple().error, 0);
  t.ok(client.take(payload.length).equals(payload));
});

// The table of errors: what is sent, and the error that must come back, with the connection still in step.
const HUGE = 0xffff_ffff_ffff_f000n;
const CASES: [string, RequestFields, number][] = [
  ["READ inside", { command: CMD.read, offset: SIZE - 4096, length: 4096 }, 0],
  ["READ past the end", { command: CMD.read, offset: SIZE - 4096, length: 4097 }, E.inval],
  ["READ beyond the end", { command: CMD.read, offset: SIZE, length: 1 }, E.inval],
  ["READ of length 0", { command: CMD.read, offset: 0, length: 0 }, E.inval],
  ["READ at 2^53", { command: CMD.read, offset: 2n ** 53n, length: 1 }, E.inval],
  ["READ overflowing 64 bits", { command: CMD.read, offset: HUGE, length: 0x2000 }, E.inval],
  ["WRITE past the end", { command: CMD.write, offset: SIZE - 1, payload: u32(7) }, E.nospc],
  ["WRITE overflowing", { command: CMD.write, offset: HUGE, payload: Buffer.alloc(8192) }, E.nospc],
  ["WRITE of length 0", { command: CMD.write, offset: 0, length: 0 }, E.inval],
  ["WRITE with FUA", { command: CMD.write, flags: FLAG.fua, offset: 0, payload: u32(7) }, 0],
  ["WRITE with NO_HOLE", { command: CMD.write, flags: FLAG.noHole, payload: u32(7) }, E.inval],
  ["WRITE with DF", { command: CMD.write, flags: FLAG.df, payload: u32(7) }, E.inval],
  [
    "WRITE with PAYLOAD_LEN",
    { command: CMD.write, flags: FLAG.payloadLen, payload: u32(7) },
    E.inval,
  ],
  ["WRITE with flag 0x8000", { command: CMD.write, flags: 0x8000, payload: u32(7) }, E.inval],
  ["FLUSH", { command: CMD.flush }, 0],
  ["FLUSH with FUA", { command: CMD.flush, flags: FLAG.fua }, 0],
  ["FLUSH with NO_HOLE", { command: CMD.flush, flags: FLAG.noHole }, E.inval],
  ["TRIM", { command: CMD.trim, offset: 0, length: SIZE }, 0],
  ["TRIM with FUA", { command: CMD.trim, flags: FLAG.fua, length: 4096 }, 0],
  ["TRIM past the end", { command: CMD.trim, offset: 4096, length: SIZE }, E.inval],
  ["TRIM of almost 4 GiB", { command: CMD.trim, offset: 0, length: 4_294_963_200 }, E.inval],
  ["TRIM of length 0", { command: CMD.trim, offset: 0, length: 0 }, E.inval],
  ["CACHE", { command: CMD.cache, offset: 0, length: SIZE }, 0],
  ["CACHE past the end", { command: CMD.cache, offset: 1, length: SIZE }, E.inval],
  ["CACHE with DF", { command: CMD.cache, flags: FLAG.df, length: 1 }, E.inval],
  ["WRITE_ZEROES", { command: CMD.zeroes, offset: 0, length: SIZE }, 0],
  ["WRITE_ZEROES, NO_HOLE and FUA", { command: CMD.zeroes, flags: 3, offset: 8, length: 9 }, 0],
  ["WRITE_ZEROES past the end", { command: CMD.zeroes, offset: 4096, length: SIZE }, E.nospc],
  ["WRITE_ZEROES, FAST_ZERO", { command: CMD.zeroes, flags: FLAG.fastZero, length: 1 }, E.inval],
  ["WRITE_ZEROES of length 0", { command: CMD.zeroes, length: 0 }, E.inval],
  ["BLOCK_STATUS without a context", { command: CMD.status, length: 4096 }, E.inval],
  ["RESIZE", { command: 8, offset: 1 }, E.inval],
  ["command 9", { command: 9, offset: 0, length: 4096 }, E.inval],
  ["command 65535", { command: 65535 }, E.inval],
];

for (const structured of [false, true])
  t.test(`errors, ${structured ? "structured" : "simple"} replies`, async (t) => {
    const { stage } = memoryStage();
    const client = stage.connect().negotiate("vol", { structured });
    for (const [title, fields, error] of CASES) {
      client.send(request({ ...fields, cookie: 77 }));
      const got = answer(client, fields, structured);
      t.same(got, { error, cookie: 77n }, title);
      client.send(request({ command: CMD.flush, cookie: 78 }));
      t.same(client.simple(), { error: 0, cookie: 78n }, `${title}: in step`);
    }
  });

/** Takes a whole reply in the form it must have. */
function answer(client: NbdClient, { command, length }: RequestFields, structured: boolean) {
  const isSimple = client.peek(4).readUInt32BE(0) === 0x67446698;
  if (isSimple) {
    const reply = client.simple();
    if (structured && (command === CMD.read || reply.error !== 0)) throw new Error("not in chunks");
    if (command === CMD.read && reply.error === 0) client.take(length!);
    return reply;
  }
  if (!structured) throw new Error("chunks were not negotiated");
  const { flags, type, cookie, payload } = client.chunk();
  if (flags !== 1) throw new Error("the only chunk is the last");
  if (type !== 0x8001) return { error: 0, cookie };
  const text = payload.readUInt16BE(4);
  if (payload.length !== 6 + text || text === 0) throw new Error("an error has a text");
  return { error: payload.readUInt32BE(0), cookie };
}

t.test("a read-only export refuses what writes, and takes the payload (trap 1)", async (t) => {
  const { stage } = memoryStage({ readOnly: true });
  const client = stage.connect({ segmentBytes: 1000 }).negotiate("vol");
  client.send(
    request({ command: CMD.write, cookie: 1, payload: Buffer.alloc(300_000, 0x25) }),
    request({ command: CMD.trim, cookie: 2, length: 4096 }),
    request({ command: CMD.zeroes, cookie: 3, length: 4096 }),
    request({ command: CMD.flush, cookie: 4 }),
    request({ command: CMD.read, cookie: 5, length: 1 }),
  );
  for (const cookie of [1n, 2n, 3n]) t.same(client.simple(), { error: E.perm, cookie });
  t.same(client.simple(), { error: 0, cookie: 4n });
  t.same(client.simple(), { error: 0, cookie: 5n });
  t.same(client.take(1), Buffer.alloc(1));
});

t.test("a device that wants whole blocks and nothing around it", async (t) => {
  const { stage } = memoryStage({ blockBytes: 4096 });
  const client = stage.connect().negotiate("vol");
  const rows: [RequestFields, number][] = [
    [{ command: CMD.read, offset: 512, length: 4096 }, E.inval],
    [{ command: CMD.read, offset: 4096, length: 512 }, E.inval],
    [{ command: CMD.write, offset: 1, payload: Buffer.alloc(4096) }, E.inval],
    [{ command: CMD.zeroes, offset: 4096, length: 4097 }, E.inval],
    [{ command: CMD.write, offset: 4096, payload: Buffer.alloc(8192) }, 0],
  ];
  for (const [fields, error] of rows) {
    client.send(request(fields));
    t.equal(client.error(), error);
  }
});

t.test("payloads longer than the maximum", async (t) => {
  const { stage, server } = memoryStage();
  t.equal(server.payloadBytesMax, 4 * MIB);
  const client = stage.connect().negotiate("vol");
  client.send(request({ command: CMD.read, offset: 0, length: 4 * MIB + 1 }));
  t.equal(client.error(), E.inval, "READ past our maximum");
  client.send(request({ command: CMD.write, payload: Buffer.alloc(4 * MIB + 1) }));
  t.equal(client.error(), E.nospc, "WRITE past the end and past our maximum: taken and refused");
  client.send(request({ command: CMD.write, length: NBD_REFUSED_BYTES_MAX + 1 }));
  stage.world.settle();
  t.equal(client.isClosed, true, "more than is worth taking costs the connection");
  t.equal(stage.notes.at(-2)!.event, "nbd.fault");
});

t.test("long reads in chunks go beyond the maximum; with DF they do not", async (t) => {
  const stage = new NbdStage();
  const device = new MemoryDevice(stage.arena, { sizeBytes: 6 * MIB });
  stage.serve({ exports: [{ name: "vol", device }] });
  const client = stage.connect().negotiate("vol", { structured: true });
  client.send(request({ command: CMD.write, offset: MIB, payload: Buffer.alloc(MIB, 0xaa) }));
  t.equal(client.error(), 0);
  client.send(request({ command: CMD.read, flags: FLAG.df, offset: 0, length: 6 * MIB }));
  t.equal(client.error(), E.overflow);
  client.send(request({ command: CMD.read, offset: 0, length: 6 * MIB, cookie: 3 }));
  const got = Buffer.alloc(6 * MIB, 0xff);
  for (let done = false; !done; ) {
    const { flags, type, cookie, payload } = client.chunk();
    t.equal(type, 1);
    t.equal(cookie, 3n);
    t.ok(payload.length <= 8 + 4 * MIB);
    payload.copy(got, Number(payload.readBigUInt64BE(0)), 8);
    done = flags === 1;
  }
  t.ok(
    got.equals(Buffer.concat([Buffer.alloc(MIB), Buffer.alloc(MIB, 0xaa), Buffer.alloc(4 * MIB)])),
  );
  client.send(request({ command: CMD.read, flags: FLAG.df, offset: 0, length: 4 * MIB }));
  t.equal(client.chunk().payload.length, 8 + 4 * MIB, "DF within the maximum is one chunk");
});

t.test(
  "chunk offsets are absolute (trap 13), and cover the range whatever the order",
  async (t) => {
    for (let seed = 1; seed <= 20; seed++) {
      const { stage, slow } = slowStage({ delayMs: 50 }, seed);
      for (let i = 0; i < SIZE; i += 512) slow.current.writeUInt32LE(i, i);
      const client = stage.connect().negotiate("vol", { structured: true });
      const offset = PIECE_BYTES_MAX - 1024;
      const length = PIECE_BYTES_MAX + 2048;
      client.send(request({ command: CMD.read, offset, length }));
      stage.world.advance(100);
      const got = Buffer.alloc(length, 0xff);
      let chunks = 0;
      for (let done = false; !done; chunks++) {
        const { flags, payload } = client.chunk();
        payload.copy(got, Number(payload.readBigUInt64BE(0)) - offset, 8);
        done = flags === 1;
      }
      t.ok(got.equals(slow.current.subarray(offset, offset + length)), `seed ${seed}`);
      t.equal(chunks, 3);
      t.equal(stage.arena.allocations, 1, "all but the inbox is given back");
    }
  },
);

t.test("a read that fails in part is one error, in both forms", async (t) => {
  for (const structured of [false, true]) {
    const { stage, slow } = slowStage();
    slow.verdict = (_kind, offset) => (offset === MIB ? DeviceStatus.io : DeviceStatus.ok);
    const client = stage.connect().negotiate("vol", { structured });
    client.send(request({ command: CMD.read, length: 3 * MIB, cookie: 9 }));
    stage.world.advance(100);
    if (structured) {
      const chunks = [];
      do chunks.push(client.chunk());
      while (chunks.at(-1)!.flags === 0);
      t.ok(chunks.every(({ type }, i) => type === (i === chunks.length - 1 ? 0x8001 : 1)));
      t.equal(chunks.at(-1)!.payload.readUInt32BE(0), E.io);
    } else t.same(client.simple(), { error: E.io, cookie: 9n });
    t.equal(client.pending, 0);
    client.send(request({ command: CMD.read, length: 512 }));
    stage.world.advance(100);
    if (structured) t.equal(client.chunk().flags, 1);
    else t.equal(client.simple().error, 0);
    client.takeAll();
    t.equal(stage.arena.allocations, 1);
  }
});

t.test("only errors that may travel do (trap 3), and the connection stays (trap 2)", async (t) => {
  const rows: [DeviceStatus, number][] = [
    [DeviceStatus.io, E.io],
    [DeviceStatus.noSpace, E.nospc],
    [DeviceStatus.readOnly, E.perm],
    [DeviceStatus.invalid, E.inval],
    [DeviceStatus.ok, 0],
  ];
  const { stage, slow } = slowStage();
  const client = stage.connect().negotiate("vol");
  for (const [status, error] of rows)
    for (const command of [CMD.write, CMD.zeroes, CMD.trim, CMD.flush, CMD.read]) {
      slow.verdict = () => status;
      const payload = command === CMD.write ? Buffer.alloc(4096) : Buffer.alloc(0);
      client.send(request({ command, length: 4096, payload }));
      stage.world.advance(100);
      t.equal(client.simple().error, error);
      if (command === CMD.read && error === 0) client.take(4096);
    }
});

t.test("a write that fails in its first piece: the rest is taken and dropped", async (t) => {
  const { stage, slow } = slowStage({ delayMs: 0 });
  slow.verdict = (kind, offset) =>
    kind === "write" && offset === 0 ? DeviceStatus.io : DeviceStatus.ok;
  const client = stage.connect({ segmentBytes: 100_000 }).negotiate("vol");
  client.send(
    request({ command: CMD.write, payload: Buffer.alloc(3 * MIB, 1), cookie: 1 }),
    request({ command: CMD.flush, cookie: 2 }),
  );
  stage.world.advance(100);
  t.same([client.simple(), client.simple()].map((one) => `${one.error} ${one.cookie}`).sort(), [
    "0 2",
    "5 1",
  ]);
  t.equal(stage.arena.allocations, 1);
});

t.test("when the device goes away the client is let go without an answer", async (t) => {
  const { stage, slow } = slowStage();
  slow.verdict = () => DeviceStatus.shutdown;
  const client = stage.connect().negotiate("vol");
  client.send(request({ command: CMD.read, length: MIB }), request({ command: CMD.flush }));
  stage.world.advance(100);
  t.equal(client.pending, 0);
  t.equal(client.isClosed, true);
  t.equal(stage.arena.allocations, 0);
});

t.test("WRITE_ZEROES and TRIM of nearly 4 GiB in one request (trap 8)", async (t) => {
  const { stage } = memoryStage();
  const sizeBytes = 8 * 1024 ** 3;
  const seen: unknown[] = [];
  const device = new MemoryDevice(stage.arena, { sizeBytes: 4096 });
  const wide = Object.assign(Object.create(device), {
    sizeBytes,
    blockBytes: 1,
    readOnly: false,
    writeZeroes: (offset: number, length: number, flags: number, c: never, tag: number) => {
      seen.push(["zeroes", offset, length, flags]);
      (c as { deviceDone(...all: unknown[]): void }).deviceDone(tag, 0, -1, -1);
    },
    trim: (offset: number, length: number, flags: number, c: never, tag: number) => {
      seen.push(["trim", offset, length, flags]);
      (c as { deviceDone(...all: unknown[]): void }).deviceDone(tag, 0, -1, -1);
    },
  });
  stage.serve({ exports: [{ name: "wide", device: wide }] });
  const client = stage.connect().negotiate("wide");
  client.send(
    request({
      command: CMD.zeroes,
      flags: FLAG.fua,
      offset: 4_294_967_304,
      length: 0xffffffff - 8,
    }),
    request({ command: CMD.trim, offset: 4096, length: 4_294_963_200 }),
    request({ command: CMD.zeroes, offset: 4_294_967_304, length: 0xffffffff }),
  );
  t.equal(client.error(), 0);
  t.equal(client.error(), 0);
  t.equal(client.error(), E.nospc);
  t.same(seen, [
    ["zeroes", 4_294_967_304, 0xffffffff - 8, FUA],
    ["trim", 4096, 4_294_963_200, 0],
  ]);
});

t.test("DISC: everything under way is answered first (trap 14)", async (t) => {
  const { stage, slow } = slowStage({ delayMs: 100 });
  const client = stage.connect().negotiate("vol");
  for (let i = 0; i < 20; i++)
    client.send(
      request({ command: CMD.write, cookie: i, offset: 4096 * i, payload: Buffer.alloc(4096, 1) }),
    );
  client.send(request({ command: CMD.disc, offset: 0xfffffffffffffe00n, length: 0xdeadbeef }));
  client.send(request({ command: CMD.write, cookie: 99, payload: Buffer.alloc(4096, 2) }));
  stage.world.advance(1000);
  const cookies = Array.from({ length: 20 }, () => Number(client.simple().cookie));
  t.same(
    cookies.sort((a, b) => a - b),
    Array.from({ length: 20 }, (_, i) => i),
  );
  t.equal(client.pending, 0, "nothing after DISC is served");
  t.equal(client.isClosed, true);
  t.equal(slow.carriedOut.length, 20);
  t.equal(stage.arena.allocations, 0);
});

t.test("a client that vanishes: writes end, memory is released once", async (t) => {
  for (const structured of [false, true]) {
    const { stage, slow, server } = slowStage({ delayMs: 100 });
    const client = stage.connect({ windowBytes: 50_000 }).negotiate("vol", { structured });
    client.stream.pause();
    for (let i = 0; i < 10; i++) {
      client.send(
        request({ command: CMD.write, offset: i * 512, payload: Buffer.alloc(512, i + 1) }),
      );
      client.send(request({ command: CMD.read, offset: i * 100_000, length: 100_000 }));
    }
    client.send(request({ command: CMD.write, length: 100_000 }), Buffer.alloc(3000));
    stage.world.advance(50);
    client.stream.destroy();
    stage.world.advance(1000);
    t.equal(slow.inFlight, 0);
    t.equal(slow.heldPieces, 0);
    t.equal(stage.arena.allocations, 0);
    t.equal(server.clients.length, 0);
    for (let i = 0; i < 10; i++) t.equal(slow.current[i * 512 + 511], i + 1);
  }
});

t.test("bad magic in a request ends this connection and no other", async (t) => {
  const { stage } = memoryStage();
  const [one, two] = [stage.connect().negotiate("vol"), stage.connect().negotiate("vol")];
  one.send(Buffer.from("25609514", "hex"), Buffer.alloc(24));
  stage.world.settle();
  t.equal(one.isClosed, true);
  t.equal(stage.notes.filter((note) => note.event === "nbd.fault").length, 1);
  two.send(request({ command: CMD.flush }));
  t.equal(two.simple().error, 0);
});
