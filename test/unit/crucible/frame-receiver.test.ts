import fc from "fast-check";
import t, { type Test } from "tap";
import { Fault } from "../../../src/base/fault.js";
import type { Uuid } from "../../../src/base/ids.js";
import { COMPOSE_BYTES_MAX, FRAME_BYTES_MAX, INBOX_BYTES } from "../../../src/base/limits.js";
import {
  type FrameOwner,
  FrameReceiver,
  PAUSE,
  PLACE_HEAD_BYTES,
  REFUSE,
} from "../../../src/crucible/frame-receiver.js";
import { encode, type Message, TAG } from "../../../src/crucible/messages.js";
import type { Stream, StreamHandler } from "../../../src/ports/stream.js";
import { FakeArena } from "../../kit/arena.js";
import { type FakeStream, link } from "../../kit/link.js";
import { rawLines, rawNames, wireLines } from "../../kit/recordings.js";
import { World } from "../../kit/world.js";

interface Hooks {
  place?(side: Side, tag: number, frameBytes: number): number;
  frame?(side: Side, tag: number, at: number): void;
}

/** One end with a receiver: keeps copies of the frames and checks what an owner may rely on. */
class Side implements StreamHandler, FrameOwner {
  readonly receiver: FrameReceiver;
  readonly frames: Buffer[] = [];
  readonly faults: Fault[] = [];
  readonly stream: Stream;
  readonly arena: FakeArena;
  readonly #hooks: Hooks;
  #placed: { at: number; frameBytes: number } | undefined;
  places = 0;
  closes = 0;
  undelivered = -1;

  constructor(stream: Stream, arena: FakeArena, hooks: Hooks = {}) {
    this.stream = stream;
    this.arena = arena;
    this.#hooks = hooks;
    this.receiver = new FrameReceiver(stream, arena, this);
    stream.start(this);
  }
  received(at: number, end: number): number {
    return this.receiver.received(at, end);
  }
  filled(): void {
    this.receiver.filled();
  }
  sent(): void {}
  drained(): void {}
  closed(): void {
    this.closes += 1;
    this.undelivered = this.receiver.closed();
    if (this.undelivered >= 0) this.arena.free(this.undelivered);
  }
  place(tag: number, frameBytes: number, headAt: number, headBytes: number): number {
    this.places += 1;
    const { view } = this.arena;
    const truth =
      headBytes >= Math.min(frameBytes, PLACE_HEAD_BYTES) &&
      view.getUint32(headAt, true) === frameBytes &&
      view.getUint32(headAt + 4, true) === tag;
    if (!truth) throw new Error("place was told what is not there");
    const at = this.#hooks.place?.(this, tag, frameBytes) ?? this.arena.alloc(frameBytes);
    if (at >= 0) this.#placed = { at, frameBytes };
    return at;
  }
  frame(tag: number, at: number, frameBytes: number, owned: boolean): void {
    const { bytes, view } = this.arena;
    this.frames.push(Buffer.from(bytes.subarray(at, at + frameBytes)));
    const placed = this.#placed;
    this.#placed = undefined;
    if (owned !== (placed !== undefined)) throw new Error("owned is not what was placed");
    if (placed !== undefined && (placed.at !== at || placed.frameBytes !== frameBytes))
      throw new Error("a frame lies where it was placed");
    if (view.getUint32(at + 4, true) !== tag) throw new Error("the tag is the frame's");
    try {
      this.#hooks.frame?.(this, tag, at);
    } finally {
      if (owned) this.arena.free(at);
    }
  }
  bad(fault: Fault): void {
    this.faults.push(fault);
    this.stream.destroy();
  }
}

interface Pair {
  readonly world: World;
  readonly sender: FakeStream;
  readonly senderArena: FakeArena;
  readonly side: Side;
}

const silent: StreamHandler = {
  received: (at, end) => end - at,
  filled: () => {},
  sent: () => {},
  drained: () => {},
  closed: () => {},
};

function pair(segmentBytes: number, hooks: Hooks = {}): Pair {
  const world = new World(1);
  const senderArena = new FakeArena();
  const arena = new FakeArena();
  const [sender, stream] = link(world, senderArena, arena, { segmentBytes });
  sender.start(silent);
  return { world, sender, senderArena, side: new Side(stream, arena, hooks) };
}

/** What is sent in one call arrives glued together, but for the link's segments. */
function send({ world, sender, senderArena }: Pair, bytes: Buffer): void {
  for (let from = 0; from < bytes.length; from += COMPOSE_BYTES_MAX) {
    const piece = bytes.subarray(from, from + COMPOSE_BYTES_MAX);
    piece.copy(senderArena.bytes, sender.compose(piece.length));
    if (sender.queuedBytes > 4 * 1024 * 1024) world.settle();
  }
  world.settle();
}

const hex = (frames: readonly Buffer[]): string[] => frames.map((frame) => frame.toString("hex"));

function recorded(lines: { msg?: string; hex?: string; cut?: number }[]): Buffer[] {
  return lines
    .filter((line) => line.hex !== undefined && line.cut === undefined && line.msg![0] !== "?")
    .map((line) => Buffer.from(line.hex!, "hex"));
}

const RAW = recorded(rawNames().flatMap((name) => rawLines(name)));
const WIRE = recorded([...wireLines("activate-io-512"), ...wireLines("reconcile")]);
const LARGE = recorded(wireLines("activate-io-4096"));
const id = (digit: number): Uuid =>
  `${digit}1111111-2222-3333-4444-555555555555`.slice(0, 36) as Uuid;
const read = (jobId: number): Message => ({
  kind: "ReadRequest",
  upstairsId: id(1),
  sessionId: id(2),
  jobId: jobId as never,
  dependencies: [],
  start: 0 as never,
  count: 1,
});
const write = (jobId: number, dataBytes: number): Message => ({
  kind: "Write",
  upstairsId: id(1),
  sessionId: id(2),
  jobId: jobId as never,
  dependencies: [],
  start: 0 as never,
  contexts: [{ hash: 1n, encryption: null }],
  data: Buffer.alloc(dataBytes, jobId),
});
const PING = encode({ kind: "Ruok" });
/** Small, bulk and large frames by turns. */
const MIXED = [
  encode(read(1)),
  encode(write(2, 0)),
  PING,
  encode(write(3, 4096)),
  encode({
    kind: "ExtentVersions",
    generations: new BigUint64Array(5000).fill(3n),
    flushNumbers: new Float64Array(5000).fill(4),
    dirty: new Uint8Array(5000),
  }),
  encode(read(5)),
  encode(write(6, 200_000)),
  encode(write(7, 1)),
  PING,
];

function checkAll(t: Test, side: Side, frames: readonly Buffer[]): void {
  t.equal(side.faults.length, 0, "no fault");
  t.equal(side.frames.length, frames.length, "as many frames as were sent");
  t.same(hex(side.frames), hex(frames), "the same frames in the same order");
  t.equal(side.arena.allocations, 1, "nothing but the inbox is allocated");
}

for (const [name, segmentBytes, frames] of [
  ["one byte at a time", 1, RAW],
  ["seven bytes at a time", 7, [...RAW, ...WIRE]],
  ["one byte at a time", 1, MIXED],
  ["seven bytes at a time", 7, MIXED],
  ["glued together", Number.POSITIVE_INFINITY, MIXED],
  ["glued together", Number.POSITIVE_INFINITY, [...RAW, ...WIRE]],
  ["large frames in pieces", 1460, LARGE],
  ["large frames glued together", Number.POSITIVE_INFINITY, LARGE],
] as const)
  t.test(`${frames.length} frames ${name}`, async (t) => {
    const both = pair(segmentBytes);
    send(both, Buffer.concat(frames));
    checkAll(t, both.side, frames);
  });

t.test("any split gives the same frames", async (t) => {
  const whole = Buffer.concat(MIXED);
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: whole.length - 1 }), { maxLength: 40 }),
      (at) => {
        const both = pair(Number.POSITIVE_INFINITY);
        const cuts = [0, ...at.sort((a, b) => a - b), whole.length];
        for (let i = 0; i + 1 < cuts.length; i++)
          if (cuts[i]! < cuts[i + 1]!) send(both, whole.subarray(cuts[i], cuts[i + 1]));
        return hex(both.side.frames).join() === hex(MIXED).join() && both.side.faults.length === 0;
      },
    ),
    { seed: 11, numRuns: 60 },
  );
  t.pass("60 splits");
});

const head = (length: number, tag: number): Buffer => {
  const bytes = Buffer.alloc(96);
  bytes.writeUInt32LE(length, 0);
  bytes.writeUInt32LE(tag, 4);
  return bytes;
};
for (const [name, length, tag] of [
  ["length 0", 0, TAG.Ruok],
  ["length 7", 7, TAG.Ruok],
  ["length above the limit", FRAME_BYTES_MAX + 1, TAG.Write],
  ["the largest length of a u32", 2 ** 32 - 1, TAG.ReadResponse],
  ["the first tag that nobody has", 8, 42],
  ["a large tag", 8, 2 ** 32 - 1],
  ["a write shorter than a write", 95, TAG.Write],
  ["a read response shorter than one", 79, TAG.ReadResponse],
  ["an acknowledgement without a result", 64, TAG.WriteAck],
] as const)
  for (const segmentBytes of [1, Number.POSITIVE_INFINITY])
    t.test(`${name} ends the connection (segments of ${segmentBytes})`, async (t) => {
      const both = pair(segmentBytes);
      send(both, Buffer.concat([PING, head(length, tag), PING]));
      t.same(hex(both.side.frames), hex([PING]), "what came before is delivered, nothing after");
      t.equal(both.side.faults[0]?.code, "TRIVET_E_FRAME", "the fault");
      t.equal(both.side.faults.length, 1, "told once");
      t.equal(both.side.places, 0, "nobody was asked for memory");
      t.equal(both.side.closes, 1, "closed");
    });

t.test("the largest frame of all is offered to the owner, who may refuse it", async (t) => {
  const sizes: number[] = [];
  const both = pair(Number.POSITIVE_INFINITY, {
    place: (_, __, frameBytes) => {
      sizes.push(frameBytes);
      return REFUSE;
    },
  });
  send(both, Buffer.concat([head(FRAME_BYTES_MAX, TAG.Write), PING]));
  t.same(sizes, [FRAME_BYTES_MAX], "asked once");
  t.equal(both.side.faults[0]?.code, "TRIVET_E_FRAME", "refused");
  t.equal(both.side.frames.length, 0, "nothing is delivered");
});

t.test("a frame as large as the inbox is handled there, a larger one is placed", async (t) => {
  const deps = (INBOX_BYTES - encode(read(1)).length) / 8;
  for (const extra of [0, 1]) {
    const frame = encode({
      ...read(1),
      dependencies: new Array(deps + extra).fill(9),
    } as Message);
    const both = pair(Number.POSITIVE_INFINITY);
    send(both, Buffer.concat([PING, frame, PING]));
    checkAll(t, both.side, [PING, frame, PING]);
    t.equal(both.side.places, extra, "asked for memory only when larger");
  }
});

t.test("no room: the stream waits until the owner resumes, and nothing is lost", async (t) => {
  for (const segmentBytes of [7, Number.POSITIVE_INFINITY]) {
    let refusals = 0;
    const both = pair(segmentBytes, {
      place: (side, _, frameBytes) => {
        if (side.places % 3 !== 0) {
          refusals += 1;
          return PAUSE;
        }
        return side.arena.alloc(frameBytes);
      },
    });
    send(both, Buffer.concat(MIXED));
    t.equal(both.side.frames.length, 1, "stands at the first bulk frame");
    for (let i = 0; i < 40; i++) {
      both.side.receiver.resume();
      both.world.settle();
    }
    checkAll(t, both.side, MIXED);
    t.equal(refusals, 10, "five large frames were each refused twice");
  }
});

t.test("room that comes up while the owner is saying no is not missed", async (t) => {
  const both = pair(Number.POSITIVE_INFINITY, {
    place: (side, _, frameBytes) => {
      if (side.places % 2 === 1) {
        side.receiver.resume();
        return PAUSE;
      }
      return side.arena.alloc(frameBytes);
    },
  });
  send(both, Buffer.concat(MIXED));
  checkAll(t, both.side, MIXED);
});

t.test("an owner that pauses in a frame gets no further one before it resumes", async (t) => {
  for (const segmentBytes of [61, Number.POSITIVE_INFINITY]) {
    const both = pair(segmentBytes, { frame: (side) => side.receiver.pause() });
    send(both, Buffer.concat(MIXED));
    for (let delivered = 1; delivered <= MIXED.length; delivered++) {
      t.equal(both.side.frames.length, delivered, "one frame per resume");
      both.side.receiver.resume();
      both.world.settle();
    }
    checkAll(t, both.side, MIXED);
  }
});

t.test("pausing and resuming within one frame changes nothing", async (t) => {
  const both = pair(Number.POSITIVE_INFINITY, {
    frame: (side) => {
      side.receiver.pause();
      side.receiver.resume();
    },
  });
  send(both, Buffer.concat(MIXED));
  checkAll(t, both.side, MIXED);
});

t.test("a stream destroyed inside a frame delivers no further one", async (t) => {
  for (const segmentBytes of [61, Number.POSITIVE_INFINITY])
    for (let last = 1; last <= MIXED.length; last++) {
      const both = pair(segmentBytes, {
        frame: (side) => {
          if (side.frames.length < last) return;
          side.receiver.stop();
          side.stream.destroy();
        },
      });
      send(both, Buffer.concat(MIXED));
      t.equal(both.side.frames.length, last, `ends after frame ${last}`);
      t.equal(both.side.closes, 1, "closed once");
      t.equal(both.side.arena.allocations, 0, "no memory is left behind");
    }
});

t.test("a stream destroyed inside place hands the memory back when it is closed", async (t) => {
  for (const segmentBytes of [1, Number.POSITIVE_INFINITY]) {
    const both = pair(segmentBytes, {
      place: (side, _, frameBytes) => {
        side.receiver.stop();
        side.stream.destroy();
        return side.arena.alloc(frameBytes);
      },
    });
    send(both, Buffer.concat(MIXED));
    t.equal(both.side.frames.length, 1, "the small frame before it");
    t.equal(both.side.undelivered >= 0, true, "the address comes back");
    t.equal(both.side.arena.allocations, 0, "no memory is left behind");
  }
});

t.test("a connection lost within a frame hands the memory back", async (t) => {
  const both = pair(Number.POSITIVE_INFINITY);
  send(both, encode(write(1, 100_000)).subarray(0, 60_000));
  t.equal(both.side.places, 1, "it was placed");
  both.sender.destroy();
  both.world.settle();
  t.equal(both.side.closes, 1, "closed");
  t.equal(both.side.undelivered >= 0, true, "the address comes back");
  t.equal(both.side.arena.allocations, 0, "no memory is left behind");
});

t.test("a fault that the owner throws ends the connection, anything else escapes", async (t) => {
  for (const kind of [0, 1, 6]) {
    const both = pair(Number.POSITIVE_INFINITY, {
      frame: () => {
        throw new Fault("TRIVET_E_FRAME", "not what was expected");
      },
    });
    send(both, Buffer.concat([MIXED[kind]!, PING]));
    t.equal(both.side.frames.length, 1, "no further frame");
    t.equal(both.side.faults[0]?.message, "not what was expected", "its own fault comes back");
    t.equal(both.side.faults.length, 1, "once");
  }
  const both = pair(Number.POSITIVE_INFINITY, {
    frame: () => {
      throw new TypeError("a bug");
    },
  });
  t.throws(() => send(both, PING), TypeError, "a bug is not hidden");
});
