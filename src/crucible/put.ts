import { invariant } from "../base/invariant.js";
import { FRAME_BYTES_MAX } from "../base/limits.js";
import * as layout from "./layout.js";
import { type Memory, putCount } from "./layout.js";
import { TAG } from "./messages.js";
import type { SessionIds } from "./session-ids.js";

// Frames of the data path, written straight into the arena: no object, no BigInt but the generation of a flush.
// Every function returns how many bytes it wrote. A bulk frame goes out in pieces, so that one payload serves three
// replicas whose dependencies differ:
//
//   Write         putWriteHead ─ contexts and data length (shared, prepared once) ─ data (shared)
//   ReadResponse  putReadResponse: head ─ contexts, already in place ─ data length ─ then the data

/** Ids of jobs, in any of the forms that job tables keep. */
export type JobIds = Float64Array | Int32Array | readonly number[];

/** Bytes of a write from its beginning to its first context. */
export const writeHeadBytes = (depsCount: number): number => layout.DEPS_AT + 8 * depsCount + 16;

/** Bytes from the first context to the data: contexts, then the length of the data. */
export const writeTailBytes = (blocks: number, encrypted: boolean): number =>
  blocks * (encrypted ? layout.ENCRYPTED_CONTEXT_BYTES : layout.PLAIN_CONTEXT_BYTES) + 8;

export const readRequestBytes = (depsCount: number): number => layout.DEPS_AT + 8 * depsCount + 16;

/** Without a snapshot. */
export const flushBytes = (depsCount: number, extentLimit: number): number =>
  layout.DEPS_AT + 8 * depsCount + 18 + (extentLimit < 0 ? 0 : 4);

export const barrierBytes = (depsCount: number): number => layout.DEPS_AT + 8 * depsCount;

export const ACK_BYTES = layout.RESULT_END;

/** Bytes of a read response from its beginning to its first context. */
export const READ_RESPONSE_HEAD_BYTES = layout.RESULT_END + 8;

/**
 * Everything before the contexts. `tailBytes` (writeTailBytes) and `dataLength` follow in pieces of their own. The dependencies are
 * `deps[from]` to `deps[from + count - 1]`, here and below.
 */
export function putWriteHead(
  memory: Memory,
  at: number,
  tag: typeof TAG.Write | typeof TAG.WriteUnwritten,
  ids: SessionIds,
  jobId: number,
  deps: JobIds,
  from: number,
  count: number,
  startBlock: number,
  blocks: number,
  tailBytes: number,
  dataLength: number,
): number {
  const length = writeHeadBytes(count);
  const next = putRequest(
    memory,
    at,
    length + tailBytes + dataLength,
    tag,
    ids,
    jobId,
    deps,
    from,
    count,
  );
  putCount(memory.view, next, startBlock);
  putCount(memory.view, next + 8, blocks);
  return length;
}

/**
 * Prepares contexts without encryption and the data length after them: everything but the hashes, which belong at `at + 9·i`
 * (Hasher.blocks with a stride of 9).
 */
export function putPlainTail(
  memory: Memory,
  at: number,
  blocks: number,
  dataLength: number,
): number {
  const { bytes } = memory;
  let next = at + layout.CONTEXT_OPTION_AT;
  for (let i = 0; i < blocks; i++, next += layout.PLAIN_CONTEXT_BYTES) bytes[next] = 0;
  putCount(memory.view, at + blocks * layout.PLAIN_CONTEXT_BYTES, dataLength);
  return writeTailBytes(blocks, false);
}

/** The same with encryption: hashes belong at `at + 37·i`, nonces at `at + 37·i + 9`, tags at `at + 37·i + 21`. */
export function putEncryptedTail(
  memory: Memory,
  at: number,
  blocks: number,
  dataLength: number,
): number {
  const { bytes } = memory;
  let next = at + layout.CONTEXT_OPTION_AT;
  for (let i = 0; i < blocks; i++, next += layout.ENCRYPTED_CONTEXT_BYTES) bytes[next] = 1;
  putCount(memory.view, at + blocks * layout.ENCRYPTED_CONTEXT_BYTES, dataLength);
  return writeTailBytes(blocks, true);
}

export function putReadRequest(
  memory: Memory,
  at: number,
  ids: SessionIds,
  jobId: number,
  deps: JobIds,
  from: number,
  count: number,
  startBlock: number,
  blocks: number,
): number {
  const length = readRequestBytes(count);
  const next = putRequest(memory, at, length, TAG.ReadRequest, ids, jobId, deps, from, count);
  putCount(memory.view, next, startBlock);
  putCount(memory.view, next + 8, blocks);
  return length;
}

/** `extentLimit` −1: none. A flush with a snapshot is encoded by the message table. */
export function putFlush(
  memory: Memory,
  at: number,
  ids: SessionIds,
  jobId: number,
  deps: JobIds,
  from: number,
  count: number,
  flushNumber: number,
  generation: bigint,
  extentLimit: number,
): number {
  const { bytes, view } = memory;
  const length = flushBytes(count, extentLimit);
  const next = putRequest(memory, at, length, TAG.Flush, ids, jobId, deps, from, count);
  putCount(view, next, flushNumber);
  view.setBigUint64(next + 8, generation, true);
  bytes[next + 16] = 0;
  bytes[next + 17] = extentLimit < 0 ? 0 : 1;
  if (extentLimit >= 0) view.setUint32(next + 18, extentLimit, true);
  return length;
}

export function putBarrier(
  memory: Memory,
  at: number,
  ids: SessionIds,
  jobId: number,
  deps: JobIds,
  from: number,
  count: number,
): number {
  const length = barrierBytes(count);
  putRequest(memory, at, length, TAG.Barrier, ids, jobId, deps, from, count);
  return length;
}

/** The tags of replies that say nothing but that a job was done; errors are encoded by the message table. */
export type AckTag =
  | typeof TAG.WriteAck
  | typeof TAG.WriteUnwrittenAck
  | typeof TAG.FlushAck
  | typeof TAG.BarrierAck
  | typeof TAG.ExtentLiveAckId
  | typeof TAG.ExtentLiveRepairAckId;

export function putAck(
  memory: Memory,
  at: number,
  tag: AckTag,
  ids: SessionIds,
  jobId: number,
): number {
  putJob(memory, at, ACK_BYTES, tag, ids, jobId);
  memory.view.setUint32(at + layout.RESULT_AT, 0, true);
  return ACK_BYTES;
}

/**
 * Head and data length around contexts that already lie at `at + READ_RESPONSE_HEAD_BYTES` in their wire form.
 * Returns the bytes before the data, which follows as a piece of its own.
 */
export function putReadResponse(
  memory: Memory,
  at: number,
  ids: SessionIds,
  jobId: number,
  contextsCount: number,
  contextsBytes: number,
  dataLength: number,
): number {
  const { view } = memory;
  const length = READ_RESPONSE_HEAD_BYTES + contextsBytes + 8;
  putJob(memory, at, length + dataLength, TAG.ReadResponse, ids, jobId);
  view.setUint32(at + layout.RESULT_AT, 0, true);
  putCount(view, at + layout.RESULT_END, contextsCount);
  putCount(view, at + READ_RESPONSE_HEAD_BYTES + contextsBytes, dataLength);
  return length;
}

function putJob(
  memory: Memory,
  at: number,
  frameBytes: number,
  tag: number,
  ids: SessionIds,
  jobId: number,
): void {
  invariant(frameBytes <= FRAME_BYTES_MAX, "a frame is not larger than the protocol allows");
  const { view } = memory;
  view.setUint32(at, frameBytes, true);
  view.setUint32(at + 4, tag, true);
  ids.put(memory, at);
  putCount(view, at + layout.JOB_AT, jobId);
}

/** Returns where the fields of the particular request begin. */
function putRequest(
  memory: Memory,
  at: number,
  frameBytes: number,
  tag: number,
  ids: SessionIds,
  jobId: number,
  deps: JobIds,
  from: number,
  count: number,
): number {
  const { view } = memory;
  putJob(memory, at, frameBytes, tag, ids, jobId);
  putCount(view, at + layout.DEPS_COUNT_AT, count);
  let next = at + layout.DEPS_AT;
  for (let i = from; i < from + count; i++, next += 8) putCount(view, next, deps[i]!);
  return next;
}
