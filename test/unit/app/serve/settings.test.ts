import { writeFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import type { Command } from "../../../../src/app/cli/command.js";
import { parseCommandLine } from "../../../../src/app/cli/parse.js";
import {
  CRUCIBLE_NBD_SERVER,
  compatSettings,
} from "../../../../src/app/commands/crucible-nbd-server.js";
import { configPathOf, readSettings, SERVE_OPTIONS } from "../../../../src/app/serve/settings.js";
import { makeFolder, removeFolder } from "../../../kit/folders.js";

const serve: Command = {
  name: "serve",
  summary: "",
  operands: [{ name: "NAME", required: false }],
  options: SERVE_OPTIONS,
  async run() {},
};
const env = { HOME: "/nonexistent" };

function inputOf(command: Command, line: readonly string[]) {
  const request = parseCommandLine(command, line);
  if (request.kind !== "run") throw new Error("expected a run");
  return request.input;
}
const settings = (...line: string[]) => readSettings(inputOf(serve, line), env);
const targets = ["-t", "10.0.0.1:1", "-t", "10.0.0.2:2", "--target", "box:3"];

t.test("options and their defaults", async (t) => {
  const s = settings(...targets);
  t.same(s.backing, {
    kind: "targets",
    targets: [
      { host: "10.0.0.1", port: 1 },
      { host: "10.0.0.2", port: 2 },
      { host: "box", port: 3 },
    ],
  });
  t.same(s.addresses, [{ host: "127.0.0.1", port: 10809 }]);
  t.equal(s.ack, "quorum");
  t.equal(s.generation, undefined);
  t.equal(s.volume, "10.0.0.1:1+10.0.0.2:2+box:3");
  t.same(settings(...targets, "--socket", "/run/x").addresses, []);
  t.equal(settings(...targets, "--gen", "18446744073709551615").generation, 2n ** 64n - 1n);
  const memory = settings("--memory", "64M", "--arena", "32M");
  t.same(memory.backing, { kind: "memory", sizeBytes: 2 ** 26, blockBytes: 1 });
  t.equal(memory.arenaBytes, 96 * 2 ** 20, "the disk itself lies in the arena, too");
});

t.test("a file says the same, and options override it", async (t) => {
  const folder = makeFolder();
  const path = join(folder, "photos.toml");
  writeFileSync(
    path,
    'target = ["10.0.0.1:1", "10.0.0.2:2", "10.0.0.3:3"]\nsocket = "/run/p"\nack = "buffered"\nread-only = true\n',
  );
  const s = settings(path);
  t.equal(s.volume, "photos");
  t.equal(s.exportName, "photos");
  t.same(s.sockets, ["/run/p"]);
  t.equal(s.ack, "buffered");
  t.equal(s.readOnly, true);
  t.equal(settings(path, "--ack", "quorum").ack, "quorum");
  t.same(settings(path, ...targets).backing, settings(...targets).backing);
  t.equal(settings(path, "--memory", "1M").backing.kind, "memory");
  writeFileSync(path, 'target = ["10.0.0.1:1", "10.0.0.2:2", "10.0.0.3"]\n');
  t.throws(() => settings(path), {
    code: "TRIVET_E_CONFIG",
    message: /photos\.toml:1:1: target: "10\.0\.0\.3" is no address/,
  });
  writeFileSync(path, 'memory = "1M"\ngen = 0\n');
  t.throws(() => settings(path), { code: "TRIVET_E_GENERATION_ZERO" });
  writeFileSync(path, 'memory = "lots"\n');
  t.throws(() => settings(path), { code: "TRIVET_E_CONFIG", message: /:1:1: memory: "lots"/ });
  t.equal(configPathOf("photos"), "/etc/trivet/photos.toml");
  t.equal(configPathOf("./photos"), "./photos");
  t.equal(configPathOf("photos.toml"), "photos.toml");
  removeFolder(folder);
});

t.test("two without the third, and what may be taken for granted", async (t) => {
  t.equal(settings(...targets).degradedAfterMs, 30_000);
  t.equal(settings(...targets, "--degraded-after", "2m").degradedAfterMs, 120_000);
  t.equal(settings(...targets, "--degraded-after", "1500ms").degradedAfterMs, 1500);
  t.equal(settings(...targets, "--degraded-after", "never").degradedAfterMs, null);
  for (const bad of ["0s", "999ms", "30", "soon", "-1s", ""])
    t.throws(() => settings(...targets, "--degraded-after", bad), { code: "TRIVET_E_USAGE" }, bad);
  t.same(settings(...targets).accept, { empty: false, foreign: false, older: false });
  t.same(settings(...targets, "--accept-foreign").accept, {
    empty: false,
    foreign: true,
    older: false,
  });
  const folder = makeFolder();
  const path = join(folder, "v.toml");
  const base = 'target = ["10.0.0.1:1", "10.0.0.2:2", "10.0.0.3:3"]\n';
  writeFileSync(
    path,
    `${base}degraded-after = "never"\naccept-empty = true\naccept-older = true\n`,
  );
  t.equal(settings(path).degradedAfterMs, null);
  t.equal(settings(path, "--degraded-after", "5s").degradedAfterMs, 5000);
  t.same(settings(path).accept, { empty: true, foreign: false, older: true });
  writeFileSync(path, `${base}degraded-after = "now"\n`);
  t.throws(() => settings(path), {
    code: "TRIVET_E_CONFIG",
    message: /v\.toml:2:1: degraded-after: "now" is no time/,
  });
  writeFileSync(path, `${base}accept-empty = "yes"\n`);
  t.throws(() => settings(path), { code: "TRIVET_E_CONFIG", message: /accept-empty is "yes"/ });
  removeFolder(folder);
});

t.test("how fast a replica is repaired", async (t) => {
  t.equal(settings(...targets).repairBytesPerSecond, 0);
  t.equal(settings(...targets, "--repair-rate", "20M").repairBytesPerSecond, 20 * 1024 * 1024);
  for (const bad of ["fast", "-1", ""])
    t.throws(() => settings(...targets, "--repair-rate", bad), {
      code: "TRIVET_E_USAGE",
      message: /--repair-rate/,
    });
  const folder = makeFolder();
  const path = join(folder, "v.toml");
  const base = 'target = ["10.0.0.1:1", "10.0.0.2:2", "10.0.0.3:3"]\n';
  writeFileSync(path, `${base}repair-rate = "8M"\n`);
  t.equal(settings(path).repairBytesPerSecond, 8 * 1024 * 1024);
  t.equal(settings(path, "--repair-rate", "0").repairBytesPerSecond, 0, "the option wins");
  writeFileSync(path, `${base}repair-rate = "soon"\n`);
  t.throws(() => settings(path), { code: "TRIVET_E_CONFIG", message: /v\.toml:2:1: repair-rate/ });
  removeFolder(folder);
});

t.test("how often and how fast the replicas are compared", async (t) => {
  const day = 86_400_000;
  t.equal(settings(...targets).scrubEveryMs, 30 * day);
  t.equal(settings(...targets).scrubBytesPerSecond, 16 * 1024 * 1024);
  t.equal(settings(...targets, "--scrub-every", "7d").scrubEveryMs, 7 * day);
  t.equal(settings(...targets, "--scrub-every", "48h").scrubEveryMs, 2 * day);
  t.equal(settings(...targets, "--scrub-every", "never").scrubEveryMs, null);
  t.equal(settings(...targets, "--scrub-rate", "0").scrubBytesPerSecond, 0);
  t.equal(settings(...targets, "--scrub-rate", "1M").scrubBytesPerSecond, 1024 * 1024);
  for (const bad of ["1h", "0d", "monthly", "30", ""])
    t.throws(() => settings(...targets, "--scrub-every", bad), { code: "TRIVET_E_USAGE" }, bad);
  t.throws(() => settings(...targets, "--scrub-rate", "fast"), { code: "TRIVET_E_USAGE" });
  const folder = makeFolder();
  const path = join(folder, "v.toml");
  const base = 'target = ["10.0.0.1:1", "10.0.0.2:2", "10.0.0.3:3"]\n';
  writeFileSync(path, `${base}scrub-every = "14d"\nscrub-rate = "4M"\n`);
  t.equal(settings(path).scrubEveryMs, 14 * day);
  t.equal(settings(path).scrubBytesPerSecond, 4 * 1024 * 1024);
  writeFileSync(path, `${base}scrub-every = "1h"\n`);
  t.throws(() => settings(path), {
    code: "TRIVET_E_CONFIG",
    message: /v\.toml:2:1: scrub-every: 1h is less than 1d/,
  });
  removeFolder(folder);
});

t.test("volumes that cannot be meant", async (t) => {
  const usage = { code: "TRIVET_E_USAGE" };
  t.throws(() => settings(), usage);
  t.throws(() => settings("-t", "1.1.1.1:1"), usage);
  t.throws(() => settings(...targets, "-t", "4.4.4.4:4"), usage);
  t.throws(() => settings(...targets, "--memory", "1M"), usage);
  t.throws(() => settings("--memory", "0"), usage);
  t.throws(() => settings("--memory", "1000", "--block-size", "512"), usage);
  t.throws(() => settings("--memory", "1M", "--arena", "1M"), usage);
  t.throws(() => settings("--memory", "1M", "--engine", "steam"), usage);
  t.throws(() => settings("-t", "1.1.1.1:1", "-t", "2.2.2.2:2", "-t", "1.1.1.1:1"), {
    code: "TRIVET_E_SAME_REGION",
  });
  t.throws(() => settings(...targets, "-g", "0"), { code: "TRIVET_E_GENERATION_ZERO" });
});

t.test("crucible-nbd-server: its own options, and what is not there yet", async (t) => {
  const line = ["-t", "1.1.1.1:1", "-t", "2.2.2.2:2", "-t", "3.3.3.3:3"];
  const compat = (...more: string[]) =>
    compatSettings(inputOf(CRUCIBLE_NBD_SERVER, [...line, ...more]), env);
  const s = compat("-g", "17", "--address", "0.0.0.0:10809");
  t.equal(s.generation, 17n);
  t.same(s.addresses, [{ host: "0.0.0.0", port: 10809 }]);
  t.equal(s.anyName, true);
  for (const option of ["--key", "-k", "--cert-pem", "--key-pem", "--root-cert-pem", "--control"]) {
    t.throws(() => compat(option, "x"), { code: "TRIVET_E_NOT_YET" }, option);
  }
  t.throws(() => compat("-g", "0"), { code: "TRIVET_E_GENERATION_ZERO" });
});
