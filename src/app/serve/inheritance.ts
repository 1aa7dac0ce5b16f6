import { closeSync, fstatSync, writeSync } from "node:fs";
import * as v from "valibot";
import { Fault } from "../../base/fault.js";
import { NBD_CONNECTIONS_MAX } from "../../base/limits.js";
import { cutFrame, type FrameLimits, makeFrame } from "../../control/frames.js";
import { readStart } from "../../host/log-file.js";
import type { LeftSession } from "../../nbd/connection.js";

// What a server leaves to the one after it: open descriptors, and a file in memory that says what they are.
//
//   bytes 0 to 7   "TRIVETHO"; zeros: somebody has begun to serve with it, and what it says is not true any more
//   bytes 8 …      u32 length, big-endian, and so much MessagePack: see `head`
//   then           of each client what it had sent, and what it is still to be sent
//
// Descriptors follow in the order of the head: listeners, clients, the write log. Whoever wrote it may be an older or a newer
// version; one that is not understood is done without, which costs clients their connection.

const MAGIC = Buffer.from("TRIVETHO");
const VERSION = 1;
const LIMITS: FrameLimits = { bodyBytes: 4 * 1024 * 1024, arrayLength: 2 * NBD_CONNECTIONS_MAX };

/** Bound by a predecessor. `key` says what for, so that a server that is to listen elsewhere notices. */
export interface PassedListener {
  readonly key: string;
  /** Of a unix socket, when it is ours to remove. */
  readonly file: string | null;
  readonly descriptor: number;
}

export interface PassedLog {
  readonly path: string;
  /** Carries the lock. */
  readonly descriptor: number;
}

export interface Inheritance {
  readonly listeners: readonly PassedListener[];
  readonly clients: readonly LeftSession[];
  /** Null: it is where a server looks for it, or there is none. */
  readonly log: PassedLog | null;
  /** To be called once, before a client is served: from then on nobody else may go on with them. */
  taken(): void;
}

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const name = v.pipe(v.string(), v.maxLength(4096));
const head = v.object({
  version: v.literal(VERSION),
  volume: v.string(),
  listeners: v.array(v.object({ key: name, file: v.nullable(name) })),
  clients: v.array(
    v.object({
      exportName: name,
      sizeBytes: count,
      minimumBytes: count,
      payloadBytesMax: count,
      offers: count,
      structured: v.boolean(),
      allocation: v.boolean(),
      // Older versions do not tell it, and do without when they are told.
      attachment: v.optional(v.nullable(v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/))), null),
      received: count,
      unsent: count,
    }),
  ),
  log: v.nullable(name),
  inodes: v.array(count),
});

type Left = Pick<Inheritance, "listeners" | "clients" | "log">;

/** In the order in which a reader is to be given them. */
export const descriptorsOf = ({ listeners, clients, log }: Left): number[] => [
  ...listeners.map(({ descriptor }) => descriptor),
  ...clients.map(({ descriptor }) => descriptor),
  ...(log === null ? [] : [log.descriptor]),
];

/** `inodes` of the descriptors, when they may be given back in another order. */
export function inheritanceBytes(
  volume: string,
  { listeners, clients, log }: Left,
  inodes: readonly number[] = [],
): Uint8Array {
  const frame = makeFrame(
    {
      version: VERSION,
      volume,
      listeners: listeners.map(({ key, file }) => ({ key, file })),
      clients: clients.map(({ state }) => ({
        ...state,
        received: state.received.length,
        unsent: state.unsent.length,
      })),
      log: log?.path ?? null,
      inodes,
    },
    LIMITS,
  );
  return Buffer.concat([
    MAGIC,
    frame,
    ...clients.flatMap(({ state }) => [state.received, state.unsent]),
  ]);
}

/** What a file says, and which descriptors it is about; the reader has them by number, in that order. */
export interface Told {
  readonly descriptors: number;
  /** Of the descriptors, in their order, if it says so. */
  readonly inodes: readonly number[];
  /** Undefined for a descriptor that is not there any more. Throws a Fault when one is missing that is needed. */
  with(descriptors: readonly (number | undefined)[]): Left;
}

/** Throws a Fault for what cannot be understood, or is not for this volume, or was taken by somebody already. */
export function readInheritance(bytes: Uint8Array, volume: string): Told {
  if (!MAGIC.equals(bytes.subarray(0, MAGIC.length)))
    throw broken("it was taken already, or is none");
  const { usedBytes, value } = cut(bytes.subarray(MAGIC.length));
  const parsed = v.safeParse(head, value);
  if (usedBytes === 0 || !parsed.success)
    throw broken("it is of another version of trivet, or damaged");
  const told = parsed.output;
  if (told.volume !== volume)
    throw broken(`it is about the volume ${told.volume}, and this is ${volume}`);
  const blobs = bytes.subarray(MAGIC.length + usedBytes);
  const sum = told.clients.reduce((all, one) => all + one.received + one.unsent, 0);
  if (sum !== blobs.length) throw broken(`${blobs.length} bytes follow, expected ${sum}`);
  let at = 0;
  const take = (length: number): Uint8Array => {
    at += length;
    return blobs.subarray(at - length, at);
  };
  const states = told.clients.map((one) => {
    const received = take(one.received);
    return { ...one, received, unsent: take(one.unsent) };
  });
  const { listeners, log } = told;
  const descriptors = listeners.length + states.length + (log === null ? 0 : 1);
  return {
    descriptors,
    inodes: told.inodes,
    with: (given) => {
      const found = [...given];
      const next = found.splice(0, listeners.length);
      const clients = found.splice(0, states.length);
      const [logDescriptor] = found;
      if (log !== null && logDescriptor === undefined) throw broken("the write log is missing");
      return {
        listeners: listeners.flatMap((one, i) =>
          next[i] === undefined ? [] : [{ ...one, descriptor: next[i] }],
        ),
        clients: states.flatMap((state, i) =>
          clients[i] === undefined ? [] : [{ descriptor: clients[i], state }],
        ),
        log: log === null ? null : { path: log, descriptor: logDescriptor! },
      };
    },
  };
}

function cut(bytes: Uint8Array): ReturnType<typeof cutFrame> {
  try {
    return cutFrame(bytes, LIMITS);
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    throw broken(error.message);
  }
}

export const readMemoryFile = (descriptor: number): Uint8Array =>
  new Uint8Array(readStart(descriptor, fstatSync(descriptor).size));
export const isTaken = (descriptor: number): boolean =>
  !MAGIC.equals(new Uint8Array(readStart(descriptor, MAGIC.length)));
/** Whoever else has the same file sees that it is used up. */
export const markTaken = (descriptor: number): void => {
  writeSync(descriptor, Buffer.alloc(MAGIC.length), 0, MAGIC.length, 0);
};

export function closeDescriptors(descriptors: readonly (number | undefined)[]): void {
  for (const descriptor of descriptors) {
    if (descriptor === undefined) continue;
    try {
      closeSync(descriptor);
    } catch {
      // It is not open, which is as good.
    }
  }
}

const broken = (why: string): Fault =>
  new Fault("TRIVET_E_HAND_OVER", `what the server before this one left cannot be used: ${why}`);
