import t from "tap";
import type { FileCall } from "../../kit/files.js";
import { EIO } from "../../kit/files.js";
import { regionOf } from "../../kit/store.js";
import { prng } from "../../kit/world.js";
import { Model, Work } from "./history.js";
import { freshDisk, plain, Rig, readForm } from "./rig.js";

const REGION = regionOf(512, 20, 3);
const value = (text: string) => plain(Buffer.alloc(512, text));
const DATA_CALLS = ["read", "write", "writeGather", "sync"];

/** A fixed piece of work; each step is repeated until it succeeds, as a downstairs does. Answers the faults. */
function script(rig: Rig): string[] {
  const faults: string[] = [];
  const insist = (what: string, run: () => { code: string } | null): void => {
    for (let attempt = 0; ; attempt++) {
      const fault = run();
      if (fault === null) return;
      faults.push(`${what}: ${fault.code}`);
      if (attempt > 3) throw new Error(`${what} fails for ever`);
    }
  };
  insist("write", () => rig.write(18, [value("a"), value("b"), value("c"), value("d")]));
  insist("flush", () => rig.flush(1));
  insist("write", () => rig.write(19, [value("e")]));
  insist("flush", () => rig.flush(2));
  insist("write", () => rig.write(19, [value("f"), value("g")]));
  insist("unwritten", () => rig.write(17, [value("h"), value("i"), value("j")], true));
  insist("close", () => rig.wait((then) => rig.store.closeExtent(0, then)));
  insist("reopen", () => rig.wait((then) => rig.store.reopenExtent(0, then)));
  insist("flush", () => rig.flush(3));
  return faults;
}
const END: Record<number, string> = { 17: "h", 18: "a", 19: "f", 20: "g", 21: "d" };

t.test("any one call may fail: a Fault, a retry, and nothing is lost", async (t) => {
  const counting = Rig.open(freshDisk(REGION));
  const opened = counting.files.calls;
  script(counting);
  const calls = counting.files.calls;
  let noticed = 0;
  for (let n = opened; n < calls; n++) {
    const disk = freshDisk(REGION);
    const rig = Rig.open(disk, { fail: (call) => (call.n === n ? EIO : 0) });
    const faults = script(rig);
    for (const fault of faults) if (!/TRIVET_E_IO$/.test(fault)) t.ok(false, `call ${n}: ${fault}`);
    noticed += faults.length;
    t.equal(rig.close(), null);
    t.equal(rig.arena.allocations, 0, "all memory was given back");
    t.equal(rig.files.openFiles, 0, "all files were closed");
    const later = Rig.open(disk.cut(prng(n)));
    for (let block = 0; block < 60; block++) {
      const want = END[block];
      const { data, context } = later.read(block, 1)[0]!;
      const expected = want === undefined ? undefined : value(want);
      if (!data.equals(expected?.data ?? Buffer.alloc(512)) || !context.equals(readForm(expected)))
        t.ok(false, `call ${n}: block ${block}`);
    }
    if (later.store.isDirty(0) || later.store.flushNumber(0) !== 3)
      t.ok(false, `call ${n}: numbers`);
  }
  t.ok(noticed > (calls - opened) / 2, `${noticed} faults for ${calls - opened} calls`);
});

t.test("a disk that fails now and then, and then loses power", async (t) => {
  let faults = 0;
  for (let seed = 1; seed <= 20; seed++) {
    const chance = prng(seed);
    const model = new Model(REGION);
    let disk = freshDisk(REGION);
    let number = 0;
    let wrong = "";
    for (let life = 0; life < 3 && wrong === ""; life++) {
      let started = false;
      const after = (call: FileCall): void => {
        if (wrong !== "" || chance() > 0.05) return;
        const result = model.check(disk.cut(chance), {});
        if ("wrong" in result) wrong = `after ${call.op} ${call.path}: ${result.wrong}`;
      };
      const fail = (call: FileCall): number =>
        DATA_CALLS.includes(call.op) && chance() < 0.06 ? EIO : 0;
      const rig: Rig = new Rig(disk, {
        seed,
        latencyMs: 2,
        ...(seed % 2 === 0 ? { heldBytesMax: 16 * 4096 } : {}),
        fail: (call) => (started ? fail(call) : 0),
        after: (call) => (started ? after(call) : undefined),
      });
      rig.world.advance(1000);
      started = true;
      const work = new Work(model, rig, chance, number);
      for (let i = 0; i < 60 && wrong === ""; i++) {
        work.step();
        rig.world.advance(chance() * (i % 10 === 0 ? 1500 : 3));
      }
      faults += work.faults.length;
      for (const fault of work.faults) if (!/TRIVET_E_IO/.test(fault)) t.ok(false, fault);
      number = work.flushNumber;
      rig.files.kill();
      started = false;
      disk = disk.cut(chance);
      const result = model.check(disk.copy(), {});
      if ("wrong" in result) wrong ||= `death ${life}: ${result.wrong}`;
      else model.rebase(result.found, disk, {});
    }
    if (wrong !== "") t.ok(false, `seed ${seed}: ${wrong}`);
  }
  t.ok(faults > 100, `${faults} faults`);
});

t.test(
  "when nothing can be written, writes that find no room fail, and go on when it can",
  async (t) => {
    let broken = false;
    const rig = Rig.open(freshDisk(REGION), {
      heldBytesMax: 8 * 4096,
      fail: (call) => (broken && call.op === "sync" ? EIO : 0),
    });
    broken = true;
    let failed = 0;
    const answers: string[] = [];
    for (let i = 0; i < 20; i++)
      rig.submitWrite(i, [value(`${i}`)], false, (fault) => {
        answers.push(fault === null ? "ok" : fault.code);
        if (fault !== null) failed += 1;
      });
    rig.world.advance(50);
    t.equal(answers.length, 20, "none waits for ever");
    t.ok(failed > 0 && failed <= 12, `${failed} failed`);
    t.ok(answers.every((answer) => answer === "ok" || answer === "TRIVET_E_IO"));
    t.ok(rig.notes.some((note) => note.startsWith("store.writeback.failed")));
    t.ok(rig.flush(1) !== null, "a flush fails too");
    broken = false;
    rig.world.advance(3000);
    t.equal(rig.write(30, [value("x")]), null);
    t.equal(rig.flush(2), null);
    for (let i = 0; i < 20; i++)
      if (answers[i] === "ok" && !rig.read(i, 1)[0]!.data.equals(value(`${i}`).data))
        t.ok(false, `block ${i}`);
  },
);
