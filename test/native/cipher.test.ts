import { randomBytes } from "node:crypto";
import { inspect } from "node:util";
import t, { type Test } from "tap";
import { SEAL_AT_ONCE_BYTES_MAX } from "../../src/base/limits.js";
import { addon, type CipherName } from "../../src/host/native.js";
import { openHost } from "../../src/host/open.js";
import type { Cipher } from "../../src/ports/cipher.js";
import { FakeArena } from "../kit/arena.js";
import { StageCipher } from "../kit/cipher.js";
import { World } from "../kit/world.js";
import { noise } from "../unit/host/stream-contract.js";

const MIB = 1024 * 1024;
const STRIDE = 37;
const KEY = Buffer.from(Array.from({ length: 32 }, (_, i) => i));
const BLOCK = 4096;

/** Those that this machine has. */
const NAMES = (["vaes", "aesni", "portable"] as const).filter((name) => {
  try {
    new (addon().Key)(KEY, name).wipe();
    return true;
  } catch {
    return false;
  }
});

/** Seals or opens later; resolves with the answer. */
type Later = (done: { cipherDone(tag: number, bad: number): void }, tag: number) => void;
let tags = 1000;
function later(ask: Later): Promise<number> {
  return new Promise((answer, fail) => {
    const tag = tags++;
    let returned = false;
    const cipherDone = (got: number, bad: number): void => {
      if (returned && got === tag) answer(bad);
      else fail(new Error("called back too early, or with another tag"));
    };
    ask({ cipherDone }, tag);
    returned = true;
  });
}

t.test("a block sealed by somebody else's program", async (t) => {
  // OpenSSL's values: key 00..1f, nonce 00..0b, 512 bytes AB.
  for (const name of NAMES) {
    const key = new (addon().Key)(KEY, name);
    const memory = Buffer.alloc(1024, 0xab);
    for (let i = 0; i < 12; i++) memory[512 + i] = i;
    key.seal(memory, 0, 0, 512, 1, 512, 28, 600, 0);
    t.equal(memory.toString("hex", 524, 540), "eea0be35c635f70460aecbc9c2750a7f", name);
    t.equal(memory.toString("hex", 0, 16), "35ae5fbd05292b94ed78424633b01d48");
    t.equal(memory.toString("hex", 496, 512), "3c59f07b5eca33b2b2dcf2b4203b2049");
    t.equal(memory.readBigUInt64LE(600), 0x72ae6fc5028dfe37n);
    t.equal(key.open(memory, 0, 0, 512, 1, 512, 28), -1);
    t.ok(memory.subarray(0, 512).equals(Buffer.alloc(512, 0xab)));
  }
});

t.test("nothing shows a key, and its bytes do not stay with whoever gave it", async (t) => {
  const host = openHost({ arenaBytes: MIB });
  t.teardown(() => host.close());
  const given = Buffer.from(randomBytes(32));
  const [hex, base64] = [given.toString("hex"), given.toString("base64")];
  const cipher = host.cipher(given);
  t.ok(given.equals(Buffer.alloc(32)), "the given bytes are wiped");
  const key = new (addon().Key)(Buffer.from(hex, "hex"), "auto");
  for (const thing of [cipher, key, host]) {
    const shown = `${inspect(thing, { showHidden: true, depth: 8, maxArrayLength: 0 })}${JSON.stringify(Object.entries(thing as object).map(([name]) => name))}`;
    t.equal(shown.includes(hex) || shown.includes(base64), false);
  }
  t.same(Reflect.ownKeys(key), []);
  key.wipe();
  t.equal(key.implementation, "");
  t.throws(() => key.open(Buffer.alloc(600), 0, 0, 512, 1, 512, 28), { name: "RangeError" });
});

t.test("keys that are none, and implementations that are not there, are refused", async (t) => {
  const { Key } = addon();
  const wrong: (() => unknown)[] = [
    () => new Key(Buffer.alloc(31), "auto"),
    () => new Key(Buffer.alloc(33), "auto"),
    () => new Key(new Float64Array(4) as never, "auto"),
    () => new Key("0123456789abcdef0123456789abcdef" as never, "auto"),
    () => new Key(KEY, "fast" as never),
  ];
  for (const make of wrong) t.throws(make, { name: "Error" });
  const host = openHost({ arenaBytes: MIB });
  t.teardown(() => host.close());
  t.throws(() => host.cipher(Buffer.alloc(16)), { name: "InvariantError" });
  t.throws(() => host.cipher(Buffer.alloc(32), "fast" as CipherName), {
    code: "TRIVET_E_NATIVE",
  });
});

function contract(t: Test, cipher: Cipher, bytes: Buffer): void {
  const rows = 2 * MIB;
  const read = (at: number, length: number): Buffer => Buffer.from(bytes.subarray(at, at + length));
  for (const [block, count] of [
    [512, 2048],
    [4096, 1],
    [4096, 256],
    [32_768, 3],
  ] as const) {
    t.test(`${count} blocks of ${block}`, async (t) => {
      const length = block * count;
      const plain = noise(length, length);
      plain.copy(bytes, 0);
      bytes.fill(0xee, rows, rows + count * STRIDE);
      cipher.seal(0, 0, block, count, rows + 9, STRIDE, rows);
      const first = read(0, length);
      t.equal(bytes[rows + 8], 0xee, "what lies between is left alone");
      t.equal(cipher.open(0, MIB, block, count, rows + 9, STRIDE), -1);
      t.ok(read(MIB, length).equals(plain));
      t.ok(read(0, length).equals(first), "from one place to another");

      plain.copy(bytes, 0);
      const sealed = await later((done, tag) =>
        cipher.sealLater(0, 0, block, count, rows + 9, STRIDE, rows, done, tag),
      );
      t.equal(sealed, -1);
      const second = read(0, length);
      t.equal(second.equals(first), false, "under nonces of its own");
      const nonces = new Set<string>();
      for (let i = 0; i < count; i++) nonces.add(read(rows + 9 + i * STRIDE, 12).toString("hex"));
      t.equal(nonces.size, count);

      const bad = Math.floor(count / 2);
      bytes[bad * block + 7]! ^= 2;
      const damaged = read(0, length);
      t.equal(cipher.open(0, 0, block, count, rows + 9, STRIDE), bad);
      t.ok(read(0, length).equals(damaged), "all or none");
      bytes.fill(1, MIB, MIB + length);
      t.equal(cipher.open(0, MIB, block, count, rows + 9, STRIDE), bad);
      t.ok(read(MIB, length).equals(Buffer.alloc(length)), "nothing is left behind");
      const opened = (): Promise<number> =>
        later((done, tag) => cipher.openLater(0, 0, block, count, rows + 9, STRIDE, done, tag));
      t.equal(await opened(), bad);
      t.ok(read(0, length).equals(damaged));
      bytes[bad * block + 7]! ^= 2;
      t.equal(await opened(), -1);
      t.ok(read(0, length).equals(plain));
    });
  }
  t.test("nothing at all", async (t) => {
    cipher.seal(0, 0, 512, 0, rows, STRIDE, -1);
    t.equal(cipher.open(0, 0, 512, 0, rows, STRIDE), -1);
  });
}

for (const engine of ["ring", "plain"] as const)
  for (const name of NAMES)
    t.test(`${name}, the engine "${engine}"`, async (t) => {
      const host = openHost({ arenaBytes: 4 * MIB, engine });
      t.teardown(() => host.close());
      contract(t, host.cipher(Buffer.from(KEY), name), host.arena.bytes);
    });

t.test("the cipher of simulated runs", async (t) => {
  const world = new World(5);
  const arena = new FakeArena(4 * MIB);
  const cipher = new StageCipher(arena, world, KEY);
  const running = setInterval(() => world.advance(1), 1);
  t.teardown(() => clearInterval(running));
  contract(t, cipher, arena.bytes);
});

t.test("memory outside the arena, or that overlaps, is refused, now and later", async (t) => {
  const host = openHost({ arenaBytes: MIB });
  t.teardown(() => host.close());
  const cipher = host.cipher(Buffer.from(KEY));
  const size = host.arena.bytes.length;
  const wrong: readonly Parameters<Cipher["seal"]>[] = [
    [size - BLOCK, size - BLOCK, BLOCK, 2, 0, STRIDE, -1],
    [-BLOCK, 0, BLOCK, 1, 0, STRIDE, -1],
    [Number.NaN, 0, BLOCK, 1, 0, STRIDE, -1],
    [0, size, BLOCK, 1, 0, STRIDE, -1],
    [0, 0, 0, 1, 0, STRIDE, -1],
    [0, 0, BLOCK, Number.POSITIVE_INFINITY, 0, STRIDE, -1],
    [0, 0, BLOCK, 1, size - 27, STRIDE, -1],
    [0, 0, BLOCK, 2, size - 64, STRIDE, -1],
    [0, 0, BLOCK, 1, 8192, -STRIDE, -1],
    [0, BLOCK, BLOCK, 2, 65_536, STRIDE, -1],
    [BLOCK, 1, BLOCK, 1, 65_536, STRIDE, -1],
  ];
  const nobody = {
    cipherDone: () => {
      t.ok(false, "nothing was asked for");
    },
  };
  for (const [from, to, block, count, rowAt, stride, hashAt] of wrong) {
    const error = { name: "RangeError" };
    t.throws(() => cipher.seal(from, to, block, count, rowAt, stride, hashAt), error);
    t.throws(() => cipher.open(from, to, block, count, rowAt, stride), error);
    t.throws(
      () => cipher.sealLater(from, to, block, count, rowAt, stride, hashAt, nobody, 1),
      error,
    );
    t.throws(() => cipher.openLater(from, to, block, count, rowAt, stride, nobody, 1), error);
  }
  t.throws(() => cipher.seal(0, 0, BLOCK, 1, 65_536, STRIDE, size - 7), { name: "RangeError" });
  cipher.close();
  t.throws(() => cipher.seal(0, 0, BLOCK, 1, 65_536, STRIDE, -1), { name: "RangeError" });
  t.throws(() => cipher.sealLater(0, 0, BLOCK, 1, 65_536, STRIDE, -1, nobody, 1), {
    name: "RangeError",
  });
});

t.test("many at a time, beside the loop, and closed while they are under way", async (t) => {
  const count = 200;
  const host = openHost({ arenaBytes: (count + 4) * 64 * 1024 });
  const cipher = host.cipher(Buffer.from(KEY));
  const { arena } = host;
  const rows = arena.alloc(count * 16 * STRIDE);
  const places = Array.from({ length: count }, () => arena.alloc(16 * BLOCK));
  const plain = places.map((at, i) => {
    const bytes = noise(16 * BLOCK, i);
    bytes.copy(arena.bytes, at);
    return bytes;
  });
  const rowOf = (i: number): number => rows + i * 16 * STRIDE;
  const all = await Promise.all(
    places.map((at, i) =>
      later((done, tag) =>
        cipher.sealLater(at, at, BLOCK, 16, rowOf(i) + 9, STRIDE, rowOf(i), done, tag),
      ),
    ),
  );
  t.ok(all.every((bad) => bad === -1));
  const good = places.every(
    (at, i) =>
      host.hasher.verifyPrefixed(at, BLOCK, 16, rowOf(i), STRIDE, rowOf(i) + 9, STRIDE, 28) === -1,
  );
  t.ok(good, "integrity hashes");
  // Closing waits for what is under way, and whoever asked is told.
  let told = 0;
  const cipherDone = (i: number, bad: number): void => {
    const at = places[i]!;
    if (bad === -1 && plain[i]!.equals(arena.bytes.subarray(at, at + 16 * BLOCK))) told += 1;
  };
  places.forEach((at, i) => {
    cipher.openLater(at, at, BLOCK, 16, rowOf(i) + 9, STRIDE, { cipherDone }, i);
  });
  await host.close();
  t.equal(told, count);
  t.throws(() => cipher.seal(0, 0, BLOCK, 1, 65_536, STRIDE, -1), { name: "RangeError" });
});

t.test("large requests leave the loop alone", async (t) => {
  const host = openHost({ arenaBytes: 16 * MIB });
  t.teardown(() => host.close());
  const cipher = host.cipher(Buffer.from(KEY), "portable");
  t.ok(cipher.atOnceBytesMax < SEAL_AT_ONCE_BYTES_MAX, "less of it is done at once");
  const at = host.arena.alloc(MIB);
  const rows = host.arena.alloc(256 * STRIDE);
  // About 16 ms of work; what it costs here is the call.
  let longest = 0;
  for (let i = 0; i < 5; i++) {
    const before = process.cpuUsage();
    const started = performance.now();
    const answer = later((done, tag) =>
      cipher.sealLater(at, at, BLOCK, 256, rows, STRIDE, -1, done, tag),
    );
    const took = performance.now() - started;
    t.equal(await answer, -1);
    const { user } = process.cpuUsage(before);
    longest = i === 0 ? took : Math.min(longest, took);
    t.ok(user > 2_000, "work was done by somebody");
  }
  t.ok(longest < 1, `the call took ${longest} ms`);
});
