import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { Program, Rig, run } from "./rig.js";

// Live repair with real processes: a downstairs is away for so long that it cannot be caught up, and is made equal while fio goes on writing
// and comparing. Then once more, killed in the middle of its repair.

const FAULTED = '"replica.faulted"';
const STARTED = '"repair.started"';
const DONE = '"repair.done"';
const ABORTED = '"repair.aborted"';
/** Longer than a replica may be away before it is given up. */
const PATIENCE_MS = 60_000;

t.test("a downstairs that was away too long is repaired under fio", async (t) => {
  const rig = new Rig();
  t.teardown(() => rig.remove());
  await rig.create({ blockSize: 4096, extentSize: 1024, extentCount: 16 });
  await rig.startAll();
  const server = await rig.serve();
  const seen = (text: string): number => server.output.split(text).length - 1;

  let isOver = false;
  let fioRuns = 0;
  const load = (async () => {
    while (!isOver) {
      fioRuns += 1;
      const job = ["--name=v", "--ioengine=nbd", `--uri=${rig.uri}`, "--rw=randwrite", "--bs=4k"];
      const check = ["--verify=crc32c", "--do_verify=1", "--verify_fatal=1"];
      const fio = new Program("fio", [
        ...job,
        ...check,
        `--randseed=${fioRuns}`,
        "--iodepth=16",
        "--fsync=64",
        "--size=60m",
        "--verify_state_save=0",
      ]);
      const status = await fio.exited;
      if (status !== 0) throw new Error(`fio run ${fioRuns} ended with ${status}:\n${fio.output}`);
    }
  })();
  load.catch(() => undefined);
  const wait = (text: string, times: number): Promise<unknown> =>
    Promise.race([
      server.prints(text, times, PATIENCE_MS),
      load.then(() => server.prints(text, times, PATIENCE_MS)),
    ]);

  await sleep(1500);
  await rig.downstairs[1]?.stop("SIGKILL");
  await wait(FAULTED, 1);
  await rig.startDownstairs(1);
  await wait(DONE, 1);
  t.equal(seen(ABORTED), 0, "the first repair went through");

  await rig.downstairs[2]?.stop("SIGKILL");
  await wait(FAULTED, 2);
  await rig.startDownstairs(2);
  await wait(STARTED, 2);
  await sleep(50);
  await rig.downstairs[2]?.stop("SIGKILL");
  await sleep(500);
  await rig.startDownstairs(2);
  await wait(DONE, 2);

  isOver = true;
  await load;
  t.pass(`${fioRuns} runs of fio without an error or a mismatch`);
  t.equal(server.child.exitCode, null, "the server ran through");

  await rig.stopAll();
  const [a, b, c] = rig.exports().map((image) => readFileSync(image));
  t.ok(a!.equals(b!) && b!.equals(c!), "the three regions are identical block by block");
  const dirs = [0, 1, 2].flatMap((i) => ["-d", rig.region(i)]);
  run("build/bin/crucible-downstairs", ["dump", ...dirs]);
  t.pass("generations, flush numbers and dirty bits agree (dump)");
  t.equal(seen(DONE), 2, "two repairs were completed");
});
