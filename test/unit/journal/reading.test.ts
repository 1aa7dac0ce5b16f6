import fc from "fast-check";
import t from "tap";
import type { Uuid } from "../../../src/base/ids.js";
import { decide } from "../../../src/journal/decide.js";
import { HEADER_BYTES, headBytes, ROW_BYTES } from "../../../src/journal/layout.js";
import { LogMemory } from "../../../src/journal/memory.js";
import { headBytesOf, type LogReading, readLog } from "../../../src/journal/reading.js";
import {
  BODY_BYTES,
  create,
  IDENTITY,
  idsOf,
  makeOwner,
  ROWS,
  read,
  serving,
  write,
  zeroes,
} from "./kit.js";

const ours = { bootId: IDENTITY.bootId, volumeId: IDENTITY.volumeId };
const other = "99999999-0000-4000-8000-000000000000" as Uuid;

/** Five rows covered, six that count. */
function sample(): ArrayBuffer {
  const buffer = new ArrayBuffer(headBytes(ROWS));
  const log = serving(new LogMemory(buffer, 0, buffer.byteLength));
  for (let id = 1; id <= 11; id++) {
    if (id % 4 === 0) zeroes(log, id);
    else write(log, id, id % 3 === 0 ? 20 : 1 + (id % 6));
    if (id === 5) log.covered(5);
  }
  return buffer;
}
const u32 = (buffer: ArrayBuffer): Uint32Array => new Uint32Array(buffer);

t.test("any one bit that is wrong is noticed, or does not matter", async (t) => {
  const good = sample();
  const want = read(good);
  t.same(idsOf(want), [6, 7, 8, 9, 10, 11]);
  const essence = ({ rows }: LogReading): string =>
    JSON.stringify(
      rows.map(({ answered: _, ...row }) => ({ ...row, tail: [...(row.tail ?? [])] })),
    );
  const places = [
    ...Array.from({ length: 1100 }, (_, i) => i),
    ...Array.from({ length: 13 * ROW_BYTES }, (_, i) => HEADER_BYTES + i),
  ];
  const silent = new Map<number, string>();
  let noticed = 0;
  for (const at of places)
    for (let bit = 0; bit < 8; bit++) {
      const bad = good.slice(0);
      new Uint8Array(bad)[at]! ^= 1 << bit;
      const reading = read(bad);
      if (reading.kind !== "log") {
        noticed += 1;
        if (
          reading.kind === "blank" ||
          (reading.kind === "corrupt" && reading.problems.length === 0)
        )
          t.fail(`byte ${at}: ${reading.kind} without a word`);
        continue;
      }
      const same = essence(reading) === essence(want);
      // A mark that says less was covered than truly was: more is written again, in order.
      const longer = essence({ ...reading, rows: reading.rows.slice(-6) }) === essence(want);
      if (!same && !(longer && at >= 1024 && at < 1100)) t.fail(`byte ${at} bit ${bit}`);
      if (at < 512) silent.set(at, "header");
    }
  t.ok(noticed > 10_000, `${noticed} noticed`);
  t.same(
    [...silent.keys()].filter((at) => at < 476 || at >= 508),
    [],
    "all of the header is covered by its sum",
  );
});

t.test("random bytes are never believed, and never crash", async (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat({ max: 64 + 128 * 14 }), fc.nat({ max: 0xffff_ffff })), {
        minLength: 1,
        maxLength: 12,
      }),
      (changes) => {
        const bad = sample();
        const words = u32(bad);
        // Words of the header, then those of the rows.
        for (const [at, value] of changes) words[at < 320 ? at : 1024 + at - 320] = value;
        const reading = read(bad);
        for (const row of reading.rows)
          if (row.at + row.payloadBytes > BODY_BYTES || row.blocks < 1) return false;
        return true;
      },
    ),
    { numRuns: 500 },
  );
  fc.assert(
    fc.property(fc.uint8Array({ minLength: HEADER_BYTES, maxLength: HEADER_BYTES }), (bytes) => {
      const memory = new LogMemory(bytes.slice().buffer, 0, HEADER_BYTES);
      return headBytesOf(memory) === null && readLog(memory, HEADER_BYTES).kind !== "log";
    }),
  );
  t.pass();
});

t.test("what is wrong is said", async (t) => {
  const cases: [string, (buffer: ArrayBuffer) => void, RegExp][] = [
    ["a row is missing", (b) => u32(b).fill(0, 1024 + 7 * 32, 1024 + 8 * 32), /row 7 is missing/],
    ["a row is damaged", (b) => (u32(b)[1024 + 7 * 32 + 5]! += 1), /row 7 is damaged/],
    ["the last row is damaged", (b) => (u32(b)[1024 + 11 * 32 + 6]! += 1), /row 11 is damaged/],
    ["half written in between", (b) => (u32(b)[1024 + 8 * 32] = 1), /row 8 is half written/],
    ["half written elsewhere", (b) => (u32(b)[1024 + 20 * 32] = 1), /place 20 is half written/],
    ["both sessions", (b) => u32(b).fill(7, 128, 256), /neither of the two session records/],
    ["the header", (b) => (u32(b)[20] = 5), /header is damaged/],
    ["marks", (b) => (u32(b)[256] = 3), /marks of what is covered disagree/],
  ];
  for (const [name, damage, what] of cases) {
    const bad = sample();
    damage(bad);
    const reading = read(bad);
    t.equal(reading.kind, "corrupt", name);
    t.match(reading.problems.join("; "), what);
    const decision = decide(reading, "/run/photos.log", ours);
    t.equal(decision.kind, "stop");
    t.match(
      decision.kind === "stop" ? decision.fault.line : "",
      /TRIVET_E_LOG_CORRUPT: \/run\/photos.log/,
    );
    t.ok(decision.kind === "stop" && decision.aside, "and it is put aside");
  }
  const short = readLog(new LogMemory(sample(), 0, headBytes(ROWS)), 100_000);
  t.match(short.problems.join(), /the file has 100000 bytes/);
});

t.test("what becomes of a log", async (t) => {
  const table: [string, LogReading, Uuid, Uuid, string][] = [];
  const add = (
    name: string,
    buffer: ArrayBuffer,
    want: string,
    volume = ours.volumeId,
    boot = ours.bootId,
  ) => table.push([name, read(buffer), volume, boot, want]);
  add("no bytes", new ArrayBuffer(headBytes(ROWS)), "fresh");
  add("left by a server that died", sample(), "resume");
  add("of another volume", sample(), "aside", other);
  add("of another boot", sample(), "aside", ours.volumeId, other);
  const idle = sample();
  u32(idle).fill(11, 256, 257).fill(11, 272, 273);
  t.same(idsOf(read(idle)), []);
  add("nothing to write again, but it was in use", idle, "resume");
  add("of another boot, with nothing in it", idle, "fresh", ours.volumeId, other);
  const empty = new ArrayBuffer(headBytes(ROWS));
  create(new LogMemory(empty, 0, empty.byteLength));
  add("never in use", empty, "fresh");
  const newer = sample();
  u32(newer)[2] = 3;
  add("newer", newer, "aside");
  const older = sample();
  u32(older)[2] = 1;
  add("older", older, "aside");
  const alien = sample();
  u32(alien)[0] = 0x12345678;
  add("something else", alien, "stop");
  const damaged = sample();
  u32(damaged)[1024 + 7 * 32 + 5]! += 1;
  add("damaged", damaged, "stop");
  add("damaged, of another boot", damaged, "aside", ours.volumeId, other);
  const done = new ArrayBuffer(headBytes(ROWS));
  const log = serving(new LogMemory(done, 0, done.byteLength));
  log.covered(write(log, 1));
  log.emptied();
  add("stopped in order", done, "fresh");
  const gone = new ArrayBuffer(headBytes(ROWS));
  const owner = makeOwner();
  const voided = serving(new LogMemory(gone, 0, gone.byteLength), owner);
  write(voided, 1);
  voided.voided(
    owner.aside[0] ??
      new (await import("../../../src/base/fault.js")).Fault("TRIVET_E_SUPERSEDED", "x"),
  );
  add("put aside already", gone, "fresh");
  for (const [name, reading, volumeId, bootId, want] of table)
    t.equal(decide(reading, "/run/photos.log", { bootId, volumeId }).kind, want, name);
  const words = table.map(([, reading, volumeId, bootId]) => {
    const decision = decide(reading, "/run/photos.log", { bootId, volumeId });
    return decision.kind === "aside"
      ? decision.why
      : decision.kind === "stop"
        ? decision.fault.message
        : "";
  });
  t.match(words.join("\n"), /belongs to the volume photos .* 6 writes/);
  t.match(words.join("\n"), /earlier boot of this machine and holds 6 writes/);
  t.match(words.join("\n"), /version 3, newer than 2/);
  t.match(words.join("\n"), /version 1, older than 2/);
  t.match(words.join("\n"), /no write log, and is left as it is/);
});
