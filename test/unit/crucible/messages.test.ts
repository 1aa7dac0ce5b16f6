import t, { type Test } from "tap";
import { Fault } from "../../../src/base/fault.js";
import { decode, encode, encodedBytes } from "../../../src/crucible/messages.js";
import { type Line, rawLines, rawNames, wireLines, wireNames } from "../../kit/recordings.js";

/** Recorded on purpose as no legal frame: an unknown tag, a length above the limit, a bool that is 2. */
const isIllegal = (name: string, line: Line): boolean =>
  line.msg!.startsWith("?") || (name === "bad-bool" && line.msg === "HereIAm");

function checkRecording(t: Test, name: string, lines: Line[]): void {
  let frames = 0;
  for (const line of lines) {
    if (line.hex === undefined || line.cut !== undefined) continue;
    const frame = Buffer.from(line.hex, "hex");
    if (isIllegal(name, line)) {
      t.throws(() => decode(frame), Fault, `${line.msg} is refused`);
      continue;
    }
    frames += 1;
    const message = decode(frame);
    if (message.kind !== line.msg) t.equal(message.kind, line.msg, "the kind recorded");
    if (encodedBytes(message) !== frame.length)
      t.equal(encodedBytes(message), frame.length, "measures what was recorded");
    if (!encode(message).equals(frame))
      t.equal(encode(message).toString("hex"), line.hex, "encodes to the bytes recorded");
  }
  t.pass(`${frames} frames`);
}

for (const name of wireNames())
  t.test(`wire/${name} decodes and encodes to the same bytes`, async (t) => {
    checkRecording(t, name, wireLines(name));
  });
for (const name of rawNames())
  t.test(`raw/${name} decodes and encodes to the same bytes`, async (t) => {
    checkRecording(t, name, rawLines(name));
  });
