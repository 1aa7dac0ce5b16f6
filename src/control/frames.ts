import { Decoder, encode } from "@msgpack/msgpack";
import { Fault } from "../base/fault.js";
import { invariant } from "../base/invariant.js";

// Messages of the control socket as bytes: four bytes of length, big-endian, then one MessagePack value. Knows no message.
// The limits keep whoever sends from choosing how much we allocate.

export const FRAME_HEAD_BYTES = 4;

export interface FrameLimits {
  readonly bodyBytes: number;
  /** Elements of one array: MessagePack's decoder makes room for as many as an array says it has. */
  readonly arrayLength: number;
}

/** What is at the beginning of some bytes. `usedBytes` 0: not a whole message yet. */
export interface Cut {
  readonly usedBytes: number;
  readonly value: unknown;
}
const INCOMPLETE: Cut = { usedBytes: 0, value: undefined };

/** Throws TRIVET_E_CONTROL for what can never become a message. */
export function cutFrame(bytes: Uint8Array, limits: FrameLimits): Cut {
  if (bytes.length < FRAME_HEAD_BYTES) return INCOMPLETE;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = view.getUint32(0);
  if (length === 0 || length > limits.bodyBytes)
    throw new Fault(
      "TRIVET_E_CONTROL",
      `a message of ${length} bytes, expected 1 to ${limits.bodyBytes}`,
    );
  const end = FRAME_HEAD_BYTES + length;
  if (bytes.length < end) return INCOMPLETE;
  // A copy: what is decoded may otherwise point into memory that is not ours for long.
  const body = bytes.slice(FRAME_HEAD_BYTES, end);
  const decoder = new Decoder({
    maxStrLength: limits.bodyBytes,
    maxBinLength: limits.bodyBytes,
    maxExtLength: limits.bodyBytes,
    maxMapLength: limits.arrayLength,
    maxArrayLength: limits.arrayLength,
    keyDecoder: null,
  });
  try {
    return { usedBytes: end, value: decoder.decode(body) };
  } catch (error) {
    throw new Fault("TRIVET_E_CONTROL", `a message that is no MessagePack (${reason(error)})`, {
      cause: error,
    });
  }
}

export function makeFrame(value: unknown, limits: FrameLimits): Uint8Array {
  const body = encode(value);
  invariant(body.length <= limits.bodyBytes, "what we say on the control socket fits its limit");
  const frame = new Uint8Array(FRAME_HEAD_BYTES + body.length);
  new DataView(frame.buffer).setUint32(0, body.length);
  frame.set(body, FRAME_HEAD_BYTES);
  return frame;
}

const reason = (error: unknown): string => (error instanceof Error ? error.message : `${error}`);
