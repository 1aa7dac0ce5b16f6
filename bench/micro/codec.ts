// Message table against records and writers, on the frames that make up nearly all traffic.
// Run: node dist/bench/micro/codec.js

import type { Uuid } from "../../src/base/ids.js";
import type { Memory } from "../../src/crucible/layout.js";
import { decode, encodeInto, type Message, TAG } from "../../src/crucible/messages.js";
import * as put from "../../src/crucible/put.js";
import { AckFrame, ReadResponseFrame } from "../../src/crucible/replies.js";
import { WriteFrame } from "../../src/crucible/requests.js";
import { SessionIds } from "../../src/crucible/session-ids.js";
import { suite } from "../kit.js";

const bytes = Buffer.alloc(8 * 1024 * 1024);
const memory: Memory = {
  bytes,
  view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length),
};
const ids = new SessionIds(
  "11111111-2222-3333-4444-555555555555" as Uuid,
  "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee" as Uuid,
);
const named = { upstairsId: ids.upstairsId, sessionId: ids.sessionId, jobId: 1000 };
const deps = Array.from({ length: 8 }, (_, i) => 900 + i);
const OUT = 4 * 1024 * 1024;

function write(blocks: number): Message {
  const contexts = Array.from({ length: blocks }, (_, i) => ({
    hash: BigInt(i),
    encryption: null,
  }));
  const data = Buffer.alloc(4096 * blocks);
  return { kind: "Write", ...named, dependencies: deps, start: 0, contexts, data } as never;
}
function response(blocks: number): Message {
  const contexts = Array.from({ length: blocks }, (_, i) => ({
    kind: "Unencrypted",
    hash: BigInt(i),
  }));
  const data = Buffer.alloc(4096 * blocks);
  return { kind: "ReadResponse", ...named, result: { ok: true, contexts }, data } as never;
}
const ack = { kind: "WriteAck", ...named, result: { ok: true } } as Message;

const writeFrame = new WriteFrame();
const responseFrame = new ReadResponseFrame();
const ackFrame = new AckFrame();

for (const blocks of [1, 256]) {
  const message = write(blocks);
  const length = encodeInto(message, bytes, 0);
  const tail = put.writeTailBytes(blocks, false);
  suite(`write of ${blocks} × 4096`, {
    "table decode": () => void decode(bytes, 0, length),
    "record read": () => writeFrame.read(memory, 0, length),
    "table encode, data copied": () => void encodeInto(message, bytes, OUT),
    "writer, data by reference": () => {
      const at =
        OUT +
        put.putWriteHead(
          memory,
          OUT,
          TAG.Write,
          ids,
          1000,
          deps,
          0,
          deps.length,
          0,
          blocks,
          tail,
          4096 * blocks,
        );
      put.putPlainTail(memory, at, blocks, 4096 * blocks);
    },
  });
}
for (const blocks of [1, 256]) {
  const length = encodeInto(response(blocks), bytes, 0);
  suite(`read response of ${blocks} × 4096`, {
    "table decode": () => void decode(bytes, 0, length),
    "record read": () => responseFrame.read(memory, 0, length),
  });
}
const length = encodeInto(ack, bytes, 0);
suite("acknowledgement", {
  "table decode": () => void decode(bytes, 0, length),
  "record read": () => ackFrame.read(memory, 0, length),
  "table encode": () => void encodeInto(ack, bytes, OUT),
  writer: () => void put.putAck(memory, OUT, TAG.WriteAck, ids, 1000),
});
