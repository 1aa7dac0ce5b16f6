import fc, { type Arbitrary } from "fast-check";
import type { CrucibleError, NegotiationError } from "../../src/crucible/error.js";
import { KINDS, type Kind, type Message } from "../../src/crucible/messages.js";

// Arbitrary messages of every kind. Written apart from the message table, so that the two can disagree.

const u8 = fc.integer({ min: 0, max: 255 });
const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
/** Small ones, large ones, and both sides of 2^32. */
const u64 = fc.oneof(
  fc.maxSafeNat(),
  fc.nat(5000),
  fc.constantFrom(2 ** 32 - 1, 2 ** 32, Number.MAX_SAFE_INTEGER),
);
const big = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const bool = fc.boolean();
const uuid = fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) =>
  Buffer.from(bytes)
    .toString("hex")
    .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5"),
);
const text = fc.string({ unit: "grapheme", maxLength: 20 });
const fixed = (count: number): Arbitrary<Buffer> =>
  fc.uint8Array({ minLength: count, maxLength: count }).map((bytes) => Buffer.from(bytes));
const data = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes));
const list = <T>(item: Arbitrary<T>): Arbitrary<T[]> => fc.array(item, { maxLength: 9 });
const maybe = <T>(item: Arbitrary<T>): Arbitrary<T | null> => fc.option(item, { nil: null });
const address = fc.record({
  host: fc.oneof(
    fc.ipV4(),
    fc.constantFrom("::", "::1", "fd00:1122:3344:105::c", "1:2:3:4:5:6:7:8", "::ffff:10.0.0.1"),
  ),
  port: fc.integer({ min: 0, max: 65_535 }),
});

type Shape = Record<string, Arbitrary<unknown>>;
const kinds = (shapes: Record<string, Shape>): Arbitrary<unknown> =>
  fc.oneof(
    ...Object.entries(shapes).map(([kind, shape]) =>
      fc.record({ kind: fc.constant(kind), ...shape }),
    ),
  );

const negotiationError = kinds({
  OutOfOrder: {},
  GenerationZeroIsIllegal: {},
  GenerationNumberTooLow: { requested: big, actual: big },
  IncompatibleVersion: { expected: u32, actual: u32 },
  EncryptionMismatch: { expected: bool, actual: bool },
  ReadOnlyMismatch: { expected: bool, actual: bool },
  UpstairsIdMismatch: { expected: uuid, actual: uuid },
  SessionIdMismatch: { expected: uuid, actual: uuid },
}) as Arbitrary<NegotiationError>;
const error = kinds({
  GenericError: { text },
  IoError: { text },
  HashMismatch: {},
  SnapshotFailed: { text },
  InvalidExtent: {},
  MissingContextSlot: { block: u64, extent: u32 },
  MissingBlockContext: {},
  NegotiationError: { reason: negotiationError },
}) as Arbitrary<CrucibleError>;

const ok = (shape: Shape): Arbitrary<unknown> =>
  fc.oneof(
    fc.record({ ok: fc.constant(true), ...shape }),
    fc.record({ ok: fc.constant(false), error }),
  );
const ids = { upstairsId: uuid, sessionId: uuid };
const job = { ...ids, jobId: u64 };
const request = { ...job, dependencies: list(u64) };
const ack = { ...job, result: ok({}) };
const blockContext = fc.record({
  hash: big,
  encryption: maybe(fc.record({ nonce: fixed(12), tag: fixed(16) })),
});
const readContext = kinds({
  Empty: {},
  Encrypted: { nonce: fixed(12), tag: fixed(16) },
  Unencrypted: { hash: big },
});
const write = { ...request, start: u64, contexts: list(blockContext), data };
const repair = { repairId: u64, extentId: u32 };
const versions = fc.nat(12).chain((count) =>
  fc.record({
    kind: fc.constant("ExtentVersions"),
    generations: fc
      .array(big, { minLength: count, maxLength: count })
      .map((v) => BigUint64Array.from(v)),
    flushNumbers: fc
      .array(u64, { minLength: count, maxLength: count })
      .map((v) => Float64Array.from(v)),
    dirty: fc
      .array(bool, { minLength: count, maxLength: count })
      .map((v) => Uint8Array.from(v, Number)),
  }),
);

const SHAPES: Record<Exclude<Kind, "ExtentVersions">, Shape> = {
  HereIAm: {
    version: u32,
    ...ids,
    generation: big,
    readOnly: bool,
    encrypted: bool,
    alternateVersions: list(u32),
  },
  YesItsMe: { version: u32, repairAddress: address },
  VersionMismatch: { version: u32 },
  ReadOnlyMismatch: { expected: bool },
  EncryptedMismatch: { expected: bool },
  PromoteToActive: { ...ids, generation: big },
  YouAreNowActive: { ...ids, generation: big },
  YouAreNoLongerActive: { newUpstairsId: uuid, newSessionId: uuid, newGeneration: big },
  UuidMismatch: { expectedId: uuid },
  Ruok: {},
  Imok: {},
  ExtentClose: repair,
  ExtentReopen: repair,
  ExtentFlush: { ...repair, clientId: u8, flushNumber: u64, generation: big },
  ExtentRepair: {
    ...repair,
    sourceClientId: u8,
    sourceRepairAddress: address,
    destClients: list(u8),
  },
  RepairAckId: { repairId: u64 },
  ExtentError: { ...repair, error },
  ExtentLiveClose: { ...request, extentId: u32 },
  ExtentLiveFlushClose: { ...request, extentId: u32, flushNumber: u64, generation: big },
  ExtentLiveRepair: {
    ...request,
    extentId: u32,
    sourceClientId: u8,
    sourceRepairAddress: address,
  },
  ExtentLiveReopen: { ...request, extentId: u32 },
  ExtentLiveNoOp: request,
  ExtentLiveCloseAck: { ...job, result: ok({ generation: big, flushNumber: u64, dirty: bool }) },
  ExtentLiveRepairAckId: ack,
  ExtentLiveAckId: ack,
  RegionInfoPlease: {},
  RegionInfo: {
    region: fc.record({
      blockSize: u64,
      extentSize: u64,
      shift: u32,
      extentCount: u32,
      uuid,
      encrypted: bool,
      databaseReadVersion: u64,
      databaseWriteVersion: u64,
    }),
  },
  ExtentVersionsPlease: {},
  LastFlush: { lastFlushJob: maybe(u64) },
  Write: write,
  WriteAck: ack,
  Flush: {
    ...request,
    flushNumber: u64,
    generation: big,
    snapshot: maybe(text),
    extentLimit: maybe(u32),
  },
  FlushAck: ack,
  Barrier: request,
  BarrierAck: ack,
  ReadRequest: { ...request, start: u64, count: u64 },
  ReadResponse: { ...job, result: ok({ contexts: list(readContext) }), data },
  WriteUnwritten: write,
  WriteUnwrittenAck: ack,
  ErrorReport: { ...job, error },
  Unknown: { original: u32, content: data },
};

export const arbitraryOf = (kind: Kind): Arbitrary<Message> =>
  (kind === "ExtentVersions" ? versions : kinds({ [kind]: SHAPES[kind] })) as Arbitrary<Message>;

export const anyMessage: Arbitrary<Message> = fc.oneof(...KINDS.map(arbitraryOf));
