import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { run, Scene } from "./restart-scene.js";

// Other people's clients over restarts.

t.test("libnbd with structured replies, and qemu-io, over restarts", async (t) => {
  const scene = new Scene();
  await scene.open(t);
  const script = `
import os, time
end = time.time() + 4
n = 0
while time.time() < end:
    blocks = [(i, os.urandom(65536)) for i in range(8)]
    for i, data in blocks:
        h.pwrite(data, i * 102400 + 512)
    if n % 4 == 0:
        h.flush()
    for i, data in blocks:
        assert h.pread(len(data), i * 102400 + 512) == data
    n += 1
assert h.get_structured_replies_negotiated()
print(n)
`;
  const python = run("/usr/bin/python3", "-m", "nbd", "-u", scene.rig.uri, "-c", script);
  const commands = Array.from({ length: 150 }, (_, i) => [
    "-c",
    `write -P ${1 + (i % 200)} ${2 ** 21 + i * 4096} 64k`,
    "-c",
    `read -P ${1 + (i % 200)} ${2 ** 21 + i * 4096} 64k`,
    "-c",
    "sleep 20",
  ]).flat();
  const qemu = run("qemu-io", "-f", "raw", ...commands, scene.rig.unixUri);
  await sleep(500);
  for (let i = 0; i < 4; i++) {
    t.equal((await scene.restart()).status, 0);
    await sleep(200);
  }
  const [first, second] = await Promise.all([python, qemu]);
  t.equal(first.status, 0, first.stderr);
  t.ok(Number(first.stdout) > 0, `${first.stdout.trim()} rounds`);
  t.equal(second.status, 0, second.stderr);
  t.equal(/fail|error|Pattern verification/i.test(second.stdout + second.stderr), false);
  await scene.stop();
});
