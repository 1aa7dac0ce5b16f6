import t from "tap";
import { cleanUp } from "../kit/programs.js";
import { Kind, type Recording } from "./recording.js";
import { corners, repair } from "./scenarios.js";
import { examine, SCENARIOS, SMALL, summary } from "./suite.js";

// With io_uring the calls are the kernel's, and no library can be put before it. What is recorded there is what crosses into native code
// (fixture/record-driver.ts). It must be the same that the other engine does in calls, where both ways of recording can be compared.

t.teardown(cleanUp);

/** Per descriptor and process, in the order in which they began: writes and syncs. */
function sequence({ moments }: Recording): string[] {
  const processes: number[] = [];
  const byFile = new Map<string, string[]>();
  for (const { call, isEnd } of moments) {
    if (isEnd || (call.kind !== Kind.write && call.kind !== Kind.sync)) continue;
    if (!processes.includes(call.process)) processes.push(call.process);
    const what =
      call.kind === Kind.sync ? `sync ${call.flags}` : `${call.number}+${call.data.length}`;
    const name = `${processes.indexOf(call.process)}.${call.fd}`;
    byFile.set(name, [...(byFile.get(name) ?? []), what]);
  }
  return [...byFile.values()].map((calls) => calls.join(" ")).sort();
}

t.test("io_uring and system calls bring the same to the disk in the same order", async (t) => {
  const plain = sequence(await corners(SMALL, { engine: "plain" }));
  const ring = sequence(await corners(SMALL, { engine: "ring" }));
  t.ok(plain.join(" ").includes("sync 1"), "there is something to compare");
  t.same(ring, plain);
});

for (const [name, record] of [
  ["small blocks", SCENARIOS["small blocks"]!],
  ["repair", (seed: number) => repair(SMALL, seed, { engine: "ring" })],
] as const)
  t.test(`no power cut loses what was flushed, with io_uring: ${name}`, async (t) => {
    const recording = await record(2, { engine: "ring" });
    const outcome = examine(recording, { seed: 2, draws: 3 });
    t.equal(outcome.wrong, null);
    t.comment(summary(name, outcome));
    t.ok(outcome.states > 200);
  });
