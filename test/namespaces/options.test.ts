import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { ACTS } from "./acts.js";
import { config, createCommand, DOCUMENTED, runCommand } from "./documented.js";
import { HELP, read } from "./options.js";

const CAMPAIGN = join(import.meta.dirname, "fixture", "campaign.js");
const campaign = (...args: string[]) =>
  spawnSync(process.execPath, [CAMPAIGN, ...args], { encoding: "utf8" });

t.test("what is asked for", async (t) => {
  t.same(read([]), { kind: "play", plan: { seed: 1, out: undefined, keep: false } });
  t.same(read(["--seed", "7", "--out", "page.txt", "--keep"]), {
    kind: "play",
    plan: { seed: 7, out: "page.txt", keep: true },
  });
  t.same(read(["-h", "--seed", "x"]), { kind: "show", text: HELP });
  const listed = read(["--list"]);
  t.equal(listed.kind === "show" && listed.text.split("\n").length, ACTS.length);
});

t.test("a wrong command ends with 2 and says why", async (t) => {
  for (const [args, word] of [
    [["--seed", "many"], '"many"'],
    [["--seed", "99999999999"], "whole number up to"],
    [["--out", ""], "--out"],
    [["--frob"], "--frob"],
    [["box"], "box"],
  ] as const) {
    const { status, stderr, stdout } = campaign(...args);
    t.equal(status, 2, args.join(" "));
    t.ok(stderr.includes(word), stderr);
    t.equal(stdout, "");
  }
  t.equal(campaign("--help").stdout, `${HELP}\n`);
});

t.test("a machine that cannot play it is told so", async (t) => {
  const env = { PATH: import.meta.dirname };
  const { status, stderr } = spawnSync(process.execPath, [CAMPAIGN], { encoding: "utf8", env });
  t.equal(status, 4, stderr);
  t.match(stderr, /^(network namespaces take root: .*|the program ip is missing: .*)\n$/);
});

t.test("the commands are those that are documented", async (t) => {
  const root = join(import.meta.dirname, "../../..");
  const pages = ["README.md", "systemd/README.md"].map((page) =>
    readFileSync(join(root, page), "utf8"),
  );
  for (const text of Object.values(DOCUMENTED))
    t.ok(
      pages.some((page) => page.includes(text)),
      text,
    );
  t.equal(createCommand("64M"), "trivet region create /srv/trivet/photos --size 64M");
  t.ok(runCommand("10.0.0.2").includes("--address 10.0.0.2 --port 3810"));
  t.ok(config(true).includes('"10.0.0.2:3810", "10.0.0.9:3810"]\n'));
  t.equal(config(true).includes("10.0.0.3"), false);
});
