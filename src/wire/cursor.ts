import { Fault } from "../base/fault.js";
import { invariant } from "../base/invariant.js";

// Positions in somebody else's memory. Neither cursor owns, copies or keeps the bytes, so a frame is decoded
// where it lies in the arena and encoded straight into it.

/** What every decoder throws: the bytes are not what the protocol allows. */
export function bad(detail: string): never {
  throw new Fault("TRIVET_E_FRAME", detail);
}

/** Reads forward through [at, end) of a buffer. */
export class Source {
  readonly bytes: Buffer;
  readonly end: number;
  at: number;

  constructor(bytes: Buffer, at = 0, end = bytes.length) {
    invariant(at >= 0 && at <= end && end <= bytes.length, "a source lies inside its buffer");
    this.bytes = bytes;
    this.at = at;
    this.end = end;
  }

  get left(): number {
    return this.end - this.at;
  }

  /** Moves past `count` bytes and says where they begin: the only place that checks the end. */
  take(count: number): number {
    const start = this.at;
    if (count > this.end - start)
      bad(`the frame ends ${count - (this.end - start)} bytes too early`);
    this.at = start + count;
    return start;
  }
}

/** Writes forward into [at, end) of a buffer. Room is measured beforehand, so running out is a bug of ours. */
export class Sink {
  readonly bytes: Buffer;
  readonly end: number;
  at: number;

  constructor(bytes: Buffer, at = 0, end = bytes.length) {
    invariant(at >= 0 && at <= end && end <= bytes.length, "a sink lies inside its buffer");
    this.bytes = bytes;
    this.at = at;
    this.end = end;
  }

  take(count: number): number {
    const start = this.at;
    invariant(count <= this.end - start, "an encoder writes as much as it measured");
    this.at = start + count;
    return start;
  }
}
