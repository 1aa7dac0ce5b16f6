import type { Test } from "tap";
import { BACKLOG_BYTES_MAX, INBOX_BYTES } from "../../../src/base/limits.js";
import type { Arena } from "../../../src/ports/arena.js";
import type { Stream } from "../../../src/ports/stream.js";
import { prng } from "../../kit/world.js";
import { Recorder } from "./recorder.js";

/** Something that makes pairs of connected streams, whatever they are made of. */
export interface Maker {
  readonly arena: Arena;
  pair(): Promise<[Stream, Stream]>;
  /** Lets the world go on until `done`, or fails. */
  until(what: string, done: () => boolean): Promise<void>;
}

export function noise(length: number, seed: number): Buffer {
  const chance = prng(seed);
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) bytes[i] = chance() * 256;
  return bytes;
}

/** The contract of ports/stream.ts, for every implementation of it. */
export function streamContract(t: Test, maker: Maker): void {
  const { arena } = maker;
  const open = async (): Promise<[Recorder, Recorder]> => {
    const [a, b] = await maker.pair();
    return [new Recorder(a, arena), new Recorder(b, arena)];
  };
  const shut = async (a: Recorder, b: Recorder): Promise<void> => {
    a.quietly(() => a.stream.destroy());
    b.quietly(() => b.stream.destroy());
    await maker.until("both closed", () => a.isClosed && b.isClosed);
  };

  t.test("composed and attached bytes arrive in order of the calls", async (t) => {
    const [a, b] = await open();
    const block = arena.alloc(10_000);
    const bytes = noise(10_000, 1);
    bytes.copy(arena.bytes, block);
    a.compose(Buffer.from("head"));
    a.compose(Buffer.from("er"));
    a.attach(block, 10_000, 7);
    a.compose(Buffer.from("tail"));
    t.equal(a.stream.queuedBytes, 10_010);
    await maker.until("all arrived", () => b.receivedBytes === 10_010);
    t.ok(b.allReceived.equals(Buffer.concat([Buffer.from("header"), bytes, Buffer.from("tail")])));
    await maker.until("sent", () => a.sentTags.length === 1);
    t.equal(a.sentTags[0], 7);
    t.equal(a.stream.queuedBytes, 0);
    await shut(a, b);
    arena.free(block);
  });

  t.test("what is not consumed is presented again with what came after it", async (t) => {
    const [a, b] = await open();
    const lengths: number[] = [];
    b.onReceived = (bytes) => {
      lengths.push(bytes.length);
      return bytes.length >= 8 ? 8 : 0;
    };
    a.compose(Buffer.from("01234"));
    await maker.until("first part", () => lengths.length > 0);
    a.compose(Buffer.from("56789abcdef"));
    await maker.until("both messages", () => b.receivedBytes === 16);
    t.equal(b.allReceived.toString(), "0123456789abcdef");
    await shut(a, b);
  });

  t.test("a long stream survives a handler that consumes in odd pieces", async (t) => {
    const [a, b] = await open();
    const chance = prng(5);
    const total = 3 * BACKLOG_BYTES_MAX;
    const bytes = noise(total, 2);
    const block = arena.alloc(total);
    bytes.copy(arena.bytes, block);
    b.onReceived = (piece) =>
      piece.length > INBOX_BYTES / 2
        ? 1 + Math.floor(chance() * piece.length)
        : piece.length >> 1 || 1;
    let at = 0;
    let tag = 0;
    while (at < total) {
      const length = Math.min(total - at, 1 + Math.floor(chance() * 50_000));
      a.attach(block + at, length, tag++);
      at += length;
    }
    await maker.until("all arrived", () => b.receivedBytes === total);
    t.ok(b.allReceived.equals(bytes));
    await maker.until("all tags", () => a.sentTags.length === tag);
    t.ok(a.sentTags.every((value, i) => value === i));
    t.equal(a.drains, 1, "drained is told once");
    await shut(a, b);
    arena.free(block);
  });

  t.test("receiveInto takes what is here already and what comes", async (t) => {
    const [a, b] = await open();
    const target = arena.alloc(200_000);
    const bytes = noise(200_000, 3);
    const block = arena.alloc(200_000);
    bytes.copy(arena.bytes, block);
    b.onReceived = (piece) => {
      if (b.fills > 0) return piece.length;
      if (piece.length < 4) return 0;
      b.stream.receiveInto(target, 200_000);
      return 4;
    };
    a.compose(Buffer.from("head"));
    a.attach(block, 200_000, 1);
    a.compose(Buffer.from("next"));
    await maker.until("message behind the payload", () => b.receivedBytes === 8);
    t.equal(b.fills, 1);
    t.equal(b.allReceived.toString(), "headnext");
    t.ok(arena.bytes.subarray(target, target + 200_000).equals(bytes));
    t.ok(b.calls.indexOf("filled") < b.calls.lastIndexOf("received"));
    await shut(a, b);
    arena.free(target);
    arena.free(block);
  });

  t.test("receiveInto from filled, and small enough to lie in the inbox", async (t) => {
    const [a, b] = await open();
    const target = arena.alloc(4096);
    b.onReceived = (piece) => {
      if (b.fills === 0) b.stream.receiveInto(target, 3);
      return b.fills === 0 ? 1 : piece.length;
    };
    b.onFilled = () => {
      if (b.fills === 1) b.stream.receiveInto(target + 3, 3);
    };
    a.compose(Buffer.from("xabcdefz"));
    await maker.until("the rest", () => b.receivedBytes === 2);
    t.equal(b.allReceived.toString(), "xz");
    t.equal(b.fills, 2);
    t.equal(arena.bytes.toString("latin1", target, target + 6), "abcdef");
    await shut(a, b);
    arena.free(target);
  });

  t.test("receiveInto later, from outside, while paused", async (t) => {
    const [a, b] = await open();
    const target = arena.alloc(4096);
    b.onReceived = (piece) => {
      if (b.calls.filter((call) => call === "received").length > 1) return piece.length;
      b.stream.pause();
      return 2;
    };
    a.compose(Buffer.from("hh123456tt"));
    await maker.until("header", () => b.receivedBytes === 2);
    b.quietly(() => b.stream.receiveInto(target, 6));
    await maker.until("filled though paused", () => b.fills === 1);
    t.equal(arena.bytes.toString("latin1", target, target + 6), "123456");
    t.equal(b.receivedBytes, 2, "paused: nothing is presented");
    b.quietly(() => b.stream.resume());
    await maker.until("the rest", () => b.receivedBytes === 4);
    t.equal(b.allReceived.toString(), "hhtt");
    await shut(a, b);
    arena.free(target);
  });

  t.test("pause stops presenting, resume presents again", async (t) => {
    const [a, b] = await open();
    let calls = 0;
    b.onReceived = (piece) => {
      calls += 1;
      if (calls > 1) return piece.length;
      b.stream.pause();
      return 1;
    };
    a.compose(Buffer.from("abc"));
    await maker.until("first", () => calls === 1);
    a.compose(Buffer.from("def"));
    await maker.until("left", () => a.stream.queuedBytes === 0);
    t.equal(calls, 1);
    b.quietly(() => b.stream.resume());
    await maker.until("the rest", () => b.receivedBytes === 6);
    t.equal(b.allReceived.toString(), "abcdef");
    await shut(a, b);
  });

  t.test("one byte at a time", async (t) => {
    const [a, b] = await open();
    b.onReceived = (piece) => (piece.length >= 16 ? 16 : 0);
    const bytes = noise(64, 9);
    for (const byte of bytes) {
      a.compose(Buffer.from([byte]));
      await maker.until("left", () => a.stream.queuedBytes === 0);
    }
    await maker.until("all", () => b.receivedBytes === 64);
    t.ok(b.allReceived.equals(bytes));
    await shut(a, b);
  });

  t.test("end sends what is queued; the peer sees an orderly end", async (t) => {
    const [a, b] = await open();
    const block = arena.alloc(500_000);
    arena.bytes.fill(0x5a, block, block + 500_000);
    a.attach(block, 500_000, 3);
    a.quietly(() => a.stream.end());
    await maker.until("both closed", () => a.isClosed && b.isClosed);
    t.equal(b.receivedBytes, 500_000);
    t.equal(a.ends[0], null);
    t.equal(b.ends[0], null);
    t.equal(a.sentTags.length, 1);
    arena.free(block);
  });

  t.test("destroy gives every tag back, then closed, and no call after it", async (t) => {
    const [a, b] = await open();
    b.quietly(() => b.stream.pause());
    const block = arena.alloc(4 * BACKLOG_BYTES_MAX);
    for (let tag = 0; tag < 8; tag++) a.attach(block, 4 * BACKLOG_BYTES_MAX, tag);
    a.quietly(() => a.stream.destroy());
    await maker.until("closed", () => a.isClosed);
    t.equal(a.sentTags.length, 8);
    t.equal(a.ends[0], null);
    t.equal(a.calls.at(-1), "closed");
    t.equal(a.stream.queuedBytes, 0);
    await shut(a, b);
    arena.free(block);
  });

  t.test("destroy from within received, and with a receiveInto in progress", async (t) => {
    const [a, b] = await open();
    const target = arena.alloc(100_000);
    b.onReceived = (piece) => {
      b.stream.receiveInto(target, 100_000);
      return piece.length;
    };
    a.compose(Buffer.from("x"));
    await maker.until("header", () => b.receivedBytes === 1);
    a.compose(Buffer.from("part of the payload"));
    await maker.until("left", () => a.stream.queuedBytes === 0);
    await shut(a, b);
    t.equal(b.fills, 0);
    arena.free(target);
    const [c, d] = await open();
    d.onReceived = () => {
      d.stream.destroy();
      return 1;
    };
    c.compose(Buffer.from("xyz"));
    await maker.until("both closed", () => d.isClosed && c.isClosed);
    t.equal(d.calls.join(" "), "received closed");
  });

  t.test("a peer that goes away in the middle of a payload", async (t) => {
    const [a, b] = await open();
    const target = arena.alloc(100_000);
    b.onReceived = (piece) => {
      b.stream.receiveInto(target, 100_000);
      return piece.length;
    };
    a.compose(Buffer.from("x"));
    await maker.until("header", () => b.receivedBytes === 1);
    a.quietly(() => a.stream.destroy());
    await maker.until("closed", () => b.isClosed && a.isClosed);
    t.equal(b.fills, 0);
    t.equal(b.calls.at(-1), "closed");
    arena.free(target);
  });

  t.test("replies pass each other in both directions", async (t) => {
    const [a, b] = await open();
    b.onReceived = (piece) => {
      b.compose(Buffer.from(piece));
      return piece.length;
    };
    const parts: Buffer[] = [];
    for (let i = 0; i < 200; i++) {
      const part = noise(1 + ((i * 37) % 3000), i);
      parts.push(part);
      a.compose(part);
    }
    const all = Buffer.concat(parts);
    // An echo is at most as long as an inbox, which is longer than one composed message may be.
    b.onReceived = (piece) => {
      const part = piece.subarray(0, 16_000);
      b.compose(Buffer.from(part));
      return part.length;
    };
    await maker.until("everything came back", () => a.receivedBytes === all.length);
    t.ok(a.allReceived.equals(all));
    await shut(a, b);
  });
}
