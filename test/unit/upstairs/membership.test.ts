import t from "tap";
import { Fault } from "../../../src/base/fault.js";
import { DeviceStatus } from "../../../src/ports/device.js";
import type { GenerationSource } from "../../../src/upstairs/options.js";
import { hashApi } from "../../kit/replica.js";
import { Stage, type StageOptions } from "../../kit/upstairs-stage.js";
import { World } from "../../kit/world.js";

const hash = await hashApi();
const BLOCK = 512;
const stageOf = (options: StageOptions = {}): Stage => new Stage(new World(5), hash, options);
const given = (value: bigint): { generation: GenerationSource } => ({
  generation: { kind: "given", value },
});
const generationsOf = (stage: Stage, generation: bigint): void => {
  for (const replica of stage.replicas)
    Object.assign(replica.extents[3]!, { generation, flushNumber: 9 });
};

t.test("permanent errors are told to whoever asked for activation", async (t) => {
  const cases: [string, StageOptions, (stage: Stage) => void][] = [
    ["TRIVET_E_GENERATION_ZERO", { upstairs: given(0n) }, () => {}],
    ["TRIVET_E_READ_ONLY_MISMATCH", { manner: { readOnly: true } }, () => {}],
    ["TRIVET_E_READ_ONLY_MISMATCH", { upstairs: { readOnly: true } }, () => {}],
    ["TRIVET_E_ENCRYPTED_MISMATCH", { manner: { encrypted: true } }, () => {}],
    ["TRIVET_E_ENCRYPTED_MISMATCH", { region: { encrypted: true } }, () => {}],
    ["TRIVET_E_GENERATION_TOO_LOW", { upstairs: given(5n) }, (stage) => generationsOf(stage, 5n)],
    [
      "TRIVET_E_SAME_REGION",
      { region: { uuid: "12345678-1111-2222-3333-00000000000a" as never } },
      () => {},
    ],
    [
      "TRIVET_E_GEOMETRY_MISMATCH",
      { upstairs: { geometry: { blockSize: 512, extentSize: 20, extentCount: 9 } } },
      () => {},
    ],
    [
      "TRIVET_E_GEOMETRY_MISMATCH",
      {},
      (stage) => {
        stage.replicas[1]!.manner.rewrite = (m) =>
          m.kind === "RegionInfo" ? { ...m, region: { ...m.region, extentCount: 7 } } : m;
      },
    ],
    [
      "TRIVET_E_GEOMETRY_MISMATCH",
      {},
      (stage) => {
        stage.replicas[1]!.manner.rewrite = (m) =>
          m.kind === "RegionInfo" ? { ...m, region: { ...m.region, shift: 10 } } : m;
      },
    ],
    [
      "TRIVET_E_PROTOCOL",
      {},
      (stage) => {
        stage.replicas[1]!.manner.rewrite = (m) =>
          m.kind === "ExtentVersions" ? { ...m, dirty: new Uint8Array(7) } : m;
      },
    ],
    [
      "TRIVET_E_PROTOCOL",
      {},
      (stage) => {
        stage.replicas[2]!.manner.rewrite = (m) =>
          m.kind === "YouAreNowActive" ? { ...m, sessionId: m.upstairsId } : m;
      },
    ],
    [
      "TRIVET_E_GENERATION_TOO_LOW",
      {},
      (stage) => {
        stage.replicas[2]!.manner.rewrite = (m) =>
          m.kind === "YouAreNowActive" ? { ...m, generation: 99n as never } : m;
      },
    ],
    ["TRIVET_E_CONFIG", { upstairs: { targets: [] } }, () => {}],
  ];
  for (const [code, options, prepare] of cases) {
    const stage = stageOf(options);
    prepare(stage);
    t.equal(stage.activate()?.code, code);
    stage.world.advance(60_000);
    t.same(
      stage.replicas.flatMap((replica) => replica.connections),
      [],
      "and all is closed",
    );
    t.equal(stage.arena.allocations, 0);
  }
});

t.test("what may pass is waited for", async (t) => {
  const stage = stageOf();
  stage.replicas[0]!.isDown = true;
  stage.replicas[1]!.manner.version = 12;
  stage.replicas[2]!.manner.rewrite = (m) => (m.kind === "YesItsMe" ? { kind: "Imok" } : m);
  t.equal(stage.activate(70_000), undefined);
  t.equal(stage.said("volume.waiting").length, 2, "every 30 s it is said for whom");
  t.ok(stage.said("volume.waiting")[0]?.includes("message version 12"));
  t.ok(stage.dialer.dials < 3 * 15, "at most every ten seconds");
  stage.replicas[0]!.start();
  stage.replicas[1]!.manner.version = 13;
  stage.replicas[2]!.manner.rewrite = (m) => m;
  t.ok(stage.pass(60_000, () => stage.upstairs.status().state === "active"));
  t.equal(stage.stop(), null);
  t.equal(stage.arena.allocations, 0);
});

t.test("a replica out of order is dropped and tried again", async (t) => {
  const stage = stageOf();
  let odd = 2;
  stage.replicas[1]!.manner.rewrite = (m) =>
    m.kind === "RegionInfo" && odd-- > 0 ? { kind: "VersionMismatch", version: 13 } : m;
  t.equal(stage.activate(), null);
  t.ok(stage.said("replica.lost")[0]?.includes("waiting for RegionInfo"));
});

t.test("a reconciliation that fails starts over", async (t) => {
  const stage = stageOf({ upstairs: { ...given(3n), degradedAfterMs: null } });
  Object.assign(stage.replicas[0]!.extents[2]!, { generation: 2n, flushNumber: 4 });
  stage.replicas[1]!.extents[5]!.dirty = true;
  let errors = 1;
  stage.replicas[2]!.manner.rewrite = (m) =>
    m.kind === "RepairAckId" && m.repairId === 2 && errors-- > 0
      ? {
          kind: "ExtentError",
          repairId: 2,
          extentId: 2 as never,
          error: { kind: "IoError", text: "no" },
        }
      : m;
  let cuts = 1;
  stage.replicas[1]!.manner.rewrite = (m) => {
    if (m.kind === "RepairAckId" && m.repairId === 1 && errors <= 0 && cuts-- > 0)
      stage.replicas[1]!.cut();
    return m;
  };
  t.equal(stage.activate(), null);
  t.equal(stage.said("volume.reconcileFailed").length, 2);
  t.equal(stage.upstairs.status().counts.reconciliations, 3);
  t.same(stage.violations, []);
  for (const replica of stage.replicas)
    t.same(
      replica.extents.map((e) => [e.generation, e.flushNumber, e.dirty]),
      stage.replicas[0]!.extents.map((e) => [e.generation, e.flushNumber, e.dirty]),
    );
});

t.test("generation by the clock", async (t) => {
  const saved: bigint[] = [];
  const clock = (lastUsed: bigint): { generation: GenerationSource } => ({
    generation: {
      kind: "clock",
      lastUsed,
      save: (generation, then) => {
        saved.push(generation);
        then(null);
      },
    },
  });
  const now = BigInt(new World(1).wallSeconds());
  const plain = stageOf({ upstairs: clock(0n) });
  t.equal(plain.activate(), null);
  t.equal(plain.upstairs.status().generation, now);
  const later = stageOf({ upstairs: clock(now + 7n) });
  t.equal(later.activate(), null);
  t.equal(later.upstairs.status().generation, now + 8n, "the clock went backwards");
  t.same(saved, [now, now + 8n]);

  const behind = stageOf({ upstairs: clock(0n) });
  generationsOf(behind, now + 1000n);
  t.equal(behind.activate(), null);
  // Well above, out of the way of numbers that are counted on by one.
  t.equal(behind.upstairs.status().generation, now + 2001n);
  t.ok(behind.said("volume.generation")[0]?.includes("Check the clock"));
  t.same(saved.slice(2), [now, now + 2001n], "saved before it is used");
  t.ok(
    behind.replicas.every(
      (replica) => replica.active?.generation === now + 2001n && replica.violations.length === 0,
    ),
    "and promoted with it",
  );
  t.equal(behind.stop(), null);

  const broken = stageOf({
    upstairs: {
      generation: {
        kind: "clock",
        lastUsed: 0n,
        save: (_, then) => then(new Fault("TRIVET_E_FILE", "disk full")),
      },
    },
  });
  t.equal(broken.activate()?.code, "TRIVET_E_FILE");
  t.equal(broken.dialer.dials, 0, "nobody hears of a number that is not saved");
});

t.test("superseded while cut off: refused by two", async (t) => {
  const stage = stageOf();
  t.equal(stage.activate(), null);
  for (const replica of stage.replicas) replica.cut();
  const other = new Stage(stage.world, hash, { replicas: stage.replicas, upstairs: given(7n) });
  t.equal(other.activate(), null);
  const write = stage.guest.write(0, Buffer.alloc(BLOCK, 1));
  stage.world.advance(30_000);
  t.same(
    stage.superseded.map((fault) => fault.code),
    ["TRIVET_E_SUPERSEDED"],
  );
  t.equal(stage.guest.status(write), DeviceStatus.shutdown);
  t.equal(stage.upstairs.status().state, "ended");
  t.ok(
    stage.replicas.every((replica) => replica.active?.generation === 7n),
    "the other was not disturbed",
  );
  t.equal(stage.arena.allocations, 0);
});

t.test("superseded by one who came and went", async (t) => {
  const stage = stageOf();
  t.equal(stage.activate(), null);
  for (const [index, replica] of stage.replicas.entries()) {
    stage.dialer.unreachable.add(index);
    replica.cut();
  }
  const write = stage.guest.write(0, Buffer.alloc(BLOCK, 1));
  stage.world.advance(100);
  const other = new Stage(stage.world, hash, { replicas: stage.replicas, upstairs: given(7n) });
  t.equal(other.activate(), null);
  other.guest.write(0, Buffer.alloc(BLOCK, 2));
  stage.world.advance(10);
  t.equal(other.stop(), null);
  stage.dialer.unreachable.clear();
  stage.world.advance(30_000);
  t.same(
    stage.superseded.map((fault) => fault.code),
    ["TRIVET_E_SUPERSEDED"],
  );
  t.ok(stage.superseded[0]?.message.includes("generation 7"));
  t.equal(stage.guest.status(write), DeviceStatus.shutdown);
  for (const replica of stage.replicas)
    t.same(replica.blocks.get(0)?.data, Buffer.alloc(BLOCK, 2), "nothing was written over");
});

t.test("all cut off, nobody came: goes on where it was", async (t) => {
  const stage = stageOf();
  t.equal(stage.activate(), null);
  for (let round = 0; round < 5; round++) {
    for (const replica of stage.replicas) replica.cut();
    const write = stage.guest.write(round * BLOCK, Buffer.alloc(BLOCK, round + 1));
    stage.world.advance(15_000);
    t.equal(stage.guest.status(write), DeviceStatus.ok);
  }
  t.same(stage.superseded, []);
  t.same(stage.violations, []);
  t.equal(stage.stop(), null);
});

t.test("a bad network is not taken for being superseded", async (t) => {
  const stage = stageOf();
  t.equal(stage.activate(), null);
  let bad = true;
  for (const replica of stage.replicas) {
    // Every connection is reset in the middle of promotion: not an orderly close.
    replica.manner.deaf = (m) => {
      if (bad && m.kind === "PromoteToActive") replica.cut();
      return bad && m.kind === "PromoteToActive";
    };
    replica.cut();
  }
  stage.world.advance(120_000);
  t.same(stage.superseded, []);
  bad = false;
  stage.world.advance(30_000);
  t.ok(stage.upstairs.status().replicas.every(({ phase }) => phase === "active"));
});

t.test("one that refuses while two are with us is only tried again", async (t) => {
  const stage = stageOf();
  t.equal(stage.activate(), null);
  stage.replicas[1]!.manner.refusesPromotion = true;
  stage.replicas[1]!.cut();
  stage.world.advance(120_000);
  t.same(stage.superseded, []);
  t.ok(stage.said("replica.promotionRefused").length > 5);
  stage.replicas[1]!.manner.refusesPromotion = false;
  stage.world.advance(20_000);
  t.equal(stage.upstairs.status().replicas[1]!.phase, "active");
});

t.test(
  "at the start, refusals are waited out for a minute: an old connection may linger",
  async (t) => {
    const stage = stageOf();
    for (const replica of stage.replicas) replica.manner.refusesPromotion = true;
    t.equal(stage.activate(45_000), undefined);
    for (const replica of stage.replicas) replica.manner.refusesPromotion = false;
    t.ok(stage.pass(20_000, () => stage.upstairs.status().state === "active"));

    const barred = stageOf();
    for (const replica of barred.replicas) replica.manner.refusesPromotion = true;
    t.equal(barred.activate(120_000)?.code, "TRIVET_E_SUPERSEDED");
    t.same(barred.superseded, [], "it was never active");

    // A number above all that this host ever used: whoever refuses it is somebody else.
    const clock = stageOf({
      upstairs: { generation: { kind: "clock", lastUsed: 5n, save: (_, then) => then(null) } },
    });
    for (const replica of clock.replicas) replica.manner.refusesPromotion = true;
    t.equal(clock.activate(25_000)?.code, "TRIVET_E_SUPERSEDED");
  },
);

t.test("another region in a replica's place is refused, and the volume goes on", async (t) => {
  const stage = stageOf();
  t.equal(stage.activate(), null);
  stage.replicas[0]!.manner.rewrite = (m) =>
    m.kind === "RegionInfo"
      ? { ...m, region: { ...m.region, uuid: "12345678-9999-9999-9999-999999999999" as never } }
      : m;
  stage.replicas[0]!.cut();
  stage.world.advance(20_000);
  t.ok(stage.said("replica.refused")[0]?.startsWith("TRIVET_E_REGION_CHANGED"));
  const write = stage.guest.write(0, Buffer.alloc(BLOCK, 1));
  stage.world.advance(10);
  t.equal(stage.guest.status(write), DeviceStatus.ok);
});

t.test("stopped while activating", async (t) => {
  const stage = stageOf();
  stage.replicas[1]!.isDown = true;
  let answer: Fault | null | undefined;
  stage.upstairs.activate((fault) => {
    answer = fault;
  });
  stage.world.advance(5000);
  t.equal(stage.stop(), null);
  t.equal(answer?.code, "TRIVET_E_CONNECTION", "the activation is answered");
  stage.world.advance(60_000);
  t.equal(stage.arena.allocations, 0);
  t.same(stage.replicas[0]!.connections, []);
});

t.test("bytes that come one at a time", async (t) => {
  const stage = stageOf({ links: { segmentBytes: 1 } });
  t.equal(stage.activate(), null);
  const write = stage.guest.write(BLOCK, Buffer.alloc(2 * BLOCK, 3));
  const read = stage.guest.read(0, 4 * BLOCK);
  stage.world.advance(10);
  t.equal(stage.guest.status(write), DeviceStatus.ok);
  t.same(
    stage.guest.answers.get(read)!.data?.subarray(BLOCK, 3 * BLOCK),
    Buffer.alloc(2 * BLOCK, 3),
  );
  t.equal(stage.stop(), null);
  t.equal(stage.arena.allocations, 0);
});

t.test("a region with more extents than fit into an inbox", async (t) => {
  const stage = stageOf({ region: { extentCount: 9000, extentSize: 4 } });
  t.equal(stage.activate(), null);
  t.equal(stage.upstairs.sizeBytes, 9000 * 4 * BLOCK);
  t.equal(stage.stop(), null);
  t.equal(stage.arena.allocations, 0);
});
