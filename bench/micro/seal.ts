// Encryption of blocks at rest where they lie, by every implementation that this machine has, against the same by @noble/ciphers and
// node's AES-256-GCM called for each block. Ours derives keys for every block, draws its nonce and computes the integrity hash besides. On one core.
// Run: node dist/bench/micro/seal.js

import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { gcmsiv } from "@noble/ciphers/aes.js";
import type { CipherName } from "../../src/host/native.js";
import { openHost } from "../../src/host/open.js";
import type { Cipher } from "../../src/ports/cipher.js";
import { suite } from "../kit.js";

const MIB = 1 << 20;
const STRIDE = 37;
const TAG_BYTES = 16;
const host = openHost({ arenaBytes: 8 * MIB, engine: "auto" });
const { arena } = host;
const key = randomBytes(32);
const at = arena.alloc(MIB);
const to = arena.alloc(MIB);
const rows = arena.alloc((MIB / 512) * STRIDE);
arena.bytes.fill("payload ", at, at + MIB);

const ciphers: [CipherName, Cipher][] = [];
for (const name of ["vaes", "aesni", "portable"] as const)
  try {
    ciphers.push([name, host.cipher(Buffer.from(key), name)]);
  } catch {
    // Not on this processor.
  }

const nonce = randomBytes(12);
function gcmSeal(from: number, length: number): Buffer {
  const cipher = createCipheriv("aes-256-gcm", key, nonce);
  const sealed = cipher.update(arena.bytes.subarray(from, from + length));
  cipher.final();
  sealed.copy(arena.bytes, to);
  return cipher.getAuthTag();
}
function gcmOpen(from: number, length: number, tag: Buffer): void {
  const decipher = createDecipheriv("aes-256-gcm", key, nonce, { authTagLength: TAG_BYTES });
  decipher.setAuthTag(tag);
  decipher.update(arena.bytes.subarray(from, from + length)).copy(arena.bytes, at);
  decipher.final();
}

for (const block of [512, 4096]) {
  const seals: Record<string, () => void> = {};
  const opens: Record<string, () => void> = {};
  for (const [name, cipher] of ciphers) {
    seals[name] = () => cipher.seal(at, to, block, 1, rows, STRIDE, rows + 28);
    opens[name] = () => void cipher.open(to, at, block, 1, rows, STRIDE);
  }
  let tag = gcmSeal(at, block);
  seals["node AES-256-GCM"] = () => {
    tag = gcmSeal(at, block);
  };
  seals["@noble/ciphers"] = () => {
    const sealed = gcmsiv(key, nonce).encrypt(arena.bytes.subarray(at, at + block));
    arena.bytes.set(sealed, to);
  };
  suite(`seal one block of ${block}`, seals);
  for (const [name, cipher] of ciphers) {
    cipher.seal(at, to, block, 1, rows, STRIDE, -1);
    suite(`open one block of ${block}`, { [name]: opens[name]! });
  }
  tag = gcmSeal(at, block);
  suite(`open one block of ${block}`, { "node AES-256-GCM": () => gcmOpen(to, block, tag) });
}

const blocks = MIB / 4096;
for (const [name, cipher] of ciphers) {
  const seal = (hashAt: number) => () => cipher.seal(at, to, 4096, blocks, rows, STRIDE, hashAt);
  suite(
    "a MiB in blocks of 4096, for each block",
    {
      [`${name}, seal and hash`]: seal(rows + 28),
      [`${name}, seal`]: seal(-1),
      [`${name}, open`]: () => void cipher.open(to, at, 4096, blocks, rows, STRIDE),
    },
    blocks,
  );
}
let tag = gcmSeal(at, 4096);
suite(
  "a MiB in blocks of 4096, for each block",
  {
    "node AES-256-GCM, seal": () => {
      for (let i = 0; i < blocks; i++) tag = gcmSeal(at + i * 4096, 4096);
    },
    "node AES-256-GCM, open": () => {
      for (let i = 0; i < blocks; i++) gcmOpen(to, 4096, tag);
    },
  },
  blocks,
);
await host.close();
