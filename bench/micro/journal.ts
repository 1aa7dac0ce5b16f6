// The write log: what a write costs in it, from its row to its covering, against no log.
// Run: node dist/bench/micro/journal.js

import type { Generation, Uuid } from "../../src/base/ids.js";
import { headBytes, ROWS_DEFAULT } from "../../src/journal/layout.js";
import { WriteLog } from "../../src/journal/log.js";
import { LogMemory } from "../../src/journal/memory.js";
import { type Journal, nullJournal } from "../../src/ports/journal.js";
import { suite } from "../kit.js";

const ROUND = 1000;
const id = "00000000-0000-4000-8000-000000000000" as Uuid;
const head = new ArrayBuffer(headBytes(ROWS_DEFAULT));
const memory = new LogMemory(head, 0, head.byteLength);
const identity = { bootId: id, volumeId: id, name: "v", rows: ROWS_DEFAULT, bodyBytes: 2 ** 28 };
const log = WriteLog.create(memory, identity, { pid: 1, nowMs: () => 0, setAside: () => true });
log.claimed(1n as Generation);
log.activated({
  highestSeen: 0n as Generation,
  reconciledWith: null,
  firstFlush: 1,
  regions: [id, id, id],
  blockBytes: 4096,
});

const tails = new Int32Array(16 * 1024).map((_, i) => Math.imul(i, 0x9e3779b1));
let job = 1000;

/** ROUND writes that are answered, then a flush that covers them. */
const round =
  (journal: Journal, blocks: number, isLong: boolean): (() => void) =>
  () => {
    let row = 0;
    for (let i = 0; i < ROUND; i++) {
      const at = i * 65_536;
      const tailAt = isLong ? at + blocks * 4096 : -1;
      row = journal.wrote(job++, i * 7, blocks, at, tailAt, tails, (i & 1023) * 16);
      journal.answered(row);
    }
    journal.covered(row);
  };

suite(
  "a write in the log, from its row to its covering",
  {
    "4 KiB": round(log, 1, false),
    "24 KiB": round(log, 6, false),
    "28 KiB and more": round(log, 7, true),
    "no log": round(nullJournal, 1, false),
  },
  ROUND,
);
