import t from "tap";
import { Fault } from "../../../src/base/fault.js";
import type { Uuid } from "../../../src/base/ids.js";
import { decode, encode, encodeInto, type Message } from "../../../src/crucible/messages.js";
import { handFrame, handFrameNames } from "../../kit/recordings.js";

// Frames written by hand from the layout, each against the message that it stands for.

const ids = {
  upstairsId: "11111111-2222-3333-4444-555555555555" as Uuid,
  sessionId: "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee" as Uuid,
};
/** Plain numbers where messages have branded ones. */
const message = (value: object): Message => value as Message;
const done = (kind: string): Message =>
  message({ kind, ...ids, jobId: 1000, result: { ok: true } });
const HASH = 0xce0d5016d4e1e150n;

const CASES: Record<string, Message> = {
  "here-i-am": message({
    kind: "HereIAm",
    version: 13,
    ...ids,
    generation: 1n,
    readOnly: false,
    encrypted: false,
    alternateVersions: [],
  }),
  write: message({
    kind: "Write",
    ...ids,
    jobId: 1000,
    dependencies: [],
    start: 0,
    contexts: [{ hash: HASH, encryption: null }],
    data: Buffer.alloc(512, 0xab),
  }),
  "yes-its-me-v4": message({
    kind: "YesItsMe",
    version: 13,
    repairAddress: { host: "127.0.0.1", port: 7810 },
  }),
  "yes-its-me-v6": message({
    kind: "YesItsMe",
    version: 13,
    repairAddress: { host: "fd00:1122:3344:105::c", port: 23000 },
  }),
  "promote-to-active": message({ kind: "PromoteToActive", ...ids, generation: 1n }),
  "you-are-now-active": message({ kind: "YouAreNowActive", ...ids, generation: 1n }),
  "region-info-please": message({ kind: "RegionInfoPlease" }),
  "extent-versions-please": message({ kind: "ExtentVersionsPlease" }),
  ruok: message({ kind: "Ruok" }),
  imok: message({ kind: "Imok" }),
  "region-info": message({
    kind: "RegionInfo",
    region: {
      blockSize: 512,
      extentSize: 100,
      shift: 9,
      extentCount: 15,
      uuid: "12345678-3810-3810-3810-000000003810",
      encrypted: false,
      databaseReadVersion: 1,
      databaseWriteVersion: 1,
    },
  }),
  "extent-versions": message({
    kind: "ExtentVersions",
    generations: BigUint64Array.of(1n, 0n),
    flushNumbers: Float64Array.of(3, 0),
    dirty: Uint8Array.of(1, 0),
  }),
  "last-flush-none": message({ kind: "LastFlush", lastFlushJob: null }),
  "last-flush": message({ kind: "LastFlush", lastFlushJob: 1001 }),
  "write-ack": done("WriteAck"),
  "flush-ack": done("FlushAck"),
  "barrier-ack": done("BarrierAck"),
  "write-unwritten-ack": done("WriteUnwrittenAck"),
  "extent-live-ack-id": done("ExtentLiveAckId"),
  "extent-live-repair-ack-id": done("ExtentLiveRepairAckId"),
  "write-ack-error": message({
    kind: "WriteAck",
    ...ids,
    jobId: 1000,
    result: { ok: false, error: { kind: "HashMismatch" } },
  }),
  flush: message({
    kind: "Flush",
    ...ids,
    jobId: 1001,
    dependencies: [1000],
    flushNumber: 1,
    generation: 1n,
    snapshot: null,
    extentLimit: null,
  }),
  "flush-snapshot-limit": message({
    kind: "Flush",
    ...ids,
    jobId: 1001,
    dependencies: [1000],
    flushNumber: 1,
    generation: 1n,
    snapshot: "snap1",
    extentLimit: 4,
  }),
  barrier: message({ kind: "Barrier", ...ids, jobId: 1002, dependencies: [] }),
  "read-request": message({
    kind: "ReadRequest",
    ...ids,
    jobId: 1002,
    dependencies: [1001],
    start: 0,
    count: 2,
  }),
  "read-response": message({
    kind: "ReadResponse",
    ...ids,
    jobId: 1002,
    result: { ok: true, contexts: [{ kind: "Unencrypted", hash: HASH }, { kind: "Empty" }] },
    data: Buffer.concat([Buffer.alloc(512, 0xab), Buffer.alloc(512)]),
  }),
  "read-response-error": message({
    kind: "ReadResponse",
    ...ids,
    jobId: 1002,
    result: { ok: false, error: { kind: "MissingBlockContext" } },
    data: Buffer.alloc(0),
  }),
  "error-report": message({
    kind: "ErrorReport",
    ...ids,
    jobId: 1000,
    error: { kind: "HashMismatch" },
  }),
  "extent-flush": message({
    kind: "ExtentFlush",
    repairId: 0,
    extentId: 2,
    clientId: 1,
    flushNumber: 9,
    generation: 4n,
  }),
  "extent-repair": message({
    kind: "ExtentRepair",
    repairId: 2,
    extentId: 2,
    sourceClientId: 1,
    sourceRepairAddress: { host: "127.0.0.1", port: 7820 },
    destClients: [0, 2],
  }),
  "extent-error": message({
    kind: "ExtentError",
    repairId: 2,
    extentId: 2,
    error: { kind: "IoError", text: "x" },
  }),
  "extent-live-flush-close": message({
    kind: "ExtentLiveFlushClose",
    ...ids,
    jobId: 1004,
    dependencies: [1000],
    extentId: 7,
    flushNumber: 5,
    generation: 1n,
  }),
  "extent-live-close-ack": message({
    kind: "ExtentLiveCloseAck",
    ...ids,
    jobId: 1004,
    result: { ok: true, generation: 1n, flushNumber: 5, dirty: false },
  }),
  "extent-live-repair": message({
    kind: "ExtentLiveRepair",
    ...ids,
    jobId: 1005,
    dependencies: [1004],
    extentId: 7,
    sourceClientId: 2,
    sourceRepairAddress: { host: "127.0.0.1", port: 7830 },
  }),
};

t.same(Object.keys(CASES).sort(), handFrameNames(), "every frame written by hand is tested");

for (const [name, expected] of Object.entries(CASES))
  t.test(name, async (t) => {
    const frame = handFrame(name);
    t.equal(encode(expected).toString("hex"), frame.toString("hex"), "encodes to these bytes");
    t.same(decode(frame), expected, "decodes from these bytes");

    const around = Buffer.alloc(frame.length + 200, 0xcc);
    t.equal(encodeInto(expected, around, 100), frame.length, "in the middle of a buffer");
    t.same(decode(around, 100, frame.length), expected, "and back");
    const outside = Buffer.concat([around.subarray(0, 100), around.subarray(100 + frame.length)]);
    t.equal(
      outside.every((byte) => byte === 0xcc),
      true,
      "nothing around it is touched",
    );

    for (let cut = 0; cut < frame.length; cut++) {
      const short = Buffer.from(frame.subarray(0, cut));
      const refused = `the first ${cut} bytes are refused`;
      t.throws(() => decode(short), { code: "TRIVET_E_FRAME" }, refused);
      if (cut < 8) continue;
      short.writeUInt32LE(cut, 0);
      t.throws(() => decode(short), Fault, `${refused}, also when they claim to be a frame`);
    }

    if ("data" in expected) return;
    const longer = Buffer.concat([frame, Buffer.from("rest")]);
    longer.writeUInt32LE(longer.length, 0);
    t.same(decode(longer), expected, "bytes after the last field are ignored");
  });

t.test("data is taken from the frame's end, whatever lies before it", async (t) => {
  const frame = handFrame("write");
  const longer = Buffer.concat([frame.subarray(0, 105), Buffer.from("gap"), frame.subarray(105)]);
  longer.writeUInt32LE(longer.length, 0);
  t.same(decode(longer), CASES.write, "the same write");
});
