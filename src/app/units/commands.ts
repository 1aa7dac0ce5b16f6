import { resolve } from "node:path";
import { Fault } from "../../base/fault.js";
import type { Command, Input, OptionSpecs, Shell } from "../cli/command.js";
import { asFault } from "../report.js";
import {
  AFTER_INSTALL,
  AFTER_UNINSTALL,
  instancesInUse,
  lvmReadsDevices,
  type Step,
  shadows,
  tell,
} from "./host.js";
import {
  type FileReport,
  type FileState,
  install,
  isLeft,
  type Terms,
  uninstall,
} from "./install.js";
import { checkPlace, nodeForUnits } from "./place.js";
import { type Place, PROGRAM_ROOT, plainPath, shippedFiles } from "./shipped.js";

const COMMON: OptionSpecs = {
  prefix: {
    value: "DIR",
    shownDefault: "/",
    help: "Work below DIR, as for a package or an image; no program of the host is called",
  },
  "dry-run": { help: "Only say what would be done" },
  force: { help: "Replace or remove files that were changed since they were installed, too" },
  json: { help: "One JSON object" },
};

export const INSTALL_UNITS: Command = {
  name: "install-units",
  summary: "puts systemd's units, and what belongs to them, in place",
  operands: [],
  options: {
    ...COMMON,
    program: {
      value: "DIR",
      shownDefault: "where this program lies",
      help: "Where the units find the program: the folder that holds build/",
    },
    node: { value: "PATH", shownDefault: "the one that runs now", help: "The Node for services" },
  },
  details: [
    "trivet@NAME serves a volume, trivet-attach@NAME makes it a device, trivet-region@NAME serves a region. All files go below",
    "/usr/local/lib; settings of yours belong into /etc, by systemctl edit. Nothing is enabled or started. Doing it again with a",
    "new version replaces what the old one put there. systemd/README.md tells the rest, with examples in systemd/examples.",
    "",
    "Examples:",
    "  trivet install-units",
    "  trivet install-units --prefix /tmp/image --program /opt/trivet --node /usr/bin/node",
  ],
  async run(input, shell) {
    const terms = readTerms(input);
    const place = readPlace(input, terms);
    const files = guarded(() => install(shippedFiles(place), terms));
    const failed = terms.dryRun ? undefined : tell(terms.prefix, AFTER_INSTALL);
    report(input, shell, terms, files);
    for (const path of shadows(terms.prefix, files))
      shell.warn(`${path} counts instead of the file of the same name that was installed`);
    if (lvmReadsDevices(terms.prefix))
      shell.warn(
        `LVM reads network block devices here, which can stop it: see ${place.program}/systemd/examples/lvm-global-filter.conf`,
      );
    if (!input.flag("json")) showSteps(shell, failed !== undefined, AFTER_INSTALL);
    judge(files, failed);
  },
};

export const UNINSTALL_UNITS: Command = {
  name: "uninstall-units",
  summary: "takes away what install-units put there, and nothing else",
  operands: [],
  options: COMMON,
  details: [
    "Refused while instances run or are enabled. Volumes, regions, their configuration and the user trivet stay.",
  ],
  async run(input, shell) {
    const terms = readTerms(input);
    const used = instancesInUse(terms.prefix);
    if (used.length > 0)
      throw new Fault("TRIVET_E_UNITS_IN_USE", `these are enabled or run: ${used.join(" ")}`);
    const files = guarded(() => uninstall(terms));
    const isDone = !terms.dryRun && files.length > 0;
    const failed = isDone ? tell(terms.prefix, AFTER_UNINSTALL) : undefined;
    report(input, shell, terms, files);
    if (files.length === 0 && !input.flag("json"))
      shell.print(`nothing is installed below ${terms.prefix}`);
    judge(files, failed);
  },
};

const readTerms = (input: Input): Terms => ({
  prefix: resolve(input.text("prefix") ?? "/"),
  dryRun: input.flag("dry-run"),
  force: input.flag("force"),
});

/** On the host itself services must be able to use what the units name; what is put elsewhere may come later. */
function readPlace(input: Input, { prefix }: Terms): Place {
  const program = plainPath("--program", resolve(input.text("program") ?? PROGRAM_ROOT));
  const node = input.text("node");
  if (prefix === "/") checkPlace(program, node ?? process.execPath);
  const named = node ?? nodeForUnits(process.execPath);
  return { program, node: named === undefined ? undefined : plainPath("--node", resolve(named)) };
}

function guarded<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw asFault(error) ?? error;
  }
}

const WILL: Readonly<Record<FileState, string>> = {
  installed: "would install",
  replaced: "would replace",
  unchanged: "unchanged",
  removed: "would remove",
  left: "would leave",
  gone: "already gone",
};

function report(input: Input, shell: Shell, terms: Terms, files: readonly FileReport[]): void {
  const { prefix, dryRun } = terms;
  if (input.flag("json")) {
    shell.print(JSON.stringify({ prefix, dry_run: dryRun, files }));
    return;
  }
  const base = prefix === "/" ? "" : prefix;
  for (const { path, state } of files) {
    const verb = dryRun ? WILL[state] : state === "gone" ? "already gone" : state;
    const why = state === "left" ? ", which is not as it was installed (see --force)" : "";
    shell.print(`${verb} ${base}/${path}${why}`);
  }
}

/** What is still to be done, by somebody. */
function showSteps(shell: Shell, wereDone: boolean, steps: readonly Step[]): void {
  if (wereDone) {
    shell.print("next: a volume's file in /etc/trivet, then systemctl enable --now trivet@NAME");
    return;
  }
  shell.print("a host does the rest when it is started; one that runs needs:");
  for (const { command } of steps) shell.print(`  ${command.join(" ")}`);
}

/** Bad news, after everything that could be done was. */
function judge(files: readonly FileReport[], failed: readonly string[] = []): void {
  const left = files.filter(isLeft);
  if (left.length > 0)
    throw new Fault(
      "TRIVET_E_UNITS_CHANGED",
      `${left.length} ${left.length === 1 ? "file is" : "files are"} not as installed and stay as they are: ${left.map(({ path }) => `/${path}`).join(" ")}`,
    );
  if (failed.length > 0) throw new Fault("TRIVET_E_UNITS_HOST", failed.join("; "));
}
