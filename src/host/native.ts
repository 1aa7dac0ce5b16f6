import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { Fault } from "../base/fault.js";

// The addon's interface and its loading; nothing else in the tree imports it. Layouts and numbers of rows
// are those of native/loop/loop.h: change both together.

export const REQUEST_COLUMNS = 6;
export const REQUEST_ROWS = 2048;
export const VECTOR_ROWS = 16_384;
export const COMPLETION_COLUMNS = 3;
export const COMPLETION_ROWS = 8192;
/** Most vectors that one send gathers. */
export const SEND_VECTORS = 64;
/** Most file operations in flight. */
export const FILES_IN_FLIGHT = 1024;

export const Request = {
  /** slot, at, length: answered as soon as anything came. */
  receive: 1,
  /** slot, at, length: answered when all of it came. */
  receiveAll: 2,
  /** slot, first vector, vectors: answered when anything left. */
  send: 3,
  /** listener: go on after an error. */
  accept: 4,
  /** descriptor, at, length, offset, tag. */
  fileRead: 5,
  fileWrite: 6,
  /** descriptor, first vector, vectors, offset, tag. */
  fileWriteVector: 7,
  /** descriptor, –, –, –, tag. */
  fileSync: 8,
  fileDataSync: 9,
} as const;

/**
 * Completion rows are [what, index, result]; a negative result is −errno. Behind the last row stands 1 when
 * another exchange has more to give although nothing was staged.
 */
export const Completion = {
  received: 1,
  sent: 2,
  file: 3,
  connected: 4,
  /** index: the listener; result: the new slot. */
  accepted: 5,
  closed: 6,
  /** index: what was given to `sealLater` or `openLater`; result: −1, or the index of a bad block. */
  sealed: 7,
} as const;

export type EngineName = "ring" | "plain";

export interface NativeCore {
  readonly arena: ArrayBuffer;
  readonly requests: Float64Array;
  readonly vectors: Float64Array;
  readonly completions: Float64Array;
  readonly engine: EngineName;
  /** `callback(rows)` runs when a turn of the event loop has filled completion rows. */
  start(callback: (rows: number) => void): void;
  /** Waits for what is in flight, closes all sockets, takes the arena away. Never within the callback. */
  close(): void;
  /** Carries out staged rows and answers how many completion rows it filled; the earlier ones are gone. */
  exchange(staged: number): number;
  /** These answer a slot, or −errno. */
  listenTcp(address: string, port: number): number;
  listenUnix(path: string, mode: number): number;
  adopt(descriptor: number): number;
  /** A descriptor that is no connected socket stays open. */
  adoptStream(descriptor: number): number;
  connectTcp(address: string, port: number): number;
  connectUnix(path: string): number;
  /** Followed by one `closed` row. */
  closeSlot(slot: number): void;
  /**
   * Lets go of a socket without closing it: its descriptor or −errno, and how much of a `receiveAll` has come. Followed by one `closed` row.
   * Never within the callback, where there may be rows about it that were not handed out.
   */
  detach(slot: number): readonly [descriptor: number, received: number];
  shutDown(slot: number): void;
  peer(slot: number): string;
  local(slot: number): string;
  hashBlocks(at: number, blockBytes: number, count: number, outAt: number, stride: number): void;
  hashVerify(at: number, blockBytes: number, count: number, wantAt: number, stride: number): number;
  hashVerifyPrefixed(
    at: number,
    blockBytes: number,
    count: number,
    wantAt: number,
    wantStride: number,
    prefixAt: number,
    prefixStride: number,
    prefixBytes: number,
  ): number;
  isZero(at: number, length: number): boolean;
  /** In other threads; answered by a `sealed` row under `tag`. Memory as for `NativeKey`, in the arena. */
  sealLater(
    key: NativeKey,
    from: number,
    to: number,
    blockBytes: number,
    count: number,
    rowAt: number,
    stride: number,
    hashAt: number,
    tag: number,
  ): void;
  openLater(
    key: NativeKey,
    from: number,
    to: number,
    blockBytes: number,
    count: number,
    rowAt: number,
    stride: number,
    unused: number,
    tag: number,
  ): void;
}

/** Implementations of AES-256-GCM-SIV, the fastest first. */
export type CipherName = "vaes" | "aesni" | "portable";

/** A key, which nothing shows. Places are those of ports/cipher.ts, in any memory; `count` is at least 1. */
export interface NativeKey {
  /** "" when it was wiped. */
  readonly implementation: CipherName | "";
  wipe(): void;
  /** `fresh` 0: under the nonces that stand in the rows. */
  seal(
    memory: Uint8Array,
    from: number,
    to: number,
    blockBytes: number,
    count: number,
    rowAt: number,
    stride: number,
    hashAt: number,
    fresh: number,
  ): void;
  open(
    memory: Uint8Array,
    from: number,
    to: number,
    blockBytes: number,
    count: number,
    rowAt: number,
    stride: number,
  ): number;
}

export interface NativeBacking {
  readonly descriptor: number;
  readonly headBytes: number;
  readonly bodyBytes: number;
}

export interface Addon {
  /**
   * With a backing the mapping begins with the body of that file, which comes behind its head there, then has the head, then
   * anonymous memory up to `bytes`.
   */
  readonly Core: new (
    bytes: number,
    backing: NativeBacking | null,
    engine: EngineName | "auto",
  ) => NativeCore;
  /** Throws with `errno`: −EIO when the implementation fails at a published value. The bytes stay the caller's, to be wiped. */
  readonly Key: new (
    bytes: Uint8Array,
    name: CipherName | "auto",
  ) => NativeKey;
  notify(path: string, text: string, descriptors?: readonly number[]): number;
  /** Waits. */
  notifyBarrier(path: string, timeoutMs: number): number;
  lock(file: number): number;
  /** Puts another program in this process's place; comes back only when that failed, with −errno. */
  execute(path: string, words: readonly string[]): number;
  memoryFile(name: string): number;
  pair(): [number, number];
  sendDescriptors(socket: number, descriptors: readonly number[]): number;
  /** Waits; −1: for ever. Throws with `errno`. */
  receiveDescriptors(socket: number, timeoutMs: number): number[];
}

let loaded: Addon | undefined;

const placeOf = (path: string): string =>
  fileURLToPath(new URL(`../../../${path}`, import.meta.url));

/** Built for this machine first, then prebuilt. Throws TRIVET_E_NATIVE when neither loads. */
export function addon(): Addon {
  if (loaded !== undefined) return loaded;
  const require = createRequire(import.meta.url);
  const reasons: string[] = [];
  for (const place of [
    "build/native/Release/trivet.node",
    `prebuilds/${process.platform}-${process.arch}.node`,
  ]) {
    const path = placeOf(place);
    try {
      loaded = require(path) as Addon;
      return loaded;
    } catch (error) {
      reasons.push(error instanceof Error ? error.message.split("\n")[0]! : String(error));
    }
  }
  throw new Fault("TRIVET_E_NATIVE", `the native part does not load: ${reasons.join("; ")}`);
}

/** A native program of its own, by its name. Throws TRIVET_E_NATIVE when it is not there. */
export function nativeProgram(name: string): string {
  const places = [
    `build/native/Release/${name}`,
    `prebuilds/${process.platform}-${process.arch}-${name}`,
  ].map(placeOf);
  const found = places.find((path) => existsSync(path));
  if (found !== undefined) return found;
  throw new Fault("TRIVET_E_NATIVE", `the program ${name} is not there: ${places.join(", ")}`);
}
