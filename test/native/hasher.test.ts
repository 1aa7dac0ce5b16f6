import t from "tap";
import { openHost } from "../../src/host/open.js";
import { FakeArena } from "../kit/arena.js";
import { FakeHasher } from "../kit/hasher.js";
import { noise } from "../unit/host/stream-contract.js";

t.test("hashes agree with an independent implementation", async (t) => {
  const host = openHost({ arenaBytes: 1 << 20 });
  const { arena, hasher } = host;
  const fake = new FakeArena(1 << 20);
  const second = await FakeHasher.over(fake);
  for (const blockBytes of [1, 31, 32, 512, 4096, 32_768]) {
    const count = 5;
    const bytes = noise(count * blockBytes, blockBytes);
    bytes.copy(arena.bytes, 4096);
    bytes.copy(fake.bytes, 4096);
    hasher.blocks(4096, blockBytes, count, 500_000, 24);
    second.blocks(4096, blockBytes, count, 500_000, 24);
    for (let i = 0; i < count; i++) {
      const at = 500_000 + 24 * i;
      t.ok(arena.bytes.subarray(at, at + 8).equals(fake.bytes.subarray(at, at + 8)));
    }
    t.equal(hasher.verify(4096, blockBytes, count, 500_000, 24), -1);
    arena.bytes[4096 + 3 * blockBytes]! ^= 1;
    t.equal(hasher.verify(4096, blockBytes, count, 500_000, 24), 3);
    t.equal(hasher.verify(4096, blockBytes, 3, 500_000, 24), -1);
  }
  t.test("with a prefix before each block", async (t) => {
    const bytes = noise(4 * 4096, 77);
    bytes.copy(arena.bytes, 8192);
    for (let i = 0; i < 4; i++) {
      // Prefix and block side by side, hashed in one go: what the prefixed form must find.
      const prefix = noise(28, i);
      prefix.copy(arena.bytes, 100_000 + 48 * i);
      const joined = 200_000;
      prefix.copy(arena.bytes, joined);
      bytes.copy(arena.bytes, joined + 28, i * 4096, (i + 1) * 4096);
      hasher.blocks(joined, 4096 + 28, 1, 300_000 + 8 * i, 8);
    }
    t.equal(hasher.verifyPrefixed(8192, 4096, 4, 300_000, 8, 100_000, 48, 28), -1);
    arena.bytes[100_000 + 48 * 2 + 27]! ^= 0x80;
    t.equal(hasher.verifyPrefixed(8192, 4096, 4, 300_000, 8, 100_000, 48, 28), 2);
  });
  t.test("zero or not", async (t) => {
    arena.bytes.fill(0, 0, 10_000);
    for (const length of [0, 1, 15, 16, 17, 4096, 10_000]) t.ok(hasher.isZero(0, length));
    for (const at of [0, 15, 16, 17, 4095, 9999]) {
      arena.bytes[at] = 1;
      t.equal(hasher.isZero(0, at + 1), false);
      t.equal(hasher.isZero(0, at), true);
      arena.bytes[at] = 0;
    }
  });
  t.test("memory outside the arena is refused", async (t) => {
    const size = arena.bytes.length;
    const bad: (() => unknown)[] = [
      () => hasher.blocks(size - 4096, 4096, 2, 0, 8),
      () => hasher.blocks(-4096, 4096, 1, 0, 8),
      () => hasher.blocks(Number.NaN, 4096, 1, 0, 8),
      () => hasher.blocks(0, 4096, 1, size - 7, 8),
      () => hasher.blocks(0, 4096, 2, 0, size),
      () => hasher.verify(0, 4096, Number.POSITIVE_INFINITY, 0, 8),
      () => hasher.verifyPrefixed(0, 4096, 1, 0, 8, size - 27, 28, 28),
      () => hasher.isZero(size, 1),
    ];
    for (const call of bad) t.throws(call, { name: "RangeError" });
    t.equal(hasher.isZero(size, 0), true);
  });
  t.teardown(() => host.close());
});
