import t from "tap";
import { Fault } from "../../../src/base/fault.js";
import type { RepairPeer } from "../../../src/downstairs/region-store.js";
import type { FakeDisk } from "../../kit/disk.js";
import { EIO } from "../../kit/files.js";
import { regionOf } from "../../kit/store.js";
import { prng } from "../../kit/world.js";
import { freshDisk, plain, Rig, readForm } from "./rig.js";

const REGION = regionOf(512, 20, 2);
const SOURCE = { host: "10.0.0.1", port: 7810 };
const PATH = "/r/00/000/001";
const value = (text: string) => plain(Buffer.alloc(512, text));

/** Extent 1 of another replica: block 20 holds "n". */
function sourceFile(): Buffer {
  const rig = Rig.open(freshDisk(REGION));
  rig.write(20, [value("n")]);
  rig.flush(7, 4n);
  return rig.file(1);
}
const THEIRS = sourceFile();

/** Ours: block 20 holds "o". */
function oldDisk(): FakeDisk {
  const disk = freshDisk(REGION);
  const rig = Rig.open(disk);
  rig.write(20, [value("o"), value("p")]);
  rig.flush(3);
  rig.close();
  return disk;
}

type Behaviour = {
  names?: readonly string[];
  bytes?: Buffer;
  ready?: boolean;
  fault?: "files" | "fetch" | "ready";
};
const gone = (): Fault => new Fault("TRIVET_E_REPAIR", "the source went away");

/** A peer whose files end up on the disk of the rig, through the rig's own calls. */
function peerOf(rig: () => Rig, behaviour: Behaviour = {}): RepairPeer {
  return {
    files: (_source, _extent, then) =>
      rig().world.post(() =>
        then(behaviour.fault === "files" ? gone() : null, behaviour.names ?? ["001"]),
      ),
    fetch: (_source, _extent, _type, path, then) => {
      const { files, world } = rig();
      if (behaviour.fault === "fetch") world.post(() => then(gone()));
      else
        files.open(path, "create", (fault, file) => {
          if (fault !== null) return then(fault);
          const bytes = behaviour.bytes ?? THEIRS;
          const at = rig().arena.alloc(bytes.length);
          bytes.copy(rig().arena.bytes, at);
          const synced = (_: number, result: number): void => {
            rig().arena.free(at);
            files.close(file);
            then(result < 0 ? gone() : null);
          };
          const written = (_: number, result: number): void =>
            result < 0 ? synced(0, result) : files.sync(file, false, { fileDone: synced }, 0);
          files.write(file, 0, at, bytes.length, { fileDone: written }, 0);
        });
    },
    ready: (_source, _extent, then) =>
      rig().world.post(() =>
        then(behaviour.fault === "ready" ? gone() : null, behaviour.ready ?? true),
      ),
  };
}

function replace(rig: Rig): Fault | null {
  return (
    rig.wait((then) => rig.store.closeExtent(1, then)) ??
    rig.wait((then) => rig.store.replaceExtent(1, SOURCE, then)) ??
    rig.wait((then) => rig.store.reopenExtent(1, then))
  );
}

t.test("an extent becomes the source's, and only once it is closed", async (t) => {
  const disk = oldDisk();
  const rig: Rig = Rig.open(disk, { peer: peerOf(() => rig) });
  const open = rig.wait((then) => rig.store.replaceExtent(1, SOURCE, then));
  t.equal(open?.code, "TRIVET_E_PROTOCOL");
  t.equal(replace(rig), null);
  t.same(rig.file(1), THEIRS);
  t.equal(rig.store.flushNumber(1), 7);
  t.equal(rig.store.generation(1), 4n);
  t.same(rig.read(20, 1)[0]!.context, readForm(value("n")));
  t.equal(rig.close(), null);
  t.same(
    disk.paths().filter((path) => path.startsWith(PATH)),
    [PATH],
  );
});

t.test("what makes a source unfit leaves the old file and is told", async (t) => {
  const cases: [Behaviour, RegExp][] = [
    [{ names: ["001", "001.db"] }, /lists \[001, 001.db\], expected \[001\]/],
    [{ names: [] }, /lists \[\]/],
    [{ names: ["000"] }, /lists \[000\]/],
    [{ bytes: THEIRS.subarray(0, 1000) }, /1000 bytes were fetched, expected/],
    [{ ready: false }, /opened while it was copied/],
    [{ fault: "files" }, /went away/],
    [{ fault: "fetch" }, /went away/],
    [{ fault: "ready" }, /went away/],
  ];
  for (const [behaviour, words] of cases) {
    const disk = oldDisk();
    const before = disk.get(PATH)!;
    const rig: Rig = Rig.open(disk, { peer: peerOf(() => rig, behaviour) });
    const fault = replace(rig);
    t.ok(
      fault !== null && fault.code === "TRIVET_E_REPAIR" && words.test(fault.message),
      `${fault?.message}`,
    );
    const again = rig.wait((then) => rig.store.replaceExtent(1, SOURCE, then));
    t.ok(
      /left of an earlier repair/.test(again?.message ?? ""),
      "a second one needs a reopen first",
    );
    t.ok(rig.store.isClosed(1));
    t.equal(
      rig.wait((then) => rig.store.reopenAll(then)),
      null,
    );
    t.ok(rig.file(1).equals(before));
    t.same(
      disk.paths().filter((path) => path.startsWith(PATH)),
      [PATH],
      "nothing is left",
    );
  }
});

t.test("a crash at any step leaves the old file or the new one, whole", async (t) => {
  const seen = new Map<string, number>();
  for (let seed = 1; seed <= 12; seed++) {
    const chance = prng(seed);
    let started = false;
    const rig: Rig = Rig.open(oldDisk(), {
      seed,
      peer: peerOf(() => rig),
      after: () => {
        if (!started) return;
        const cut = rig.files.disk.cut(chance);
        const left = cut.paths().filter((path) => path.startsWith(`${PATH}.`));
        // A read-only open leaves everything as it is; what lies in the place of the file may be half of it then.
        if (!left.some((path) => path.includes(".replace"))) {
          const before = cut.paths();
          const reader = Rig.open(cut.copy(), { readOnly: true });
          if (reader.files.disk.paths().join() !== before.join())
            t.ok(false, "a reader changed names");
        }
        const later = Rig.open(cut);
        const { data } = later.read(20, 1)[0]!;
        const is = data.equals(value("n").data) ? "new" : "old";
        if (is === "old" && !data.equals(value("o").data)) t.ok(false, "neither old nor new");
        const number = later.store.flushNumber(1);
        if (number !== (is === "new" ? 7 : 3)) t.ok(false, `numbers of another file: ${number}`);
        const expected = is === "new" ? THEIRS : oldDisk().get(PATH)!;
        if (!cut.get(PATH)!.equals(expected)) t.ok(false, `${is}, but not whole`);
        if (cut.paths().some((path) => path.startsWith(`${PATH}.`))) t.ok(false, "leftovers");
        const state = left.map((path) => path.slice(PATH.length)).join(" ") || "nothing beside";
        seen.set(`${state}: ${is}`, 1 + (seen.get(`${state}: ${is}`) ?? 0));
      },
    });
    started = true;
    const fault = replace(rig);
    if (fault !== null) throw fault;
  }
  for (const state of [
    "nothing beside: old",
    ".copy/ .copy/001: old",
    ".replace/ .replace/001: new",
    ".completed/ .completed/001: new",
    ".completed/: new",
    "nothing beside: new",
  ])
    t.ok(seen.has(state), `${state}, seen ${seen.get(state)} times`);
});

t.test("killed at any step, and without power at any step of the next start", async (t) => {
  const isOver = new Error("killed");
  let cuts = 0;
  for (let step = 1; ; step++) {
    const chance = prng(step);
    let left = Number.POSITIVE_INFINITY;
    const disk = oldDisk();
    const cutAndOpen = (): void => {
      for (let i = 0; i < 4; i++) {
        const later = Rig.open(disk.cut(chance));
        const { data } = later.read(20, 1)[0]!;
        const isWhole = data.equals(value("n").data) || data.equals(value("o").data);
        if (!isWhole) t.ok(false, `step ${step}: neither old nor new`);
        cuts += 1;
      }
    };
    const rig: Rig = Rig.open(disk, {
      peer: peerOf(() => rig),
      after: () => {
        left -= 1;
        if (left > 0) return;
        rig.files.kill();
        Rig.open(disk, { after: cutAndOpen });
        throw isOver;
      },
    });
    left = step;
    try {
      t.equal(replace(rig), null);
      break;
    } catch (error) {
      if (error !== isOver) throw error;
    }
  }
  t.ok(cuts > 500, `${cuts} power cuts`);
});

t.test("any call of a replacement may fail; a reopen settles it", async (t) => {
  for (let n = 0; n < 60; n++) {
    let base = Number.POSITIVE_INFINITY;
    const disk = oldDisk();
    const rig: Rig = Rig.open(disk, {
      peer: peerOf(() => rig),
      fail: (call) => (call.n === base + n ? EIO : 0),
    });
    base = rig.files.calls;
    const fault = replace(rig);
    if (fault === null) {
      t.ok(n > 10, `${n} calls could fail`);
      return;
    }
    if (rig.store.isClosed(1))
      t.equal(
        rig.wait((then) => rig.store.reopenAll(then)),
        null,
      );
    const { data } = rig.read(20, 1)[0]!;
    t.ok(
      data.equals(value("n").data) || data.equals(value("o").data),
      `call ${n}: ${fault.message}`,
    );
  }
  t.ok(false, "a replacement does not make that many calls");
});
