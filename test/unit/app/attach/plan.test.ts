import t, { type Test } from "tap";
import { findLeaving, refuseUsed } from "../../../../src/app/attach/detach.js";
import { plan, type Wish } from "../../../../src/app/attach/plan.js";
import { attachments, backendOf, recordPath } from "../../../../src/app/attach/records.js";
import { Fault } from "../../../../src/base/fault.js";
import { Machine } from "../../../kit/machine.js";

const machine = (t: Test): Machine => {
  const made = new Machine();
  t.teardown(() => made.remove());
  for (const index of [0, 1, 2, 3]) made.device(index);
  return made;
};
const wish = (more: Partial<Wish> = {}): Wish => ({
  volume: "photos",
  index: undefined,
  adopt: false,
  foreground: false,
  ...more,
});
function refused(t: Test, run: () => unknown, code: string, detail: RegExp): void {
  try {
    run();
    t.ok(false, "refused");
  } catch (error) {
    t.ok(error instanceof Fault, `${error}`);
    t.equal((error as Fault).code, code);
    t.ok(detail.test((error as Fault).message), (error as Fault).message);
  }
}
/** The numbers of the devices that a plan would take. */
function candidates(one: Machine, index?: number): readonly number[] {
  const way = plan(one.system, wish({ index }));
  return way.kind === "connect" ? way.candidates.map((device) => device.index) : [];
}

t.test("nothing attached: the first free one, or the one that is named", async (t) => {
  const one = machine(t);
  t.same(candidates(one), [0, 1, 2, 3]);
  t.same(candidates(one, 2), [2]);
  refused(
    t,
    () => plan(one.system, wish({ index: 16 })),
    "TRIVET_E_DEVICE",
    /no \/dev\/nbd16: the module has made 4 devices/,
  );
});

t.test("a device in use is refused, and said by what", async (t) => {
  const one = machine(t);
  one.attached(1, 50, backendOf("music"));
  one.process(50, "trivet-attach");
  one.record("music", "/dev/nbd1", 50);
  one.attached(2, 60);
  one.process(60, "nbd-client");
  one.process(70, "kvm", "/dev/nbd3");
  one.attached(0, 80);
  const busy = (index: number, detail: RegExp) =>
    refused(t, () => plan(one.system, wish({ index })), "TRIVET_E_DEVICE_BUSY", detail);
  busy(1, /^\/dev\/nbd1 is attached to music$/);
  busy(2, /is attached by nbd-client \(process 60\); .*--adopt/);
  busy(3, /^\/dev\/nbd3 is open in kvm \(process 70\)$/);
  busy(0, /attached by a program that has ended \(process 80\)/);
  t.same(candidates(one), [], "the kernel makes a new one then");
});

t.test("a volume that is attached: nothing to do, unless nobody keeps it connected", async (t) => {
  const one = machine(t);
  one.attached(1, 50, backendOf("photos"));
  one.process(50, "trivet-attach");
  one.record("photos", "/dev/nbd1", 50);
  const again = plan(one.system, wish());
  t.equal(again.kind, "there");
  t.equal(again.kind === "there" && again.attachment.device.node, "/dev/nbd1");
  t.equal(plan(one.system, wish({ index: 1 })).kind, "there");
  refused(
    t,
    () => plan(one.system, wish({ index: 3 })),
    "TRIVET_E_ATTACHED",
    /photos is attached as \/dev\/nbd1 on this host already/,
  );
  t.same(plan(one.system, wish({ foreground: true })), {
    kind: "adopt",
    device: one.system.device(1),
    supervisor: 50,
  });
  // The supervisor was killed; its number belongs to another program now.
  one.process(50, "bash");
  t.same(plan(one.system, wish()), {
    kind: "adopt",
    device: one.system.device(1),
    supervisor: 0,
  });
});

t.test("the kernel's own word is enough, and more than a record", async (t) => {
  const one = machine(t);
  one.attached(1, 50, backendOf("my photos/2026"));
  t.equal(attachments(one.system)[0]!.volume, "my photos/2026");
  t.equal(plan(one.system, wish({ volume: "my photos/2026" })).kind, "adopt");
  const long = "v".repeat(80);
  one.attached(2, 51, backendOf(long));
  t.ok(backendOf(long).length < 60);
  t.equal(plan(one.system, wish({ volume: long })).kind, "adopt");
  // A record of a device that is not attached any more, or to something else.
  one.record("photos", "/dev/nbd1", 50);
  one.record("films", "/dev/nbd3", 50);
  one.put("/run/trivet/attach/junk.json", "{");
  one.put("/run/trivet/attach/odd.json", '{"device":"/etc/passwd","pid":1}');
  t.same(candidates(one), [0, 3]);
  t.same(
    attachments(one.system).map(({ device }) => device.index),
    [1, 2],
  );
});

t.test("adopting what nbd-client attached", async (t) => {
  const one = machine(t);
  one.attached(2, 60);
  one.attached(1, 50, backendOf("music"));
  t.same(plan(one.system, wish({ index: 2, adopt: true })), {
    kind: "adopt",
    device: one.system.device(2),
    supervisor: 0,
  });
  const never = (index: number, code: string, detail: RegExp) =>
    refused(t, () => plan(one.system, wish({ index, adopt: true })), code, detail);
  never(3, "TRIVET_E_NOT_ATTACHED", /nbd3 is not attached/);
  never(9, "TRIVET_E_NOT_ATTACHED", /no \/dev\/nbd9/);
  never(1, "TRIVET_E_DEVICE_BUSY", /nbd1 is attached to music/);
});

t.test("detaching: by volume or device, never below what uses it", async (t) => {
  const one = machine(t);
  one.attached(1, 50, backendOf("photos"));
  one.process(50, "trivet-attach", "/dev/nbd1");
  one.record("photos", "/dev/nbd1", 50);
  one.attached(2, 60);
  const leaving = { device: one.system.device(1), volume: "photos", supervisor: 50 };
  for (const word of ["photos", "/etc/trivet/photos.toml", "/dev/nbd1", "nbd1"])
    t.same(findLeaving(one.system, word), leaving, word);
  t.same(findLeaving(one.system, "nbd2"), {
    device: one.system.device(2),
    volume: undefined,
    supervisor: 0,
  });
  for (const word of ["music", "/dev/nbd3", "nbd9", "10.0.0.1:10809"])
    refused(t, () => findLeaving(one.system, word), "TRIVET_E_NOT_ATTACHED", /./);
  const found = findLeaving(one.system, "photos");
  refuseUsed(one.system, found);
  one.process(70, "dd", "/dev/nbd1");
  refused(
    t,
    () => refuseUsed(one.system, found),
    "TRIVET_E_DEVICE_BUSY",
    /^\/dev\/nbd1 is open in dd \(process 70\)$/,
  );
  // A mount is what people can end.
  one.put("/proc/self/mountinfo", "30 22 43:32 / /srv rw - ext4 /dev/nbd1 rw\n");
  refused(
    t,
    () => refuseUsed(one.system, found),
    "TRIVET_E_DEVICE_BUSY",
    /^\/dev\/nbd1 is mounted on \/srv$/,
  );
});

t.test("an address is a volume's name, too", async (t) => {
  const one = machine(t);
  const volume = "10.0.0.7:10809/photos";
  t.ok(recordPath("", volume).startsWith("/run/trivet/attach/10.0.0.7%3A10809%2Fphotos"));
  one.attached(1, 50, backendOf(volume));
  t.equal(findLeaving(one.system, volume).volume, volume);
});
