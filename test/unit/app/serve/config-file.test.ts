import t, { type Test } from "tap";
import { parseConfig, readConfigFile } from "../../../../src/app/serve/config-file.js";

const refused = (t: Test, text: string, message: string | RegExp) =>
  t.throws(() => parseConfig(text, "v.toml"), { code: "TRIVET_E_CONFIG", message });

t.test("keys are the options, in their textual form", async (t) => {
  const values = parseConfig(
    '# a volume\ntarget = ["a:1", "b:2", "c:3"]\n\nread-only = true\ngen = 7\naddress = "1.2.3.4:5"\n  arena = "64M"\n',
    "v.toml",
  );
  t.same(values.get("target")?.texts, ["a:1", "b:2", "c:3"]);
  t.equal(values.get("target")?.place, "v.toml:2:1");
  t.equal(values.get("read-only")?.isTrue, true);
  t.same(values.get("gen")?.texts, ["7"]);
  t.same(values.get("address")?.texts, ["1.2.3.4:5"]);
  t.equal(values.get("arena")?.place, "v.toml:7:3");
  t.equal(values.get("ack"), undefined);
});

t.test("what is wrong is said with line, column and key", async (t) => {
  refused(t, 'export = "a"\ntarget = [1, 2\n', /^v\.toml:\d+:\d+: \S/);
  refused(t, 'a = 1\na = "x"\n', /^v\.toml:2:\d+: /);
  refused(
    t,
    'export = "a"\ntargt = ["a"]\n',
    "v.toml:2:1: there is no key targt (did you mean target?)",
  );
  refused(t, "\n\nread-only = 1\n", "v.toml:3:1: read-only is 1, expected boolean");
  refused(t, 'ack = "soon"\n', /^v\.toml:1:1: ack is "soon", expected \("quorum" \| "buffered"\)$/);
  refused(t, 'target = ["a:1"]\n', "v.toml:1:1: target lists 1 addresses, expected 3");
  refused(t, 'target = ["a:1", 2, "c:3"]\n', /^v\.toml:1:1: target is 2, expected string$/);
  refused(t, "[volume]\nexport = 1\n", /^v\.toml:1:2: there is no key volume/);
  refused(t, "gen = -1\n", /^v\.toml:1:1: gen /);
  t.throws(() => readConfigFile("/nonexistent/x.toml"), { code: "TRIVET_E_CONFIG" });
});
