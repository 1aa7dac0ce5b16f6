import t from "tap";
import {
  findTable,
  HEAD_BYTES,
  otherBlockSize,
  startsWithContent,
} from "../../../../src/app/attach/partition-table.js";

const GIB = 2 ** 30;

function entry(head: Buffer, slot: number, type: number, start: number, count: number): void {
  const at = 446 + 16 * slot;
  head[at + 4] = type;
  head.writeUInt32LE(start, at + 8);
  head.writeUInt32LE(count, at + 12);
  head.writeUInt16LE(0xaa55, 510);
}
/** As parted makes it on a disk of `size` bytes with such blocks. */
function gpt(blockBytes: number): Buffer {
  const head = Buffer.alloc(HEAD_BYTES);
  entry(head, 0, 0xee, 1, 0xffffffff);
  head.write("EFI PART", blockBytes, "latin1");
  head.writeBigUInt64LE(1n, blockBytes + 24);
  return head;
}
function mbr(...partitions: readonly (readonly [number, number])[]): Buffer {
  const head = Buffer.alloc(HEAD_BYTES);
  for (const [slot, [start, count]] of partitions.entries()) entry(head, slot, 0x83, start, count);
  return head;
}
/** A volume that has an ext4 file system at `at` and nothing else. */
const ext4At =
  (at: number) =>
  async (offset: number, length: number): Promise<Buffer> => {
    const bytes = Buffer.alloc(length);
    const magic = at + 0x438 - offset;
    if (magic >= 0 && magic + 2 <= length) bytes.writeUInt16LE(0xef53, magic);
    return bytes;
  };
const never = async (): Promise<Buffer> => {
  throw new Error("nothing more is to be read");
};

t.test("no table", async (t) => {
  t.equal(findTable(Buffer.alloc(HEAD_BYTES), GIB), undefined);
  t.equal(findTable(Buffer.alloc(0), 0), undefined);
  t.equal(findTable(Buffer.alloc(512, 0xff), 512), undefined);
  // The first block of a FAT file system ends like a table, too.
  const fat = Buffer.alloc(HEAD_BYTES);
  fat.fill("This is not a bootable disk. ", 446, 510);
  fat.writeUInt16LE(0xaa55, 510);
  t.equal(findTable(fat, GIB), undefined);
  t.equal(findTable(mbr([100, 100], [150, 100]), GIB), undefined, "partitions over each other");
  t.equal(findTable(mbr([0, 100]), GIB), undefined);
  // The words alone, somewhere in a file.
  const text = Buffer.alloc(HEAD_BYTES);
  text.write("EFI PART", 512, "latin1");
  t.equal(findTable(text, GIB), undefined);
});

t.test("a GPT says for which blocks it was made", async (t) => {
  for (const size of [512, 1024, 2048, 4096]) {
    const table = findTable(gpt(size), GIB)!;
    t.same([table.kind, table.fits], ["GPT", [size]]);
    for (const wanted of [512, 4096])
      t.equal(
        await otherBlockSize(table, wanted, never),
        wanted === size ? undefined : size,
        `${size} with ${wanted}`,
      );
  }
  // Made anew with another size: the one that is asked for is there.
  const both = gpt(512);
  both.write("EFI PART", 4096, "latin1");
  both.writeBigUInt64LE(1n, 4096 + 24);
  t.equal(await otherBlockSize(findTable(both, GIB)!, 4096, never), undefined);
});

t.test("an MBR whose partitions go beyond the end", async (t) => {
  // 1 MiB to the end of 1 GiB, in blocks of 512.
  const table = findTable(mbr([2048, GIB / 512 - 2048]), GIB)!;
  t.same([table.kind, table.fits], ["MBR", [512]]);
  t.equal(await otherBlockSize(table, 4096, never), 512);
  t.equal(await otherBlockSize(table, 512, ext4At(2048 * 512)), undefined);
});

t.test("an MBR that makes sense for several sizes: what lies there tells", async (t) => {
  const table = findTable(mbr([2048, 2048]), GIB)!;
  t.same(table.fits, [512, 1024, 2048, 4096]);
  t.equal(await otherBlockSize(table, 4096, ext4At(2048 * 4096)), undefined);
  t.equal(await otherBlockSize(table, 4096, ext4At(2048 * 512)), 512);
  t.equal(await otherBlockSize(table, 512, ext4At(2048 * 4096)), 4096);
  t.equal(await otherBlockSize(table, 4096, ext4At(0)), undefined, "empty: nobody can say");
  const nowhere = findTable(mbr([2 ** 31, 2 ** 31]), GIB)!;
  t.same(nowhere.fits, []);
  t.equal(await otherBlockSize(nowhere, 4096, never), undefined);
});

t.test("what partitions begin with", async (t) => {
  const at = (offset: number, text: string): Buffer => {
    const bytes = Buffer.alloc(8192);
    bytes.write(text, offset, "latin1");
    return bytes;
  };
  t.ok(startsWithContent(at(0, "XFSB")));
  t.ok(startsWithContent(at(0, "LUKS\xba\xbe")));
  t.ok(startsWithContent(at(512, "LABELONE")));
  t.ok(startsWithContent(at(4086, "SWAPSPACE2")));
  t.equal(startsWithContent(Buffer.alloc(8192)), false);
  t.equal(startsWithContent(Buffer.alloc(0)), false);
});
