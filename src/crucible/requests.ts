import { bad, Source } from "../wire/cursor.js";
import { string, u32 } from "../wire/primitives.js";
import { option } from "../wire/shapes.js";
import * as layout from "./layout.js";
import { countAt, type Memory } from "./layout.js";
import { FRAME_BYTES_MIN_BY_TAG, TAG } from "./messages.js";

// Requests of the data path, read where they lie. One record of each class is kept and filled again for every frame;
// addresses in it are arena addresses. `read` checks every length against the frame's end, so that whoever uses
// the record afterwards need not, and throws Fault TRIVET_E_FRAME. It does not look at ids (SessionIds.matches) nor
// at whether blocks are inside the region (region-math).

const optionalText = option(string);
const optionalExtent = option(u32);

/** The head that all jobs share, and all there is to Barrier and ExtentLiveNoOp. */
export class RequestFrame {
  tag = 0;
  /** Where the frame begins. */
  at = 0;
  jobId = 0;
  depsAt = 0;
  depsCount = 0;

  /** A frame of any request that names dependencies (tags 17–21, 30, 32, 34, 36, 38). */
  read(memory: Memory, at: number, length: number): void {
    this.readHead(memory, at, length, layout.DEPS_AT);
  }

  dependency(memory: Memory, index: number): number {
    return countAt(memory.view, this.depsAt + 8 * index);
  }

  /** Returns where the fields of the particular request begin. */
  protected readHead(memory: Memory, at: number, length: number, min: number): number {
    const { view } = memory;
    layout.checkJobFrame(view, at, length, min);
    this.at = at;
    this.tag = view.getUint32(at + 4, true);
    this.jobId = countAt(view, at + layout.JOB_AT);
    const count = countAt(view, at + layout.DEPS_COUNT_AT);
    const depsAt = at + layout.DEPS_AT;
    if (count > (length - min) / 8)
      bad(`${count} dependencies cannot fit into a frame of ${length} bytes`);
    for (let i = 0; i < count; i++) countAt(view, depsAt + 8 * i);
    this.depsAt = depsAt;
    this.depsCount = count;
    return depsAt + 8 * count;
  }
}

/** Write and WriteUnwritten. */
export class WriteFrame extends RequestFrame {
  startBlock = 0;
  contextsAt = 0;
  /** One context per block. */
  contextsCount = 0;
  contextsBytes = 0;
  /** Distance from one context to the next: 9 or 37; 0 when there are none, or kinds are mixed. */
  contextStride = 0;
  dataAt = 0;
  dataLength = 0;

  override read(memory: Memory, at: number, length: number): void {
    const { bytes, view } = memory;
    const end = at + length;
    let next = this.readHead(memory, at, length, FRAME_BYTES_MIN_BY_TAG[TAG.Write]!);
    this.startBlock = countAt(view, next);
    const count = countAt(view, next + 8);
    next += 16;
    // Room for the data length is kept free throughout.
    const last = end - 8;
    if (count > (last - next) / layout.PLAIN_CONTEXT_BYTES)
      bad(`${count} contexts cannot fit into a frame of ${length} bytes`);
    this.contextsAt = next;
    this.contextsCount = count;
    let encrypted = 0;
    for (let i = 0; i < count; i++) {
      if (last - next < layout.PLAIN_CONTEXT_BYTES) bad("contexts run over the frame's end");
      const option = bytes[next + layout.CONTEXT_OPTION_AT]!;
      if (option > 1) bad(`an option's tag is ${option}`);
      encrypted += option;
      next += option === 0 ? layout.PLAIN_CONTEXT_BYTES : layout.ENCRYPTED_CONTEXT_BYTES;
    }
    if (next > last) bad("contexts run over the frame's end");
    this.contextsBytes = next - this.contextsAt;
    this.contextStride = 0;
    if (count > 0 && encrypted === 0) this.contextStride = layout.PLAIN_CONTEXT_BYTES;
    if (count > 0 && encrypted === count) this.contextStride = layout.ENCRYPTED_CONTEXT_BYTES;
    const dataLength = countAt(view, next);
    if (dataLength > last - next)
      bad(`${dataLength} bytes of data, ${last - next} are left in the frame`);
    this.dataLength = dataLength;
    // The reference takes data from the frame's end, whatever lies before it (wire reference 1.3).
    this.dataAt = end - dataLength;
  }
}

export class ReadRequestFrame extends RequestFrame {
  startBlock = 0;
  /** Blocks. */
  count = 0;

  override read(memory: Memory, at: number, length: number): void {
    const next = this.readHead(memory, at, length, FRAME_BYTES_MIN_BY_TAG[TAG.ReadRequest]!);
    this.startBlock = countAt(memory.view, next);
    this.count = countAt(memory.view, next + 8);
  }
}

export class FlushFrame extends RequestFrame {
  flushNumber = 0;
  generation = 0n;
  /** Name of the snapshot asked for; null: none. */
  snapshot: string | null = null;
  /** Flush extents up to this one only; −1: all. */
  extentLimit = -1;

  override read(memory: Memory, at: number, length: number): void {
    const { bytes, view } = memory;
    const next = this.readHead(memory, at, length, FRAME_BYTES_MIN_BY_TAG[TAG.Flush]!);
    this.flushNumber = countAt(view, next);
    this.generation = view.getBigUint64(next + 8, true);
    const optionsAt = next + 16;
    this.snapshot = null;
    this.extentLimit = -1;
    // Neither option set is the rule: the upstairs never flushes with a limit but during live repair.
    if (bytes[optionsAt] === 0 && bytes[optionsAt + 1] === 0) return;
    const from = new Source(bytes, optionsAt, at + length);
    this.snapshot = optionalText.read(from);
    this.extentLimit = optionalExtent.read(from) ?? -1;
  }
}
