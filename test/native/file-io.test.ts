import fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { openHost } from "../../src/host/open.js";
import { FILE_PIECES_MAX, type FileDone } from "../../src/ports/files.js";
import { prng } from "../kit/world.js";
import { noise } from "../unit/host/stream-contract.js";

const MIB = 1024 * 1024;

for (const engine of ["ring", "plain"] as const)
  t.test(engine, async (t) => {
    const host = openHost({ arenaBytes: 32 * MIB, engine });
    const { arena, fileIo } = host;
    const directory = fs.mkdtempSync(join(tmpdir(), "trivet-"));
    const path = join(directory, "data");
    const file = fs.openSync(path, "w+");
    t.teardown(async () => {
      await host.close();
      fs.closeSync(file);
      fs.rmSync(directory, { recursive: true });
    });
    /** Makes a request, checks that it does not call back at once, and waits for the result. */
    const ask = (request: (done: FileDone, tag: number) => void): Promise<number> =>
      new Promise((answer, fail) => {
        let returned = false;
        const tag = Math.floor(Math.random() * 1000);
        request(
          {
            fileDone: (got, result) => {
              if (returned && got === tag) answer(result);
              else fail(new Error("called back too early, or with another tag"));
            },
          },
          tag,
        );
        returned = true;
      });

    t.equal(host.engine, engine);
    t.test("write, read back, short only at the end of the file", async (t) => {
      for (const length of [1, 512, 4096, 65_536, 3 * MIB + 17]) {
        const bytes = noise(length, length);
        const at = arena.alloc(length);
        bytes.copy(arena.bytes, at);
        t.equal(await ask((done, tag) => fileIo.write(file, 1000, at, length, done, tag)), length);
        arena.bytes.fill(0, at, at + length);
        t.equal(await ask((done, tag) => fileIo.read(file, 1000, at, length, done, tag)), length);
        t.ok(arena.bytes.subarray(at, at + length).equals(bytes));
        arena.free(at);
      }
      const size = fs.fstatSync(file).size;
      t.equal(await ask((done, tag) => fileIo.read(file, size - 10, 0, 4096, done, tag)), 10);
      t.equal(await ask((done, tag) => fileIo.read(file, size + 10, 0, 4096, done, tag)), 0);
      t.equal(await ask((done, tag) => fileIo.sync(file, false, done, tag)), 0);
      t.equal(await ask((done, tag) => fileIo.sync(file, true, done, tag)), 0);
    });
    t.test("gathered write of scattered pieces; the array is free at once", async (t) => {
      const chance = prng(8);
      const pieces = new Float64Array(2 * FILE_PIECES_MAX);
      const parts: Buffer[] = [];
      for (let i = 0; i < FILE_PIECES_MAX; i++) {
        const length = 1 + Math.floor(chance() * 9000);
        const part = noise(length, i);
        const at = 16_384 * i + 3;
        part.copy(arena.bytes, at);
        parts.push(part);
        pieces[2 * i] = at;
        pieces[2 * i + 1] = length;
      }
      const all = Buffer.concat(parts);
      const result = await ask((done, tag) => {
        fileIo.writeGather(file, 77, pieces, FILE_PIECES_MAX, done, tag);
        pieces.fill(0);
      });
      t.equal(result, all.length);
      const back = Buffer.alloc(all.length);
      fs.readSync(file, back, 0, all.length, 77);
      t.ok(back.equals(all));
    });
    t.test("more requests than fit at a time, each answered once", async (t) => {
      const count = 5000;
      const seen = new Uint8Array(count);
      const at = arena.alloc(MIB);
      arena.bytes.fill(0x42, at, at + MIB);
      const pieces = new Float64Array(64);
      for (let i = 0; i < 32; i++) pieces.set([at + 512 * i, 512], 2 * i);
      let answered = 0;
      await new Promise<void>((all, fail) => {
        const done: FileDone = {
          fileDone: (tag, result) => {
            seen[tag]! += 1;
            if (result !== (tag % 3 === 2 ? 16_384 : 4096)) fail(new Error(`result ${result}`));
            if (++answered === count) all();
          },
        };
        for (let tag = 0; tag < count; tag++) {
          if (tag % 3 === 0) fileIo.write(file, 4096 * tag, at, 4096, done, tag);
          else if (tag % 3 === 1) fileIo.read(file, 0, at, 4096, done, tag);
          else fileIo.writeGather(file, 4096 * tag, pieces, 32, done, tag);
        }
      });
      t.ok(seen.every((times) => times === 1));
      arena.free(at);
    });
    t.test("errors are negative errno", async (t) => {
      t.equal(await ask((done, tag) => fileIo.read(-1, 0, 0, 4096, done, tag)), -9);
      const readOnly = fs.openSync(path, "r");
      t.equal(await ask((done, tag) => fileIo.write(readOnly, 0, 0, 4096, done, tag)), -9);
      t.equal(await ask((done, tag) => fileIo.write(readOnly, 0, 0, 2 * MIB, done, tag)), -9);
      fs.closeSync(readOnly);
      const full = fs.openSync("/dev/full", "w");
      t.equal(await ask((done, tag) => fileIo.write(full, 0, 0, 4096, done, tag)), -28);
      fs.closeSync(full);
      t.equal(
        await ask((done, tag) => fileIo.read(file, 0, arena.bytes.length - 10, 11, done, tag)),
        -14,
        "memory outside the arena",
      );
    });
    t.test("a lock is held by one descriptor at a time", async (t) => {
      const other = fs.openSync(path, "r+");
      t.equal(host.files.lock(file), true);
      t.equal(host.files.lock(other), false);
      fs.closeSync(other);
    });
  });
