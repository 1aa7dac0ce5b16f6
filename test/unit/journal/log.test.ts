import { createHash } from "node:crypto";
import t from "tap";
import type { Generation } from "../../../src/base/ids.js";
import { writeTailBytes } from "../../../src/crucible/put.js";
import { COVERED_AT, headBytes, ROW_BYTES, tailBytes } from "../../../src/journal/layout.js";
import { WriteLog } from "../../../src/journal/log.js";
import { LogMemory } from "../../../src/journal/memory.js";
import type { LogReading } from "../../../src/journal/reading.js";
import {
  BODY_BYTES,
  create,
  IDENTITY,
  idsOf,
  makeOwner,
  REGIONS,
  ROWS,
  read,
  serving,
  TapeMemory,
  why,
  write,
  zeroes,
} from "./kit.js";

const plain = (): { buffer: ArrayBuffer; memory: LogMemory } => {
  const buffer = new ArrayBuffer(headBytes(ROWS));
  return { buffer, memory: new LogMemory(buffer, 0, buffer.byteLength) };
};

t.test("bytes are where the README says", async (t) => {
  const { buffer, memory } = plain();
  const log = serving(memory);
  const rows = [write(log, 1000, 2), zeroes(log, 1001), write(log, 1002, 100)];
  log.answered(rows[1]!);
  log.flushing(1000);
  log.flushing(1001);
  log.covered(rows[0]!);
  const view = new DataView(buffer);
  const text = (at: number, length: number) => Buffer.from(buffer, at, length).toString("latin1");
  const hex = (at: number, length: number) => Buffer.from(buffer, at, length).toString("hex");
  t.equal(text(0, 8), "TRIVETWL");
  t.same(
    [8, 12, 16, 20, 24].map((at) => view.getUint32(at, true)),
    [2, 4096, 128, ROWS, headBytes(ROWS)],
  );
  t.equal(view.getBigUint64(32, true), BigInt(BODY_BYTES));
  t.equal(hex(40, 16), IDENTITY.bootId.replaceAll("-", ""));
  t.equal(hex(56, 16), IDENTITY.volumeId.replaceAll("-", ""));
  t.equal(view.getUint32(72, true), 6);
  t.equal(text(76, 6), "photos");
  // The third record: made, claimed, active.
  const session = 768;
  t.equal(view.getUint32(session, true), 3);
  t.equal(view.getUint32(512, true), 2, "the record before it is still there");
  t.equal(view.getUint32(session + 4, true), 2);
  t.same(
    [8, 16, 88, 96, 104, 128].map((at) => view.getBigUint64(session + at, true)),
    [100n, 90n, 100n, 100n, 0n, 0n],
  );
  t.same(
    [24, 28].map((at) => view.getUint32(session + at, true)),
    [512, 17],
  );
  t.equal(view.getFloat64(session + 32, true), 1234.5);
  t.equal(hex(session + 40, 16), REGIONS[0]!.replaceAll("-", ""));
  t.same(
    [session + 112, session + 120, 1152].map((at) => view.getFloat64(at, true)),
    [1000, 999, 1001],
  );
  t.same([view.getUint32(1024, true), view.getUint32(1088, true)], [1, 1]);
  const first = 4096 + ROW_BYTES;
  t.same(
    [0, 4, 12, 16, 20].map((at) => view.getUint32(first + at, true)),
    [2, 0, 1, 1, 2],
  );
  t.same(
    [24, 32, 40, 48].map((at) => view.getFloat64(first + at, true)),
    [1000, 8000, (1000 % 12) * 65_536, -1],
  );
  t.equal(hex(first + 64, 28), "01010101020202020303030304040404050505050606060607070707");
  t.equal(hex(first + 92, 4), "00000000", "no more than the contexts in use");
  const second = first + ROW_BYTES;
  t.same([view.getUint32(second + 4, true), view.getUint32(second + 16, true)], [1, 2]);
  t.equal(view.getFloat64(second + 40, true), -1);
  const third = second + ROW_BYTES;
  t.equal(view.getFloat64(third + 48, true), (1002 % 12) * 65_536 + 100 * 512);
  t.equal(
    createHash("sha256").update(Buffer.from(buffer)).digest("hex"),
    "f310438b4a4bbb8b1f646461718ba529147c00c426c4c3520c9f854bc17b7764",
    "all of it, sums included: another layout is another version",
  );
  for (const blocks of [1, 6, 7, 256])
    t.equal(tailBytes(blocks), writeTailBytes(blocks, false), "contexts in their wire form");
});

t.test("what a death between any two stores leaves", async (t) => {
  const memory = new TapeMemory();
  let log!: WriteLog;
  const good = (reading: LogReading): boolean => reading.kind === "log";
  const making = memory.record(() => {
    log = create(memory);
  });
  t.ok(making.length > 15);
  t.same(new Set(making.map(({ kind }) => kind)), new Set(["blank", "log"]), "made or not made");
  const sessions: [string, () => void][] = [
    ["claimed", () => log.claimed(7n as Generation)],
    ["active", () => serveWith(log)],
    ["joined", () => log.joined(1, REGIONS[0]!)],
    ["claimed again", () => log.claimed(8n as Generation)],
  ];
  for (const [name, act] of sessions) {
    const states = memory.record(act);
    const [before, after] = [states[0]!, states.at(-1)!];
    t.not(JSON.stringify(words(before)), JSON.stringify(words(after)), `${name}: something is new`);
    t.ok(states.length > 8 && states.every(good), `${name}: always a good log`);
    t.ok(
      states.every(
        (state) =>
          JSON.stringify(words(state)) === JSON.stringify(words(before)) ||
          JSON.stringify(words(state)) === JSON.stringify(words(after)),
      ),
      `${name}: the record before or the one after`,
    );
  }
  // Around the ring twice, so that rows are written over older ones.
  const live: number[] = [];
  const rowNumbers: number[] = [];
  let torn = 0;
  for (let id = 1; id <= 2 * ROWS + 5; id++) {
    const before = [...live];
    live.push(id);
    const blocks = [1, 2, 6, 7, 100][id % 5]!;
    const states = memory.record(() => {
      rowNumbers.push(id % 3 === 0 ? zeroes(log, id) : write(log, id, blocks));
    });
    for (const state of states) {
      const ids = idsOf(state);
      const isEither = `${ids}` === `${before}` || `${ids}` === `${live}`;
      if (!good(state) || !isEither) t.fail(`row ${id}: ${state.kind} ${state.problems} ${ids}`);
      torn += state.torn;
    }
    const answer = memory.record(() => log.answered(rowNumbers.at(-1)!));
    if (!answer.every((state) => good(state) && `${idsOf(state)}` === `${live}`))
      t.fail("answered");
    if (live.length > 20) {
      const upTo = rowNumbers.at(-8)!;
      const old = [...live];
      live.splice(0, live.length - 7);
      for (const state of memory.record(() => log.covered(upTo))) {
        const ids = `${idsOf(state)}`;
        if (!good(state) || (ids !== `${old}` && ids !== `${live}`)) t.fail(`covered: ${ids}`);
      }
    }
  }
  t.ok(torn > 1000, `${torn} states with a row half written`);
  const ending = memory.record(() => {
    log.covered(rowNumbers.at(-1)!);
    log.emptied();
  });
  t.ok(ending.every(good));
  t.equal(ending.at(-1)!.session?.state, 1);
});
const words = ({ session }: LogReading): unknown =>
  JSON.stringify(session, (_, value) => (typeof value === "bigint" ? `${value}` : value));
const serveWith = (log: WriteLog): void =>
  log.activated({
    highestSeen: 5n as Generation,
    reconciledWith: 6n as Generation,
    firstFlush: 2000,
    regions: [REGIONS[0]!, null, REGIONS[2]!],
    blockBytes: 512,
  });

t.test(
  "a replica that a resumed session leaves out is still one that the rows are about",
  async (t) => {
    const { buffer, memory } = plain();
    write(serving(memory), 1);
    const owner = makeOwner();
    serveWith(WriteLog.resume(memory, read(buffer), owner));
    t.same(read(buffer).session?.regions, REGIONS);
    const fresh = plain();
    serveWith(create(fresh.memory, owner));
    t.same(read(fresh.buffer).session?.regions, [REGIONS[0], null, REGIONS[2]]);
  },
);

t.test("rows: full, held, covered in order", async (t) => {
  const log = serving(plain().memory);
  t.equal(log.rowsMax, ROWS);
  const rows = Array.from({ length: ROWS }, (_, i) => write(log, i));
  t.equal(log.isFull, true);
  t.equal(log.rows, ROWS);
  t.throws(() => write(log, 99), /row is free/);
  t.ok(rows.every((row) => log.holds(row)));
  log.covered(rows[9]!);
  t.equal(log.isFull, false);
  t.equal(log.rows, ROWS - 10);
  t.equal(log.holds(rows[9]!), false);
  t.equal(log.holds(rows[10]!), true);
  log.covered(rows[4]!);
  t.equal(log.rows, ROWS - 10, "an earlier row says nothing new");
  log.covered((rows.at(-1)! + 3) | 0);
  t.equal(log.rows, ROWS - 10, "nor does one that was never written");
  log.emptied();
  t.equal(log.isOpen, true, "not left in order while rows are not covered");
  log.covered(rows.at(-1)!);
  log.emptied();
  t.equal(log.isOpen, false);
  t.throws(
    () => log.wrote(1, 1, 100, 0, 4096, new Int32Array(16), 0),
    /contexts follow/,
    "contexts elsewhere could not be found again",
  );
});

t.test("numbers of rows wrap", async (t) => {
  const { buffer, memory } = plain();
  serving(memory);
  for (const start of [0x7fff_fff0, -20]) {
    for (const at of COVERED_AT) memory.words[at] = start;
    let log = WriteLog.resume(memory, read(buffer), makeOwner());
    const rows: number[] = [];
    for (let i = 0; i < 60; i++) {
      rows.push(write(log, i));
      if (i % 7 === 6) log.covered(rows[i - 3]!);
      if (i % 13 === 0) {
        const reading = read(buffer);
        t.same(reading.problems, []);
        log = WriteLog.resume(memory, reading, makeOwner());
      }
    }
    const reading = read(buffer);
    t.equal(reading.kind, "log");
    t.same(idsOf(reading), [53, 54, 55, 56, 57, 58, 59]);
    t.same(
      reading.rows.map(({ row }) => row),
      rows.slice(53),
      "in order over the end of the numbers",
    );
    log.covered(rows.at(-1)!);
  }
});

t.test("a successor finds what it needs, and goes on", async (t) => {
  const { buffer, memory } = plain();
  const first = serving(memory);
  write(first, 1);
  const answered = write(first, 2, 100);
  zeroes(first, 3);
  first.answered(answered);
  first.flushing(1001);
  first.flushing(1002);
  const reading = read(buffer);
  const log = WriteLog.resume(memory, reading, makeOwner());
  const resume = log.resume!;
  t.equal(resume.generation, 100n);
  t.same(resume.regions, REGIONS);
  t.equal(resume.blockBytes, 512);
  t.same(
    reading.rows.map(({ id, kind, blocks, answered, tail, payloadBytes }) => [
      id,
      kind,
      blocks,
      answered,
      tail?.length ?? null,
      payloadBytes,
    ]),
    [
      [1, 1, 1, false, 17, 512],
      [2, 1, 100, true, null, 51_200],
      [3, 2, 8, false, null, 4096],
    ],
  );
  const explained = (flush: number): bigint[] =>
    [1n, 90n, 91n, 95n, 99n, 100n, 101n, 102n].filter((found) => resume.explains(found, flush));
  t.same(explained(1000), [1n, 90n, 100n], "what was on disk before, and its own");
  t.same(explained(1002), [1n, 90n, 100n]);
  t.same(
    explained(1003),
    [1n, 90n],
    "a flush that was never sent: another host has the same clock",
  );
  t.same(explained(999), [1n, 90n], "also one before ours");
  log.claimed(101n as Generation);
  t.same(explained(1002), [1n, 90n, 100n], "a claim alone explains nothing on disk");
  log.activated({
    highestSeen: 90n as Generation,
    reconciledWith: 95n as Generation,
    firstFlush: 2000,
    regions: REGIONS,
    blockBytes: 512,
  });
  t.same(explained(1002), [1n, 90n, 100n], "what the one before sent stays known");
  t.same(explained(2000), [1n, 90n, 95n, 101n], "reconciliation's number");
  t.same(explained(2001), [1n, 90n]);
  log.flushing(2001);
  t.same(WriteLog.resume(memory, read(buffer), makeOwner()).resume!.explains(101n, 2001), true);
  t.same(idsOf(read(buffer)), [1, 2, 3], "nothing is forgotten before it is covered");
  const next = write(log, 1000);
  log.covered(log.resume!.writes[1]!.row);
  t.same(idsOf(read(buffer)), [3, 1000]);
  log.covered(next);
  t.same(idsOf(read(buffer)), []);
});

t.test("void: put aside first, and only then forgotten", async (t) => {
  const { buffer, memory } = plain();
  const owner = makeOwner();
  const log = serving(memory, owner);
  write(log, 1);
  owner.canCopy = false;
  log.voided(why);
  t.equal(read(buffer).rows.length, 1, "what cannot be put aside stays");
  t.equal(log.isOpen, true);
  owner.canCopy = true;
  log.voided(why);
  t.same(owner.aside, [why]);
  t.equal(read(buffer).rows.length, 0);
  t.equal(read(buffer).session?.state, 3);
  t.equal(log.isOpen, false);
  log.voided(why);
  t.equal(owner.aside.length, 1, "once");
  const fresh = create(plain().memory, owner);
  fresh.claimed(1n as Generation);
  fresh.voided(why);
  t.equal(owner.aside.length, 1, "nothing was ever in it");
});
