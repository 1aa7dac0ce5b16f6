import t from "tap";
import { PROGRAM_ROOT, shippedFiles } from "../../../../src/app/units/shipped.js";
import { type Device, judge, parseRules } from "../../../kit/udev-rules.js";

const TEXT = shippedFiles({ program: PROGRAM_ROOT, node: undefined }).find(({ path }) =>
  path.endsWith(".rules"),
)!.text;
const RULES = parseRules(TEXT);

const disk = (attributes: Record<string, string>, more: Partial<Device> = {}): Device => ({
  action: "change",
  subsystem: "block",
  kernel: "nbd3",
  devtype: "disk",
  attributes: { size: "8192", ...attributes },
  ...more,
});
const attached = (backend: string): Device => disk({ pid: "77", backend });
const links = (device: Device) => judge(RULES, device).links;

t.test("a device gets the name of its volume", async (t) => {
  t.same(links(attached("trivet/photos")), ["trivet/photos"]);
  t.same(links(attached("trivet/vm-1_a.b@c")), ["trivet/vm-1_a.b@c"]);
  t.same(links({ ...attached("trivet/photos"), action: "add" }), ["trivet/photos"]);
  t.equal(judge(RULES, attached("trivet/photos")).properties.UDISKS_IGNORE, "1");
});

t.test("and its partitions, too", async (t) => {
  const part = (parent: Device): Device =>
    disk({ partition: "2" }, { kernel: "nbd3p2", devtype: "partition", parent });
  t.same(links(part(attached("trivet/photos"))), ["trivet/photos-part2"]);
  t.same(links(part(attached("other"))), []);
  t.same(links(part(disk({}))), []);
});

t.test("nothing else gets one", async (t) => {
  const others: Device[] = [
    disk({}),
    disk({ pid: "77" }),
    disk({ backend: "trivet/photos" }),
    attached(""),
    attached("photos"),
    attached("rbd/pool/image"),
    attached("trivet/"),
    attached("trivet"),
    attached("xtrivet/photos"),
    attached("trivet/../sda"),
    attached("trivet/.."),
    attached("trivet/a/b"),
    { ...attached("trivet/photos"), action: "remove" },
    { ...attached("trivet/photos"), subsystem: "net" },
    { ...attached("trivet/photos"), kernel: "sda" },
  ];
  for (const device of others) t.same(links(device), [], JSON.stringify(device));
});

t.test("what is no rule is not taken for one", async (t) => {
  for (const text of [
    'KERNEL="nbd*"',
    'KERNEL=="nbd*" SYMLINK+="x"',
    'KERNEL=="nbd*", ',
    "KERNEL==nbd",
    'KERNEL=="nbd*", SYMLNK+="x"',
    'ATTR=="x", SYMLINK+="x"',
    'GOTO="nowhere"',
  ])
    t.throws(() => parseRules(text), Error, text);
});
