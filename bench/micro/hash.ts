// XXH64 where the data lies against a WebAssembly build of the same hash, which gets views of the arena.
// Run: node dist/bench/micro/hash.js

import xxhash from "xxhash-wasm";
import { openHost } from "../../src/host/open.js";
import { suite } from "../kit.js";

const MIB = 1 << 20;
const host = openHost({ arenaBytes: 4 * MIB, engine: "auto" });
const { arena, hasher } = host;
const wasm = await xxhash();
const at = arena.alloc(MIB);
const out = arena.alloc(64 * 1024);
const ZEROS = Buffer.alloc(MIB);
arena.bytes.fill("payload ", at, at + MIB);

for (const blockBytes of [512, 4096]) {
  const blocks = MIB / blockBytes;
  suite(
    `blocks of ${blockBytes}, a MiB at a time`,
    {
      native: () => hasher.blocks(at, blockBytes, blocks, out, 8),
      "xxhash-wasm": () => {
        for (let i = 0; i < blocks; i++) {
          const from = at + i * blockBytes;
          arena.view.setBigUint64(
            out + 8 * i,
            wasm.h64Raw(arena.bytes.subarray(from, from + blockBytes)),
            true,
          );
        }
      },
    },
    blocks,
  );
}
suite("one block of 4096", {
  native: () => hasher.blocks(at, 4096, 1, out, 8),
  "xxhash-wasm": () =>
    arena.view.setBigUint64(out, wasm.h64Raw(arena.bytes.subarray(at, at + 4096)), true),
});
arena.bytes.fill(0, at, at + MIB);
suite("a MiB of zeros is recognised", {
  native: () => void hasher.isZero(at, MIB),
  "Buffer.compare": () => void arena.bytes.compare(ZEROS, 0, MIB, at, at + MIB),
});
await host.close();
