import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { Program, Rig, run } from "./rig.js";

const ROUNDS = Number(process.env.ROUNDS ?? 10);

t.test("each downstairs in turn is killed and comes back; fio sees nothing", async (t) => {
  const rig = new Rig();
  t.teardown(() => rig.remove());
  await rig.create({ blockSize: 4096, extentSize: 2048, extentCount: 8 });
  await rig.startAll();
  const server = await rig.serve();

  let rounds = 0;
  let fioRuns = 0;
  const load = (async () => {
    while (rounds < ROUNDS) {
      fioRuns += 1;
      const job = ["--name=v", "--ioengine=nbd", `--uri=${rig.uri}`, "--rw=randwrite", "--bs=4k"];
      const check = [
        "--verify=crc32c",
        "--do_verify=1",
        "--verify_fatal=1",
        `--randseed=${fioRuns}`,
      ];
      const fio = new Program("fio", [...job, ...check, "--iodepth=16", "--size=48m"]);
      const status = await fio.exited;
      if (status !== 0) throw new Error(`fio run ${fioRuns} ended with ${status}:\n${fio.output}`);
    }
  })();
  load.catch(() => undefined);

  for (; rounds < ROUNDS; rounds++) {
    const victim = rounds % 3;
    await sleep(500);
    await rig.downstairs[victim]?.stop("SIGKILL");
    await sleep(3000);
    const before = server.output.split(BACK).length - 1;
    await rig.startDownstairs(victim);
    await Promise.race([server.prints(BACK, before + 1), load.then(() => sleep(30_000))]);
  }
  await load;
  t.pass(`${fioRuns} runs of fio without an error or a mismatch over ${ROUNDS} kills`);
  t.equal(server.child.exitCode, null, "the server ran through");

  await rig.stopAll();
  const [a, b, c] = rig.exports().map((image) => readFileSync(image));
  t.ok(a!.equals(b!) && b!.equals(c!), "the three regions are identical block by block");
  const dirs = [0, 1, 2].flatMap((i) => ["-d", rig.region(i)]);
  run("build/bin/crucible-downstairs", ["dump", ...dirs]);
  t.pass("generations, flush numbers and dirty bits agree (dump)");
});

/** The note that the server writes when a replica is back and gets what it missed. */
const BACK = '"replica.replay"';
