import { bad, Source } from "../wire/cursor.js";
import { type CrucibleError, crucibleError } from "./error.js";
import * as layout from "./layout.js";
import { countAt, type Memory } from "./layout.js";
import { FRAME_BYTES_MIN_BY_TAG, TAG } from "./messages.js";

// Replies of the data path, read where they lie; the same rules as in `requests`.

/**
 * Every reply that says nothing but whether a job was done: WriteAck, WriteUnwrittenAck, FlushAck, BarrierAck, ExtentLiveAckId,
 * ExtentLiveRepairAckId; ExtentLiveCloseAck, which adds what the extent holds; and ErrorReport, which has the error without the result's tag and says that the job was not done yet.
 */
export class AckFrame {
  tag = 0;
  at = 0;
  jobId = 0;
  /** Null: done. */
  error: CrucibleError | null = null;
  /** Of an ExtentLiveCloseAck without an error. */
  generation = 0n;
  flushNumber = 0;
  isDirty = false;

  read(memory: Memory, at: number, length: number): void {
    const { view } = memory;
    layout.checkJobFrame(view, at, length, layout.RESULT_END);
    this.at = at;
    this.tag = view.getUint32(at + 4, true);
    this.jobId = countAt(view, at + layout.JOB_AT);
    this.error = null;
    const resultAt = at + layout.RESULT_AT;
    if (this.tag === TAG.ErrorReport) {
      this.error = readError(memory, resultAt, at + length);
      return;
    }
    const result = view.getUint32(resultAt, true);
    if (result > 1) bad(`a result's tag is ${result}`);
    if (result === 1) this.error = readError(memory, at + layout.RESULT_END, at + length);
    else if (this.tag === TAG.ExtentLiveCloseAck) this.#readClosed(view, at, length);
  }

  #readClosed(view: DataView, at: number, length: number): void {
    if (length < layout.CLOSE_ACK_BYTES) bad(`an ExtentLiveCloseAck of ${length} bytes`);
    this.generation = view.getBigUint64(at + layout.RESULT_END, true);
    this.flushNumber = countAt(view, at + layout.RESULT_END + 8);
    const dirty = view.getUint8(at + layout.RESULT_END + 16);
    if (dirty > 1) bad(`a bool is ${dirty}`);
    this.isDirty = dirty === 1;
  }
}

export class ReadResponseFrame {
  at = 0;
  jobId = 0;
  /** Null: contexts and data are there. Otherwise their counts are 0. */
  error: CrucibleError | null = null;
  contextsAt = 0;
  /** One context per block. */
  contextsCount = 0;
  contextsBytes = 0;
  /** How many of each kind. */
  emptyCount = 0;
  encryptedCount = 0;
  unencryptedCount = 0;
  /** Distance from one context to the next: 4 (never written), 12 or 32; 0 when there are none, or kinds are mixed. */
  contextStride = 0;
  dataAt = 0;
  dataLength = 0;

  read(memory: Memory, at: number, length: number): void {
    const { view } = memory;
    const end = at + length;
    layout.checkJobFrame(view, at, length, FRAME_BYTES_MIN_BY_TAG[TAG.ReadResponse]!);
    this.at = at;
    this.jobId = countAt(view, at + layout.JOB_AT);
    const result = view.getUint32(at + layout.RESULT_AT, true);
    if (result > 1) bad(`a result's tag is ${result}`);
    const next =
      result === 0
        ? this.#readContexts(view, at + layout.RESULT_END, end)
        : this.#readError(memory, at + layout.RESULT_END, end);
    if (end - next < 8) bad("the frame ends before the length of its data");
    const dataLength = countAt(view, next);
    if (dataLength > end - next - 8)
      bad(`${dataLength} bytes of data, ${end - next - 8} are left in the frame`);
    this.dataLength = dataLength;
    this.dataAt = end - dataLength;
  }

  #readContexts(view: DataView, at: number, end: number): number {
    this.error = null;
    // The shortest frame of this tag reaches beyond the count.
    const count = countAt(view, at);
    // Room for the data length is kept free throughout; `read` has the last word.
    const last = end - 8;
    let next = at + 8;
    if (count > (last - next) / layout.READ_CONTEXT_BYTES[layout.READ_EMPTY]!)
      bad(`${count} contexts cannot fit into ${last - next} bytes`);
    let encrypted = 0;
    let unencrypted = 0;
    this.contextsAt = next;
    for (let i = 0; i < count; i++) {
      if (last - next < 4) bad("contexts run over the frame's end");
      const kind = view.getUint32(next, true);
      if (kind === layout.READ_UNENCRYPTED) unencrypted += 1;
      else if (kind === layout.READ_ENCRYPTED) encrypted += 1;
      else if (kind !== layout.READ_EMPTY) bad(`a read context of kind ${kind}`);
      next += layout.READ_CONTEXT_BYTES[kind]!;
    }
    const empty = count - encrypted - unencrypted;
    this.contextsCount = count;
    this.contextsBytes = next - this.contextsAt;
    this.emptyCount = empty;
    this.encryptedCount = encrypted;
    this.unencryptedCount = unencrypted;
    const uniform = empty === count || encrypted === count || unencrypted === count;
    this.contextStride = uniform && count > 0 ? this.contextsBytes / count : 0;
    return next;
  }

  #readError(memory: Memory, at: number, end: number): number {
    const from = new Source(memory.bytes, at, end);
    this.error = crucibleError.read(from);
    this.contextsAt = at;
    this.contextsCount = 0;
    this.contextsBytes = 0;
    this.emptyCount = 0;
    this.encryptedCount = 0;
    this.unencryptedCount = 0;
    this.contextStride = 0;
    return from.at;
  }
}

function readError(memory: Memory, at: number, end: number): CrucibleError {
  return crucibleError.read(new Source(memory.bytes, at, end));
}
