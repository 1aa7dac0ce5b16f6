import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import t from "tap";
import {
  AFTER_INSTALL,
  AFTER_UNINSTALL,
  carryOut,
  instancesInUse,
  lvmReadsDevices,
  shadows,
  tell,
} from "../../../../src/app/units/host.js";
import { PROGRAM_ROOT } from "../../../../src/app/units/shipped.js";
import { makeRuntimeFolder, removeFolder } from "../../../kit/folders.js";

const prefix = makeRuntimeFolder();
t.teardown(() => removeFolder(prefix));
function put(path: string, text = ""): void {
  mkdirSync(dirname(join(prefix, path)), { recursive: true });
  writeFileSync(join(prefix, path), text);
}

t.test("steps that fail are told, in the words of who failed", async (t) => {
  const why = "a reason";
  const sh = (script: string) => ({ why, command: ["sh", "-c", script] });
  t.same(carryOut([sh("exit 0"), sh("exit 0")]), []);
  t.same(carryOut([sh("echo no >&2; exit 3"), sh("exit 0"), sh("exit 4")]), [
    "sh -c echo no >&2; exit 3 failed (a reason): no",
    "sh -c exit 4 failed (a reason): status 4",
  ]);
  const missing = { why, command: ["no-such-program-here"] };
  t.same(carryOut([missing]), ["no-such-program-here is not there (a reason)"]);
  t.same(carryOut([{ ...missing, optional: true }]), []);
  t.equal(tell(prefix, [sh("exit 3")]), undefined, "only the host itself is told");
  t.ok(AFTER_UNINSTALL.every((step) => AFTER_INSTALL.includes(step)));
  t.equal(AFTER_UNINSTALL[0]?.command.join(" "), "systemctl daemon-reload");
});

t.test("instances are told by the links that enable them", async (t) => {
  t.same(instancesInUse(prefix), []);
  const wants = "etc/systemd/system/multi-user.target.wants";
  put(`${wants}/nginx.service`);
  put(`${wants}/trivet.slice`);
  put(`${wants}/nottrivet@x.service`);
  put("etc/systemd/system/trivet@photos.service.d/mine.conf");
  t.same(instancesInUse(prefix), [], "none of these is one");
  symlinkSync("/gone", join(prefix, wants, "trivet@photos.service"));
  put("etc/systemd/system/x.target.requires/trivet-attach@a-b.service");
  put("etc/systemd/system/sockets.target.wants/trivet@photos.socket");
  put(`${wants}/trivet-region@c.service`);
  t.same(instancesInUse(prefix), [
    "trivet-attach@a-b.service",
    "trivet-region@c.service",
    "trivet@photos.service",
    "trivet@photos.socket",
  ]);
});

t.test("files in /etc count instead of what was installed", async (t) => {
  const path = "usr/local/lib/modprobe.d/trivet.conf";
  t.same(shadows(prefix, [{ path, state: "installed" }]), []);
  put("etc/modprobe.d/trivet.conf");
  t.same(shadows(prefix, [{ path, state: "installed" }]), ["/etc/modprobe.d/trivet.conf"]);
});

t.test("LVM's filter", async (t) => {
  t.equal(lvmReadsDevices(prefix), false, "there is no LVM");
  const cases: [text: string, reads: boolean][] = [
    ["devices {\n}\n", true],
    ['devices {\n\t# global_filter = [ "r|^/dev/nbd|" ]\n}\n', true],
    ['devices {\n\tglobal_filter = [ "r|/dev/zd.*|" ]\n}\n', true],
    ['devices {\n\tglobal_filter = [ "r|/dev/zd.*|", "r|/dev/nbd.*|" ]\n}\n', false],
    ['devices {\n\tglobal_filter=["r|/dev/zd.*|","r|/dev/rbd.*|","r|/dev/nbd|"]\n}\n', false],
  ];
  for (const [text, reads] of cases) {
    put("etc/lvm/lvm.conf", text);
    t.equal(lvmReadsDevices(prefix), reads, text);
  }
});

t.test("the example of a filter rejects every such device, and no other", async (t) => {
  const text = readFileSync(join(PROGRAM_ROOT, "systemd/examples/lvm-global-filter.conf"), "utf8");
  const line = /^\s*global_filter = \[ (.*) \]$/m.exec(text)?.[1] ?? "";
  const patterns = line.split(", ").map((one) => /^"r\|(.*)\|"$/.exec(one)?.[1] ?? "no pattern");
  const isRejected = (name: string) => patterns.some((one) => new RegExp(one).test(name));
  for (const name of ["/dev/nbd0", "/dev/nbd15", "/dev/nbd3p1", "/dev/zd16", "/dev/rbd0p2"])
    t.equal(isRejected(name), true, name);
  for (const name of ["/dev/sda", "/dev/nvme0n1", "/dev/mapper/x", "/dev/disk/by-id/usb-nbd"])
    t.equal(isRejected(name), false, name);
});
