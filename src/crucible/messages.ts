import { invariant } from "../base/invariant.js";
import {
  ALTERNATE_VERSIONS_MAX,
  FRAME_BYTES_MAX,
  FRAME_BYTES_MIN,
  REPAIR_DESTINATIONS_MAX,
} from "../base/limits.js";
import { socketAddress } from "../wire/address.js";
import type { AnyCodec, Codec, FieldCodecs, Fields, Of } from "../wire/codec.js";
import { bad, Sink, Source } from "../wire/cursor.js";
import { bool, bytes, string, tailBytes, u32, u64, uuid } from "../wire/primitives.js";
import { boolArray, countArray, option, result, struct, u64Array, vec } from "../wire/shapes.js";
import { crucibleError } from "./error.js";
import * as f from "./fields.js";

// Every message of version 13, declared once (wire reference 2.2). The types follow from the table, and so
// do the codec, the tags and the shortest lengths. Bulk messages are here too, so that one codec knows
// everything; the data path reads and writes them by the record classes of `requests` and `replies`.

/** "up": sent by the upstairs. "down": by a downstairs. "none": never sent, only decoded. */
export type Direction = "up" | "down" | "none";

export interface Row<Tag extends number, F extends FieldCodecs> {
  readonly tag: Tag;
  readonly direction: Direction;
  readonly body: Codec<Fields<F>>;
}

const row = <const Tag extends number, F extends FieldCodecs>(
  tag: Tag,
  direction: Direction,
  fields: F,
): Row<Tag, F> => ({ tag, direction, body: struct(fields) });

const repair = { repairId: u64, extentId: f.extentId };
const plainResult = { ...f.job, result: result({}, crucibleError) };
const write = {
  ...f.request,
  start: f.blockIndex,
  contexts: vec(f.blockContext),
  data: tailBytes,
};

/** The tag is the position in the reference's enum: rows are never renumbered. */
export const MESSAGES = {
  HereIAm: row(0, "up", {
    version: u32,
    ...f.ids,
    generation: f.generation,
    readOnly: bool,
    encrypted: bool,
    alternateVersions: vec(u32, ALTERNATE_VERSIONS_MAX),
  }),
  YesItsMe: row(1, "down", { version: u32, repairAddress: socketAddress }),
  VersionMismatch: row(2, "down", { version: u32 }),
  ReadOnlyMismatch: row(3, "down", { expected: bool }),
  EncryptedMismatch: row(4, "down", { expected: bool }),
  PromoteToActive: row(5, "up", { ...f.ids, generation: f.generation }),
  YouAreNowActive: row(6, "down", { ...f.ids, generation: f.generation }),
  YouAreNoLongerActive: row(7, "down", {
    newUpstairsId: uuid,
    newSessionId: uuid,
    newGeneration: f.generation,
  }),
  UuidMismatch: row(8, "down", { expectedId: uuid }),
  Ruok: row(9, "up", {}),
  Imok: row(10, "down", {}),

  // Reconciliation: before the volume is active; named by repair ids, which are no job ids.
  ExtentClose: row(11, "up", repair),
  ExtentReopen: row(12, "up", repair),
  ExtentFlush: row(13, "up", {
    ...repair,
    clientId: f.clientId,
    flushNumber: f.flushNumber,
    generation: f.generation,
  }),
  ExtentRepair: row(14, "up", {
    ...repair,
    sourceClientId: f.clientId,
    sourceRepairAddress: socketAddress,
    destClients: vec(f.clientId, REPAIR_DESTINATIONS_MAX),
  }),
  RepairAckId: row(15, "down", { repairId: u64 }),
  ExtentError: row(16, "down", { ...repair, error: crucibleError }),

  // Live repair: jobs like any other.
  ExtentLiveClose: row(17, "up", { ...f.request, extentId: f.extentId }),
  ExtentLiveFlushClose: row(18, "up", {
    ...f.request,
    extentId: f.extentId,
    flushNumber: f.flushNumber,
    generation: f.generation,
  }),
  ExtentLiveRepair: row(19, "up", {
    ...f.request,
    extentId: f.extentId,
    sourceClientId: f.clientId,
    sourceRepairAddress: socketAddress,
  }),
  ExtentLiveReopen: row(20, "up", { ...f.request, extentId: f.extentId }),
  ExtentLiveNoOp: row(21, "up", f.request),
  ExtentLiveCloseAck: row(22, "down", {
    ...f.job,
    result: result(
      { generation: f.generation, flushNumber: f.flushNumber, dirty: bool },
      crucibleError,
    ),
  }),
  ExtentLiveRepairAckId: row(23, "down", plainResult),
  ExtentLiveAckId: row(24, "down", plainResult),

  // What a region is and what its extents hold.
  RegionInfoPlease: row(25, "up", {}),
  RegionInfo: row(26, "down", { region: f.regionDefinition }),
  ExtentVersionsPlease: row(27, "up", {}),
  /** One entry per extent in each list. */
  ExtentVersions: row(28, "down", {
    generations: u64Array,
    flushNumbers: countArray,
    dirty: boolArray,
  }),
  /** A job id, whatever its name upstream says: that of the last flush which this downstairs acknowledged. */
  LastFlush: row(29, "up", { lastFlushJob: option(f.jobId) }),

  // Jobs of the guest.
  Write: row(30, "up", write),
  WriteAck: row(31, "down", plainResult),
  Flush: row(32, "up", {
    ...f.request,
    flushNumber: f.flushNumber,
    generation: f.generation,
    snapshot: option(string),
    extentLimit: option(f.extentId),
  }),
  FlushAck: row(33, "down", plainResult),
  Barrier: row(34, "up", f.request),
  BarrierAck: row(35, "down", plainResult),
  ReadRequest: row(36, "up", { ...f.request, start: f.blockIndex, count: u64 }),
  ReadResponse: row(37, "down", {
    ...f.job,
    result: result({ contexts: vec(f.readBlockContext) }, crucibleError),
    data: tailBytes,
  }),
  WriteUnwritten: row(38, "up", write),
  WriteUnwrittenAck: row(39, "down", plainResult),
  ErrorReport: row(40, "down", { ...f.job, error: crucibleError }),
  Unknown: row(41, "none", { original: u32, content: bytes }),
} as const;

export type Kind = keyof typeof MESSAGES;
export type MessageOf<K extends Kind> = { readonly kind: K } & Of<(typeof MESSAGES)[K]["body"]>;
export type Message = { [K in Kind]: MessageOf<K> }[Kind];

const entries = Object.entries(MESSAGES) as [Kind, Row<number, FieldCodecs>][];

/** Numbers by name. */
export const TAG = Object.fromEntries(entries.map(([kind, { tag }]) => [kind, tag])) as {
  readonly [K in Kind]: (typeof MESSAGES)[K]["tag"];
};
/** Names by number. */
export const KINDS: readonly Kind[] = entries.map(([kind]) => kind);
/** Tags from here on belong to nobody. */
export const TAG_END = KINDS.length;
/** Shortest legal frame by tag, length field included. */
export const FRAME_BYTES_MIN_BY_TAG: readonly number[] = entries.map(
  ([, { body }]) => FRAME_BYTES_MIN + body.min,
);

invariant(
  entries.every(([, { tag }], position) => tag === position),
  "message tags count from 0",
);

const bodyOf = (kind: Kind): AnyCodec => MESSAGES[kind].body;

/** Whole frame, length field included. */
export function encodedBytes(message: Message): number {
  return FRAME_BYTES_MIN + bodyOf(message.kind).size(message as never);
}

/** Writes the whole frame at `at` and returns its length, which is what `encodedBytes` says. */
export function encodeInto(message: Message, buffer: Buffer, at: number): number {
  const length = encodedBytes(message);
  invariant(length <= FRAME_BYTES_MAX, "a frame is not larger than the protocol allows");
  const to = new Sink(buffer, at, at + length);
  u32.write(length, to);
  u32.write(MESSAGES[message.kind].tag, to);
  bodyOf(message.kind).write(message as never, to);
  invariant(to.at === to.end, "an encoder writes as much as it measured");
  return length;
}

export function encode(message: Message): Buffer {
  const frame = Buffer.alloc(encodedBytes(message));
  encodeInto(message, frame, 0);
  return frame;
}

/**
 * The frame of `length` bytes at `at`. Byte strings in the result (data, nonces, tags) are views of the buffer and
 * live as long as the frame. Bytes after the last field are ignored (wire reference 1.4). Throws
 * Fault TRIVET_E_FRAME.
 */
export function decode(buffer: Buffer, at = 0, length: number = buffer.length - at): Message {
  if (length < FRAME_BYTES_MIN) bad(`a frame of ${length} bytes`);
  const from = new Source(buffer, at, at + length);
  const said = u32.read(from);
  if (said !== length) bad(`a frame of ${length} bytes says that it has ${said}`);
  const tag = u32.read(from);
  const kind = KINDS[tag];
  if (kind === undefined) bad(`message ${tag} is unknown`);
  return { kind, ...(bodyOf(kind).read(from) as object) } as Message;
}

/** A CrucibleError that the record classes found at `at`. */
export function decodeErrorAt(buffer: Buffer, at: number, end: number): Of<typeof crucibleError> {
  return crucibleError.read(new Source(buffer, at, end));
}
