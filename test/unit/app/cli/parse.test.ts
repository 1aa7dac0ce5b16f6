import t, { type Test } from "tap";
import type { Command, Group } from "../../../../src/app/cli/command.js";
import { helpText } from "../../../../src/app/cli/help.js";
import { parseCommandLine } from "../../../../src/app/cli/parse.js";
import { didYouMean, distance } from "../../../../src/app/cli/spelling.js";

const leaf: Command = {
  name: "paint",
  summary: "paints",
  operands: [
    { name: "WALL", required: true },
    { name: "COLOR", required: false },
  ],
  options: {
    size: { value: "SIZE", short: "s", help: "How large", shownDefault: "1" },
    layer: { value: "N", multiple: true, help: "Layers" },
    dry: { help: "Only pretend" },
  },
  async run() {},
};
const root: Group = {
  name: "house",
  summary: "things to do",
  commands: [
    leaf,
    { name: "room", summary: "rooms", commands: [{ ...leaf, name: "clean", operands: [] }] },
  ],
};

const ask = (line: string) => parseCommandLine(root, line === "" ? [] : line.split(" "));
const refused = (t: Test, line: string, message: RegExp) =>
  t.throws(() => ask(line), { code: "TRIVET_E_USAGE", message });

t.test("options, operands and subcommands", async (t) => {
  const request = ask("paint --size 3 north --layer=1 --layer 2 --dry blue");
  if (request.kind !== "run") throw new Error("expected a run");
  t.equal(request.command.name, "paint");
  t.same(request.input.operands, ["north", "blue"]);
  t.equal(request.input.text("size"), "3");
  t.same(request.input.list("layer"), ["1", "2"]);
  t.equal(request.input.flag("dry"), true);
  const short = ask("paint -s 4 north");
  t.equal(short.kind === "run" ? short.input.text("size") : "", "4");
  const deep = ask("room clean");
  t.same(deep.kind === "run" ? deep.path : [], ["house", "room", "clean"]);
  t.equal(deep.kind === "run" ? deep.input.text("size") : "", undefined);
  const end = ask("paint -- --size");
  t.same(end.kind === "run" ? end.input.operands : [], ["--size"]);
});

t.test("help and version everywhere", async (t) => {
  for (const line of [
    "--help",
    "-h",
    "help",
    "room --help",
    "help room",
    "paint --help x y z",
    "paint -h",
    "help paint",
  ]) {
    t.equal(ask(line).kind, "help", line);
  }
  for (const line of ["--version", "-V", "paint --version", "room clean -V"]) {
    t.equal(ask(line).kind, "version", line);
  }
  const help = helpText(["house", "paint"], leaf);
  for (const part of [
    "Usage: house paint WALL [COLOR] [options]",
    "-s, --size SIZE",
    "(default 1)",
    "(may be repeated)",
    "--version",
  ]) {
    t.ok(help.includes(part), part);
  }
  t.ok(helpText(["house"], root).includes("room   rooms"));
});

t.test("what cannot be meant is one sentence that names it", async (t) => {
  refused(t, "", /needs a command: paint, room/);
  refused(t, "pant", /no command "pant" \(did you mean paint\?\)/);
  refused(t, "xyzzy", /no command "xyzzy"$/);
  refused(t, "room", /house room needs a command: clean/);
  refused(t, "--verion", /no option --verion .*did you mean --version/);
  refused(t, "paint", /house paint needs WALL/);
  refused(t, "paint a b c", /does not take "c"/);
  refused(t, "paint a --sise 3", /no option --sise \(did you mean --size\?\)/);
  refused(t, "paint a -x", /no option -x/);
  refused(t, "paint a --size", /--size needs a value: --size SIZE/);
  refused(t, "paint a --size --dry", /--size needs a value/);
  refused(t, "paint a --size=", /--size needs a value/);
  refused(t, "paint a --dry=yes", /--dry takes no value/);
  refused(t, "paint a --size 1 --size 2", /--size is given twice/);
  refused(t, "paint a --constructor", /no option --constructor/);
});

t.test("spelling", async (t) => {
  t.equal(distance("size", "size"), 0);
  t.equal(distance("sise", "size"), 1);
  t.equal(distance("isze", "size"), 1, "neighbours swapped");
  t.equal(distance("", "size"), 4);
  t.equal(didYouMean("regn", ["region", "serve"]), " (did you mean region?)");
  t.equal(didYouMean("attach", ["region", "serve"]), "");
});
