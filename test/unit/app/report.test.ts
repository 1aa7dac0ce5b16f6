import t from "tap";
import { endingFor } from "../../../src/app/report.js";
import { FAULTS, Fault, type FaultCode } from "../../../src/base/fault.js";
import { InvariantError } from "../../../src/base/invariant.js";

t.test(
  "every fault ends in one line with its code and advice, and the status of its class",
  async (t) => {
    for (const code of Object.keys(FAULTS) as FaultCode[]) {
      const { text, status } = endingFor(new Fault(code, "this and that"), "trivet");
      t.equal(text, `${code}: this and that. ${FAULTS[code].advice}`);
      t.ok([2, 3, 4, 5, 6, 7, 10, 11].includes(status), code);
      t.equal(text.includes("\n"), false);
      t.ok(/^[A-Z].*\.$/.test(FAULTS[code].advice), `${code}: advice is a sentence`);
      const compat = endingFor(new Fault(code, "x"), "crucible-downstairs");
      t.equal(compat.status, 1);
      t.ok(compat.text.startsWith(`Error: ${code}: x. `));
      t.equal(endingFor(new Fault(code, "x"), "crucible-nbd-server").status, status);
    }
  },
);

t.test("failed system calls are faults of the machine, not bugs", async (t) => {
  const failed = (code: string) =>
    Object.assign(new Error("x"), { code, errno: -1, syscall: "open", path: "/a/b" });
  const expected: [string, string, number][] = [
    ["ENOENT", "TRIVET_E_FILE: /a/b: no such file or directory (open). ", 4],
    ["EACCES", "TRIVET_E_PERMISSION: /a/b: permission denied (open). ", 4],
    ["ENOSPC", "TRIVET_E_NO_SPACE: /a/b: no space left (open). ", 4],
    ["EIO", "TRIVET_E_IO: /a/b: input/output error (open). ", 6],
    ["EXDEV", "TRIVET_E_FILE: /a/b: EXDEV (open). ", 4],
  ];
  for (const [code, text, status] of expected) {
    const ending = endingFor(failed(code), "trivet");
    t.ok(ending.text.startsWith(text), ending.text);
    t.equal(ending.status, status);
  }
});

t.test("anything else is a mistake of ours: 70, with what a report needs", async (t) => {
  for (const error of [
    new InvariantError("one is one"),
    new TypeError("undefined is no"),
    "text",
  ]) {
    const { text, status } = endingFor(error, "trivet");
    t.equal(status, 70);
    t.ok(text.startsWith("TRIVET_BUG: "));
    t.ok(text.includes("report"));
  }
  t.ok(endingFor(new InvariantError("one is one"), "trivet").text.includes("one is one"));
});
