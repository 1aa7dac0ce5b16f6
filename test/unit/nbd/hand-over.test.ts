import t, { type Test } from "tap";
import { BACKLOG_BYTES_MAX } from "../../../src/base/limits.js";
import type { LeftSession } from "../../../src/nbd/connection.js";
import { NbdServer } from "../../../src/nbd/server.js";
import { DeviceStatus } from "../../../src/ports/device.js";
import { UnalignedDevice } from "../../../src/volume/unaligned.js";
import { FakeArena } from "../../kit/arena.js";
import type { FakeStream, LinkOptions } from "../../kit/link.js";
import { CMD, hex, NbdClient, request } from "../../kit/nbd-client.js";
import { NbdStage } from "../../kit/nbd-stage.js";
import { SlowDevice, type SlowOptions } from "../../kit/slow-device.js";
import { prng } from "../../kit/world.js";

// Clients that one server leaves and another one goes on with: whatever byte or request it happens at, a client sees every request answered
// once, and nothing else.

const MIB = 1024 * 1024;
const SIZE = 4 * MIB;
const SMALL = 64 * 1024;

/** A server over a slow device, and the one that comes after it, with an arena of its own. */
class Scene {
  readonly stage: NbdStage;
  readonly slow: SlowDevice;
  readonly server: NbdServer;
  readonly #ends: FakeStream[] = [];
  readonly #heirArena: FakeArena;

  constructor(options: Partial<SlowOptions> = {}) {
    const arenaBytes = 4 * (options.sizeBytes ?? SIZE) + 4 * MIB;
    this.stage = new NbdStage(1, arenaBytes);
    this.#heirArena = new FakeArena(arenaBytes);
    const { world, arena } = this.stage;
    this.slow = new SlowDevice(world, arena, { sizeBytes: SIZE, delayMs: 0, ...options });
    const device = new UnalignedDevice(arena, this.slow);
    this.server = this.stage.serve({ exports: [{ name: "vol", device, blockBytes: 4096 }] });
  }

  connect(options: LinkOptions = {}): NbdClient {
    const [near, far] = this.stage.link(options);
    this.#ends.push(far);
    this.server.accept(far);
    return new NbdClient(this.stage.world, this.stage.clientArena, near);
  }

  /** Parks and, when quiet or after `limitMs`, leaves. */
  leave(limitMs = 0): { readonly left: LeftSession[]; readonly isQuiet: boolean } {
    let isQuiet: boolean | undefined;
    this.server.park(limitMs, (quiet) => {
      isQuiet = quiet;
    });
    this.stage.world.advance(limitMs);
    return { left: this.server.leave(), isQuiet: isQuiet === true };
  }

  /** What the first device held is in the second; `change` makes it another export. */
  goOn(left: readonly LeftSession[], sizeBytes = this.slow.sizeBytes): SlowDevice {
    const { world, notes } = this.stage;
    const arena = this.#heirArena;
    const slow = new SlowDevice(world, arena, { sizeBytes, delayMs: 0 });
    this.slow.current.copy(slow.current);
    const server = new NbdServer(
      {
        arena,
        clock: world,
        notes: (level, event, text) => notes.push({ level, event, text, fields: undefined }),
      },
      { exports: [{ name: "vol", device: new UnalignedDevice(arena, slow), blockBytes: 4096 }] },
    );
    for (const [i, { state }] of left.entries()) server.goOn(this.#ends[i]!.heir(arena), state);
    world.settle();
    return slow;
  }
}

const filled = (length: number, byte: number): Buffer => Buffer.alloc(length, byte);

/** One of everything. */
const CONVERSATION = Buffer.concat([
  request({ command: CMD.write, cookie: 1, offset: 0, payload: filled(600, 1) }),
  request({ command: CMD.read, cookie: 2, offset: 100, length: 700 }),
  request({ command: CMD.write, cookie: 3, flags: 1, offset: 4000, payload: filled(300, 2) }),
  request({ command: CMD.flush, cookie: 4 }),
  request({ command: CMD.write, cookie: 5, offset: SMALL - 10, payload: filled(200, 3) }),
  request({ command: CMD.zeroes, cookie: 6, offset: 50, length: 100 }),
  request({ command: CMD.trim, cookie: 7, offset: 8192, length: 4096 }),
  request({ command: CMD.read, cookie: 8, offset: SMALL, length: 1 }),
  request({ command: 99, cookie: 9 }),
  request({ command: CMD.read, cookie: 10, offset: 0, length: 5000 }),
]);

/** One byte of it is like the next. */
const isPayload = (at: number): boolean =>
  [1, 2, 3].some((byte) => CONVERSATION.subarray(at, at + 20).equals(filled(20, byte)));

/** Everything that came, by cookie, since answers may come in any order. */
function answers(client: NbdClient): string[] {
  const data = new Map([
    [2n, 700],
    [10n, 5000],
  ]);
  const found: { readonly cookie: bigint; readonly text: string }[] = [];
  while (client.pending > 0) {
    if (client.peek(4).readUInt32BE(0) === 0x67446698) {
      const { cookie, error } = client.simple();
      const hasData = error === 0 && data.has(cookie);
      const text = hasData ? client.take(data.get(cookie)!).toString("hex") : "";
      found.push({ cookie, text: `${cookie} ${error} ${text}` });
    } else {
      const { cookie, flags, type, payload } = client.chunk();
      found.push({ cookie, text: `${cookie} ${flags} ${type} ${payload.toString("hex")}` });
    }
  }
  return found.sort((a, b) => Number(a.cookie - b.cookie)).map(({ text }) => text);
}

const WAYS = [{}, { structured: true }, { structured: true, allocation: true }] as const;

for (const wanted of WAYS)
  t.test(`left at every byte of a conversation, ${JSON.stringify(wanted)}`, async (t) => {
    const whole = new Scene({ sizeBytes: SMALL }).connect().negotiate("vol", wanted);
    const expected = answers(whole.send(CONVERSATION));
    t.equal(expected.length, 10);
    const wrong: string[] = [];
    for (let at = 0; at <= CONVERSATION.length; at += isPayload(at) ? 13 : 1) {
      const scene = new Scene({ sizeBytes: SMALL });
      const client = scene.connect().negotiate("vol", wanted);
      client.send(CONVERSATION.subarray(0, at));
      // In half of the cases some of it is still on its way.
      if (at % 2 === 0) scene.stage.world.settle();
      const { left } = scene.leave();
      if (left.length !== 1) {
        // Cut off only in the middle of a payload that is refused.
        const from = CONVERSATION.indexOf(filled(200, 3));
        if (at < from || at >= from + 200) wrong.push(`${at}: cut off`);
        continue;
      }
      scene.goOn(left);
      client.send(CONVERSATION.subarray(at));
      const isSame = answers(client).join() === expected.join();
      if (!isSame || client.isClosed) wrong.push(`${at}: other answers`);
    }
    t.same(wrong, []);
  });

t.test("what is handed over, byte by byte", async (t) => {
  const scene = new Scene();
  const client = scene.connect().negotiate("vol", { structured: true });
  scene.slow.isStuck = true;
  client.send(
    request({ command: CMD.flush, cookie: 0x0102030405060708n }),
    request({ command: CMD.read, flags: 4, cookie: 2, offset: 4096, length: 8192 }),
    request({ command: CMD.write, flags: 1, cookie: 3, offset: 2 ** 12, payload: filled(4096, 9) }),
    request({ command: CMD.write, cookie: 4, offset: 0, length: 4096 }),
    Buffer.from([1, 2, 3]),
  );
  scene.stage.world.settle();
  const { left, isQuiet } = scene.leave();
  t.equal(isQuiet, false);
  const { received, ...rest } = left[0]!.state;
  t.same(
    { ...rest, unsent: rest.unsent.length },
    {
      exportName: "vol",
      sizeBytes: SIZE,
      minimumBytes: 4096,
      payloadBytesMax: 4 * MIB,
      offers: 0x5ed,
      structured: true,
      allocation: false,
      attachment: null,
      unsent: 0,
    },
  );
  t.equal(
    Buffer.from(received).toString("hex"),
    Buffer.concat([
      hex("25609513 0000 0003 0102030405060708 0000000000000000 00000000"),
      hex("25609513 0004 0000 0000000000000002 0000000000001000 00002000"),
      hex("25609513 0001 0001 0000000000000003 0000000000001000 00001000"),
      filled(4096, 9),
      hex("25609513 0000 0001 0000000000000004 0000000000000000 00001000 010203"),
    ]).toString("hex"),
  );
});

t.test("a parked server answers what is under way and takes nothing more", async (t) => {
  const scene = new Scene({ delayMs: 50 });
  const client = scene.connect().negotiate("vol");
  client.send(request({ command: CMD.write, cookie: 1, offset: 0, payload: filled(4096, 1) }));
  scene.stage.world.settle();
  let quiet: boolean | undefined;
  scene.server.park(1000, (isQuiet) => {
    quiet = isQuiet;
  });
  client.send(request({ command: CMD.flush, cookie: 2 }));
  scene.stage.world.advance(100);
  t.equal(quiet, true);
  t.same(client.simple(), { error: 0, cookie: 1n });
  t.equal(client.pending, 0, "the flush waits");
  const [session] = scene.server.leave();
  t.equal(session!.state.received.length, 28);
  scene.goOn([session!]);
  t.same(client.simple(), { error: 0, cookie: 2n });
  t.equal(scene.slow.heldPieces, 0);
});

t.test("a payload that is refused is dropped first, or the client is cut off", async (t) => {
  for (const comes of [true, false]) {
    const scene = new Scene();
    const client = scene.connect().negotiate("vol");
    const whole = request({
      command: CMD.write,
      cookie: 1,
      offset: SIZE,
      payload: filled(5000, 1),
    });
    client.send(whole.subarray(0, 3000));
    scene.stage.world.settle();
    let isQuiet: boolean | undefined;
    scene.server.park(100, (quiet) => {
      isQuiet = quiet;
    });
    scene.stage.world.advance(10);
    if (comes) client.send(whole.subarray(3000), request({ command: CMD.flush, cookie: 2 }));
    scene.stage.world.advance(200);
    t.equal(isQuiet, comes);
    const left = scene.server.leave();
    scene.goOn(left);
    t.equal(left.length, comes ? 1 : 0);
    t.equal(client.isClosed, !comes);
    if (!comes) continue;
    t.same(client.simple(), { error: 28, cookie: 1n });
    t.same(client.simple(), { error: 0, cookie: 2n });
  }
});

t.test("requests that the device never answered are carried out by the successor", async (t) => {
  const scene = new Scene();
  const client = scene.connect().negotiate("vol");
  scene.slow.isStuck = true;
  client.send(
    request({ command: CMD.write, cookie: 1, offset: 4096, payload: filled(100, 1) }),
    request({ command: CMD.write, cookie: 2, offset: 4106, payload: filled(20, 2) }),
    request({ command: CMD.write, cookie: 3, offset: MIB - 10, payload: filled(2 * MIB, 3) }),
    request({ command: CMD.zeroes, cookie: 4, offset: 4096, length: 5 }),
    request({ command: CMD.read, cookie: 5, offset: 4090, length: 40 }),
    request({ command: CMD.write, cookie: 6, offset: 0, payload: filled(MIB, 4) }).subarray(
      0,
      70_000,
    ),
  );
  scene.stage.world.settle();
  const { left } = scene.leave();
  const slow = scene.goOn(left);
  const answered: bigint[] = [];
  for (let i = 0; i < 5; i++) {
    const { error, cookie } = client.simple();
    t.equal(error, 0);
    answered.push(cookie);
    if (cookie !== 5n) continue;
    const data = client.take(40);
    const want = Buffer.concat([
      filled(6, 0),
      filled(5, 0),
      filled(5, 1),
      filled(20, 2),
      filled(4, 1),
    ]);
    t.same(data, want, "in the order in which they came");
  }
  t.same(answered.sort(), [1n, 2n, 3n, 4n, 5n]);
  client.send(filled(MIB + 28 - 70_000, 4));
  t.same(client.simple(), { error: 0, cookie: 6n });
  t.ok(slow.current.subarray(MIB, 3 * MIB - 10).every((byte) => byte === 3));
  t.ok(slow.current.subarray(0, MIB).every((byte) => byte === 4));
  t.equal(slow.heldPieces, 0);
});

t.test("of a long WRITE only the end that was not done is written again", async (t) => {
  for (const done of ["begin", "middle"]) {
    const scene = new Scene();
    const client = scene.connect().negotiate("vol");
    client.send(request({ command: CMD.write, cookie: 1, offset: 0, payload: filled(3 * MIB, 7) }));
    let pieces = 0;
    // Pieces that stand still in a device that answers in order of offset, or in none.
    scene.slow.verdict = () => {
      pieces += 1;
      return DeviceStatus.ok;
    };
    scene.slow.holds = (_, offset) => (done === "begin" ? offset > 0 : offset !== MIB);
    scene.stage.world.settle();
    t.equal(pieces, 1);
    const { left } = scene.leave();
    t.equal(left.length, done === "begin" ? 1 : 0, done);
    const slow = scene.goOn(left);
    if (done === "middle") {
      t.equal(client.isClosed, true, "what is done in the middle cannot be said");
      continue;
    }
    t.equal(left[0]!.state.received.length, 28 + 2 * MIB);
    t.same(client.simple(), { error: 0, cookie: 1n });
    t.ok(slow.current.subarray(0, 3 * MIB).every((byte) => byte === 7));
  }
});

t.test("answers that the client has not taken are sent by the successor", async (t) => {
  const scene = new Scene();
  const client = scene.connect({ windowBytes: 1000 }).negotiate("vol");
  scene.slow.current.fill(5, 0, 40_000);
  client.stream.pause();
  client.send(
    ...Array.from({ length: 10 }, (_, i) =>
      request({ command: CMD.read, cookie: i, offset: i * 4000, length: 4000 }),
    ),
  );
  scene.stage.world.settle();
  const { left, isQuiet } = scene.leave(100);
  t.equal(isQuiet, false);
  t.ok(left[0]!.state.unsent.length > 20_000);
  t.ok(left[0]!.state.unsent.length < BACKLOG_BYTES_MAX);
  scene.goOn(left);
  client.stream.resume();
  const cookies = Array.from({ length: 10 }, () => {
    const { error, cookie } = client.simple();
    const isWhole = client.take(4000).every((byte) => byte === 5);
    return error === 0 && isWhole ? Number(cookie) : "wrong";
  });
  t.same(cookies.sort(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  t.equal(client.pending, 0);
});

t.test("a failed request that is not over is answered with its error", async (t) => {
  const scene = new Scene();
  const client = scene.connect().negotiate("vol");
  scene.slow.verdict = () => DeviceStatus.io;
  scene.slow.holds = (_, offset) => offset > 0;
  client.send(
    request({ command: CMD.write, cookie: 1, offset: 0, payload: filled(2 * MIB, 7) }),
    request({ command: CMD.flush, cookie: 2 }),
  );
  scene.stage.world.settle();
  const { left } = scene.leave();
  scene.goOn(left);
  const answers = [client.simple(), client.simple()].sort((a, b) => Number(a.cookie - b.cookie));
  t.same(answers[0], { error: 5, cookie: 1n });
  t.equal(client.pending, 0);
});

t.test("an export that is not what the client was told: it is let go", async (t) => {
  const scene = new Scene();
  const client = scene.connect().negotiate("vol");
  const { left } = scene.leave();
  scene.goOn(left, SIZE / 2);
  t.equal(client.isClosed, true);
  t.ok(scene.stage.notes.some(({ event }) => event === "nbd.changed"));
});

t.test("whoever is not finished with the handshake, or has said goodbye, is let go", async (t) => {
  const scene = new Scene();
  const early = scene.connect();
  const leaving = scene.connect().negotiate("vol");
  early.take(18);
  scene.slow.isStuck = true;
  leaving.send(request({ command: CMD.flush, cookie: 1 }), request({ command: CMD.disc }));
  scene.stage.world.settle();
  const { left } = scene.leave();
  t.same(left, []);
  scene.stage.world.advance(1000);
  t.equal(early.isClosed, true);
  t.equal(leaving.isClosed, true);
});

/** Requests of random kinds, each writer in a place of its own, through three servers. */
function storm(t: Test, seed: number): void {
  const chance = prng(seed);
  const pick = (most: number): number => Math.floor(chance() * most);
  const stage = new NbdStage(seed);
  const { world } = stage;
  let arena = stage.arena;
  const pattern = Buffer.from(Array.from({ length: MIB }, (_, i) => i % 251));
  const wanted = [{}, { structured: true }][pick(2)]!;
  const make = (before?: SlowDevice): { server: NbdServer; slow: SlowDevice } => {
    const slow = new SlowDevice(world, arena, { sizeBytes: SIZE, delayMs: 20, roomBytes: 2 * MIB });
    if (before === undefined) pattern.copy(slow.current, 3 * MIB);
    else before.current.copy(slow.current);
    const device = new UnalignedDevice(arena, slow);
    const server = new NbdServer(
      { arena, clock: world, notes: () => {} },
      { exports: [{ name: "vol", device, blockBytes: 4096 }] },
    );
    return { server, slow };
  };
  let { server, slow } = make();
  const [near, far] = stage.link({ segmentBytes: 1 + pick(70_000) });
  let end = far;
  server.accept(end);
  const client = new NbdClient(world, stage.clientArena, near);
  client.negotiate("vol", wanted);
  const open = new Map<bigint, { offset: number; length: number; read: boolean }>();
  const writes: { offset: number; length: number; byte: number }[] = [];
  const parts: Buffer[] = [];
  for (let cookie = 1; cookie <= 40; cookie++) {
    const length = 1 + pick(chance() < 0.1 ? 100_000 : 9000);
    const kind = pick(4);
    if (kind < 2) {
      const offset = cookie * 50_000;
      const byte = 1 + pick(250);
      writes.push({ offset, length: Math.min(length, 50_000), byte });
      parts.push(
        request({
          command: CMD.write,
          flags: pick(2),
          cookie,
          offset,
          payload: filled(Math.min(length, 50_000), byte),
        }),
      );
      open.set(BigInt(cookie), { offset, length, read: false });
    } else if (kind === 2) {
      const offset = 3 * MIB + pick(MIB - length);
      parts.push(request({ command: CMD.read, cookie, offset, length }));
      open.set(BigInt(cookie), { offset, length, read: true });
    } else {
      parts.push(request({ command: CMD.flush, cookie }));
      open.set(BigInt(cookie), { offset: 0, length: 0, read: false });
    }
  }
  const all = Buffer.concat(parts);
  const wrong: string[] = [];
  const takeAnswers = (): void => {
    while (client.pending > 0) {
      const magic = client.peek(4).readUInt32BE(0);
      if (magic === 0x67446698) {
        const { error, cookie } = client.simple();
        const asked = open.get(cookie);
        if (error !== 0 || asked === undefined) wrong.push(`${cookie}: ${error}`);
        if (asked?.read) check(asked.offset, client.take(asked.length));
        open.delete(cookie);
      } else {
        const chunk = client.chunk();
        const asked = open.get(chunk.cookie);
        if (asked === undefined || chunk.type !== 1) wrong.push(`${chunk.cookie}: chunk`);
        else check(Number(chunk.payload.readBigUInt64BE(0)), chunk.payload.subarray(8));
        if (chunk.flags === 1) open.delete(chunk.cookie);
      }
    }
  };
  const check = (offset: number, data: Buffer): void => {
    const from = offset - 3 * MIB;
    if (!data.equals(pattern.subarray(from, from + data.length))) wrong.push(`data at ${offset}`);
  };
  let sent = 0;
  for (let round = 0; round < 3; round++) {
    const to = round === 2 ? all.length : sent + pick(all.length - sent);
    client.send(all.subarray(sent, to));
    sent = to;
    world.advance(pick(40));
    if (round === 2) break;
    server.park(pick(2) * 1000, () => {});
    const waits = pick(30);
    world.advance(waits);
    const left = server.leave();
    t.equal(left.length, 1, `seed ${seed}: nobody is cut off`);
    if (left.length !== 1) return;
    arena = new FakeArena(16 * MIB);
    ({ server, slow } = make(slow));
    end = end.heir(arena);
    server.goOn(end, left[0]!.state);
  }
  world.advance(60_000);
  takeAnswers();
  t.same(wrong, [], `seed ${seed}`);
  t.same([...open.keys()], [], `seed ${seed}: all are answered`);
  t.ok(
    writes.every(({ offset, length, byte }) =>
      slow.current.subarray(offset, offset + length).every((one) => one === byte),
    ),
    `seed ${seed}: what was acknowledged is there`,
  );
  t.equal(slow.heldPieces, 0, `seed ${seed}`);
}

t.test("three servers in a row, at random moments", async (t) => {
  for (let seed = 1; seed <= 40; seed++) storm(t, seed);
});
