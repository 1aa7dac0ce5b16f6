import t, { type Test } from "tap";
import type { JobId } from "../../../src/base/ids.js";
import type { Memory } from "../../../src/crucible/layout.js";
import { decode, type Message, type MessageOf, TAG } from "../../../src/crucible/messages.js";
import * as put from "../../../src/crucible/put.js";
import { AckFrame, ReadResponseFrame } from "../../../src/crucible/replies.js";
import {
  FlushFrame,
  ReadRequestFrame,
  RequestFrame,
  WriteFrame,
} from "../../../src/crucible/requests.js";
import { SessionIds } from "../../../src/crucible/session-ids.js";
import { rawLines, rawNames, wireLines, wireNames } from "../../kit/recordings.js";

// The record classes and the writers against the message table, on every frame that was recorded.

const AT = 4096;
const bytes = Buffer.alloc(4 * 1024 * 1024);
const memory: Memory = {
  bytes,
  view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length),
};
const OUT = 2 * 1024 * 1024;

const writeFrame = new WriteFrame();
const readRequest = new ReadRequestFrame();
const flush = new FlushFrame();
const request = new RequestFrame();
const ack = new AckFrame();
const response = new ReadResponseFrame();

/** Fails at the first difference only, so that 20,000 frames do not print 200,000 lines. */
function check(t: Test, holds: boolean, claim: string): void {
  if (!holds) t.equal(holds, true, claim);
}

const idsOf = (m: { upstairsId: string; sessionId: string }): SessionIds =>
  new SessionIds(m.upstairsId as never, m.sessionId as never);

function checkHead(
  t: Test,
  record: RequestFrame,
  m: MessageOf<"Barrier" | "Write" | "Flush" | "ReadRequest" | "WriteUnwritten">,
): JobId[] {
  check(t, record.jobId === m.jobId && record.tag === TAG[m.kind], "job id and tag");
  const deps = Array.from({ length: record.depsCount }, (_, i) => record.dependency(memory, i));
  check(t, deps.join() === m.dependencies.join(), "dependencies");
  check(t, idsOf(m).matches(memory, AT), "ids agree");
  return deps as JobId[];
}

function checkWrite(t: Test, m: MessageOf<"Write" | "WriteUnwritten">, length: number): number {
  writeFrame.read(memory, AT, length);
  const deps = checkHead(t, writeFrame, m);
  const { contextsAt, contextsBytes, contextStride, dataAt, dataLength } = writeFrame;
  check(t, writeFrame.startBlock === m.start, "start");
  check(t, writeFrame.contextsCount === m.contexts.length, "contexts");
  const encrypted = m.contexts[0]?.encryption != null;
  check(t, contextStride === (encrypted ? 37 : 9), "stride");
  check(t, m.data.length === dataLength, "data length");
  check(t, dataAt + dataLength === AT + length, "data ends the frame");
  m.contexts.forEach((context, i) => {
    const hashAt = contextsAt + i * contextStride;
    check(t, memory.view.getBigUint64(hashAt, true) === context.hash, "hash");
  });
  const tailBytes = put.writeTailBytes(m.contexts.length, encrypted);
  check(t, tailBytes === contextsBytes + 8, "tail bytes");
  let out = OUT;
  out += put.putWriteHead(
    memory,
    out,
    TAG[m.kind],
    idsOf(m),
    m.jobId,
    Float64Array.from([7, ...deps, 9]),
    1,
    deps.length,
    m.start,
    m.contexts.length,
    tailBytes,
    dataLength,
  );
  check(t, out === OUT + put.writeHeadBytes(deps.length), "head bytes");
  const tail = encrypted ? put.putEncryptedTail : put.putPlainTail;
  tail(memory, out, m.contexts.length, dataLength);
  m.contexts.forEach((context, i) => {
    const at = out + i * contextStride;
    memory.view.setBigUint64(at, context.hash, true);
    if (context.encryption === null) return;
    bytes.set(context.encryption.nonce, at + 9);
    bytes.set(context.encryption.tag, at + 21);
  });
  out += tailBytes;
  bytes.copyWithin(out, dataAt, dataAt + dataLength);
  return out + dataLength - OUT;
}

function checkResponse(t: Test, m: MessageOf<"ReadResponse">, length: number): number {
  response.read(memory, AT, length);
  check(t, response.jobId === m.jobId, "job id");
  check(t, response.error === null && m.result.ok, "no errors were recorded");
  const contexts = m.result.ok ? m.result.contexts : [];
  const count = (kind: string): number => contexts.filter((c) => c.kind === kind).length;
  check(t, response.contextsCount === contexts.length, "contexts");
  check(t, response.emptyCount === count("Empty"), "empty");
  check(t, response.encryptedCount === count("Encrypted"), "encrypted");
  check(t, response.unencryptedCount === count("Unencrypted"), "unencrypted");
  const kinds = new Set(contexts.map((c) => c.kind));
  const stride = { Empty: 4, Encrypted: 32, Unencrypted: 12 }[contexts[0]!.kind];
  check(t, response.contextStride === (kinds.size === 1 ? stride : 0), "stride");
  check(t, response.dataLength === m.data.length, "data length");
  check(t, response.dataAt + response.dataLength === AT + length, "data ends the frame");
  const { contextsAt, contextsBytes, dataAt, dataLength } = response;
  bytes.copyWithin(OUT + put.READ_RESPONSE_HEAD_BYTES, contextsAt, contextsAt + contextsBytes);
  const out = put.putReadResponse(
    memory,
    OUT,
    idsOf(m),
    m.jobId,
    contexts.length,
    contextsBytes,
    dataLength,
  );
  bytes.copyWithin(OUT + out, dataAt, dataAt + dataLength);
  return out + dataLength;
}

/** Reads the frame at AT by its record, writes it again at OUT; returns the bytes written, 0: no hot message. */
function checkFrame(t: Test, m: Message, length: number): number {
  switch (m.kind) {
    case "Write":
    case "WriteUnwritten":
      return checkWrite(t, m, length);
    case "ReadResponse":
      return checkResponse(t, m, length);
    case "ReadRequest": {
      readRequest.read(memory, AT, length);
      const deps = checkHead(t, readRequest, m);
      const { startBlock, count } = readRequest;
      check(t, startBlock === m.start && count === m.count, "range");
      const ids = idsOf(m);
      return put.putReadRequest(memory, OUT, ids, m.jobId, deps, 0, deps.length, startBlock, count);
    }
    case "Flush": {
      flush.read(memory, AT, length);
      const deps = checkHead(t, flush, m);
      check(t, flush.flushNumber === m.flushNumber, "flush number");
      check(t, flush.generation === m.generation, "generation");
      check(t, flush.snapshot === m.snapshot, "snapshot");
      check(t, flush.extentLimit === (m.extentLimit ?? -1), "extent limit");
      return put.putFlush(
        memory,
        OUT,
        idsOf(m),
        m.jobId,
        Int32Array.from(deps),
        0,
        deps.length,
        flush.flushNumber,
        flush.generation,
        flush.extentLimit,
      );
    }
    case "Barrier": {
      request.read(memory, AT, length);
      const deps = checkHead(t, request, m);
      return put.putBarrier(memory, OUT, idsOf(m), m.jobId, deps, 0, deps.length);
    }
    case "WriteAck":
    case "WriteUnwrittenAck":
    case "FlushAck":
    case "BarrierAck":
    case "ExtentLiveAckId":
    case "ExtentLiveRepairAckId": {
      ack.read(memory, AT, length);
      check(t, ack.jobId === m.jobId && ack.tag === TAG[m.kind], "job id and tag");
      if (m.result.ok) {
        check(t, ack.error === null, "done");
        return put.putAck(memory, OUT, ack.tag as put.AckTag, idsOf(m), m.jobId);
      }
      t.same(ack.error, m.result.error, "the error");
      return 0;
    }
    case "ErrorReport":
      ack.read(memory, AT, length);
      t.same(ack.error, m.error, "the error");
      return 0;
    case "ExtentLiveClose":
    case "ExtentLiveFlushClose":
    case "ExtentLiveRepair":
    case "ExtentLiveReopen":
    case "ExtentLiveNoOp":
      request.read(memory, AT, length);
      check(t, request.jobId === m.jobId, "job id");
      check(t, request.depsCount === m.dependencies.length, "dependencies");
      return 0;
    default:
      return 0;
  }
}

const recordings = [
  ...wireNames().map((name) => ({ name: `wire/${name}`, lines: wireLines(name) })),
  ...rawNames().map((name) => ({ name: `raw/${name}`, lines: rawLines(name) })),
];
for (const { name, lines } of recordings)
  t.test(`${name}: records read, and writers write, what the table does`, async (t) => {
    let frames = 0;
    for (const line of lines) {
      if (line.hex === undefined || line.cut !== undefined || line.msg!.startsWith("?")) continue;
      if (name === "raw/bad-bool" && line.msg === "HereIAm") continue;
      const length = bytes.write(line.hex, AT, "hex");
      const written = checkFrame(t, decode(bytes, AT, length), length);
      if (written === 0) continue;
      frames += 1;
      const same = bytes.compare(bytes, AT, AT + length, OUT, OUT + written) === 0;
      check(t, same, `${line.msg} is written as recorded`);
    }
    t.pass(`${frames} frames written`);
  });
