import t from "tap";
import { PIECE_BYTES_MAX } from "../../../src/base/limits.js";
import { checkRequest } from "../../../src/nbd/commands.js";
import { PieceTable, pieceLength } from "../../../src/nbd/pieces.js";

const MIB = PIECE_BYTES_MAX;

t.test("pieces end at multiples of the piece size, wherever they are", async (t) => {
  const rows: [number, number, number][] = [
    [0, 1, 1],
    [0, MIB, MIB],
    [0, 64 * MIB, MIB],
    [1, MIB, MIB - 1],
    [MIB - 1, 10, 1],
    [2 ** 31 - 1, 10, 1],
    [2 ** 32 - 512, 4096, 512],
    [2 ** 32 + 512, 4096, 4096],
    [2 ** 44 + 3 * MIB + 5, 2 * MIB, MIB - 5],
    [2 ** 53 - 100, 99, 99],
  ];
  for (const [offset, length, want] of rows)
    t.equal(pieceLength(offset, length), want, `${offset} +${length}`);
});

t.test("alignment is checked beyond 32 bits, too", async (t) => {
  const check = (offset: number, length: number) =>
    checkRequest(0, 0, offset, length, 2 ** 50, 0, 4096);
  t.equal(check(2 ** 40, 4096), 0);
  t.equal(check(2 ** 40 + 2048, 4096), 22);
  t.equal(check(2 ** 40, 0xfffff000), 0);
  t.equal(check(2 ** 40, 0xfffff800), 22);
});

t.test("pieces are handed out once, and their table grows", async (t) => {
  const table = new PieceTable();
  const taken = Array.from({ length: 200 }, (_, i) => table.take(i, 1000 * i, i + 1));
  t.equal(new Set(taken).size, 200);
  t.equal(table.used, 200);
  for (const [i, piece] of taken.entries())
    t.same([table.slot[piece], table.offset[piece], table.length[piece]], [i, 1000 * i, i + 1]);
  for (const piece of taken) table.put(piece);
  t.equal(table.used, 0);
  t.equal(new Set(Array.from({ length: 200 }, () => table.take(0, 0, 1))).size, 200);
});
