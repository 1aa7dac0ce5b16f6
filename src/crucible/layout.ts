import type { Arena } from "../ports/arena.js";
import { bad } from "../wire/cursor.js";

// Offsets inside the frames of the data path (wire reference 1.5, 2.1), and numbers without BigInt. What is said
// here twice over, once as offsets and once as the message table, is held together by tests.

/** The memory that frames lie in; every Arena is one. */
export type Memory = Pick<Arena, "bytes" | "view">;

const TWO_32 = 2 ** 32;
const HIGH_MAX = 2 ** 21;

export const IDS_AT = 8;
export const IDS_BYTES = 48;
export const JOB_AT = 56;
/** Requests: count of dependencies, then 8 bytes each. */
export const DEPS_COUNT_AT = 64;
export const DEPS_AT = 72;
/** Replies: 0 or 1, then what follows from it. */
export const RESULT_AT = 64;
export const RESULT_END = 68;
/** ExtentLiveCloseAck without an error: generation, flush number and dirty flag after the result. */
export const CLOSE_ACK_BYTES = RESULT_END + 17;

/** Hash and one byte that says that no encryption context follows. */
export const PLAIN_CONTEXT_BYTES = 9;
export const ENCRYPTED_CONTEXT_BYTES = 37;
/** Where the option's tag stands in a context of either kind; nonce and tag follow it. */
export const CONTEXT_OPTION_AT = 8;

/** Contexts of blocks read, by the number that begins each. */
export const READ_EMPTY = 0;
export const READ_ENCRYPTED = 1;
export const READ_UNENCRYPTED = 2;
export const READ_CONTEXT_BYTES: readonly number[] = [4, 32, 12];
export const READ_CONTEXT_BYTES_MAX = 32;

/** A u64 that we count with. */
export function countAt(view: DataView, at: number): number {
  const high = view.getUint32(at + 4, true);
  if (high >= HIGH_MAX) bad("a number is 2^53 or more");
  return high * TWO_32 + view.getUint32(at, true);
}

/** `value` is a safe integer, not negative. */
export function putCount(view: DataView, at: number, value: number): void {
  const low = value >>> 0;
  view.setUint32(at, low, true);
  view.setUint32(at + 4, (value - low) / TWO_32, true);
}

/** Checks what every frame of a job begins with; `min` is the shortest that its tag allows. */
export function checkJobFrame(view: DataView, at: number, length: number, min: number): void {
  if (length < min) bad(`a frame of ${length} bytes, at least ${min} are needed`);
  const said = view.getUint32(at, true);
  if (said !== length) bad(`a frame of ${length} bytes says that it has ${said}`);
  checkUuidLength(view, at + IDS_AT);
  checkUuidLength(view, at + IDS_AT + IDS_BYTES / 2);
}

function checkUuidLength(view: DataView, at: number): void {
  if (view.getUint32(at, true) !== 16 || view.getUint32(at + 4, true) !== 0)
    bad("a uuid does not have 16 bytes");
}
