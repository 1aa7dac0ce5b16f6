import t from "tap";
import type { Uuid } from "../../../src/base/ids.js";
import {
  type CrucibleError,
  crucibleError,
  errorText,
  type NegotiationError,
  negotiationError,
} from "../../../src/crucible/error.js";
import { Sink, Source } from "../../../src/wire/cursor.js";

/** Name, and S where a text follows, in the order of indices (wire reference 2.3). */
const ERRORS =
  `GenericError S, IoError S, Unsupported S, Disconnect, DataLockError, RwLockError S, RecvDisconnected,
  SendError S, OffsetUnaligned, DataLenUnaligned, BlockSizeMismatch, InvalidNumberOfBlocks S, OffsetInvalid,
  UpstairsActivateInProgress, UpstairsDeactivating, UpstairsInactive, UuidMismatch, EncryptionError S, DecryptionError,
  HashMismatch, LBARangeOverlap, SubvolumeSizeMismatch, SubvolumeTypeMismatch, CannotServeBlocks S,
  CannotReceiveBlocks S, SnapshotFailed S, ModifyingReadOnlyRegion, InvalidExtent, RepairRequestError S,
  RepairFilesInvalid S, RepairStreamError S, GenerationNumberInvalid, NoLongerActive, RegionAssembleError,
  PropertyNotAvailable S, ReplaceRequestInvalid S, MissingContextSlot, BadMetadata S, BadContextSlot S,
  MissingBlockContext, RegionIncompatible S, NegotiationError`
    .split(",")
    .map((entry) => entry.trim().split(" "));

const U = "11111111-2222-3333-4444-555555555555" as Uuid;
const V = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee" as Uuid;
const u64 = (value: number): string => `${value.toString(16).padStart(2, "0")}00000000000000`;
const u32 = (value: number): string => `${value.toString(16).padStart(2, "0")}000000`;
const uuid = (text: string): string => u64(16) + text.replaceAll("-", "");

const NEGOTIATION: [NegotiationError, string][] = [
  [{ kind: "OutOfOrder" }, ""],
  [{ kind: "GenerationZeroIsIllegal" }, ""],
  [
    { kind: "GenerationNumberTooLow", requested: 4n as never, actual: 5n as never },
    u64(4) + u64(5),
  ],
  [{ kind: "IncompatibleVersion", expected: 13, actual: 12 }, u32(13) + u32(12)],
  [{ kind: "EncryptionMismatch", expected: true, actual: false }, "0100"],
  [{ kind: "ReadOnlyMismatch", expected: false, actual: true }, "0001"],
  [{ kind: "UpstairsIdMismatch", expected: U, actual: V }, uuid(U) + uuid(V)],
  [{ kind: "SessionIdMismatch", expected: V, actual: U }, uuid(V) + uuid(U)],
];

function encoded(error: CrucibleError): string {
  const bytes = Buffer.alloc(crucibleError.size(error));
  crucibleError.write(error, new Sink(bytes));
  return bytes.toString("hex");
}
const decoded = (hex: string): CrucibleError =>
  crucibleError.read(new Source(Buffer.from(hex, "hex")));

t.test("every error has its index and its payload, and a text", async (t) => {
  t.equal(ERRORS.length, 42, "as many as the reference has");
  for (const [index, [name, payload]] of ERRORS.entries()) {
    if (name === "MissingContextSlot" || name === "NegotiationError") continue;
    const error = {
      kind: name,
      ...(payload === "S" ? { text: "why" } : {}),
    } as unknown as CrucibleError;
    const bytes = u32(index) + (payload === "S" ? `${u64(3)}776879` : "");
    t.equal(encoded(error), bytes, `${name} is ${index}`);
    t.same(decoded(bytes), error, `${index} is ${name}`);
    const text = errorText(error);
    t.equal(text.startsWith(`${name}: `), true, text);
    t.equal(text.includes("undefined"), false, "and says something");
    if (payload === "S") t.equal(text, `${name}: why`, "the peer's own words");
  }
});

t.test("MissingContextSlot carries a block and an extent", async (t) => {
  const error: CrucibleError = { kind: "MissingContextSlot", block: 9, extent: 3 as never };
  t.equal(encoded(error), u32(36) + u64(9) + u32(3));
  t.same(decoded(u32(36) + u64(9) + u32(3)), error);
  t.equal(errorText(error), "MissingContextSlot: block 9 of extent 3");
});

t.test("negotiation errors are nested", async (t) => {
  for (const [index, [reason, payload]] of NEGOTIATION.entries()) {
    const bytes = u32(41) + u32(index) + payload;
    const error: CrucibleError = { kind: "NegotiationError", reason };
    t.equal(encoded(error), bytes, reason.kind);
    t.same(decoded(bytes), error, reason.kind);
    t.equal(negotiationError.size(reason), bytes.length / 2 - 4, "measured");
    t.equal(/undefined/.test(errorText(error)), false, errorText(error));
  }
  t.throws(() => decoded(u32(41) + u32(8)), { code: "TRIVET_E_FRAME" }, "no ninth reason");
  t.throws(() => decoded(u32(42)), { code: "TRIVET_E_FRAME" }, "no 43rd error");
});
