import t, { type Test } from "tap";
import { NbdServer } from "../../../src/nbd/server.js";
import type { SessionState } from "../../../src/nbd/session.js";
import { UnalignedDevice } from "../../../src/volume/unaligned.js";
import { FakeArena } from "../../kit/arena.js";
import { type FakeStream, type LinkOptions, link } from "../../kit/link.js";
import {
  CMD,
  hex,
  infoData,
  NbdClient,
  OPT,
  option,
  type RequestFields,
  request,
  u32,
} from "../../kit/nbd-client.js";
import { NbdStage } from "../../kit/nbd-stage.js";
import { SlowDevice, type SlowOptions } from "../../kit/slow-device.js";
import { prng } from "../../kit/world.js";

// A client that goes on with another connection, while the server has not seen the end of the one before: whatever of that is
// still to be read or done must not come after what was done for the new one.

const KIB = 1024;
const SIZE = 256 * KIB;
const BLOCK = 4096;
const ATTACHMENT = 0x54525641;
const ID = hex("00112233445566778899aabbccddeeff");
const OTHER = Buffer.alloc(16, 7);

const filled = (length: number, byte: number): Buffer => Buffer.alloc(length, byte);
const write = (cookie: number, offset: number, payload: Buffer): Buffer =>
  request({ command: CMD.write, cookie, offset, payload });

class Scene {
  readonly stage: NbdStage;
  slow: SlowDevice;
  server: NbdServer;
  arena: FakeArena;
  readonly ends = new Map<NbdClient, FakeStream>();

  constructor(options: Partial<SlowOptions> = {}, readOnly = false, seed = 1) {
    this.stage = new NbdStage(seed);
    const { world, arena } = this.stage;
    this.arena = arena;
    this.slow = new SlowDevice(world, arena, { sizeBytes: SIZE, delayMs: 0, ...options });
    const device = new UnalignedDevice(arena, this.slow);
    const beside = new SlowDevice(world, arena, { sizeBytes: SIZE, delayMs: 0 });
    this.server = this.stage.serve({
      exports: [
        { name: "vol", device, blockBytes: BLOCK, readOnly },
        { name: "beside", device: beside },
      ],
    });
  }
  /** In its transmission phase; `id`: the attachment that it tells. */
  connect(id: Buffer | null, name = "vol", options: LinkOptions = {}): NbdClient {
    const { world, clientArena } = this.stage;
    const [near, far] = link(world, clientArena, this.arena, options);
    this.server.accept(far);
    const client = new NbdClient(world, clientArena, near);
    this.ends.set(client, far);
    client.take(18);
    client.send(u32(3));
    if (id !== null) client.send(option(ATTACHMENT, id)).optionReplies();
    client.send(option(OPT.go, infoData(name))).optionReplies();
    return client;
  }
  ask(client: NbdClient, fields: RequestFields): number {
    client.send(request(fields));
    return client.simple().error;
  }
  get first(): number {
    return this.slow.current[0]!;
  }
}

t.test("a write that had no room is not done after one of the next connection", async (t) => {
  const scene = new Scene({ roomBytes: 64 * KIB });
  const filler = scene.connect(null);
  const old = scene.connect(ID);
  scene.slow.holds = (_, offset) => offset === SIZE - BLOCK;
  filler.send(write(1, SIZE - BLOCK, filled(BLOCK, 9)));
  old.send(write(1, 0, filled(64 * KIB, 1)));
  scene.stage.world.settle();
  t.equal(scene.slow.inFlight, 1, "it waits for room");

  const next = scene.connect(ID);
  t.equal(scene.ask(next, { command: CMD.write, cookie: 2, payload: filled(BLOCK, 2) }), 0);
  scene.slow.holds = () => false;
  scene.slow.unstick();
  t.equal(filler.simple().error, 0);
  t.equal(scene.first, 2);
  t.equal(old.isClosed, true);
  t.equal(scene.slow.heldPieces, 0);
  t.equal(scene.server.clients.length, 2);
});

t.test("a write that comes late is not done after one of the next connection", async (t) => {
  const late = write(1, 0, filled(BLOCK, 1));
  // Before its header, in the middle of that or of the payload, and before its last byte.
  for (const here of [0, 10, 28, 3000, late.length - 1]) {
    const scene = new Scene();
    const old = scene.connect(ID);
    t.equal(scene.ask(old, { command: CMD.flush, cookie: 7 }), 0);
    old.send(late.subarray(0, here));
    const next = scene.connect(ID);
    next.send(late);
    t.same(next.simple(), { error: 0, cookie: 1n });
    t.equal(scene.ask(next, { command: CMD.write, cookie: 2, payload: filled(BLOCK, 2) }), 0);
    old.send(late.subarray(here));
    scene.stage.world.settle();
    t.equal(scene.first, 2, `${here} bytes were here`);
    t.equal(old.isClosed, true);
    t.equal(scene.slow.heldPieces, 0);
  }
});

t.test("what the device still has of the one before is waited for", async (t) => {
  for (const command of [CMD.write, CMD.zeroes, CMD.read, CMD.flush]) {
    const scene = new Scene();
    const old = scene.connect(ID);
    scene.slow.isStuck = true;
    const payload = command === CMD.write ? { payload: filled(BLOCK, 1) } : { length: BLOCK };
    old.send(request({ command, cookie: 1, ...(command === CMD.flush ? {} : payload) }));
    scene.stage.world.settle();
    const next = scene.connect(ID);
    next.send(
      write(2, 0, filled(BLOCK, 2)),
      request({ command: CMD.read, cookie: 3, length: BLOCK }),
    );
    // Far longer than a handshake may take.
    scene.stage.world.advance(100_000);
    t.equal(scene.slow.inFlight, 1, "nothing of the new one is with the device");
    t.equal(old.isClosed, true);
    t.equal(next.isClosed, false);
    // Others have nothing to do with it.
    const stranger = scene.connect(OTHER);
    stranger.send(write(1, BLOCK, filled(BLOCK, 3)));
    scene.stage.world.settle();
    t.equal(scene.slow.inFlight, 2);
    scene.slow.unstick();
    t.same(next.simple(), { error: 0, cookie: 2n });
    t.same(next.simple(), { error: 0, cookie: 3n });
    t.same(next.take(BLOCK), filled(BLOCK, 2));
    t.same(stranger.simple(), { error: 0, cookie: 1n });
    t.equal(old.pending, 0, "the old one is not answered");
    t.equal(scene.slow.heldPieces, 0);
    t.equal(scene.server.clients.length, 2);
  }
});

t.test("a client that leaves while it waits leaves nothing behind", async (t) => {
  for (const next of ["nobody", "a third"]) {
    const scene = new Scene();
    const { world } = scene.stage;
    const old = scene.connect(ID);
    scene.slow.isStuck = true;
    old.send(write(1, 0, filled(BLOCK, 1)));
    world.settle();
    const second = scene.connect(ID).send(write(2, 0, filled(BLOCK, 2)));
    world.settle();
    second.stream.end();
    world.settle();
    const third = next === "nobody" ? undefined : scene.connect(ID);
    third?.send(write(3, 0, filled(BLOCK, 3)));
    world.settle();
    t.equal(scene.slow.inFlight, 1);
    scene.slow.unstick();
    world.settle();
    if (third !== undefined) t.same(third.simple(), { error: 0, cookie: 3n });
    t.equal(scene.first, third === undefined ? 2 : 3);
    t.equal(scene.server.clients.length, third === undefined ? 0 : 1);
    t.equal(scene.slow.heldPieces, 0);
  }
});

t.test("a connection that is not used ends none", async (t) => {
  const scene = new Scene();
  const used = scene.connect(ID);
  t.equal(scene.ask(used, { command: CMD.write, cookie: 1, payload: filled(BLOCK, 1) }), 0);
  // The kernel does not take it, or the one who made it dies.
  scene.connect(ID);
  scene.connect(ID).stream.end();
  scene.connect(ID).send(request({ command: CMD.disc }));
  scene.stage.world.advance(100_000);
  t.equal(scene.ask(used, { command: CMD.write, cookie: 2, payload: filled(BLOCK, 2) }), 0);
  t.equal(scene.server.clients.length, 2);
  // And is ended with those that were.
  const next = scene.connect(ID);
  t.equal(scene.ask(next, { command: CMD.flush, cookie: 1 }), 0);
  t.equal(scene.server.clients.length, 1);
  const ended = scene.stage.notes.filter(({ event }) => event === "nbd.succeeded");
  t.equal(ended.length, 2);
});

t.test("others are left alone", async (t) => {
  const scene = new Scene();
  const all = [
    scene.connect(OTHER),
    scene.connect(null),
    scene.connect(ID, "beside"),
    scene.connect(null),
    scene.connect(ID),
  ];
  for (const client of [...all, ...all])
    t.equal(scene.ask(client, { command: CMD.flush, cookie: 1 }), 0);
  // Nothing of a client that cannot write can come too late.
  const readOnly = new Scene({}, true);
  const readers = [readOnly.connect(ID), readOnly.connect(ID)];
  for (const client of [...readers, ...readers])
    t.equal(readOnly.ask(client, { command: CMD.flush, cookie: 1 }), 0);
});

t.test("the option, byte by byte", async (t) => {
  const scene = new Scene();
  const rows: [string, string, string][] = [
    ["16 bytes", `00000010 ${ID.toString("hex")}`, "00000001 00000000"],
    ["15 bytes", `0000000f ${"11".repeat(15)}`, "80000003"],
    ["17 bytes", `00000011 ${"11".repeat(17)}`, "80000003"],
    ["none", "00000000", "80000003"],
  ];
  for (const [title, data, reply] of rows) {
    const client = scene.stage.connect();
    client.take(18);
    client.send(u32(3), hex(`49484156454f5054 54525641 ${data}`));
    const want = hex(`0003e889045565a9 54525641 ${reply}`).toString("hex");
    t.equal(client.take(want.length / 2).toString("hex"), want, title);
  }
});

/** The second server of a scene, which goes on with everybody; the device is the same. */
function handOver(scene: Scene, change: (state: SessionState) => SessionState = (s) => s): void {
  const { stage, slow, server } = scene;
  const open = [...scene.ends].filter(([client]) => !client.isClosed);
  server.park(0, () => {});
  const left = server.leave();
  const arena = new FakeArena(16 * KIB * KIB);
  const heir = new SlowDevice(stage.world, arena, { sizeBytes: SIZE, delayMs: 0 });
  slow.current.copy(heir.current);
  const next = new NbdServer(
    {
      arena,
      clock: stage.world,
      notes: (level, event, text) => stage.notes.push({ level, event, text, fields: undefined }),
    },
    { exports: [{ name: "vol", device: new UnalignedDevice(arena, heir), blockBytes: BLOCK }] },
  );
  for (const [i, { state }] of left.entries()) next.goOn(open[i]![1].heir(arena), change(state));
  scene.arena = arena;
  scene.slow = heir;
  scene.server = next;
}

t.test("a restart in between", async (t) => {
  const late = write(1, 0, filled(BLOCK, 1));
  const scene = new Scene();
  const old = scene.connect(ID);
  old.send(late.subarray(0, 3000));
  scene.stage.world.settle();
  handOver(scene, (state) => {
    t.equal(state.attachment, ID.toString("hex"));
    return state;
  });
  const next = scene.connect(ID);
  t.equal(scene.ask(next, { command: CMD.write, cookie: 2, payload: filled(BLOCK, 2) }), 0);
  old.send(late.subarray(3000));
  scene.stage.world.settle();
  t.equal(scene.first, 2);
  t.equal(old.isClosed, true);
});

t.test("both are handed over, whichever of them was used", async (t) => {
  const scene = new Scene();
  scene.slow.isStuck = true;
  const old = scene.connect(ID).send(write(1, 0, filled(BLOCK, 1)));
  scene.stage.world.settle();
  const next = scene.connect(ID);
  scene.server.park(0, () => {});
  next.send(write(2, 0, filled(BLOCK, 2)));
  scene.stage.world.settle();
  handOver(scene);
  t.same(next.simple(), { error: 0, cookie: 2n });
  t.equal(scene.first, 2);
  t.equal(old.isClosed, true);
  t.equal(next.isClosed, false, "the old one, used again, is no successor");
  t.equal(scene.server.clients.length, 1);
});

/**
 * A client such as the kernel, which gives connections up at any moment and sends again what is not answered, or tells its own client of an
 * error and forgets it. Nothing of a connection that was given up is lost: it only comes later.
 */
function storm(t: Test, seed: number): void {
  const chance = prng(seed);
  const pick = (most: number): number => Math.floor(chance() * most);
  const options = { delayMs: 1 + pick(40), roomBytes: (1 + pick(4)) * BLOCK };
  const scene = new Scene(options, false, seed);
  const { world } = scene.stage;
  const wrong: string[] = [];
  /** By block: what was acknowledged last, and what is under way. */
  const done = [0, 0, 0, 0];
  const open = new Map<bigint, { block: number; byte: number; bytes: Buffer }>();
  let cookie = 0n;
  const connect = (): NbdClient => {
    const latencyMs = [0, 3, 60, 400][pick(4)]!;
    const [near, far] = scene.stage.link({ latencyMs, segmentBytes: 1 + pick(6000) });
    scene.server.accept(far);
    const client = new NbdClient(world, scene.stage.clientArena, near);
    client.send(u32(3), option(ATTACHMENT, ID), option(OPT.go, infoData("vol")));
    world.advance(2 * latencyMs + 1);
    client.take(18);
    client.optionReplies();
    t.equal(client.optionReplies().at(-1)!.type, 1);
    return client;
  };
  let current = connect();
  /** What was given to a connection and has not left: it goes in parts, in its own time. */
  const delayed = new Map<NbdClient, Buffer>();
  const trickle = (on: NbdClient): void => {
    const bytes = delayed.get(on)!;
    const count = pick(bytes.length + 1);
    on.send(bytes.subarray(0, count));
    delayed.set(on, bytes.subarray(count));
    if (count < bytes.length) world.after(pick(20), () => trickle(on));
  };
  const send = (bytes: Buffer): void => {
    const before = delayed.get(current) ?? filled(0, 0);
    delayed.set(current, Buffer.concat([before, bytes]));
    if (before.length === 0) trickle(current);
  };
  const begin = (block: number): void => {
    cookie += 1n;
    const byte = pick(4) === 0 ? 0 : 1 + pick(250);
    const offset = block * BLOCK;
    const bytes =
      byte === 0
        ? request({ command: CMD.zeroes, cookie, offset, length: BLOCK })
        : request({ command: CMD.write, cookie, offset, payload: filled(BLOCK, byte) });
    open.set(cookie, { block, byte, bytes });
    send(bytes);
  };
  const takeAnswers = (): void => {
    while (current.pending >= 16) {
      const { error, cookie: answered } = current.simple();
      const asked = open.get(answered);
      if (error !== 0 || asked === undefined) wrong.push(`${answered}: ${error}`);
      else done[asked.block] = asked.byte;
      open.delete(answered);
    }
  };
  for (let turn = 0; turn < 60; turn++) {
    takeAnswers();
    const busy = [...open.values()].map(({ block }) => block);
    for (let block = 0; block < 4; block++) if (!busy.includes(block)) begin(block);
    world.advance(pick(30));
    if (pick(6) > 0) continue;
    takeAnswers();
    current = connect();
    for (const [one, { bytes }] of [...open]) {
      if (pick(3) === 0) open.delete(one);
      else send(bytes);
    }
  }
  // What was forgotten may be there or not, until something else is.
  for (let round = 0; round < 2; round++) {
    world.advance(1000);
    takeAnswers();
    if (open.size > 0) wrong.push(`${open.size} are not answered`);
    if (round === 0) for (let block = 0; block < 4; block++) begin(block);
  }
  world.advance(10_000);
  for (const [block, byte] of done.entries())
    if (scene.slow.current[block * BLOCK] !== byte) wrong.push(`block ${block} is an older one`);
  t.same(wrong, [], `seed ${seed}`);
  t.equal(scene.server.clients.length, 1, `seed ${seed}`);
  t.equal(scene.slow.heldPieces, 0, `seed ${seed}`);
}

t.test("connections given up at random moments", async (t) => {
  for (let seed = 1; seed <= 60; seed++) storm(t, seed);
});
