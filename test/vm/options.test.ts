import { spawnSync } from "node:child_process";
import { join } from "node:path";
import t from "tap";
import { read } from "./options.js";
import { SCENARIOS } from "./scenarios.js";

const CAMPAIGN = join(import.meta.dirname, "fixture", "campaign.js");
const campaign = (...args: string[]) =>
  spawnSync(process.execPath, [CAMPAIGN, ...args], { encoding: "utf8" });

t.test("what is asked for", async (t) => {
  const all = read([]);
  t.same(all, {
    kind: "play",
    plan: {
      scenarios: SCENARIOS.map(({ name }) => name),
      lines: ["6.1", "new"],
      clients: undefined,
      refresh: false,
      rounds: 10,
    },
  });
  t.same(read(["memory", "--kernel", "6.1", "--client", "adopted", "--refresh", "--rounds", "3"]), {
    kind: "play",
    plan: { scenarios: ["memory"], lines: ["6.1"], clients: ["adopted"], refresh: true, rounds: 3 },
  });
});

t.test("a wrong command ends with 2 and says what there is", async (t) => {
  for (const [args, word] of [
    [["flood"], "network-cut"],
    [["--kernel", "5.10"], "6.1, new"],
    [["--client", "qemu"], "nbd-client, adopted, trivet-attach"],
    [["--frob"], "--frob"],
    [["--rounds", "0"], "from 1 to 1000"],
    [["--rounds", "many"], "many"],
    [["--kernel"], "--kernel"],
    [["device-lost", "--client", "adopted", "--kernel"], "--kernel"],
  ] as const) {
    const { status, stderr, stdout } = campaign(...args);
    t.equal(status, 2, args.join(" "));
    t.ok(stderr.includes(word), stderr);
    t.equal(stdout, "");
  }
});

t.test("help and list", async (t) => {
  const help = campaign("--help");
  t.equal(help.status, 0);
  t.ok(/Usage: npm run vm -- \[SCENARIO\.\.\.\]/.test(help.stdout));
  const { stdout, status } = campaign("--list");
  t.equal(status, 0);
  t.equal(stdout.trim().split("\n").length, SCENARIOS.length);
  for (const { about } of SCENARIOS) t.ok(stdout.includes(about), about);
});
