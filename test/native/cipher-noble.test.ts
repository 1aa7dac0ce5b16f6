import { gcmsiv } from "@noble/ciphers/aes.js";
import t from "tap";
import { addon } from "../../src/host/native.js";
import { prng } from "../kit/world.js";
import { noise } from "../unit/host/stream-contract.js";

// Every implementation that this machine has against one by other people, in another language, on random input.

const CASES = 100_000;
const SEED = 8452;
const ROW = 40_000;
const TO = 80_000;

const { Key } = addon();
const NAMES = (["vaes", "aesni", "portable"] as const).filter((name) => {
  try {
    new Key(Buffer.alloc(32), name).wipe();
    return true;
  } catch {
    return false;
  }
});

t.test(`${CASES} random cases, seed ${SEED}`, async (t) => {
  const chance = prng(SEED);
  const below = (limit: number): number => Math.floor(chance() * limit);
  const pool = noise(1 << 20, SEED);
  const cut = (length: number): Buffer => {
    const at = below(pool.length - length);
    return pool.subarray(at, at + length);
  };
  const memory = Buffer.alloc(120_000);
  const wrong: string[] = [];
  let bytes = 0;
  for (let i = 0; i < CASES && wrong.length < 5; i++) {
    // Mostly short ones, where the edges are; now and then a whole block, or more than one.
    const length = 1 + (i % 500 === 0 ? below(33_000) : i % 20 === 0 ? below(1200) : below(150));
    const name = NAMES[i % NAMES.length]!;
    const [from, row] = [below(64), ROW + below(64)];
    const to = below(2) === 0 ? from : TO + below(64);
    const [secret, plain, nonce] = [cut(32), cut(length), cut(12)];
    const key = new Key(secret, name);
    const check = (claim: boolean, what: string): void => {
      if (!claim) wrong.push(`case ${i}, ${name}, ${length} bytes: ${what}`);
    };
    plain.copy(memory, from);
    nonce.copy(memory, row);
    key.seal(memory, from, to, length, 1, row, 28, -1, 0);
    const sealed = memory.subarray(to, to + length);
    const both = Buffer.concat([sealed, memory.subarray(row + 12, row + 28)]);
    const theirs = gcmsiv(secret, nonce).encrypt(plain);
    check(both.equals(theirs), "sealed");
    // A changed bit, in the data or in the tag.
    const bit = below(8 * (length + 16));
    const at = bit < 8 * length ? to + (bit >> 3) : row + 12 + (bit >> 3) - length;
    memory[at]! ^= 1 << (bit & 7);
    const damaged = Buffer.from(sealed);
    check(key.open(memory, to, to, length, 1, row, 28) === 0, `bit ${bit} changed`);
    check(sealed.equals(damaged), "left as it was");
    memory[at]! ^= 1 << (bit & 7);
    check(key.open(memory, to, from, length, 1, row, 28) === -1, "opened");
    check(memory.subarray(from, from + length).equals(plain), "the same again");
    // Under a nonce of ours.
    if (i % 10 === 0) {
      key.seal(memory, from, from, length, 1, row, 28, -1, 1);
      const mine = Buffer.concat([
        memory.subarray(from, from + length),
        memory.subarray(row + 12, row + 28),
      ]);
      const opened = gcmsiv(secret, memory.subarray(row, row + 12)).decrypt(mine);
      check(plain.equals(opened), "theirs opens ours");
    }
    key.wipe();
    bytes += length;
  }
  t.same(wrong, []);
  t.ok(bytes > 10_000_000, `${bytes} bytes`);
});
