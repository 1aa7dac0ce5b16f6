import { unreachable } from "../base/invariant.js";
import type { Codec, Of } from "../wire/codec.js";
import { bool, string, u32, u64, uuid } from "../wire/primitives.js";
import { struct, variants } from "../wire/shapes.js";
import { extentId, generation } from "./fields.js";

// Errors that travel (wire reference 2.3). Rows stand in the order of their indices and are never reordered.

/** Why a peer of another make was turned away; nested in CrucibleError. */
export const negotiationError = variants({
  OutOfOrder: {},
  GenerationZeroIsIllegal: {},
  GenerationNumberTooLow: { requested: generation, actual: generation },
  IncompatibleVersion: { expected: u32, actual: u32 },
  EncryptionMismatch: { expected: bool, actual: bool },
  ReadOnlyMismatch: { expected: bool, actual: bool },
  UpstairsIdMismatch: { expected: uuid, actual: uuid },
  SessionIdMismatch: { expected: uuid, actual: uuid },
});
export type NegotiationError = Of<typeof negotiationError>;

const text = { text: string };

export const crucibleError = variants({
  GenericError: text,
  IoError: text,
  Unsupported: text,
  Disconnect: {},
  DataLockError: {},
  RwLockError: text,
  RecvDisconnected: {},
  SendError: text,
  OffsetUnaligned: {},
  DataLenUnaligned: {},
  BlockSizeMismatch: {},
  InvalidNumberOfBlocks: text,
  OffsetInvalid: {},
  UpstairsActivateInProgress: {},
  UpstairsDeactivating: {},
  UpstairsInactive: {},
  UuidMismatch: {},
  EncryptionError: text,
  DecryptionError: {},
  HashMismatch: {},
  LBARangeOverlap: {},
  SubvolumeSizeMismatch: {},
  SubvolumeTypeMismatch: {},
  CannotServeBlocks: text,
  CannotReceiveBlocks: text,
  SnapshotFailed: text,
  ModifyingReadOnlyRegion: {},
  InvalidExtent: {},
  RepairRequestError: text,
  RepairFilesInvalid: text,
  RepairStreamError: text,
  GenerationNumberInvalid: {},
  NoLongerActive: {},
  RegionAssembleError: {},
  PropertyNotAvailable: text,
  ReplaceRequestInvalid: text,
  MissingContextSlot: { block: u64, extent: extentId },
  BadMetadata: text,
  BadContextSlot: text,
  MissingBlockContext: {},
  RegionIncompatible: text,
  NegotiationError: { reason: negotiationError },
});
export type CrucibleError = Of<typeof crucibleError>;

/** For messages that are nothing but an error. */
export const errorOnly: Codec<{ readonly error: CrucibleError }> = struct({ error: crucibleError });

/** Sentences for the errors that carry no text of their own; the others speak for themselves. */
const SENTENCES: Partial<Record<CrucibleError["kind"], string>> = {
  Disconnect: "the peer disconnected",
  DataLockError: "the peer's data is locked",
  RecvDisconnected: "a channel inside the peer was closed",
  OffsetUnaligned: "the offset is not a multiple of the block size",
  DataLenUnaligned: "the length is not a multiple of the block size",
  BlockSizeMismatch: "the block sizes differ",
  OffsetInvalid: "the offset is outside the region",
  UpstairsActivateInProgress: "the upstairs is being activated",
  UpstairsDeactivating: "the upstairs is being deactivated",
  UpstairsInactive: "the upstairs is not active",
  UuidMismatch: "the upstairs id is another one",
  DecryptionError: "a block does not open with this key",
  HashMismatch: "a block does not agree with its hash",
  LBARangeOverlap: "block ranges overlap",
  SubvolumeSizeMismatch: "subvolumes differ in size",
  SubvolumeTypeMismatch: "subvolumes differ in type",
  ModifyingReadOnlyRegion: "the region is read-only",
  InvalidExtent: "there is no such extent, or it is closed",
  GenerationNumberInvalid: "the generation number is not valid",
  NoLongerActive: "another upstairs has taken over",
  RegionAssembleError: "the regions do not fit together",
  MissingBlockContext: "a block has no context of the kind expected",
};

/** "IoError: no space left": for logs and for details of faults. The peer's words are shown as they are. */
export function errorText(error: CrucibleError): string {
  if (error.kind === "NegotiationError") return `${error.kind}: ${negotiationText(error.reason)}`;
  if (error.kind === "MissingContextSlot")
    return `${error.kind}: block ${error.block} of extent ${error.extent}`;
  return `${error.kind}: ${"text" in error ? error.text : SENTENCES[error.kind]}`;
}

function negotiationText(error: NegotiationError): string {
  switch (error.kind) {
    case "OutOfOrder":
      return "a step of the handshake came out of order";
    case "GenerationZeroIsIllegal":
      return "generation 0 is not allowed";
    case "GenerationNumberTooLow":
      return `generation ${error.requested} was asked for, ${error.actual} is known`;
    case "IncompatibleVersion":
      return `message version ${error.actual}, ${error.expected} was expected`;
    case "EncryptionMismatch":
      return `encrypted is ${error.actual}, ${error.expected} was expected`;
    case "ReadOnlyMismatch":
      return `read-only is ${error.actual}, ${error.expected} was expected`;
    case "UpstairsIdMismatch":
      return `upstairs id ${error.actual}, ${error.expected} was expected`;
    case "SessionIdMismatch":
      return `session id ${error.actual}, ${error.expected} was expected`;
    default:
      return unreachable(error, "a negotiation error has a text");
  }
}
