import t from "tap";
import { deviceIndex } from "../../../../src/app/attach/device-name.js";
import { freeDevices } from "../../../../src/app/attach/plan.js";
import { Machine } from "../../../kit/machine.js";

const machine = (t: { teardown(run: () => void): unknown }): Machine => {
  const made = new Machine();
  t.teardown(() => made.remove());
  return made;
};
const uses = (one: Machine, index = 0, except: readonly number[] = []): readonly string[] =>
  one.system.usesOf(one.system.device(index)!, except).map(({ text }) => text);

t.test("names of devices", async (t) => {
  t.equal(deviceIndex("/dev/nbd0"), 0);
  t.equal(deviceIndex("nbd17"), 17);
  t.equal(deviceIndex("nbd1048575"), 1048575);
  for (const bad of ["nbd", "/dev/nbd0p1", "/dev/sda", "nbd1048576", "dev/nbd1", "nbd-1", "3"])
    t.equal(deviceIndex(bad), undefined, bad);
});

t.test("devices, attached and not", async (t) => {
  const one = machine(t);
  t.equal(one.system.hasModule, true);
  for (const index of [10, 2, 0]) one.device(index);
  one.attached(1, 812, "trivet/photos");
  t.same(
    one.system.devices().map(({ node }) => node),
    ["/dev/nbd0", "/dev/nbd1", "/dev/nbd2", "/dev/nbd10"],
  );
  t.same(one.system.device(1), {
    index: 1,
    node: "/dev/nbd1",
    attachedBy: 812,
    sizeBytes: 16 * 2 ** 20,
    blockBytes: 4096,
    backend: "trivet/photos",
  });
  t.equal(one.system.device(0)!.attachedBy, 0);
  t.equal(one.system.device(3), undefined);
});

t.test("a machine without the module", async (t) => {
  const one = new Machine();
  one.remove();
  t.equal(one.system.hasModule, false);
  t.same(one.system.devices(), []);
});

t.test("mounted, and a partition of it mounted", async (t) => {
  const one = machine(t);
  one.attached(0, 812);
  one.partition(0, 1);
  t.same(uses(one), []);
  one.put(
    "/proc/self/mountinfo",
    [
      "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw",
      "30 22 43:0 / /srv/my\\040photos rw shared:2 master:1 - ext4 /dev/nbd0 rw",
      "31 22 43:1 / /mnt rw - xfs /dev/disk/by-label/x rw",
      "32 22 43:32 / /other rw - ext4 /dev/nbd1 rw",
      "33 22 0:44 / /btrfs rw - btrfs /dev/nbd0p1 rw,space_cache=v2",
      "",
    ].join("\n"),
  );
  t.same(uses(one), [
    "is mounted on /srv/my photos",
    "is mounted on /mnt (as nbd0p1)",
    "is mounted on /btrfs (as nbd0p1)",
  ]);
});

t.test("swap", async (t) => {
  const one = machine(t);
  one.attached(0, 812);
  one.partition(0, 2);
  one.put(
    "/proc/swaps",
    "Filename\t\tType\n/dev/nbd0p2 partition\t1000\t0\t-2\n/dev/nbd01 partition\n/dev/nbd0 partition\n",
  );
  t.same(uses(one), ["is used as swap", "is used as swap (as nbd0p2)"]);
});

t.test("LVM, the device mapper and RAID hold it", async (t) => {
  const one = machine(t);
  one.attached(0, 812);
  one.partition(0, 1);
  one.link("/sys/block/nbd0/holders/dm-3", "../../dm-3");
  one.put("/sys/block/dm-3/dm/name", "pve-vm--100--disk--0\n");
  one.put("/sys/block/dm-3/dm/uuid", "LVM-abcdef\n");
  one.link("/sys/block/nbd0/nbd0p1/holders/dm-4", "../../dm-4");
  one.put("/sys/block/dm-4/dm/name", "secret\n");
  one.put("/sys/block/dm-4/dm/uuid", "CRYPT-LUKS2-1\n");
  one.link("/sys/block/nbd0/nbd0p1/holders/md0", "../../md0");
  t.same(uses(one), [
    "is held by the LVM volume pve-vm--100--disk--0 (dm-3)",
    "is held by the device mapper's secret (dm-4) (as nbd0p1)",
    "is held by the RAID md0 (as nbd0p1)",
  ]);
});

t.test("open in a process", async (t) => {
  const one = machine(t);
  one.attached(0, 812);
  one.partition(0, 1);
  one.process(100, "kvm", "/dev/null", "/dev/nbd0", "/dev/nbd0");
  one.process(101, "dd", "/dev/nbd0p1");
  one.process(102, "dd", "/dev/nbd1", "/dev/nbd00");
  one.process(103, "(udev-worker)", "/dev/nbd0");
  one.process(104, "trivet-attach", "/dev/nbd0");
  t.same(uses(one, 0, [104]), [
    "is open in kvm (process 100)",
    "is open in dd (process 101) (as nbd0p1)",
  ]);
});

t.test("the first free device", async (t) => {
  const one = machine(t);
  const free = () => freeDevices(one.system).map(({ index }) => index);
  t.same(free(), []);
  one.attached(0, 812);
  one.device(1);
  one.process(100, "qemu-nbd", "/dev/nbd1");
  one.device(2);
  one.link("/sys/block/nbd2/holders/dm-3", "../../dm-3");
  one.device(11);
  one.device(3);
  t.same(free(), [3, 11]);
});
