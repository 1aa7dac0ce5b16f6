import t from "tap";
import { Fault } from "../../../src/base/fault.js";
import { blockShift, checkGeometry, chooseGeometry } from "../../../src/region/geometry.js";
import { extentLayout, extentPath, slotOffset } from "../../../src/region/layout.js";

t.test("offsets are those of the format", async (t) => {
  const small = extentLayout({ blockSize: 512, extentSize: 100 });
  t.equal(slotOffset(small, 0, 0), 51_200);
  t.equal(slotOffset(small, 1, 0), 56_000);
  t.equal(slotOffset(small, 0, 99), 55_952);
  t.equal(slotOffset(small, 1, 99), 60_752);
  t.equal(small.bitmapAt, 60_800);
  t.equal(small.bitmapBytes, 13);
  t.equal(small.metadataAt, 60_813);
  t.equal(small.fileBytes, 60_845);
  const large = extentLayout({ blockSize: 4096, extentSize: 32_768 });
  t.equal(slotOffset(large, 1, 0), 135_790_592);
  t.equal(slotOffset(large, 1, 32_767), 137_363_408);
  t.equal(large.metadataAt, 137_367_552);
  t.equal(large.fileBytes, 137_367_584);
  const sizes = [
    [4096, 16_384, 68_683_808],
    [512, 131_072, 79_708_192],
    [512, 10, 6_114],
  ] as const;
  for (const [blockSize, extentSize, bytes] of sizes)
    t.equal(extentLayout({ blockSize, extentSize }).fileBytes, bytes);
});

t.test("a metadata record over a sector boundary is recognised", async (t) => {
  for (let extentSize = 1; extentSize < 2000; extentSize++) {
    const layout = extentLayout({ blockSize: 512, extentSize });
    const first = Math.floor(layout.metadataAt / 512);
    const last = Math.floor((layout.metadataAt + 16) / 512);
    if (layout.metadataTearable !== (first !== last)) t.ok(false, `${extentSize} blocks`);
  }
  t.equal(extentLayout({ blockSize: 4096, extentSize: 32_768 }).metadataTearable, false);
});

t.test("paths", async (t) => {
  const paths: Record<number, string> = {
    0: "00/000/000",
    3: "00/000/003",
    59: "00/000/03B",
    4095: "00/000/FFF",
    4096: "00/001/000",
    65535: "00/00F/FFF",
    65536: "00/010/000",
    4294967295: "FF/FFF/FFF",
  };
  for (const [extent, path] of Object.entries(paths)) t.equal(extentPath(Number(extent)), path);
});

const faultOf = (run: () => void): string => {
  try {
    run();
  } catch (error) {
    return error instanceof Fault ? `${error.code} ${error.message}` : `no Fault: ${error}`;
  }
  return "nothing";
};

t.test("geometries that are refused", async (t) => {
  const good = { blockSize: 4096, extentSize: 100, extentCount: 3, shift: 12 };
  t.equal(
    faultOf(() => checkGeometry(good, "here")),
    "nothing",
  );
  for (const [wrong, words] of [
    [{ blockSize: 1536 }, /block size 1536 is not a power of two from 512 to 32768/],
    [{ blockSize: 256, shift: 8 }, /block size 256/],
    [{ blockSize: 65_536, shift: 16 }, /block size 65536/],
    [{ shift: 9 }, /extent_size.shift is 9, expected 12/],
    [{ extentSize: 0 }, /at least 1/],
    [{ extentSize: 131_073 }, /exceeds 512 MiB/],
    [{ extentCount: 0 }, /extent count is 0/],
    [{ extentCount: 2 ** 32 }, /extent count is/],
    [{ extentSize: 131_072, extentCount: 2 ** 32 - 1 }, /2\^53/],
  ] as const) {
    const got = faultOf(() => checkGeometry({ ...good, ...wrong }, "here"));
    t.ok(got.startsWith("TRIVET_E_REGION_GEOMETRY here: ") && words.test(got), got);
  }
  t.equal(blockShift(512, ""), 9);
  t.equal(blockShift(32_768, ""), 15);
});

t.test("a size becomes extents", async (t) => {
  const MIB = 2 ** 20;
  const GIB = 2 ** 30;
  const chosen = (size: number, block = 4096): string => {
    const { blockSize, extentSize, extentCount } = chooseGeometry(size, block);
    if (blockSize * extentSize * extentCount < size) return "too small";
    return `${extentCount} x ${(blockSize * extentSize) / MIB} MiB`;
  };
  t.equal(chosen(GIB), "16 x 64 MiB");
  t.equal(chosen(GIB, 512), "16 x 64 MiB");
  t.equal(chosen(100 * GIB), "1600 x 64 MiB");
  t.equal(chosen(1024 * GIB), "4096 x 256 MiB");
  t.equal(chosen(16 * 1024 * GIB), "32768 x 512 MiB");
  t.equal(chosen(100 * MIB), "25 x 4 MiB");
  t.equal(chosen(1_500 * MIB), "375 x 4 MiB");
  t.equal(chosen(1), "1 x 1 MiB");
  t.equal(chosen(5_000_000_000), "75 x 64 MiB", "rounded up when nothing divides");
  for (let i = 0; i < 45; i++) {
    const { extentCount, extentSize, blockSize } = chooseGeometry((3 ** i % 2 ** 50) + 1, 512);
    checkGeometry({ extentCount, extentSize, blockSize, shift: 9 }, "chosen");
  }
});
