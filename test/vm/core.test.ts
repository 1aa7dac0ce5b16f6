import t from "tap";
import { CLIENTS } from "./clients.js";
import { kernelOf } from "./kernels.js";
import { play } from "./rounds.js";
import { SCENARIOS } from "./scenarios.js";

// The one scenario that is played with every test run: attach, mkfs, mount, load, a replica lost, fsck, and what
// the volume holds. The others: npm run vm.

t.test("a kernel's device with a file system on it loses a replica and sees nothing", async (t) => {
  const scenario = SCENARIOS.find(({ name }) => name === "replica-loss")!;
  const client = CLIENTS.find(({ name }) => name === "nbd-client")!;
  const row = await play(scenario, client, kernelOf("new"));
  t.same(row.wrong, []);
  t.equal(row.errors, 0, "no error was seen");
  t.equal(row.fsck, "clean");
  t.ok(row.compared > 50, `${row.compared} blocks held what was acknowledged`);
});
