import type { Test } from "tap";
import { BACKLOG_BYTES_MAX, INBOX_BYTES } from "../../../src/base/limits.js";
import type { Detached, Stream } from "../../../src/ports/stream.js";
import { prng } from "../../kit/world.js";
import { Recorder } from "./recorder.js";
import { type Maker, noise } from "./stream-contract.js";

/** Makes a stream of what another one let go of, in the same turn. */
export type Adopt = (from: Stream, detached: Detached) => Stream;

/** The part of the contract of ports/stream.ts that is about going on with the connections of somebody else. */
export function detachContract(t: Test, maker: Maker, adopt: Adopt): void {
  const { arena } = maker;
  const open = async (): Promise<[Recorder, Recorder]> => {
    const [a, b] = await maker.pair();
    return [new Recorder(a, arena), new Recorder(b, arena)];
  };
  const shut = async (...all: Recorder[]): Promise<void> => {
    for (const one of all) one.quietly(() => one.stream.destroy());
    await maker.until("all closed", () => all.every((one) => one.isClosed));
  };
  /** Let go and taken up again; nothing is lost in between. */
  const passOn = async (b: Recorder): Promise<Recorder> => {
    const detached = b.quietly(() => b.stream.detach())!;
    const next = adopt(b.stream, detached);
    next.unread(detached.received);
    const heir = new Recorder(next, arena);
    if (detached.unsent.length > 0) heir.compose(Buffer.from(detached.unsent));
    await maker.until("closed here", () => b.isClosed);
    return heir;
  };

  t.test("what was received and not consumed comes first", async (t) => {
    const [a, b] = await open();
    b.onReceived = (bytes) => (bytes.length >= 8 ? 4 : 0);
    a.compose(Buffer.from("01234567"));
    await maker.until("the first part", () => b.receivedBytes === 4);
    const heir = await passOn(b);
    t.equal(b.ends[0], null, "to the handler it is an end as any other");
    await maker.until("the rest", () => heir.receivedBytes === 4);
    a.compose(Buffer.from("89"));
    await maker.until("what came after", () => heir.receivedBytes === 6);
    t.equal(heir.allReceived.toString(), "456789");
    heir.compose(Buffer.from("answer"));
    await maker.until("the other way", () => a.receivedBytes === 6);
    t.equal(a.isClosed, false);
    await shut(a, heir);
  });

  t.test("a receiveInto in progress: what has come of it, then what follows", async (t) => {
    const [a, b] = await open();
    const target = arena.alloc(4 * INBOX_BYTES);
    b.onReceived = (piece) => {
      b.stream.receiveInto(target, 4 * INBOX_BYTES);
      return Math.min(1, piece.length);
    };
    const bytes = noise(3 * INBOX_BYTES, 4);
    a.compose(Buffer.from("x"));
    const block = arena.alloc(bytes.length);
    bytes.copy(arena.bytes, block);
    a.attach(block, bytes.length, 1);
    await maker.until("left", () => a.stream.queuedBytes === 0 && b.receivedBytes === 1);
    const heir = await passOn(b);
    t.equal(b.fills, 0);
    await maker.until("all of it", () => heir.receivedBytes === bytes.length);
    t.ok(heir.allReceived.equals(bytes));
    await shut(a, heir);
    arena.free(block);
    arena.free(target);
  });

  t.test("what was queued and not sent is told, and its tags come back", async (t) => {
    const [a, b] = await open();
    a.quietly(() => a.stream.pause());
    const block = arena.alloc(8 * BACKLOG_BYTES_MAX);
    const bytes = noise(8 * BACKLOG_BYTES_MAX, 6);
    bytes.copy(arena.bytes, block);
    b.compose(Buffer.from("head"));
    b.attach(block, bytes.length, 5);
    b.compose(Buffer.from("tail"));
    const detached = b.quietly(() => b.stream.detach())!;
    await maker.until("closed here", () => b.isClosed);
    t.same(b.sentTags, [5]);
    const all = Buffer.concat([Buffer.from("head"), bytes, Buffer.from("tail")]);
    t.ok(all.subarray(all.length - detached.unsent.length).equals(detached.unsent));
    t.ok(detached.unsent.length > 4);
    const heir = new Recorder(adopt(b.stream, detached), arena);
    detached.unsent.forEach((byte, i) => {
      arena.bytes[block + i] = byte;
    });
    heir.attach(block, detached.unsent.length, 9);
    a.quietly(() => a.stream.resume());
    await maker.until("everything", () => a.receivedBytes === all.length);
    t.ok(a.allReceived.equals(all));
    await shut(a, heir);
    arena.free(block);
  });

  t.test("much that comes first: pieces, payload, pauses, as if it came now", async (t) => {
    const [a, b] = await open();
    const detached = b.quietly(() => b.stream.detach())!;
    await maker.until("closed here", () => b.isClosed);
    const next = adopt(b.stream, detached);
    const first = noise(5 * INBOX_BYTES, 8);
    next.unread(first);
    const target = arena.alloc(INBOX_BYTES);
    const chance = prng(3);
    const taken: Buffer[] = [];
    const heir = new Recorder(next, arena);
    let isDirect = false;
    heir.onReceived = (piece) => {
      const used = 1 + Math.floor(chance() * Math.min(piece.length, 9000));
      taken.push(Buffer.from(piece.subarray(0, used)));
      const roll = chance();
      if (roll < 0.3) {
        isDirect = true;
        heir.stream.receiveInto(target, 5000);
      } else if (roll < 0.5) heir.stream.pause();
      return used;
    };
    heir.onFilled = () => {
      isDirect = false;
      taken.push(Buffer.from(arena.bytes.subarray(target, target + 5000)));
    };
    const more = noise(INBOX_BYTES, 9);
    const block = arena.alloc(INBOX_BYTES);
    more.copy(arena.bytes, block);
    a.attach(block, more.length, 1);
    const all = Buffer.concat([first, more]);
    const have = (): number => taken.reduce((sum, piece) => sum + piece.length, 0);
    // The last payload may be longer than what there is.
    await maker.until("everything", () => {
      heir.quietly(() => heir.stream.resume());
      return have() === all.length || (isDirect && have() > all.length - 5000);
    });
    t.ok(all.subarray(0, have()).equals(Buffer.concat(taken)));
    await shut(a, heir);
    arena.free(target);
    arena.free(block);
  });

  t.test("one that has ended is not let go", async (t) => {
    const [a, b] = await open();
    b.quietly(() => b.stream.end());
    t.equal(
      b.quietly(() => b.stream.detach()),
      null,
    );
    await shut(a, b);
    t.equal(
      b.quietly(() => b.stream.detach()),
      null,
    );
  });
}
