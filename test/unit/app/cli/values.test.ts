import t from "tap";
import {
  parseAddress,
  parseChoice,
  parseCount,
  parseGeneration,
  parseSize,
  parseUuidValue,
  showAddress,
} from "../../../../src/app/cli/values.js";

const usage = { code: "TRIVET_E_USAGE", message: /^--x: / };

t.test("sizes", async (t) => {
  const good: [string, number][] = [
    ["4096", 4096],
    ["0", 0],
    ["1K", 1024],
    ["512M", 512 * 2 ** 20],
    ["1g", 2 ** 30],
    ["1GiB", 2 ** 30],
    ["1GB", 2 ** 30],
    ["1.5G", 1.5 * 2 ** 30],
    ["100 T", 100 * 2 ** 40],
    ["12B", 12],
  ];
  for (const [text, bytes] of good) t.equal(parseSize("--x", text), bytes, text);
  for (const text of [
    "",
    "G",
    "-1",
    "1e3",
    "0x10",
    "1.3",
    "1Q",
    "9P9",
    "9007199254740993",
    "9999P",
  ]) {
    t.throws(() => parseSize("--x", text), usage, text);
  }
});

t.test("addresses", async (t) => {
  t.same(parseAddress("--x", "127.0.0.1:3810"), { host: "127.0.0.1", port: 3810 });
  t.same(parseAddress("--x", "[::1]:80"), { host: "::1", port: 80 });
  t.same(parseAddress("--x", "box-1.lan:80", { names: true }), { host: "box-1.lan", port: 80 });
  t.same(parseAddress("--x", "1.2.3.4:0", { anyPort: true }), { host: "1.2.3.4", port: 0 });
  for (const text of [
    "",
    "127.0.0.1",
    ":80",
    "1.2.3.4:",
    "1.2.3.4:0",
    "1.2.3.4:65536",
    "::1:80",
    "[1.2.3.4]:80",
    "[box]:80",
    "box:80",
    "1.2.3.4:8o",
  ]) {
    t.throws(() => parseAddress("--x", text), usage, text);
  }
  t.throws(() => parseAddress("--x", "b_x:80", { names: true }), usage);
  t.equal(showAddress({ host: "::1", port: 80 }), "[::1]:80");
  t.equal(showAddress({ host: "1.2.3.4", port: 80 }), "1.2.3.4:80");
});

t.test("generations keep all 64 bits, and 0 has a code of its own", async (t) => {
  t.equal(parseGeneration("--x", "1"), 1n);
  t.equal(parseGeneration("--x", "18446744073709551615"), 18446744073709551615n);
  t.throws(() => parseGeneration("--x", "0"), { code: "TRIVET_E_GENERATION_ZERO" });
  for (const text of ["", "-1", "1.5", "18446744073709551616", "seven"]) {
    t.throws(() => parseGeneration("--x", text), usage, text);
  }
});

t.test("counts, choices and uuids", async (t) => {
  t.equal(parseCount("--x", "7", 1, 9), 7);
  for (const text of ["0", "10", "7.0", "-7", "+7", " 7"]) {
    t.throws(() => parseCount("--x", text, 1, 9), usage, text);
  }
  t.equal(parseChoice("--x", "b", ["a", "b"]), "b");
  t.throws(() => parseChoice("--x", "c", ["a", "b"]), usage);
  const uuid = "12345678-1111-2222-3333-12345678999A";
  t.equal(parseUuidValue("--x", uuid), uuid.toLowerCase());
  t.throws(() => parseUuidValue("--x", "12345678"), usage);
});
