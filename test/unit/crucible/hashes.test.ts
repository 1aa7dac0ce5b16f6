import t from "tap";
import xxhash from "xxhash-wasm";
import { decode } from "../../../src/crucible/messages.js";
import { wireLines, wireNames } from "../../kit/recordings.js";

// What the recorded hashes are hashes of (README of crucible): the block's data, or nonce, tag and ciphertext.

const { h64Raw } = await xxhash();

t.test("XXH64 with seed 0", async (t) => {
  const counting = Buffer.from(Array.from({ length: 512 }, (_, i) => i % 256));
  for (const [input, hash] of [
    [Buffer.alloc(0), 0xef46db3751d8e999n],
    [Buffer.from("abc"), 0x44bc2cf5ad770999n],
    [Buffer.alloc(512), 0x8bbf7f68e8c3b87cn],
    [Buffer.alloc(512, 0xab), 0xce0d5016d4e1e150n],
    [Buffer.alloc(512, 0xff), 0x81a7e47b830ada04n],
    [Buffer.alloc(4096), 0xac869b6f32d8bbdbn],
    [counting, 0x7b3bfcaac0348ac0n],
  ] as const)
    t.equal(h64Raw(input), hash, `${input.length} bytes`);
});

for (const name of wireNames())
  t.test(`${name}: hashes agree with data`, async (t) => {
    let blocks = 0;
    let wrong = 0;
    for (const line of wireLines(name)) {
      if (line.hex === undefined || line.cut !== undefined) continue;
      if (line.msg !== "Write" && line.msg !== "ReadResponse") continue;
      const message = decode(Buffer.from(line.hex, "hex"));
      if (message.kind === "Write") {
        const blockBytes = message.data.length / message.contexts.length;
        message.contexts.forEach(({ hash, encryption }, i) => {
          const block = message.data.subarray(i * blockBytes, (i + 1) * blockBytes);
          const input =
            encryption === null ? block : Buffer.concat([encryption.nonce, encryption.tag, block]);
          blocks += 1;
          if (h64Raw(input) !== hash) wrong += 1;
        });
      }
      if (message.kind === "ReadResponse" && message.result.ok) {
        const { contexts } = message.result;
        const blockBytes = message.data.length / contexts.length;
        contexts.forEach((context, i) => {
          const block = message.data.subarray(i * blockBytes, (i + 1) * blockBytes);
          if (context.kind === "Encrypted") return;
          blocks += 1;
          if (context.kind === "Unencrypted" && h64Raw(block) !== context.hash) wrong += 1;
          if (context.kind === "Empty" && block.some((byte) => byte !== 0)) wrong += 1;
        });
      }
    }
    t.equal(wrong, 0, `${blocks} blocks`);
  });
