import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import t from "tap";
import { regionOf } from "../../kit/store.js";
import { diskOf, freshDisk, plain, Rig, readForm, sealed, untar, xxh } from "./rig.js";

const GOLDEN = "test/golden/regions";
const sha = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");

t.test("the worked example of the format, byte for byte", async (t) => {
  const rig = Rig.open(freshDisk(regionOf(512, 100, 1)));
  const fresh = rig.file(0);
  t.equal(fresh.length, 60_845);
  t.same(
    [...fresh].flatMap((byte, at) => (byte === 0 ? [] : [[at, byte]])),
    [[60_830, 2]],
  );
  const seal = Buffer.from("0102030405060708090a0b0c0405060708090a0b0c0d0e0f10111213", "hex");
  const value = sealed(Buffer.alloc(512, 1), seal);
  t.equal(value.context.readBigUInt64LE(), 9163319254371683066n);
  t.equal(rig.write(0, [value]), null);
  t.same(rig.file(0), fresh, "a write stays in memory");
  t.ok(rig.store.isDirty(0));
  t.equal(
    rig.wait((then) => rig.store.closeExtent(0, then)),
    null,
  );
  t.equal(sha(rig.file(0)), "c80c9bced6d95e10726569b8097c7aa5e1322da788f86fad0cafc097283ed412");
  t.equal(
    rig.wait((then) => rig.store.reopenExtent(0, then)),
    null,
  );
  t.ok(rig.store.isDirty(0), "closing is no flush");
  t.equal(rig.flush(9, 5n), null);
  t.equal(sha(rig.file(0)), "664516d42a67dc6bbb5a090ed11894eee9f9d49c4a89b1dde2fbcd1628cee077");
  t.equal(rig.store.isDirty(0), false);
  t.equal(rig.store.flushNumber(0), 9);
  t.equal(rig.store.generation(0), 5n);
  t.same(rig.read(0, 1)[0]!.context, readForm(value));
});

t.test("an unencrypted slot with its flush id", async (t) => {
  const rig = Rig.open(freshDisk(regionOf(512, 100, 1)));
  const one = plain(Buffer.alloc(512, 1));
  rig.write(3, [one]);
  t.equal(rig.flush(65_543), null);
  rig.write(4, [one]);
  t.equal(rig.flush(65_544), null);
  const slot = rig.file(0).subarray(56_000 + 4 * 48, 56_000 + 5 * 48);
  t.equal(slot.toString("hex"), `01bf9baf9e7d2dfc7800bf9baf9e7d2dfc780700${"00".repeat(28)}`);
});

for (const name of readdirSync(GOLDEN))
  t.test(`the original's directories: ${name}`, async (t) => {
    for (let i = 0; i < 3; i++) {
      const base = `${GOLDEN}/${name}/region${i}`;
      const files = untar(readFileSync(`${base}.tar.gz`));
      const expected = gunzipSync(readFileSync(`${base}.img.gz`));
      const about = JSON.parse(readFileSync(`${base}.json`, "utf8")) as {
        verify_status: number;
        dump: string[];
      };
      for (const readOnly of [true, false]) {
        const disk = diskOf(files);
        const rig = Rig.open(disk, { readOnly, arenaBytes: 32 * 1024 * 1024 });
        const image = rig.image();
        t.equal(sha(image), sha(expected), `region ${i}: the exported image`);
        const { extentCount, extentSize, blockSize } = rig.store.definition;
        for (let extent = 0; extent < extentCount; extent++) {
          const [, number, , gen, flush, dirty] =
            /^ *(\d+) (\S+) +(\d+) +(\d+) +(\S)/.exec(about.dump[1 + extent]!) ?? [];
          t.equal(Number(number), extent);
          t.equal(rig.store.generation(extent), BigInt(gen!));
          t.equal(rig.store.flushNumber(extent), Number(flush));
          t.equal(rig.store.isDirty(extent) ? "T" : "F", dirty);
        }
        let bad = 0;
        for (const [block, { data, context }] of rig.read(0, extentCount * extentSize).entries()) {
          const written = context[0] !== 0;
          if (!written && !data.equals(Buffer.alloc(blockSize))) bad += 1;
          if (context[0] === 2 && context.readBigUInt64LE(4) !== xxh.h64Raw(data)) bad += 1;
          if (data.length !== blockSize) t.ok(false, `block ${block}`);
        }
        t.equal(bad === 0 ? 0 : 1, about.verify_status, "as the original's verify found it");
        t.equal(rig.close(), null);
        for (const [path, bytes] of files)
          if (!disk.get(`/r/${path}`)!.equals(bytes))
            t.ok(false, `${path} was changed by opening it`);
      }
    }
  });
