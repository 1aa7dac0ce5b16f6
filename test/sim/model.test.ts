import t from "tap";
import { VolumeModel } from "./model.js";
import { fillSector, SECTOR_BYTES, sectorStamp } from "./pattern.js";

// The judge is judged: what it must accept, and what it must not.

/** A model of one sector with a host that is active, and requests in few words. */
class Court {
  readonly model = new VolumeModel(1);
  host = this.activate();

  activate(keepsAnswered = false) {
    const host = { name: "host", life: 0 };
    this.model.activated(host, keepsAnswered);
    return host;
  }
  begin(stable = false, host = this.host) {
    return this.model.beginWrite(host, 0, 1, false, stable);
  }
  write(stable = false) {
    const record = this.begin(stable);
    this.model.endWrite(record);
    return record;
  }
  read(stamp: number, host = this.host) {
    const record = this.model.beginRead(host, 0, 1);
    this.model.endRead(record, () => stamp);
  }
  flush() {
    this.model.endFlush(this.host.life, this.model.beginFlush());
  }
  get isBroken(): boolean {
    return this.model.broken.length > 0;
  }
}

t.test("within one life a sector is a register", async (t) => {
  const court = new Court();
  court.read(0);
  const first = court.write();
  court.read(first.stamp);
  const second = court.write();
  court.read(second.stamp);
  t.equal(court.isBroken, false);
  court.read(first.stamp);
  t.ok(court.isBroken, "what was overwritten does not come back");
});
t.test("a write that is under way may be seen or not, but not unseen again", async (t) => {
  const court = new Court();
  const first = court.write();
  const open = court.begin();
  court.read(first.stamp);
  court.read(open.stamp);
  t.equal(court.isBroken, false);
  court.read(first.stamp);
  t.ok(court.isBroken);
});
t.test("two writes at once end in one of them, for good", async (t) => {
  const court = new Court();
  const a = court.begin();
  const b = court.begin();
  court.model.endWrite(b);
  court.model.endWrite(a);
  court.read(a.stamp);
  t.equal(court.isBroken, false);
  court.read(b.stamp);
  t.ok(court.isBroken);
});
t.test(
  "what a crash may take is what was not flushed, and what was found then stays",
  async (t) => {
    for (const [kept, isBroken] of [
      ["old", false],
      ["new", false],
      ["older", true],
    ] as const) {
      const court = new Court();
      const stamps = { older: court.write().stamp, old: court.write().stamp, new: 0 };
      court.flush();
      stamps.new = court.write().stamp;
      court.host = court.activate();
      court.read(stamps[kept]);
      t.equal(court.isBroken, isBroken, kept);
      if (isBroken) continue;
      court.read(stamps[kept === "old" ? "new" : "old"]);
      t.ok(court.isBroken, "one of them, not both");
    }
  },
);
t.test("a stable write, a log and an orderly stop keep what was answered", async (t) => {
  const keep = [
    (court: Court) => court.write(true),
    (court: Court) => {
      const record = court.write();
      court.model.stopped(court.host.life);
      return record;
    },
  ];
  for (const [index, write] of keep.entries()) {
    const court = new Court();
    const before = court.write();
    write(court);
    court.host = court.activate();
    court.read(before.stamp);
    t.ok(court.isBroken, `${index}`);
  }
  const court = new Court();
  const before = court.write();
  court.write();
  court.host = court.activate(true);
  court.read(before.stamp);
  t.ok(court.isBroken, "with a log");
});
t.test("a superseded host changes nothing", async (t) => {
  const court = new Court();
  const old = court.host;
  const early = court.begin();
  court.host = court.activate();
  court.model.endWrite(early);
  t.equal(court.isBroken, false, "an answer that was on its way");
  const late = court.begin(false, old);
  court.read(late.stamp, old);
  t.equal(court.isBroken, false, "what it reads itself is its own affair");
  court.read(late.stamp);
  t.ok(court.isBroken, "but nobody else sees it");
  const other = new Court();
  const before = other.host;
  other.host = other.activate();
  other.model.endWrite(other.begin(false, before));
  t.ok(other.isBroken, "nor is it acknowledged");
});
t.test("a flush that a superseded host answers late still counts", async (t) => {
  const court = new Court();
  const first = court.write();
  court.write();
  const begun = court.model.beginFlush();
  const { life } = court.host;
  court.host = court.activate();
  court.model.endFlush(life, begun);
  court.read(first.stamp);
  t.ok(court.isBroken);
});
t.test("zeros are told from what was never written there", async (t) => {
  const court = new Court();
  const first = court.write();
  const zeros = court.model.beginWrite(court.host, 0, 1, true, false);
  court.model.endWrite(zeros);
  court.read(0);
  t.equal(court.isBroken, false);
  court.read(first.stamp);
  t.ok(court.isBroken);
});
t.test("sectors say what they are, and only whole", async (t) => {
  const bytes = Buffer.alloc(SECTOR_BYTES);
  t.equal(sectorStamp(bytes, 0, 5), 0);
  fillSector(bytes, 0, 77, 5);
  t.equal(sectorStamp(bytes, 0, 5), 77);
  t.equal(sectorStamp(bytes, 0, 6), -1, "of another sector");
  bytes[300]! ^= 4;
  t.equal(sectorStamp(bytes, 0, 5), -1, "one bit");
});
